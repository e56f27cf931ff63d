"""Whole programs on the simulated CUDA target: training steps, state, named dims, and the form of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops, optim
from graphc.compiler import compile_graph
from graphc.errors import NonFiniteError
from graphc.schedule.program import Repeat
from graphc.testing import build_graph


class Net(nn.Module):
    """(N, 20) -> (N, 10), with a normalised hidden layer."""

    def __init__(self):
        self.a, self.norm, self.b = nn.Linear(20, 40), nn.LayerNorm(40), nn.Linear(40, 10)

    def forward(self, x):
        return self.b(self.norm(self.a(x)).relu())


def model(target, optimizer=None):
    gc.set_seed(3)
    return gc.compile(Net(), gc.spec("N", 20), loss="cross_entropy", optimizer=optimizer or optim.Adam(1e-2), target=target)


def batch(rows, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 20)).astype(np.float32), rng.integers(0, 10, rows)


@pytest.mark.parametrize("optimizer", [lambda: optim.SGD(0.1, momentum=0.9), lambda: optim.Adam(1e-2)], ids=["sgd", "adam"])
def test_a_training_step_equals_the_reference(optimizer):
    ours, truth = model("cuda-sim", optimizer()), model("reference", optimizer())
    x, y = batch(33)
    a, b = ours.train_on_batch(x, y), truth.train_on_batch(x, y)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    mine, theirs = ours.state_dict(), truth.state_dict()
    before = model("reference").state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        scale = max(1.0, np.abs(value).max())
        assert np.abs(mine[name] - value).max() <= 1e-5 * scale, name
    assert any(np.abs(theirs[n] - before[n]).max() > 1e-3 for n in before)


def test_a_few_steps_learn_and_prediction_follows():
    ours = model("cuda-sim")
    x, y = batch(64)
    losses = [ours.train_on_batch(x, y)["loss"] for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]
    assert ours.predict(x[:5]).shape == (5, 10)


def test_a_loss_that_is_not_finite_writes_nothing():
    ours = model("cuda-sim")
    x, y = batch(4)
    before = ours.state_dict()
    x[1, 2] = np.nan
    with pytest.raises(NonFiniteError):
        ours.train_on_batch(x, y)
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(value, before[name], name)


@pytest.mark.parametrize("rows", [0, 1, 5, 33])
def test_one_program_serves_every_size_of_a_named_dim(rows):
    f = gc.compile(lambda x: ((x * 2).softmax(-1), x.sum(0), x.max(1)), gc.spec("N", 19), target="cuda-sim")
    x = np.random.default_rng(0).normal(size=(rows, 19)).astype(np.float32)
    soft, columns, rows_ = f(x)
    e = np.exp(2 * x - 2 * x.max(1, keepdims=True))
    np.testing.assert_allclose(soft, e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(columns, x.sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows_, x.max(1))


def test_more_points_than_threads_are_walked_in_strides_of_the_grid(monkeypatch):
    from graphc.backends.cuda import program

    monkeypatch.setattr(program, "BLOCKS", 2)
    x = np.random.default_rng(0).normal(size=(37, 70)).astype(np.float32)
    graph, arrays = build_graph(lambda x: (x.exp(), x.sum(-1), x.sum(0)), x)
    for name, value in compile_graph(graph, "reference")(arrays).items():
        np.testing.assert_allclose(compile_graph(graph, "cuda-sim")(arrays)[name], value, rtol=1e-5, atol=1e-5)


# -- scatters and scans ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("blocks", [1, 2, 256])
@pytest.mark.parametrize("combine", ["add", "set", "max"])
def test_a_scatter_gives_the_same_bits_on_any_grid(combine, blocks, monkeypatch):
    from graphc.backends.cuda import program

    monkeypatch.setattr(program, "BLOCKS", blocks)
    rng = np.random.default_rng(1)
    base, rows = rng.normal(size=(37, 41)).astype(np.float32), rng.integers(-3, 40, 90)
    new = rng.normal(size=(90, 41)).astype(np.float32)
    wanted = base.copy()
    for i, r in enumerate(rows):  # one by one, in order, in float32; indices that are no row are left out
        if not 0 <= r < 37:
            continue
        wanted[r] = {"add": wanted[r] + new[i], "set": new[i], "max": np.maximum(wanted[r], new[i])}[combine]
    graph, arrays = build_graph(lambda b, i, u: getattr(ops, f"scatter_{combine}")(b, i, u), base, rows, new)
    exe = compile_graph(graph, "cuda-sim")
    assert "scatter" in {k.launch.nest.kind for k in exe.kernels}
    np.testing.assert_array_equal(exe(arrays)["o0"], wanted)


def test_a_scan_is_its_launches_repeated_and_the_trip_is_a_parameter():
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    graph, arrays = build_graph(lambda x: ops.scan(lambda h, x: (h * 0.5 + x, h), x[0] * 0.0, x)[1], x)
    exe = compile_graph(graph, "cuda-sim")
    (repeat,) = (i for i in exe.schedule.items if isinstance(i, Repeat))
    assert repeat.count == 7 and any(p.kind == "trip" for i in repeat.body for p in exe.program.kernels[i].printed.params)
    np.testing.assert_allclose(exe(arrays)["o0"], compile_graph(graph, "reference")(arrays)["o0"], rtol=1e-6)


def test_a_scan_in_a_scan_has_one_flattened_trip():
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)

    def inner(h, x):
        new = (h + x).tanh()
        return new, new

    def outer(h, x):
        last, all_ = ops.scan(inner, h, x)
        return last * 0.5, all_

    graph, arrays = build_graph(lambda x: ops.scan(outer, x[0, 0], x)[1], x)
    exe = compile_graph(graph, "cuda-sim")
    assert any(isinstance(j, Repeat) for i in exe.schedule.items if isinstance(i, Repeat) for j in i.body)
    np.testing.assert_allclose(exe(arrays)["o0"], compile_graph(graph, "reference")(arrays)["o0"], rtol=1e-5, atol=1e-6)


# -- the form of kernels -----------------------------------------------------------------------------------------------------
def texts(fn, *arrays):
    graph, _ = build_graph(fn, *arrays)
    return [k.printed.text for k in compile_graph(graph, "cuda-sim").kernels]


X = np.zeros((50, 70), np.float32)


def test_a_contiguous_fold_takes_a_warp_and_a_column_fold_eight():
    (rows,) = texts(lambda x: x.sum(-1), X)
    (columns,) = texts(lambda x: x.sum(0), X)
    assert "one warp" in rows and "shuffle_xor(" in rows and "if lane == 0:" in rows
    assert "one column" in columns and "shuffle" not in columns and "cuda.syncthreads()" in columns


def test_layers_of_different_width_share_a_kernel():
    (a,), (b,) = texts(lambda x: x.softmax(-1), X), texts(lambda x: x.softmax(-1), np.zeros((40, 90), np.float32))
    assert a == b


def test_a_division_that_cannot_be_negative_is_unsigned_and_one_by_a_power_of_two_a_shift():
    (text,) = texts(lambda x: x.reshape(35, 100).transpose(1, 0) + 1.0, X)
    assert "np.uint32(" in text and "//" in text
    (text,) = texts(lambda x: x.pad((0, 1), (0, 1), (1, 0)), X)
    assert ">> 1" in text and "//" not in text.split("i0 =")[1]


def test_it_says_what_it_is():
    graph, _ = build_graph(lambda x: (x @ x.transpose(1, 0)).relu(), X)
    exe = compile_graph(graph, "cuda-sim")
    assert {"traced", "layout", "schedule"} <= set(exe.stages)
    assert "contract" in exe.listing() and exe.decisions and exe.memory_analysis().arena_bytes >= 0
    with pytest.raises(TypeError, match="threads"):
        compile_graph(graph, "cuda-sim", threads=2)
