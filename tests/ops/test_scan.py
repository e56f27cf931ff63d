"""Scan: captures, nesting, random numbers, gradients, pruning, against a loop written out."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.errors import ShapeError
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input, verify
from graphc.passes.scans import prune_scans
from graphc.testing import build_graph, check_grads, graph_equal

rng = np.random.default_rng(0)
X, H, W, U = rng.normal(size=(6, 2, 3)), rng.normal(size=(2, 4)), rng.normal(size=(4, 4)) * 0.5, rng.normal(size=(3, 4))


def rnn(x, h, w, u, reverse=False):
    def cell(h, x):
        h = (h @ w + x @ u.tanh()).tanh()
        return h, h

    return ops.scan(cell, h, x, reverse=reverse)


def by_loop(x, h, w, u, reverse=False):
    rows = [None] * len(x)
    for i in reversed(range(len(x))) if reverse else range(len(x)):
        h = rows[i] = np.tanh(h @ w + x[i] @ np.tanh(u))
    return h, np.stack(rows)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrent_layer_equals_the_loop(reverse, target):
    graph, arrays = build_graph(lambda *a: rnn(*a, reverse), X, H, W, U)
    verify(graph)
    for found, wanted in zip(compile_graph(graph, target)(arrays).values(), by_loop(X, H, W, U, reverse), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_what_does_not_depend_on_the_iteration_is_captured_once():
    graph, _ = build_graph(rnn, X, H, W, U)
    (node,) = [n for n in graph.nodes if n.op.name == "scan"]
    body = node.attrs["body"]
    assert [i.name for i in body.inputs] == ["$s1c0", "$s1x0", "$s1k0", "$s1k1"]
    assert node.inputs[3].op.name == "tanh", "tanh(u) is computed outside"
    assert sum(n.op.name == "tanh" for n in body.nodes) == 1


def test_the_same_scan_twice_is_one_node():
    a, b = (build_graph(rnn, X, H, W, U)[0] for _ in range(2))
    assert graph_equal(a, b)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_every_operand(reverse):
    check_grads(lambda *a: rnn(*a, reverse), X, H, W, U, order=2)


def nested(x, w):
    def outer(c, row):
        def inner(d, e):
            d = (d * w + e * c).tanh()
            return d, d

        d, ds = ops.scan(inner, c, row, reverse=True)
        return d, ds.sum()

    return ops.scan(outer, ops.const(0.3, "float64"), x)


def test_nested_scans():
    graph, arrays = build_graph(nested, X[0], np.float64(0.7))
    c, sums = 0.3, []
    for row in X[0]:
        d, ds = c, []
        for e in row[::-1]:
            d = np.tanh(d * 0.7 + e * c)
            ds.append(d)
        c = d
        sums.append(np.sum(ds))
    found = compile_graph(graph, "reference")(arrays)
    np.testing.assert_allclose(found["o0"], c)
    np.testing.assert_allclose(found["o1"], sums)
    names = {
        i.name[:3]
        for n in graph.nodes
        if n.op.name == "scan"
        for m in n.attrs["body"].nodes
        if m.op.name == "scan"
        for i in m.attrs["body"].inputs
    }
    assert names == {"$s2"}, "a body in a body has names of its own"
    check_grads(nested, X[0], np.float64(0.7), order=2)


def test_integer_carries_and_elements():
    def fn(x, i):
        start = (ops.const(0, "int32"), ops.const(1.0, "float64"))
        return ops.scan(lambda c, e: ((c[0] + 1, c[1] * e[0]), (e[1] + c[0], c[1] * c[0].cast("float64"))), start, (x, i))[1]

    x, i = rng.uniform(0.5, 1.5, 4), np.arange(4, dtype=np.int32)
    graph, arrays = build_graph(fn, x, i)
    sums, products = compile_graph(graph, "reference")(arrays).values()
    np.testing.assert_array_equal(sums, 2 * i)
    np.testing.assert_allclose(products, np.concatenate([[1.0], np.cumprod(x)[:-1]]) * i)
    check_grads(fn, x, i, order=2)


def test_structures_of_carries_and_rows():
    def fn(x):
        carry, rows = ops.scan(
            lambda c, e: ({"a": c["a"] + e, "n": c["n"] + 1}, [e * 2.0, c["n"]]), {"a": x[0] * 0.0, "n": ops.const(0, "int32")}, x
        )
        return [carry["a"], carry["n"], *rows]

    graph, arrays = build_graph(fn, X[:, 0])
    a, n, doubled, counts = compile_graph(graph, "reference")(arrays).values()
    np.testing.assert_allclose(a, X[:, 0].sum(0))
    assert n == 6
    np.testing.assert_allclose(doubled, X[:, 0] * 2)
    np.testing.assert_array_equal(counts, np.arange(6))
    check_grads(fn, X[:, 0], order=2)


SEED, STEP = np.array([1, 2], np.uint32), np.int64(3)


def test_random_numbers_differ_in_each_iteration_and_repeat_in_the_backward_pass():
    def fn(x, seed, step):
        outside = ops.dropout(x[0], seed, step, p=0.5, stream=1)
        return ops.scan(lambda c, e: (c, (ops.dropout(e, seed, step, p=0.5, stream=2), outside)), ops.const(0.0, "float64"), x)[1]

    x = np.ones((5, 33))
    graph, arrays = build_graph(fn, x, SEED, STEP)
    inside, outside = compile_graph(graph, "reference")(arrays).values()
    assert len({row.tobytes() for row in inside}) == 5
    assert len({row.tobytes() for row in outside}) == 1, "a mask from outside is one mask"
    (g,) = gradients([graph.outputs[0][1].sum()], None, [graph.inputs[0].node])
    back = compile_graph(Graph("g", graph.inputs, (("g", g),)), "reference")(arrays)["g"]
    np.testing.assert_array_equal(back, inside)
    flipped, _ = build_graph(
        lambda x, s, t: ops.scan(lambda c, e: (c, ops.dropout(e, s, t, p=0.5, stream=2)), ops.const(0.0, "float64"), x, reverse=True)[1],
        x,
        SEED,
        STEP,
    )
    np.testing.assert_array_equal(compile_graph(flipped, "reference")(arrays)["o0"], inside)


def test_a_mask_on_weights_is_drawn_anew_in_each_iteration():
    def fn(x, w, seed, step):
        return ops.scan(lambda c, e: (c, ops.dropout(w, seed, step, p=0.5, stream=4)), ops.const(0.0, "float64"), x)[1]

    graph, arrays = build_graph(fn, np.ones((4, 1)), np.ones(33), SEED, STEP)
    assert len({row.tobytes() for row in compile_graph(graph, "reference")(arrays)["o0"]}) == 4


def test_a_named_length():
    n = sym("T")
    x, h = ops.input("x", (n, 2), "float64"), ops.input("h", (2,), "float64")
    last, rows = ops.scan(lambda c, e: (c + e, c * e), h, x)
    assert rows.shape == (n, 2)
    (g,) = gradients([rows.sum() + last.sum()], None, [x])
    graph = Graph("f", (Input("x", x), Input("h", h)), (("last", last), ("rows", rows), ("g", g)))
    run = compile_graph(graph, "reference")
    for size in (0, 1, 5):
        out = run({"x": np.ones((size, 2)), "h": np.zeros(2)})
        assert out["rows"].shape == out["g"].shape == (size, 2)
        np.testing.assert_array_equal(out["last"], [size, size])


def test_unread_results_are_pruned():
    graph, arrays = build_graph(nested, X[0], np.float64(0.7))
    loss = graph.outputs[1][1].sum()
    (g,) = gradients([loss], None, [graph.inputs[1].node])
    for outputs in (graph.outputs, (("g", g),), graph.outputs[:1]):
        whole = Graph("f", graph.inputs, outputs)
        less = prune_scans(whole)
        verify(less)

        def results(graph):
            return sum(len(n.type.items) + (results(n.attrs["body"])) for n in graph.nodes if n.op.name == "scan")

        assert results(less) < results(whole)
        a, b = compile_graph(whole, "reference")(arrays), compile_graph(less, "reference")(arrays)
        for k in a:
            np.testing.assert_allclose(a[k], b[k], rtol=1e-12)
    plain = prune_scans(Graph("f", graph.inputs, graph.outputs))
    (node,) = [n for n in plain.nodes if n.op.name == "scan"]
    assert len(node.type.items) == 2, "without a gradient no carry is saved"


def test_a_pruned_gradient_on_a_target(target):
    graph, arrays = build_graph(rnn, X, H, W, U)
    grads = gradients([graph.outputs[0][1].sum()], None, [i.node for i in graph.inputs])
    whole = Graph("g", graph.inputs, tuple((i.name, g) for i, g in zip(graph.inputs, grads, strict=True)))
    exact = compile_graph(whole, "reference")(arrays)
    for k, v in compile_graph(prune_scans(whole), target)(arrays).items():
        np.testing.assert_allclose(v, exact[k], rtol=1e-11, atol=1e-13)


def test_mistakes():
    x, h = ops.input("x", (5, 3), "float32"), ops.input("h", (3,), "float32")
    with pytest.raises(ShapeError, match=r"carry 0 starts as f32\[3\] and comes back from the body as f64\[3\]"):
        ops.scan(lambda c, e: (c.cast("float64"), None), h, x)
    with pytest.raises(ShapeError, match="leading axis of xs"):
        ops.scan(lambda c, e: (c, None), h, (x, h))
    with pytest.raises(Exception, match="the carry starts as tensor and comes back as tuple"):
        ops.scan(lambda c, e: ((c, c), None), h, x)
