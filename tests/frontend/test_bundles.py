"""Bundles: what a file gives is what the model gives, bit by bit, in a process without a compiler; files that are not whole are refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.frontend.files import File, write_file

RNG = np.random.default_rng(5)


def images(n: int) -> np.ndarray:
    return RNG.normal(size=(n, 3, 8, 8)).astype("float32")


def rows(n: int) -> np.ndarray:
    return RNG.normal(size=(n, 6)).astype("float32")


def steps(n: int) -> np.ndarray:
    return RNG.normal(size=(n, 5, 4)).astype("float32")


def words(n: int) -> np.ndarray:
    return RNG.integers(0, 11, (n, 7))


class Convolutions(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5 * 16, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().max_pool2d(2).flatten(1)).softmax(-1)


class Recurrent(nn.Module):
    def __init__(self):
        self.lstm = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x):
        out, (h, c) = self.lstm(x)
        return {"last": out[:, -1], "states": [h, c]}


class Words(nn.Module):
    def __init__(self):
        self.table = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.block(self.table(x)).mean(1)


CASES = {
    "rows": (lambda: nn.Sequential(nn.Linear(6, 40), nn.GELU(), nn.Dropout(0.5), nn.Linear(40, 3)), ("N", 6), "float32", rows),
    "images": (Convolutions, ("N", 3, 8, 8), "float32", images),
    "steps": (Recurrent, ("N", 5, 4), "float32", steps),
    "words": (Words, ("N", 7), "int64", words),
}


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_a_bundle_gives_what_the_model_gives(name, tmp_path):
    build, shape, dtype, make = CASES[name]
    model = gc.compile(build(), gc.spec(*shape, dtype=dtype))
    model.save_bundle(tmp_path / "x.gcb")
    bundle = gc.load_bundle(tmp_path / "x.gcb")
    for n in (37, 1, 2, 37):
        x = make(n)
        assert equal(bundle.predict(x), model.predict(x)) and equal(bundle(x), model.predict(x))
    if name != "steps":  # whose states have their rows on another axis
        assert equal(bundle.predict(x, batch_size=10), model.predict(x, batch_size=10))


@pytest.mark.parametrize("threads", [1, 2])
def test_large_calls_run_on_threads(threads, tmp_path):
    model = gc.compile(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)), gc.spec("N", 64), threads=threads)
    model.save_bundle(tmp_path / "x.gcb")
    bundle, x = gc.load_bundle(tmp_path / "x.gcb", threads=threads), RNG.normal(size=(300, 64)).astype("float32")
    assert equal(bundle.predict(x), model.predict(x))
    assert [b.nthreads for b in bundle._program._bindings.values()] == [threads]


class Two(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, left, right):
        return self.a(left) * self.b(right), left.sum(-1)


def test_several_inputs_in_order_or_by_name(tmp_path):
    model = gc.compile(Two(), gc.spec("N", 3), gc.spec("N", 5))
    model.save_bundle(tmp_path / "x.gcb")
    bundle = gc.load_bundle(tmp_path / "x.gcb")
    left, right = RNG.normal(size=(9, 3)).astype("float32"), RNG.normal(size=(9, 5)).astype("float32")
    wanted = model.predict((left, right))
    assert equal(bundle.predict((left, right)), wanted) and equal(bundle.predict({"right": right, "left": left}), wanted)
    assert equal(bundle(left, right=right), wanted) and equal(bundle.predict((left, right), batch_size=4), wanted)
    with pytest.raises(gc.GuardError, match="N is 8 on axis 0"):
        bundle(left, right[:8])


def test_functions_with_constants_sizes_and_structures(tmp_path):
    table = np.arange(12, dtype="float32").reshape(3, 4)

    def fn(a, b):
        return {"both": (gc.ops.concat([a["x"], b], axis=0), a["x"].mean()), "table": b @ table}

    made = gc.compile(fn, {"x": gc.spec("N", 3)}, gc.spec("M", 3))
    made.save_bundle(tmp_path / "f.gcb")
    bundle = gc.load_bundle(tmp_path / "f.gcb")
    for n, m in ((2, 3), (5, 1)):
        args = {"x": RNG.normal(size=(n, 3)).astype("float32")}, RNG.normal(size=(m, 3)).astype("float32")
        assert equal(bundle(*args), made(*args))
    assert bundle.dims == ["M", "N"] and repr(bundle).startswith("<Bundle fn(a.x: float32(N, 3), b: float32(M, 3)) of ")


def test_what_sizes_must_fulfil_is_checked_as_in_the_model(tmp_path):
    made = gc.compile(lambda a, b: a.reshape(-1, 2) + b.reshape(-1, 2), gc.spec("N", 2), gc.spec("M", 2))
    made.save_bundle(tmp_path / "f.gcb")
    bundle, a = gc.load_bundle(tmp_path / "f.gcb"), np.ones((3, 2), "float32")
    assert equal(bundle(a, a), made(a, a))
    with pytest.raises(gc.GuardError) as told:
        bundle(a, a[:2])
    with pytest.raises(gc.GuardError) as wanted:
        made(a, a[:2])
    assert told.value.message == wanted.value.message


def test_the_weights_are_those_of_the_moment(tmp_path):
    model = gc.compile(nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3)), gc.spec("N", 6), loss="cross_entropy", optimizer=optim.Adam(0.1))
    x, y = rows(20), RNG.integers(0, 3, 20)
    model.train_on_batch(x, y)  # which chooses how weights lie in memory
    before = model.predict(x)
    model.save_bundle(tmp_path / "x.gcb")
    model.train_on_batch(x, y)
    bundle = gc.load_bundle(tmp_path / "x.gcb")
    assert equal(bundle.predict(x), before) and not equal(model.predict(x), before)
    model.save_bundle(tmp_path / "x.gcb")
    assert equal(gc.load_bundle(tmp_path / "x.gcb").predict(x), model.predict(x))
    assert os.listdir(tmp_path) == ["x.gcb"]


ALONE = """
import sys
import numpy as np
import graphc as gc
x = np.load({x!r})
bundle = gc.load_bundle({path!r})
for _ in range(3):
    out = bundle.predict(x)
loaded = [m for m in ("numba", "llvmlite", "graphc.ops", "graphc.passes", "graphc.backends.cpu.executable") if m in sys.modules]
np.save({y!r}, out)
print(loaded)
"""


@pytest.mark.parametrize("rows_", [1, 300])
def test_a_process_that_runs_a_bundle_imports_no_compiler(rows_, tmp_path):
    model = gc.compile(nn.Sequential(nn.Linear(6, 640), nn.Tanh(), nn.Linear(640, 3)), gc.spec("N", 6))
    model.save_bundle(tmp_path / "x.gcb")
    x = rows(rows_)
    np.save(tmp_path / "x.npy", x)
    code = ALONE.format(x=str(tmp_path / "x.npy"), y=str(tmp_path / "y.npy"), path=str(tmp_path / "x.gcb"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "GRAPHC_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]" and not (tmp_path / "cache").exists()
    assert equal(np.load(tmp_path / "y.npy"), model.predict(x))


# -- what is refused -----------------------------------------------------------------------------------------------------
@pytest.fixture
def saved(tmp_path):
    model = gc.compile(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), gc.spec("N", 2))
    path = tmp_path / "small.gcb"
    model.save_bundle(path)
    return path


def changed(path: Path, **values) -> Path:
    """The same bundle, whole, but with other words about itself."""
    file = File(path)
    data = json.loads(file.meta["program"]) | values
    write_file(path, file.tensors(), {"kind": "bundle", "program": json.dumps(data)})
    return path


def test_another_processor_is_told(saved):
    flags = json.loads(File(saved).meta["program"])["flags"]
    with pytest.raises(gc.DeviceUnavailableError) as e:
        gc.load_bundle(changed(saved, flags=[*flags, "avx9", "avx10"]))
    assert "code for another processor" in e.value.message and e.value.notes == ("it lacks avx10, avx9",) and "save the bundle on" in e.value.hint
    with pytest.raises(gc.DeviceUnavailableError, match="another processor: riscv64"):
        gc.load_bundle(changed(saved, flags=flags, machine="riscv64"))


def test_another_form_of_programs_is_told(saved):
    with pytest.raises(gc.FileFormatError, match="has the form 999") as e:
        gc.load_bundle(changed(saved, layout=999))
    assert "save it again" in e.value.hint


def test_the_form_has_a_new_number_when_what_it_stands_for_changes():
    """Whoever changes the driver's words, a kernel's arguments or the entry's words raises LAYOUT and puts the new digest here."""
    from graphc.backends.cpu.machine import driver_words, entry, pool

    words = Path(driver_words.__file__).read_text().partition("# rows of a program")[2]
    heads = re.findall(r"^def .*$|^[A-Z, ]+ = .*$", pool.driver_text() + entry.entry_text(), re.M)
    digest = hashlib.sha256("\n".join([words, *heads]).encode()).hexdigest()[:16]
    assert (driver_words.LAYOUT, digest) == (2, "5f06d79ac2e033de")


def test_files_that_are_no_bundles(tmp_path, saved):
    model = gc.compile(nn.Linear(2, 3), gc.spec("N", 2))
    model.save(tmp_path / "m.graphc")
    with pytest.raises(gc.FileFormatError, match="is a file of graphc, but no bundle"):
        gc.load_bundle(tmp_path / "m.graphc")
    with pytest.raises(gc.MissingFileError):
        gc.load_bundle(tmp_path / "nowhere.gcb")
    with pytest.raises(gc.GraphcError):
        model.load(saved)


def test_what_cannot_be_bundled(tmp_path):
    model = gc.compile(nn.Linear(2, 3), gc.spec("N", 2), target="reference")
    with pytest.raises(gc.ArgumentError, match="needs compiled kernels"):
        model.save_bundle(tmp_path / "x.gcb")
    step = gc.step(lambda x: optim.SGD(0.1).minimize((net(x) ** 2).mean(), net.parameters()), gc.spec("N", 2)) if (net := nn.Linear(2, 3)) else None
    with pytest.raises(gc.ArgumentError, match="updates state"):
        step.save_bundle(tmp_path / "x.gcb")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("threads", [0, True, "two"])
def test_threads_are_a_number(saved, threads):
    with pytest.raises(gc.ArgumentError, match="threads"):
        gc.load_bundle(saved, threads=threads)


def test_arguments_are_checked_as_in_the_model(saved):
    bundle = gc.load_bundle(saved)
    with pytest.raises(gc.ShapeError, match="expected float32"):
        bundle.predict(np.zeros((4, 3), "float32"))
    with pytest.raises(gc.DTypeError):
        bundle.predict(np.zeros((4, 2), "int64"))
    with pytest.raises(gc.ArgumentError):
        bundle(1, 2)
    with pytest.raises(gc.ArgumentError, match="batch_size"):
        bundle.predict(np.zeros((4, 2), "float32"), batch_size=0)


def test_damaged_files_are_refused(saved):
    """Any change of any byte, and any end."""
    raw, rng = saved.read_bytes(), np.random.default_rng(3)
    for trial in range(400):
        data = bytearray(raw)
        kind = trial % 4
        if kind == 0:
            del data[int(rng.integers(len(raw))) :]
        elif kind == 1:
            data[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            at = int(rng.integers(len(raw)))
            data[at : at + 16] = rng.bytes(min(16, len(raw) - at))
        else:
            data += rng.bytes(int(rng.integers(1, 50)))
        if bytes(data) == raw:
            continue
        saved.write_bytes(bytes(data))
        with pytest.raises(gc.GraphcError):
            gc.load_bundle(saved)


@pytest.mark.parametrize("key", ["steps", "buffers", "entries", "outputs", "arguments", "inputs", "work", "inside"])
def test_a_whole_file_with_a_senseless_program_is_refused(saved, key):
    for value in (None, 7, "x", [[1]], {"a": 1}, [None]):
        if key == "work" and value in (7,):
            continue
        with pytest.raises(gc.GraphcError):
            gc.load_bundle(changed(saved, **{key: value}))
