"""Gradient descent as the course notes have it (catalogue: sections 4 and 6), and their slips in this field (section 8)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphc import ops
from graphc.compiler import compile_graph
from graphc.testing import build_graph
from tests.ops.test_worked_examples import gradient, value

START = np.array([3.0, -2.0])


def bowl(x):
    return (x * x).sum() * 0.5


@pytest.fixture
def descend(target):
    """``descend(point, gradient, rate)``: one step, compiled once for every point, gradient and rate."""
    graph, _ = build_graph(lambda p, g, m, lr: ops.sgd_update(p, g, m, lr)[0], START, START, START, np.float64(1.0))
    run = compile_graph(graph, target)
    return lambda p, g, rate: run({"x0": p, "x1": g, "x2": np.zeros_like(p), "x3": np.float64(rate)})["o0"]


def test_row_5_iterated(descend):
    """On the bowl every step multiplies the point by 1 - eta_k, whatever the rates are (lines 923-942)."""
    point, rates = START, [0.1, 0.5, 0.05, 0.9]
    for eta in rates:
        point = descend(point, point, eta)
    np.testing.assert_allclose(point, START * np.prod(1 - np.array(rates)), rtol=1e-14)


def test_line_949_descent_stops_where_the_gradient_is_small(target, descend):
    eta, eps, steps, point = 0.1, 1e-3, 0, START
    while np.linalg.norm(slope := gradient(target, bowl, point)) > eps:
        point, steps = descend(point, slope, eta), steps + 1
    assert steps == math.ceil(math.log(eps / np.linalg.norm(START)) / math.log(1 - eta))


@pytest.mark.parametrize(("eta", "grows"), [(0.5, False), (1.9, False), (2.1, True)])
def test_lines_2221_to_2230_a_rate_that_is_too_large_diverges(descend, eta, grows):
    point = START
    for _ in range(20):
        point = descend(point, point, eta)
    assert (np.linalg.norm(point) > np.linalg.norm(START)) == grows


def test_line_1890_the_update_subtracts_the_gradient(target, descend):
    """The notes write W + eta * DeltaW and call DeltaW the gradient: DeltaW is minus the gradient."""
    slope = gradient(target, bowl, START)
    down = descend(START, slope, 0.1)
    assert value(target, bowl, down) < value(target, bowl, START) < value(target, bowl, START + 0.1 * slope)


@pytest.mark.parametrize("batch", [1, 4, 12])
def test_lines_1876_to_1999_stochastic_mini_batch_and_batch_descent(target, descend, batch):
    """One epoch of least squares: the gradient of a batch is the mean of its samples' gradients (line 1530: divide by B)."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=12)
    w = by_hand = START

    def loss(w, x, y):
        return ((x @ w - y) ** 2.0).mean()

    for i in range(0, 12, batch):
        rows = slice(i, i + batch)
        w = descend(w, gradient(target, loss, w, x[rows], y[rows]), 0.05)
        each = [2 * (x[j] @ by_hand - y[j]) * x[j] for j in range(i, i + batch)]
        by_hand = by_hand - 0.05 * np.sum(each, axis=0) / batch
    np.testing.assert_allclose(w, by_hand, rtol=1e-12)


def test_line_6177_ridge_has_a_factor_2_and_line_6173_lasso_is_l1(target):
    """L + lambda |W|_2^2 adds 2 lambda W to the gradient: weight_decay = 2 lambda. The LASSO adds lambda |W|_1, hence its sign."""
    lam = 0.3

    def ridge(w):
        return bowl(w) + (w * w).sum() * lam

    def lasso(w):
        return bowl(w) + ops.absolute(w).sum() * lam

    np.testing.assert_allclose(gradient(target, ridge, START), START + 2 * lam * START)
    np.testing.assert_allclose(gradient(target, lasso, START), START + lam * np.sign(START))
    step = lambda p, g, m, lr: ops.sgd_update(p, g, m, lr, weight_decay=2 * lam)[0]
    decayed = value(target, step, START, gradient(target, bowl, START), np.zeros(2), np.float64(0.1))
    np.testing.assert_allclose(decayed, START - 0.1 * gradient(target, ridge, START))


def test_line_2190_momentum_remembers(descend, target):
    """Two equal gradients: the second step is 1 + momentum times as long as the first."""
    step = lambda p, g, m, lr: ops.sgd_update(p, g, m, lr, momentum=0.9)
    graph, arrays = build_graph(step, START, np.ones(2), np.zeros(2), np.float64(0.1))
    run = compile_graph(graph, target)
    first, m = run(arrays).values()
    second, _ = run({**arrays, "x0": first, "x2": m}).values()
    np.testing.assert_allclose((second - first) / (first - START), 1.9)
