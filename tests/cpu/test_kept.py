"""Programs in the kernel cache: what is loaded is what would be compiled, and whatever may change a program changes its key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import cli, nn, ops, optim
from graphc.backends.cpu import binding as binding_module
from graphc.backends.cpu import executable as executable_module
from graphc.backends.cpu import kept, profiler
from graphc.backends.cpu.executable import CpuExecutable
from graphc.backends.cpu.kept import program_key
from graphc.backends.cpu.machine import entry
from graphc.backends.cpu.machine.cache import KernelCache, default_cache, sealed, unsealed
from graphc.backends.cpu.machine.compile import ObjectCode
from graphc.backends.cpu.machine.pool import driver_entry
from graphc.backends.cpu.machine_facts import Facts
from graphc.backends.cpu.meetings import places_of
from graphc.backends.cpu.packing import LoadedProgram, pack_places, unpack_places
from graphc.errors import CompileError, GuardError, NonFiniteError, SettingError
from graphc.ir import op as op_module
from graphc.ir.digest import graph_digest
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.ir.layout import Layout
from graphc.ir.node import Node
from graphc.ir.op import lookup, unregister
from graphc.passes import pipeline
from graphc.schedule import program as program_module
from tests.models import Builder, mlp_step

X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
Y = np.arange(12) % 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kernels of this module: what other tests look for in the common folder is not taken out of their sight."""
    c = default_cache()
    for known in (driver_entry, entry._method, profiler._timed):
        known()
    loaded, c.loaded = c.loaded, dict(c.loaded)
    yield tmp_path_factory.mktemp("kernels")
    c.loaded = loaded


@pytest.fixture
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> KernelCache:
    """The cache of this process in a folder without programs."""
    monkeypatch.delenv("GRAPHC_PROGRAMS", raising=False)
    for f in folder.glob("p_*"):
        f.unlink()
    c = default_cache()
    for name, value in {"folder": folder, "programs": [], "history": {}, "writable": True}.items():
        monkeypatch.setattr(c, name, value)
    return c


def new_kernels(cache: KernelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process has loaded is forgotten."""
    monkeypatch.setattr(cache, "loaded", {})


def trained(**options: Any) -> Any:
    gc.set_seed(7)
    net = nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.3), nn.Tanh(), nn.Linear(9, 3))
    return gc.compile(net, gc.spec("N", 6), loss="cross_entropy", optimizer=optim.Adam(1e-2), **options)


def losses(model: Any) -> list[float]:
    return [model.train_on_batch(X[: 12 - i], Y[: 12 - i])["loss"] for i in range(4)]


def how(cache: KernelCache) -> list[str]:
    return [why for _, why in cache.programs]


# -- the same results, without passes --------------------------------------------------------------------------------------
def test_a_model_goes_on_as_it_did_without_passes(cache, monkeypatch):
    first = trained()
    want, scores = losses(first), first.predict(X)
    assert how(cache) == ["new", "new"]

    def no_passes(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("passes ran")

    monkeypatch.setattr(pipeline, "lower", no_passes)
    monkeypatch.setattr(program_module, "schedule_graph", no_passes)
    second = trained()
    assert losses(second) == want  # bit by bit
    np.testing.assert_array_equal(second.predict(X), scores)
    assert how(cache) == ["new", "new", "loaded", "loaded"]
    for name, value in first.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], value)
        assert first.store[name].layout == second.store[name].layout and second.store[name].fixed


def scanned(x: Any) -> Any:
    return ops.scan(lambda c, e: ((c * 0.5 + e).tanh(), c), x[0] * 0.0, x)


PROGRAMS = {
    "scan": (scanned, [gc.spec("T", 5)], [(7, 5), (1, 5), (3, 5)]),
    "guard": (lambda a, b: a + b, [gc.spec("N", 3), gc.spec("M", 3)], [((4, 3), (4, 3))]),
    "constants": (lambda x: x * np.arange(5, dtype="float32") + np.array([2.5], "float16"), [gc.spec("N", 5)], [(2, 5)]),
    "sizes": (lambda x: x.reshape(-1, 2).sum(0) / ops.dim(x.shape[0]).cast("float32"), [gc.spec("N", 4)], [(3, 4), (5, 4)]),
    "several": (lambda x: {"a": x.sum(), "b": (x.max(1), x.argmax(1))}, [gc.spec("N", "M")], [(3, 4)]),
    "convolution": (lambda x: ops.conv(x, np.ones((4, 3, 3, 3), "float32"), padding=1).relu(), [gc.spec("N", 3, 6, 6)], [(2, 3, 6, 6)]),
    "bfloat16": (lambda x: x.cast("bfloat16") * np.array([0.1, 3.0]).astype("float32"), [gc.spec("N", 2)], [(3, 2)]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_functions_come_back_as_they_were(cache, name):
    fn, specs, shapes = PROGRAMS[name]
    one, two = gc.compile(fn, *specs), gc.compile(fn, *specs)
    for shape in shapes:
        given = [np.random.default_rng(1).normal(size=s).astype("float32") for s in (shape if isinstance(shape[0], tuple) else [shape])]
        want, got = one(*given), two(*given)
        assert str(got) == str(want)
    assert how(cache) == ["new", "loaded"]
    made = two.executable
    assert isinstance(made._runs, LoadedProgram)
    assert made.listing() == one.executable.listing()  # and the loaded one was compared with it
    assert not isinstance(made._runs, LoadedProgram)
    assert str(two(*given)) == str(want)


def test_guards_still_say_which_line(cache):
    for _ in range(2):
        f = gc.compile(lambda a, b: a + b, gc.spec("N", 3), gc.spec("M", 3))
        with pytest.raises(GuardError, match="must be equal here") as e:
            f(np.ones((2, 3), "float32"), np.ones((4, 3), "float32"))
        assert "test_kept.py" in str(e.value)
    assert how(cache) == ["new", "loaded"]


def test_a_loss_that_is_not_finite_writes_nothing(cache):
    for _ in range(2):
        model = trained()
        before = model.state_dict()
        with pytest.raises(NonFiniteError):
            model.train_on_batch(X * np.nan, Y)
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])
    assert "loaded" in how(cache)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_places_for_other_sizes_are_those_of_the_whole_program(cache, threads):
    """What a loaded program has no nests for is decided as with them: barriers, turns and the memory plan."""
    for name, graph, store in (("step", *mlp_step((24, 70, 10))), ("constants", *constants())):
        one, two = (CpuExecutable(graph, store.copy(), threads=threads) for _ in range(2))
        loaded, program = two._runs, one.program
        assert isinstance(loaded, LoadedProgram)
        for size in (1, 6, 40):
            dims = {"N": size}
            want = pack_places(program, places_of(program, dims, threads))
            assert pack_places(loaded, places_of(loaded, dims, threads)) == want, name
            back = unpack_places(loaded, json.loads(json.dumps(want)))
            assert pack_places(loaded, back) == want


def constants() -> tuple[Graph, Any]:
    b = Builder()
    x = b.arg("x", (sym("N"), 30))
    y = x @ np.ones((30, 30), "float32") + np.arange(30, dtype="float32")
    return b.graph({"a": ops.softmax(y) @ np.eye(30, dtype="float32")[:, :9], "b": y.sum(0)}), b.store


def test_places_are_kept_for_the_first_sizes(cache, monkeypatch):
    f = gc.compile(double, gc.spec("N", 6))
    for n in range(1, kept.SIZES + 3):
        f(X[:n])
    places = json.loads(only(cache).read_bytes().split(b"\n")[2])
    assert len(places) == kept.SIZES and "[('N', 1)] 1" in places
    g = gc.compile(double, gc.spec("N", 6))
    monkeypatch.setattr(binding_module, "places_of", lambda *args: pytest.fail("decided again"))
    np.testing.assert_array_equal(g(X[:3]), X[:3] * 2 + 1)
    assert g.executable.packed() and g.executable.bindings()


def test_a_check_that_is_switched_on_later(cache):
    f, g = gc.compile(double, gc.spec("N", 6)), gc.compile(double, gc.spec("N", 6))
    f(X)
    g(X)
    g.executable.check = "bounds"
    np.testing.assert_array_equal(g.executable({"x": X})["out"], f(X))
    assert how(cache) == ["new", "loaded"]


def test_what_can_be_looked_at_is_worked_out_then(cache, tmp_path):
    def views(model: Any) -> list[Any]:
        train = model.executables["train_step"]
        return [
            train.as_text(), train.as_text(stage="kernels"), train.as_text(stage="fused"), str(model.memory_analysis("train_step")),
            str(model.cost_analysis("train_step")), model.explain_fusion("tanh", "dot_general"), [str(p.rules) for p in train.passes],
        ]  # fmt: skip

    first, second = trained(), trained()
    want = losses(first), views(first), first.predict(X)
    assert (losses(second), views(second)) == want[:2]
    second.report(tmp_path / "r.html")
    np.testing.assert_array_equal(second.predict(X), want[2])
    assert how(cache) == ["new", "new", "loaded", "loaded", "new"]  # the last: the report's evaluate


def test_a_profile_of_a_loaded_program(cache):
    first, second, third = trained(), trained(), trained()
    for model in (first, second):
        losses(model)
    with gc.profile() as p:
        second.train_on_batch(X, Y)  # bound before
        third.train_on_batch(X, Y)  # bound while it is measured
    assert how(cache) == ["new", "loaded", "loaded"]
    found = [p.of(m.executables["train_step"]) for m in (second, third)]
    kernels = [k.kernel.name for k in first.executables["train_step"].kernels]
    for program in found:
        assert program is not None and program.runs
        assert [t.kernel for t in sorted(program.launches, key=lambda t: t.launch)] == kernels
        assert any("test_kept.py" in line for t in program.launches for line in t.lines)


def test_bundles_of_loaded_programs(cache, tmp_path):
    first, second = trained(), trained()
    first.save_bundle(tmp_path / "a.gcb")
    second.save_bundle(tmp_path / "b.gcb")
    assert how(cache) == ["new", "loaded"]
    np.testing.assert_array_equal(gc.load_bundle(tmp_path / "a.gcb").predict(X), gc.load_bundle(tmp_path / "b.gcb").predict(X))


def test_a_program_that_is_not_what_is_compiled_now_is_replaced(cache, monkeypatch):
    f = gc.compile(lambda x: x * 2.0 + 1.0, gc.spec("N"))
    f(X[0])
    real = kept.load_program

    def other(key: str, name: str) -> Any:
        found = real(key, name)
        if found is not None:
            found[0].described += b" "
        return found

    monkeypatch.setattr(executable_module, "load_program", other)
    g = gc.compile(lambda x: x * 2.0 + 1.0, gc.spec("N"))
    g(X[0])
    with pytest.warns(UserWarning, match="is not what is compiled now"):
        g.executable.as_text()
    np.testing.assert_array_equal(g(X[0]), f(X[0]))


# -- the key ---------------------------------------------------------------------------------------------------------------
def key(graph: Graph, store: Any = None, facts: Facts | None = None, threads: int = 2) -> str:
    stored = {} if store is None else {n: (s.layout, s.fixed) for n, s in store.slots.items()}
    return program_key(graph, stored, facts or Facts(16), threads)


def of(fn: Any, *specs: Any, **kwargs: Any) -> str:
    return graph_digest(gc.trace(fn, *specs, **kwargs))


N = gc.spec("N", 4)
ONES = np.ones(4, "float32")
DIFFERENT = {
    "operator": (lambda x: x.exp(), lambda x: x.tanh()),
    "attribute": (lambda x: x.sum(0), lambda x: x.sum(1)[:1]),
    "constant": (lambda x: x * ONES, lambda x: x * np.array([1, 1, 1, 2], "float32")),
    "constant's dtype": (lambda x: x * ONES, lambda x: x * ONES.astype("float16")),
    "constant's shape": (lambda x: x * ONES, lambda x: x * ONES[:1]),
    "minus zero": (lambda x: x + np.float32(0.0), lambda x: x + np.float32(-0.0)),
    "order of operands": (lambda x: x - x.exp(), lambda x: x.exp() - x),
    "order of results": (lambda x: (x.exp(), x.tanh()), lambda x: (x.tanh(), x.exp())),
    "names of results": (lambda x: {"a": x}, lambda x: {"b": x}),
    "body": (lambda x: ops.scan(lambda c, e: (c + e, c), x[0], x), lambda x: ops.scan(lambda c, e: (c + e, e), x[0], x)),
    "size": (lambda x: x + ops.dim(x.shape[0]), lambda x: x + ops.dim(x.shape[0] * 2)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_graphs_that_differ_have_other_digests(name):
    one, two = DIFFERENT[name]
    assert of(one, N) == of(one, N)
    assert of(one, N) != of(two, N)


def test_inputs_are_part_of_the_digest():
    def f(x: Any) -> Any:
        return x * 2

    specs = [N, gc.spec("M", 4), gc.spec("N", 5), gc.spec(3, 4), gc.spec("N", 4, dtype="float64"), gc.spec(gc.Dim("N", hint=8), 4), gc.spec(gc.Dim("N", hint=9), 4)]
    assert len({of(f, s) for s in specs}) == len(specs)
    x, w = ops.input("x", (sym("N"), 4), "float32"), ops.input("w", (4,), "float32")

    def graph(name: str = "g", role: str = "param", updates: Any = (), finite: str = "") -> str:
        return graph_digest(Graph(name, (Input("x", x), Input("w", w, role)), (("o", (x * w).sum()),), updates, finite))

    variants = [graph(), graph("h"), graph(role="state"), graph(updates=(("w", w * 2.0),)), graph(finite="o")]
    assert len(set(variants)) == len(variants)


def test_settings_and_layouts_are_part_of_the_key():
    graph, store = mlp_step()
    keys = [key(graph, store), key(graph, store, threads=3), key(graph, store, Facts(8)), key(graph, store, Facts(16, {"a": "rows"})), key(graph)]
    slot = next(s for s in store.slots.values() if len(s.shape) == 2)
    slot.fixed = True
    keys.append(key(graph, store))
    slot.layout = Layout((1, 0), 32)
    keys.append(key(graph, store))
    assert len(set(keys)) == len(keys) and key(graph, store) == keys[-1]


@pytest.mark.parametrize("change", ["threads", "width", "walks"])
def test_options_of_compile_lead_to_other_programs(cache, change):
    graph, store = mlp_step()
    CpuExecutable(graph, store.copy(), threads=2, width=8, walks={})
    options: dict[str, Any] = {"threads": 2, "width": 8, "walks": {}} | {"threads": {"threads": 1}, "width": {"width": 4}, "walks": {"walks": {"none": "rows"}}}[change]
    CpuExecutable(graph, store.copy(), **options)
    CpuExecutable(graph, store.copy(), **options)
    assert how(cache) == ["new", "new", "loaded"]


@pytest.mark.parametrize("place", ["graphc/schedule/groups.py", "backends/cpu/printers/loops.py", "graphc/ops/activations.py"])
def test_the_sources_are_part_of_the_key(place, monkeypatch):
    graph, store = mlp_step()
    before = key(graph, store)
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: real(self) + (b"\n" if self.as_posix().endswith(place.partition("/")[2]) else b""))
    kept.code_key.cache_clear()
    try:
        assert key(graph, store) != before
    finally:
        monkeypatch.undo()
        kept.code_key.cache_clear()
    assert key(graph, store) == before


def test_processor_and_versions_are_part_of_the_key(monkeypatch):
    graph, store = mlp_step()
    before = key(graph, store)
    try:
        for name, value in {"host_cpu": lambda: ("another", "+avx2"), "package_state": lambda name: "0.0"}.items():
            with monkeypatch.context() as m:
                m.setattr(f"graphc.backends.cpu.machine.cache.{name}", value)
                for f in (kept.code_key, kept.environment_key):
                    f.cache_clear()
                assert key(graph, store) != before
    finally:
        for f in (kept.code_key, kept.environment_key):
            f.cache_clear()


KEYS = """
import numpy as np
import graphc as gc
from graphc import nn, optim
from graphc.backends.cpu.machine.cache import default_cache
from graphc.backends.cpu.kept import describe
net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 12), nn.Dropout(0.1), nn.Linear(12, 3))
model = gc.compile(net, gc.spec("N", 3, 6, 6), loss="cross_entropy", optimizer=optim.Adam(1e-3, schedule=optim.schedules.Cosine(100), clip_norm=1.0))
model.train_on_batch(np.ones((4, 3, 6, 6), "float32"), np.array([0, 1, 2, 0]))
lstm = gc.compile(nn.LSTM(5, 7, batch_first=True), gc.spec("N", 4, 5))
lstm(np.ones((2, 4, 5), "float32")) if callable(lstm) else lstm.predict(np.ones((2, 4, 5), "float32"))
print(sorted(f.name for f in default_cache().folder.glob("p_*")), [how for _, how in default_cache().programs], "numba" in __import__("sys").modules)
for program in (model.executables["train_step"], lstm.executables["predict"]):
    making = program.whole()
    print(describe(making.program, making.layouts)[0])
"""


def python(code: str, folder: Path, **settings: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "GRAPHC_PROGRAMS"}
    env |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "GRAPHC_CACHE": str(folder), **settings}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_other_processes_find_the_same_key_and_make_the_same_program(tmp_path):
    first = python(KEYS, tmp_path, PYTHONHASHSEED="1")
    again = python(KEYS, tmp_path, PYTHONHASHSEED="2")
    assert "['new', 'new'] True" in first
    assert again == first.replace("['new', 'new'] True", "['loaded', 'loaded'] False")  # and whole() has compared


# -- what has no key ---------------------------------------------------------------------------------------------------------
def test_operators_of_users_are_compiled_each_time(cache):
    for factor in (2.0, 3.0):
        scale = gc.custom_op("scale_of_test", lambda x, f=factor: x * np.float32(f), scalar=lambda x, f=factor: x * f)
        try:
            np.testing.assert_allclose(gc.compile(lambda x, s=scale: s(x), gc.spec("N"))(X[0]), X[0] * factor, rtol=1e-6)
            inner = gc.compile(lambda x, s=scale: ops.scan(lambda c, e: (s(c) + e, c), x[0], x)[0], gc.spec("N", 6))
            inner(X)
        finally:
            unregister("scale_of_test")
    assert how(cache) == ["not kept: the operator scale_of_test is not graphc's own"] * 4
    assert "not kept: the operator scale_of_test" in gc.explain_cache()
    assert not list(cache.folder.glob("p_*"))


def test_a_record_that_a_user_replaced_is_the_users(cache, monkeypatch):
    own = lookup("relu")
    monkeypatch.setitem(op_module._registry, "relu", replace(own))
    with pytest.raises(CompileError, match="relu"):
        graph_digest(gc.trace(lambda x: Node.make(lookup("relu"), (x,)), N))


def test_large_constants_are_not_kept(cache, monkeypatch):
    monkeypatch.setattr(kept, "LARGEST", 100)
    gc.compile(lambda x: x + np.arange(60, dtype="float32"), gc.spec("N", 60))(np.ones((2, 60), "float32"))
    assert how(cache) == ["not kept: its constants take 0.0 MB"] and not list(cache.folder.glob("p_*"))


@pytest.mark.parametrize(("name", "value"), [("GRAPHC_PROGRAMS", "off"), ("GRAPHC_CHECK", "bounds")])
def test_switched_off(cache, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    for _ in range(2):
        gc.compile(lambda x: x * 3.0, gc.spec("N"))(X[0])
    assert how(cache) == []


def test_settings_are_checked(cache, monkeypatch):
    monkeypatch.setenv("GRAPHC_PROGRAMS", "on")
    with pytest.raises(SettingError, match="GRAPHC_PROGRAMS='on'"):
        gc.compile(lambda x: x * 3.0, gc.spec("N"))(X[0])


# -- files -------------------------------------------------------------------------------------------------------------------
def double(x: Any) -> Any:
    return x * 2.0 + 1.0


def only(cache: KernelCache) -> Path:
    (path,) = cache.folder.glob("p_*")
    return path


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "not json", "sealed nonsense", "sealed list"])
def test_damaged_entries_are_made_again(cache, damage):
    want = gc.compile(double, gc.spec("N", 6))(X)
    path = only(cache)
    raw = path.read_bytes()
    head, _, body = raw.partition(b"\n")
    wanted = json.loads(head)["key"]
    whole = unsealed(path, wanted)
    assert whole is not None
    path.write_bytes({
        "empty": b"", "cut": raw[:-7], "flipped": raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:], "foreign": sealed("0" * 64, whole),
        "not json": b"{" + body, "sealed nonsense": sealed(wanted, ObjectCode(b'{"steps": [["launch"]]}\n', "double")),
        "sealed list": sealed(wanted, ObjectCode(b"[1, 2]\n", "double")),
    }[damage])  # fmt: skip
    np.testing.assert_array_equal(gc.compile(double, gc.spec("N", 6))(X), want)
    assert how(cache) == ["new", "its entry was damaged or foreign"]
    assert path.read_bytes() == raw
    np.testing.assert_array_equal(gc.compile(double, gc.spec("N", 6))(X), want)
    assert how(cache)[2] == "loaded"


def test_every_cut_of_a_file_is_noticed(cache):
    gc.compile(double, gc.spec("N", 6))(X)
    path = only(cache)
    raw = path.read_bytes()
    found = json.loads(raw.partition(b"\n")[0])["key"]
    for size in range(0, len(raw), 37):
        path.write_bytes(raw[:size])
        assert unsealed(path, found) is None


def test_entries_whose_kernels_were_deleted_are_made_again(cache, monkeypatch):
    for lost in range(3):
        new_kernels(cache, monkeypatch)
        want = gc.compile(double, gc.spec("N", 6))(X)
        objects = sorted(Path(cache.folder, f"{name}.o") for name in cache.history)
        objects[lost % len(objects)].unlink()
        new_kernels(cache, monkeypatch)
        np.testing.assert_array_equal(gc.compile(double, gc.spec("N", 6))(X), want)
        assert how(cache)[-1] == "a kernel of its entry was not there"
    assert "a kernel of its entry was not there" in gc.explain_cache()


def test_a_folder_that_cannot_be_written(cache, tmp_path):
    gc.compile(double, gc.spec("N", 6))(X)
    (tmp_path / "file").write_text("")
    cache.folder, before = tmp_path / "file", cache.folder  # no folder: not even root can write there
    try:
        with pytest.warns(UserWarning, match="cannot be written"):
            np.testing.assert_array_equal(gc.compile(double, gc.spec("N", 6))(X), X * 2 + 1)
    finally:
        cache.folder = before


def test_a_read_only_folder_is_read(tmp_path):
    """Permissions do not bind root: the check for them fails instead, and so does whoever writes."""
    code = """
import os, pathlib, sys, tempfile, warnings
import numpy as np
import graphc as gc
from graphc.backends.cpu.machine.cache import default_cache
real = tempfile.mkstemp, tempfile.TemporaryFile
def refused(which):
    def make(*args, dir=None, **kwargs):
        if dir is not None and pathlib.Path(dir) == pathlib.Path(os.environ["GRAPHC_CACHE"]) and len(sys.argv) > 1:
            raise PermissionError(13, "Permission denied")
        return real[which](*args, dir=dir, **kwargs)
    return make
tempfile.mkstemp, tempfile.TemporaryFile = refused(0), refused(1)
sys.argv += EXTRA
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as told:
    f = gc.compile(lambda x: x * FACTOR, gc.spec("N"))
    print(f(np.ones(3, "float32")), default_cache().programs, default_cache().folder, [str(w.message)[-60:] for w in told], "numba" in sys.modules)
"""
    first = python(code.replace("EXTRA", "[]").replace("FACTOR", "2.0"), tmp_path)
    assert "'new')" in first and str(tmp_path) in first and "[] True" in first
    names = sorted(os.listdir(tmp_path))
    again = python(code.replace("EXTRA", "[1]").replace("FACTOR", "2.0"), tmp_path)
    assert "'loaded')" in again and str(tmp_path) in again and "[] False" in again
    other = python(code.replace("EXTRA", "[1]").replace("FACTOR", "x.exp()"), tmp_path)
    assert "'new')" in other and str(tmp_path) not in other.partition("[")[0] and "for this process" in other
    assert sorted(os.listdir(tmp_path)) == names


def test_two_processes_at_once(tmp_path):
    code = "import graphc as gc, numpy as np\nfrom graphc import nn, optim\nfrom graphc.backends.cpu.machine.cache import default_cache\n"
    code += "m = gc.compile(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), gc.spec('N', 6), loss='cross_entropy', optimizer=optim.Adam(1e-2))\n"
    code += "print([m.train_on_batch(np.ones((4, 6), 'float32'), np.array([0, 1, 2, 0]))['loss'] for _ in range(3)])\n"
    out: list[str] = []
    threads = [threading.Thread(target=lambda: out.append(python(code, tmp_path))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(out) == 3 and len(set(out)) == 1
    assert python(code + "print(default_cache().programs)", tmp_path) == out[0] + "[('Sequential_train_step', 'loaded')]\n"


def test_two_threads_at_once(cache):
    models, out = [trained() for _ in range(4)], []
    threads = [threading.Thread(target=lambda m=m: out.append(losses(m))) for m in models]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert out == [out[0]] * 4


def test_the_command_line_knows_programs(cache, capsys):
    gc.compile(double, gc.spec("N", 6))(X)
    assert cli.main(["cache", "list"]) == 0
    assert f"{only(cache).stem}  program double" in capsys.readouterr().out
    assert cli.main(["cache", "clear"]) == 0
    assert not list(cache.folder.glob("p_*"))


def test_explain_cache_counts_them(cache):
    for _ in range(2):
        gc.compile(double, gc.spec("N", 6))(X)
    text = gc.explain_cache()
    assert "programs  2: 1 loaded whole, 1 made by passes and printers" in text and "made      double: new" in text


def test_other_layouts_later_are_another_program(cache):
    """A prediction before the first training step and one after it read parameters in other layouts."""
    for _ in range(2):
        model = trained()
        before = model.predict(X)
        model.train_on_batch(X, Y)
        after = model.predict(X)
        assert not np.array_equal(before, after)
    assert how(cache) == ["new"] * 3 + ["loaded"] * 3


def test_builder_graphs_without_a_store(cache):
    b = Builder()
    x = b.arg("x", (sym("N"), 4))
    graph = b.graph({"o": x.exp()})
    for _ in range(2):
        CpuExecutable(graph, None)({"x": np.ones((2, 4), "float32")})
    assert how(cache) == ["new", "loaded"]
