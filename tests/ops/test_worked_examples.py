"""Worked numeric examples of the course notes: rows 1-11 and 43 of the catalogue."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.graph import Graph
from graphc.testing import build_graph


def value(target, fn, *args):
    graph, arrays = build_graph(fn, *args)
    return next(iter(compile_graph(graph, target)(arrays).values()))


def gradient(target, fn, *args):
    """The gradient of a scalar function by its first argument."""
    graph, arrays = build_graph(fn, *args)
    (g,) = gradients([graph.outputs[0][1]], None, [graph.inputs[0].node])
    return compile_graph(Graph("gradient", graph.inputs, (("g", g),)), target)(arrays)["g"]


def test_row_1_softmax_of_two(target):
    np.testing.assert_allclose(value(target, lambda x: x.softmax(-1), np.array([1.2, 0.3])), [0.7109495, 0.2890505], atol=5e-8)


def test_row_2_logarithms(target):
    np.testing.assert_allclose(value(target, lambda x: x.log(), np.array([1.0, 0.01])), [0.0, -4.60517], atol=5e-6)


def test_row_3_the_surprise_of_a_probability(target):
    p = np.array([0.9, 0.25, 0.1, 0.01])
    np.testing.assert_allclose(value(target, lambda x: -x.log(), p), [0.105, 1.386, 2.303, 4.605], atol=5e-4)


def test_row_4_only_the_true_class_counts(target):
    logits, label = np.array([[0.3, -1.0, 2.0, 0.5]]), np.array([[0.0, 0.0, 1.0, 0.0]])
    expected = -math.log(math.exp(2.0) / np.exp(logits).sum())
    assert value(target, ops.cross_entropy, logits, label) == pytest.approx(expected, rel=1e-12)
    assert value(target, ops.cross_entropy, logits, np.array([2])) == pytest.approx(expected, rel=1e-12)


def test_row_5_gradient_descent_on_a_bowl(target):
    point, eta = np.array([3.0, -2.0]), 0.1

    def bowl(x):
        return (x * x).sum() * 0.5

    np.testing.assert_allclose(gradient(target, bowl, point), point)
    step = value(target, lambda p, g, m, lr: ops.sgd_update(p, g, m, lr)[0], point, point, np.zeros(2), np.float64(eta))
    np.testing.assert_allclose(step, point * (1 - eta))


def test_row_6_a_sigmoid_network_by_hand(target):
    rng = np.random.default_rng(6)
    w1, b1, w2, x, y = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=4), rng.normal(size=3), 0.7
    a = w1 @ x + b1
    s = 1 / (1 + np.exp(-a))
    f = w2 @ s
    by_hand = -2 * (y - f) * (w2 * s * (1 - s))[:, None] * x[None, :]

    def loss(w1, b1, w2, x):
        d = (w2 @ ops.sigmoid(w1 @ x + b1)) - y
        return d * d

    np.testing.assert_allclose(gradient(target, loss, w1, b1, w2, x), by_hand, rtol=1e-12)


def test_row_7_the_gradient_of_cross_entropy_is_f_minus_y(target):
    logits, label = np.array([[0.2, 1.5, -0.3]]), np.array([1])
    f = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(gradient(target, ops.cross_entropy, logits, label), f - np.eye(3)[label], rtol=1e-12)
    by_logits = np.log(np.exp(logits).sum()) - logits[0, 1]
    assert value(target, ops.cross_entropy, logits, label) == pytest.approx(by_logits, rel=1e-12)


def test_row_8_the_jacobian_of_softmax(target):
    x = np.array([0.1, -0.4, 0.9])
    o = np.exp(x) / np.exp(x).sum()
    rows = [gradient(target, lambda v, e: (v.softmax(-1) * e).sum(), x, e) for e in np.eye(3)]
    np.testing.assert_allclose(rows, np.diag(o) - np.outer(o, o), atol=1e-15)


def test_row_9_mini_batches():
    assert 600_000 // 100 == 6_000
    rows = ops.input("x", (600_000, 3), "float32")
    assert rows.reshape(-1, 100, 3).shape == (6_000, 100, 3)


def test_row_10_hidden_activations(target):
    rng = np.random.default_rng(10)
    w, b, x = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
    by_hand = [b[i] + sum(w[i, j] * x[j] for j in range(3)) for i in range(4)]
    np.testing.assert_allclose(value(target, ops.linear, x, w, b), by_hand, rtol=1e-12)


def test_row_11_a_matrix_of_activations():
    x, w, b = ops.input("x", (10, 3), "float32"), ops.input("w", (5, 3), "float32"), ops.input("b", (5,), "float32")
    assert ops.sigmoid(ops.linear(x, w, b)).shape == (10, 5)


def test_row_43_the_gradient_of_relu(target):
    np.testing.assert_array_equal(gradient(target, lambda x: x.relu().sum(), np.array([-1.0, 0.0, 2.0])), [0.0, 0.0, 1.0])
