"""Scans on the CPU against the reference: inside one another, backwards, with random numbers, on sizes of 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.testing import build_graph

rng = np.random.default_rng(0)
X, W = rng.normal(size=(3, 4, 5)), rng.normal(size=(5, 5)) * 0.4
SEED, STEP = np.array([1, 2], np.uint32), np.int64(3)


def with_gradients(outputs, inputs):
    """A graph of results and of the gradients of their squares."""
    loss = ops.const(0.0, "float64")
    for n in outputs:
        loss = loss + (n * n).sum()
    grads = gradients([loss], None, [i.node for i in inputs if i.node.dtype.is_float])
    return Graph("scans", tuple(inputs), tuple((f"o{k}", n) for k, n in enumerate([*outputs, *grads])))


def assert_equal_to_the_reference(graph, arrays, *more):
    exact, e = compile_graph(graph, "reference"), compile_graph(graph, "cpu")
    for given in (arrays, *more):
        wanted = exact(given)
        for mode in ("", "schedule", "bounds"):
            e.check = mode
            for k, v in e(given).items():
                np.testing.assert_allclose(v, wanted[k], rtol=1e-11, atol=1e-12, err_msg=f"{k} {mode}")


def nested(x, w, seed, step, outside, inside):
    def outer(c, row):
        def inner(d, e):
            d = (d @ w + e * c).tanh()
            return d, (d * 2.0 + ops.dropout(d, seed, step, p=0.5, stream=7), d.sum())

        d, (ds, sums) = ops.scan(inner, c, row, reverse=inside)
        return d + ds.sum(0) * 0.1, (ds, sums, d)

    c, rows = ops.scan(outer, x[0, 0] * 0.3, x, reverse=outside)
    return [c, *rows]


@pytest.mark.parametrize("outside,inside", [(False, False), (False, True), (True, False), (True, True)])
def test_a_scan_inside_a_scan_and_its_gradient(outside, inside):
    graph, arrays = build_graph(lambda *a: nested(*a, outside, inside), X, W, SEED, STEP)
    assert_equal_to_the_reference(with_gradients([n for _, n in graph.outputs], graph.inputs), arrays)


def test_named_counts_on_both_levels(monkeypatch):
    monkeypatch.setenv("GRAPHC_THREADS", "3")
    monkeypatch.setenv("GRAPHC_SMALL_WORK", "0")
    x = ops.input("x", (sym("A"), sym("B"), 5), "float64")
    start = ops.input("start", (5,), "float64")

    def outer(c, row):
        d, ds = ops.scan(lambda d, e: ((d * 0.5 + e * c).tanh(), d * e), c, row)
        return d * 0.9, (d, ds)

    c, (ds, rows) = ops.scan(outer, start, x)
    graph = with_gradients([c, ds, rows], [Input("x", x), Input("start", start)])
    given = [{"x": rng.normal(size=(a, b, 5)), "start": rng.normal(size=5)} for a, b in ((3, 4), (1, 1), (2, 0), (0, 3), (5, 2))]
    assert_equal_to_the_reference(graph, *given)


def test_three_levels_with_counters_alone():
    def fn(x, seed, step):
        def a(c, _):
            def b(c, _):
                def inner(c, _):
                    c = (c * 0.5 + ops.dropout(x, seed, step, p=0.5, stream=3)).tanh()
                    return c, c

                return ops.scan(inner, c, length=2)

            return ops.scan(b, c, length=3, reverse=True)

        return ops.scan(a, x * 0.0, length=2)

    graph, arrays = build_graph(fn, rng.normal(size=7), SEED, STEP)
    assert graph.outputs[1][1].shape == (2, 3, 2, 7)
    assert_equal_to_the_reference(with_gradients([n for _, n in graph.outputs], graph.inputs), arrays)


@pytest.mark.parametrize("reverse", [False, True])
def test_masks_are_those_of_the_element(reverse):
    """The backward pass walks the other way and must find the masks of the forward pass."""
    graph, arrays = build_graph(
        lambda x, w, s, t: ops.scan(lambda c, e: ((c @ w + ops.dropout(e, s, t, p=0.5, stream=1)).tanh(), c), x[0], x, reverse=reverse),
        X[:, 0], W, SEED, STEP,
    )  # fmt: skip
    assert_equal_to_the_reference(with_gradients([n for _, n in graph.outputs], graph.inputs), arrays)


def test_a_carry_that_is_scattered_into():
    def fn(x, i):
        return ops.scan(lambda c, e: ((d := ops.scatter_add(c, e[1], e[0])), d.sum(0)), x[0] * 0.0, (x, i))

    graph, arrays = build_graph(fn, rng.normal(size=(4, 3, 2)), rng.integers(0, 3, (4, 3)).astype(np.int32))
    assert_equal_to_the_reference(with_gradients([n for _, n in graph.outputs], graph.inputs), arrays)


def test_a_scatter_onto_the_number_that_a_scan_starts_from():
    f = gc.compile(
        lambda i, u, x: (ops.broadcast_to(ops.const(0.0), (8,)).at[i].set(u), ops.cumsum(x.tanh().tanh().tanh().tanh().tanh().tanh().tanh().tanh(), 0)),
        gc.spec(3, dtype="int32"), gc.spec(3), gc.spec(5), target="cpu",
    )  # fmt: skip
    # (the scan comes late in the graph, when the scatter has been decided on)
    placed, summed = f(np.array([1, 7, 2], np.int32), np.array([1.0, 2.0, 3.0]), np.arange(5.0))
    np.testing.assert_array_equal(placed, [0, 1, 3, 0, 0, 0, 0, 2])
    assert summed[0] == 0 and (np.diff(summed) > 0).all()
