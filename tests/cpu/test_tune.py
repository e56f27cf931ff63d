"""``gc.tune``: every walk of a contraction gives the same result, and the measured one is taken, remembered and may be lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
import graphc.ops as ops
from graphc import cli, nn
from graphc.backends.cpu import measured_walks, tuning
from graphc.backends.cpu.executable import CpuExecutable
from graphc.backends.cpu.machine import cache
from graphc.backends.cpu.machine.pool import default_threads
from graphc.backends.cpu.measured_walks import FILE, WalkTable, machine_key
from graphc.backends.cpu.printers.walks import WALKS, digest, legal, modelled, signature
from graphc.backends.cpu.tuning import Times
from graphc.compiler import compile_graph
from graphc.errors import ArgumentError
from graphc.ir.dims import sym
from tests.models import Builder, batch_for

from .test_convolution import CASES, layer

N = sym("N")
MARK = {"columns": "q = div_pos(u, mt)", "rows": "q = div_pos(u, nt)", "passes": "for k0 in range(0, kn"}
"""What only the kernels of a walk have in their text."""

PRODUCTS = {
    "plain": lambda b: b.arg("x", (N, 37)) @ b.arg("w", (37, 70)),
    "long": lambda b: (b.arg("x", (N, 600)) @ b.arg("w", (600, 45)) + b.arg("c", (45,))).relu(),
    "panels": lambda b: b.arg("x", (N, 300)) @ b.param("w", (70, 300)).transpose(),
    "batch": lambda b: ops.matmul(b.arg("x", (3, N, 21)), b.arg("y", (3, 21, 40))),
    "turned": lambda b: b.arg("x", (300, 400)).transpose() @ b.arg("w", (300, 33)),
    "over the batch": lambda b: b.arg("x", (N, 40)).transpose() @ b.arg("y", (N, 33)),
    "empty": lambda b: b.arg("x", (N, 0)) @ b.arg("y", (0, 9)) + 1.0,
    "computed": lambda b: (b.arg("x", (N, 21)) * b.arg("y", (N, 21))).exp() @ b.arg("w", (21, 50)),
    "padded": lambda b: ops.conv(b.arg("x", (N, 300, 5, 6)), b.param("w", (8, 300, 1, 1)), padding=1),
}


def contractions(e: CpuExecutable) -> list[Any]:
    return [k for k in e.kernels if k.launch.nest.contract is not None]


def digests(e: CpuExecutable) -> list[str]:
    return [digest(signature(k.launch.nest, e.schedule.buffers, e.facts)) for k in contractions(e)]


def check_walk(graph: Any, b: Builder, walk: str, sizes: tuple[int, ...]) -> None:
    usual = CpuExecutable(graph, b.store, walks={})
    made = CpuExecutable(graph, b.store, walks=dict.fromkeys(digests(usual), walk))
    assert contractions(made)
    for k in contractions(made):
        nest = k.launch.nest
        assert MARK[walk if walk in legal(nest) else modelled(nest)] in k.printed.text
    for n in sizes:
        values = batch_for(graph, n)
        wanted = compile_graph(graph, "reference", b.store)(values)
        for name, found in made(values).items():
            scale = float(np.abs(wanted[name]).max(initial=1.0))
            np.testing.assert_allclose(found, wanted[name], rtol=1e-5, atol=2e-6 * scale, err_msg=f"{name}, N = {n}")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WalkTable:
    """A table of this test's own, in place of the process's."""
    made = WalkTable(tmp_path)
    monkeypatch.setattr(measured_walks, "default_table", lambda: made)
    return made


@pytest.fixture
def passes_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every walk runs, and times are made up, since real ones differ from run to run: passes beat the walk of a short sum."""
    times = {1: (2.0,), 2: (2.0, 1.0), 3: (2.0, 3.0, 1.0)}

    def race(runs: list[Any]) -> list[Times]:
        for run in runs:
            run()
        return [Times(t, t) for t in times[len(runs)]]

    monkeypatch.setattr(tuning, "race", race)


def model() -> Any:
    gc.set_seed(0)
    net = nn.Sequential(nn.Linear(40, 70), nn.ReLU(), nn.Linear(70, 5))
    return gc.compile(net, gc.spec("N", 40), loss="cross_entropy", optimizer="adam")


def batch(n: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 40)).astype("f"), rng.integers(0, 5, n)


# -- walks -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_every_walk_computes_the_product(name: str, walk: str):
    b = Builder()
    check_walk(b.graph({"out": PRODUCTS[name](b)}), b, walk, (0, 1, 37))


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("name", ["same", "strided", "volume"])
def test_every_walk_computes_convolutions_and_their_gradients(name: str, walk: str):
    check_walk(*layer(CASES[name]), walk, (0, 3))


def test_a_condition_on_rows_rules_passes_out():
    """A padded pointwise convolution of many channels is a long sum whose rows outside read zeros, which passes cannot do."""
    b = Builder()
    graph = b.graph({"out": ops.conv(b.arg("x", (N, 800, 5, 6)), b.param("w", (8, 800, 1, 1)), padding=1)})
    check_walk(graph, b, "columns", (2,))
    (k,) = contractions(CpuExecutable(graph, b.store, walks={}))
    assert modelled(k.launch.nest) == "columns"


def test_signatures_tell_sizes_apart_and_not_names():
    def one(batch: str, k: int) -> list[str]:
        b = Builder()
        return digests(CpuExecutable(b.graph({"out": b.arg("x", (sym(batch), k)) @ b.arg("w", (k, 70))}), b.store, walks={}))

    assert one("N", 37) == one("M", 37)
    assert one("N", 37) != one("N", 38)


# -- the table -------------------------------------------------------------------------------------------------------------
def test_what_is_measured_is_taken(table: WalkTable, passes_win: None):
    f = gc.compile(lambda x, w: x @ w, gc.spec("N", 37), gc.spec(37, 70))
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype("f") for s in ((50, 37), (37, 70)))
    before = f(x, w)
    assert MARK["rows"] in f.executable.as_text("kernels")
    report = gc.tune(f, x, w)
    (row,) = report.rows
    assert (row.default, row.chosen, report.changed) == ("rows", "passes", True)
    assert set(row.seconds) == set(WALKS)
    assert "passes (not rows)" in str(report) and "test_tune.py" in str(report)
    assert MARK["passes"] in f.executable.as_text("kernels")  # compiled again
    np.testing.assert_allclose(f(x, w), before, rtol=1e-5, atol=1e-5)
    assert not gc.tune(f, x, w).changed
    assert list(json.loads(table.path.read_text())["machines"]) == [machine_key(default_threads())]


def test_a_gain_of_chance_is_not_kept(table: WalkTable, monkeypatch: pytest.MonkeyPatch):
    """A walk must save 5 % of the median and of the best run, and so must all together."""
    assert not Times(0.9, 1.0).gains(Times(1.0, 1.0), 0.05)
    assert not Times(0.96, 0.9).gains(Times(1.0, 1.0), 0.05)
    assert Times(0.94, 0.94).gains(Times(1.0, 1.0), 0.05)
    monkeypatch.setattr(tuning, "race", lambda runs: [Times(t, t) for t in {1: (2.0,), 2: (2.0, 2.0), 3: (2.0, 3.0, 1.0)}[len(runs)]])
    b = Builder()
    graph = b.graph({"out": PRODUCTS["plain"](b)})
    report = tuning.tune(graph, b.store, batch_for(graph, 4))
    assert [r.chosen for r in report.rows] == ["rows"] and not report.changed and not table.path.exists()


def test_a_training_step_leaves_the_model_as_it_was(table: WalkTable, passes_win: None):
    m, other = model(), model()
    x, y = batch()
    m.train_on_batch(x, y)
    other.train_on_batch(x, y)
    before = {n: m.store.numpy(n) for n in m.store.names()}
    report = gc.tune(m, x, y, mode="train_step")
    assert report.changed and len(report.rows) >= 4
    for name, value in before.items():
        np.testing.assert_array_equal(m.store.numpy(name), value, err_msg=name)
    losses = [(m.train_on_batch(x, y)["loss"], other.train_on_batch(x, y)["loss"]) for _ in range(3)]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-5)
    np.testing.assert_allclose(m.predict(x), other.predict(x), rtol=1e-5, atol=1e-5)


def test_a_prediction_is_compiled_again(table: WalkTable, passes_win: None):
    m, (x, _) = model(), batch()
    before = m.predict(x)
    assert gc.tune(m, x).changed
    np.testing.assert_allclose(m.predict(x), before, rtol=1e-5, atol=1e-5)
    assert MARK["passes"] in m.executables["predict"].as_text("kernels")


PROGRAM = textwrap.dedent("""
    import warnings
    import numpy as np
    import graphc as gc
    from graphc.backends.cpu.printers.walks import digest, signature
    f = gc.compile(lambda x, w: x @ w, gc.spec("N", 37), gc.spec(37, 70))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        e = f.executable
    (k,) = e.kernels
    print("passes" if "for k0 in range(0, kn" in k.printed.text else "rows" if "div_pos(u, nt)" in k.printed.text else "columns")
    print(len(told), f(np.ones((3, 37)), np.ones((37, 70))).sum())
    print(digest(signature(k.launch.nest, e.schedule.buffers, e.facts)))
""")


def in_a_process(folder: Path) -> list[str]:
    env = os.environ | {"GRAPHC_CACHE": str(folder)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.split("\n")


def test_other_processes_take_the_table(tmp_path: Path):
    walk, told, key, _ = in_a_process(tmp_path)
    assert (walk, told) == ("rows", "0 7770.0")
    entry = {key: {"walk": "columns", "signature": ""}}
    file = tmp_path / FILE
    file.write_text(json.dumps({"format": 1, "machines": {machine_key(default_threads()): entry}}))
    assert in_a_process(tmp_path)[:2] == ["columns", "0 7770.0"]
    file.write_text(json.dumps({"format": 1, "machines": {"another": entry}}))
    assert in_a_process(tmp_path)[0] == "rows"
    file.write_text('{"format": 1, "machines": [')
    assert in_a_process(tmp_path)[:2] == ["rows", "1 7770.0"]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": 1}', '{"format": 1, "machines": {"m": {"d": "rows"}}}', "\xff" * 9])
def test_a_damaged_table_is_ignored_and_replaced(text: str, tmp_path: Path):
    (tmp_path / FILE).write_text(text, encoding="latin-1")
    made = WalkTable(tmp_path)
    with pytest.warns(UserWarning, match="is no table of measured walks"):
        assert made.walks(2) == {}
    with pytest.warns(UserWarning, match="is no table of measured walks"):
        made.keep(2, {"d": ("words", "rows")})
    assert WalkTable(tmp_path).walks(2) == {"d": "rows"}


def test_a_table_of_another_format_or_with_walks_that_are_none_is_not_used(tmp_path: Path):
    (tmp_path / FILE).write_text('{"format": 2, "machines": 5}')
    assert WalkTable(tmp_path).walks(2) == {}
    b = Builder()
    graph = b.graph({"out": PRODUCTS["plain"](b)})
    e = CpuExecutable(graph, b.store, walks={})
    made = CpuExecutable(graph, b.store, walks=dict.fromkeys(digests(e), "sideways"))
    assert [k.printed.text for k in made.kernels] == [k.printed.text for k in e.kernels]


def test_processes_add_to_one_table(tmp_path: Path):
    mine, theirs = WalkTable(tmp_path), WalkTable(tmp_path)
    assert mine.walks(1) == theirs.walks(1) == {}
    mine.keep(1, {"a": ("words", "rows")})
    theirs.keep(1, {"b": ("words", "columns")})
    assert WalkTable(tmp_path).walks(1) == {"a": "rows", "b": "columns"}
    assert WalkTable(tmp_path).walks(2) == {}
    theirs.keep(1, {"a": ("words", None)})
    assert WalkTable(tmp_path).walks(1) == {"b": "columns"}


def test_a_table_that_cannot_be_written_holds_for_the_process(tmp_path: Path):
    (tmp_path / "file").write_text("")
    made = WalkTable(tmp_path / "file")  # no folder: not even root can write there
    with pytest.warns(UserWarning, match=r"cannot be written .* holds for this process"):
        made.keep(2, {"d": ("words", "rows")})
    assert made.walks(2) == {"d": "rows"}


def test_clearing_the_cache_clears_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    WalkTable(tmp_path).keep(2, {"d": ("words", "rows")})
    monkeypatch.setattr(cache, "default_cache", lambda: cache.KernelCache(tmp_path))
    assert cli.main(["cache", "clear"]) == 0
    assert not (tmp_path / FILE).exists()


def test_only_what_is_compiled_for_the_cpu_is_tuned():
    x = np.ones((2, 2), np.float32)
    with pytest.raises(ArgumentError, match="is not compiled"):
        gc.tune(lambda x: x, x)
    for target in ("reference", "cuda-sim"):
        f = gc.compile(lambda x: x @ x, gc.spec(2, 2), target=target)
        with pytest.raises(ArgumentError, match=f"programs of {target} cannot be tuned"):
            gc.tune(f, x)
    with pytest.raises(ArgumentError, match="no mode 'train_step'"):
        gc.tune(gc.compile(lambda x: x @ x, gc.spec(2, 2)), x, mode="train_step")
