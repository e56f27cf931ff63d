"""Conventions of gradients where derivatives do not exist, and the errors of paths without a gradient."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.graph import Graph, Input
from graphc.testing import build_graph, check_grads


def slope(fn, *args):
    graph, arrays = build_graph(lambda *a: fn(*a).sum(), *args)
    wrt = [i for i in graph.inputs if i.node.dtype.is_float]
    grads = gradients([graph.outputs[0][1]], None, [i.node for i in wrt], allow_unused=True)
    return list(
        compile_graph(Graph("g", graph.inputs, tuple((i.name, g) for i, g in zip(wrt, grads, strict=True))), "reference")(arrays).values()
    )


def test_relu_reads_its_output_only():
    x = ops.input("x", (3,), "float32")
    y = ops.relu(x)
    (g,) = gradients([y.sum()], None, [x])
    graph = Graph("g", (Input("x", x),), (("g", g),))
    assert [n.op.name for n in graph.users[x]] == ["relu"]


def test_ties_are_shared():
    a, b = slope(ops.maximum, np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    np.testing.assert_array_equal([a, b], [[0.5, 1.0], [0.5, 0.0]])
    (g,) = slope(lambda x: x.max(-1), np.array([[3.0, 1.0, 3.0]]))
    np.testing.assert_array_equal(g, [[0.5, 0.0, 0.5]])


def test_the_first_largest_of_a_window_gets_the_gradient_as_in_torch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 8, 7)).astype(float)
    for args in ((2,), (3, 2, 1), (3, 1, 1), ((2, 3), 1), (3, 1, 0, 2)):
        (g,) = slope(lambda v, a=args: ops.max_pool2d(v, *a), x)
        t = torch.tensor(x, requires_grad=True)
        torch.nn.functional.max_pool2d(t, *args).sum().backward()
        np.testing.assert_array_equal(g, t.grad.numpy(), str(args))


def test_convolution_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(2, 4, 9, 8)), rng.normal(size=(6, 2, 3, 2))
    for kw in ({}, {"stride": 2, "padding": 1}, {"dilation": (2, 3), "padding": (2, 1)}, {"stride": (3, 1)}):
        dx, dw = slope(lambda a, b, kw=kw: ops.tanh(ops.conv(a, b, groups=2, **kw)), x, w)
        tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
        torch.nn.functional.conv2d(tx, tw, groups=2, **kw).tanh().sum().backward()
        np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(dw, tw.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_a_stopped_gradient_is_zero_and_its_value_stays():
    (g,) = slope(lambda x: x * ops.stop_gradient(x), np.array([3.0]))
    np.testing.assert_array_equal(g, [3.0])


def test_a_step_of_an_optimiser_can_be_differentiated():
    """Meta-learning: the loss after one step, by the rate of that step."""

    def after(p, lr):
        g = p * p * p * 4.0
        return (ops.sgd_update(p, g, p * 0.0, lr, momentum=0.9)[0] ** 4.0).sum()

    check_grads(after, np.array([1.0, 1.5]), np.float64(0.01), order=2)


def test_accuracy_is_constant_almost_everywhere():
    (g,) = slope(lambda x, y: ops.accuracy(x, y) + (x * 0.0).sum().cast("float32"), np.ones((3, 2)), np.array([0, 1, 0]))
    np.testing.assert_array_equal(g, np.zeros((3, 2)))


def test_integers_carry_no_gradient():
    (g,) = slope(lambda x: x * x.cast("int32").cast("float64"), np.array([2.5]))
    np.testing.assert_array_equal(g, [2.0])


def test_an_operand_used_twice():
    check_grads(lambda x: ops.linear(x, x, x[0]), np.random.default_rng(0).normal(size=(3, 3)), order=2)
    check_grads(lambda x: ops.scaled_dot_product_attention(x, x, x), np.random.default_rng(0).normal(size=(4, 3)), order=2)


def test_named_sizes_in_gradients():
    from graphc.ir.dims import sym

    n = sym("N")
    x, w = ops.input("x", (n, 3, 8, 8), "float64"), ops.input("w", (4, 3, 3, 3), "float64")
    y = ops.max_pool2d(ops.conv(x, w, padding=1, stride=2), 2)
    grads = gradients([(y * y).mean()], None, [x, w])
    run = compile_graph(Graph("g", (Input("x", x), Input("w", w)), (("dx", grads[0]), ("dw", grads[1]))), "reference")
    for size in (1, 3):
        out = run({"x": np.ones((size, 3, 8, 8)), "w": np.ones((4, 3, 3, 3))})
        assert out["dx"].shape == (size, 3, 8, 8) and out["dw"].shape == (4, 3, 3, 3)
