"""Indices that are data, compiled: equal bits for any number of threads, indices out of range, scatters inside scans."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.compiler import compile_graph
from graphc.errors import GuardError
from graphc.testing import build_graph
from tests.cpu.test_samples import assert_same_bits_for_any_number_of_threads
from tests.ops import test_keys
from tests.ops.cases import OPS, sample_graph

BY_NAME = {op.name: op for op in OPS}
NAMES = [
    "argsort", "gather_nd", "rankdata", "scatter_nd", "sort", "take_points", "top_k",
    "dynamic_slice", "dynamic_update_slice", "scatter_elements", "scatter_max", "scatter_min", "scatter_mul", "scatter_set", "take_along_axis",
]  # fmt: skip


def every_key():
    """All keys of the tests of indexing in one graph: read, and written in one of several ways."""
    ways = ("set", "add", "max")

    def fn(x):
        written = [getattr(x.at[k], ways[i % 3])(x[k] * 0.5) for i, k in enumerate(test_keys.KEYS.values())]
        return [x[k] for k in test_keys.READ.values()] + written

    return build_graph(fn, test_keys.X.astype(np.float32))


def to_compile():
    yield every_key()[0], None
    for name in NAMES:
        yield sample_graph(BY_NAME[name], "float32")[0], None


def test_every_key_as_the_reference():
    graph, arrays = every_key()
    wanted, found = compile_graph(graph, "reference")(arrays), compile_graph(graph, "cpu")(arrays)
    for k, v in wanted.items():
        np.testing.assert_allclose(found[k], v, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    assert_same_bits_for_any_number_of_threads(*sample_graph(BY_NAME[name], "float32"), monkeypatch)


@pytest.mark.parametrize("mode", ["schedule", "bounds"])
@pytest.mark.parametrize("name", NAMES)
def test_samples_pass_the_checks(name, mode):
    graph, arrays, _ = sample_graph(BY_NAME[name], "float32")
    e = compile_graph(graph, "cpu")
    e.check = mode
    e(arrays)


@pytest.mark.parametrize("columns", [5, 64, 203])  # threads share rows out, or parts of every row
@pytest.mark.parametrize("filled", [True, False])
def test_duplicates_add_up_in_order(columns, filled, monkeypatch):
    rng = np.random.default_rng(columns)
    index = np.minimum(rng.geometric(0.4, 40) - 1, 6).astype(np.int32)
    base = np.full((7, columns), 0.5, np.float32) if filled else rng.random((7, columns)).astype(np.float32)
    update = rng.random((40, columns)).astype(np.float32)
    wanted = base.copy()
    for i, r in enumerate(index):
        wanted[r] += update[i]

    def fn(*args):
        start = ops.full((7, columns), 0.5) if filled else args[0]
        return ops.scatter_add(start, *args[-2:])

    graph, arrays = build_graph(fn, *([] if filled else [base]), index, update)
    for threads in (1, 2, 3):
        monkeypatch.setenv("GRAPHC_THREADS", str(threads))
        monkeypatch.setenv("GRAPHC_SMALL_WORK", "0")
        np.testing.assert_array_equal(next(iter(compile_graph(graph, "cpu")(arrays).values())), wanted)


X = np.arange(12, dtype=np.float32).reshape(4, 3)
BAD = np.array([1, -1, 4, 2**31 - 1, -(2**31)], np.int32)
U = np.full((5, 3), 100, np.float32)
OUT_OF_RANGE = {
    "take": (lambda x, i, u: ops.take(x, i), np.vstack([X[1:2], np.zeros((4, 3))])),
    "take_along_axis": (lambda x, i, u: ops.gather(x[:, :1], 0, i.reshape(5, 1)), np.array([[3], [0], [0], [0], [0]])),
    "scatter_set": (lambda x, i, u: ops.scatter_set(x, i, u), np.vstack([X[:1], U[:1], X[2:]])),
    "scatter_add": (lambda x, i, u: ops.scatter_add(x, i, u), np.vstack([X[:1], X[1:2] + 100, X[2:]])),
    "scatter_elements": (
        lambda x, i, u: ops.scatter(x, 1, ops.stack([i] * 4), u[:4, :1].broadcast_to((4, 5))),
        np.hstack([X[:, :1], np.full((4, 1), 100), X[:, 2:]]),
    ),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_out_of_range_raises_in_the_reference_and_touches_no_memory_when_compiled(name):
    fn, wanted = OUT_OF_RANGE[name]
    graph, arrays = build_graph(fn, X, BAD, U)
    with pytest.raises(GuardError, match="out of range"):
        compile_graph(graph, "reference")(arrays)
    e = compile_graph(graph, "cpu")
    np.testing.assert_array_equal(e(arrays)["o0"], wanted)
    e.check = "bounds"
    e(arrays)


def test_the_last_of_equal_indices_stays():
    rng = np.random.default_rng(0)
    i, u = rng.integers(0, 7, 5000).astype(np.int32), rng.standard_normal((5000, 3)).astype(np.float32)
    graph, arrays = build_graph(ops.scatter_set, np.zeros((7, 3), np.float32), i, u)
    last = np.stack([u[np.flatnonzero(i == r)[-1]] for r in range(7)])
    np.testing.assert_array_equal(compile_graph(graph, "cpu")(arrays)["o0"], last)


@pytest.mark.parametrize("columns", [3, 128])  # rows of 512 bytes: temporaries of this size are padded unless a scatter walks them
def test_scatters_in_a_scan(columns):
    def fn(x, table, i, u):
        held = ops.exp(table)  # captured, and the base of a scatter

        def body(c, e):
            return ops.scatter_add(c, e[0], e[1]), ops.scatter_set(held, e[0], e[1] * 2.0)

        return ops.scan(body, x, (i, u))

    rng = np.random.default_rng(0)
    args = [rng.random((5, columns)), rng.random((5, columns)), rng.integers(0, 5, (4, 6)).astype(np.int32), rng.random((4, 6, columns))]
    graph, arrays = build_graph(fn, *args)
    wanted, found = compile_graph(graph, "reference")(arrays), compile_graph(graph, "cpu")(arrays)
    for k, v in wanted.items():
        np.testing.assert_allclose(found[k], v, rtol=1e-12)
