"""Losses and accuracy beyond the samples: gradients of others, bad labels, empty batches."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.errors import ShapeError
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.testing import build_graph

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(9, 5)) * 3, rng.integers(0, 5, 9)


def value(target, fn, *args):
    graph, arrays = build_graph(fn, *args)
    return compile_graph(graph, target)(arrays)["o0"]


def test_accuracy_is_that_of_scikit_learn(target):
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.accuracy_score(Y, X.argmax(1))
    assert value(target, ops.accuracy, X, Y) == pytest.approx(expected, rel=1e-6)
    assert value(target, ops.accuracy, X, np.eye(5)[Y]) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_is_the_log_loss_of_scikit_learn(target):
    metrics = pytest.importorskip("sklearn.metrics")
    p = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    assert value(target, ops.cross_entropy, X, Y) == pytest.approx(metrics.log_loss(Y, p, labels=range(5)), rel=1e-9)


def test_integer_and_one_hot_targets_agree(target):
    assert value(target, ops.cross_entropy, X, Y) == pytest.approx(value(target, ops.cross_entropy, X, np.eye(5)[Y]), rel=1e-12)


def test_large_logits_do_not_overflow(target):
    assert value(target, ops.cross_entropy, np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([0, 0])) == pytest.approx(1e4)


@pytest.mark.parametrize("bad", [-1, 5, -99])
def test_a_label_out_of_range_is_nan_and_not_a_number_that_looks_right(bad, target):
    labels = Y.copy()
    labels[3] = bad
    assert np.isnan(value(target, ops.cross_entropy, X, labels))
    rows = value(target, lambda x, y: ops.cross_entropy(x, y, reduction="none"), X, labels)
    assert np.isnan(rows).tolist() == [i == 3 for i in range(9)]


def test_gradients_are_those_of_torch(target):
    torch = pytest.importorskip("torch")
    for labels in (Y, rng.dirichlet(np.ones(5), 9)):
        graph, arrays = build_graph(ops.cross_entropy, X, labels)
        (g,) = gradients([graph.outputs[0][1]], None, [graph.inputs[0].node])
        found = compile_graph(Graph("g", graph.inputs, (("g", g),)), target)(arrays)["g"]
        x = torch.tensor(X, requires_grad=True)
        torch.nn.functional.cross_entropy(x, torch.tensor(labels)).backward()
        np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_the_gradient_is_softmax_minus_onehot_and_not_a_differentiated_logsumexp():
    x, y = ops.input("x", (9, 5), "float32"), ops.input("y", (9,), "int64")
    (g,) = gradients([ops.cross_entropy(x, y)], None, [x])
    names = {n.op.name for n in Graph("g", (Input("x", x), Input("y", y)), (("g", g),)).nodes}
    assert "softmax" in names and not names & {"logsumexp", "exp", "take"}


def test_a_named_batch_binds_to_any_size():
    n = sym("N")
    x, y = ops.input("x", (n, 5), "float64"), ops.input("y", (n,), "int64")
    loss = ops.cross_entropy(x, y)
    (g,) = gradients([loss], None, [x])
    run = compile_graph(Graph("f", (Input("x", x), Input("y", y)), (("loss", loss), ("g", g), ("acc", ops.accuracy(x, y)))), "reference")
    for size in (1, 4, 9):
        out = run({"x": X[:size], "y": Y[:size]})
        assert out["g"].shape == (size, 5)
        np.testing.assert_allclose(out["g"].sum(1), 0, atol=1e-15)
    assert np.isnan(run({"x": X[:0], "y": Y[:0]})["loss"]), "the mean over no rows"


def test_shapes_that_would_broadcast_are_refused():
    x, y = ops.input("x", (9, 1), "float32"), ops.input("y", (9,), "float32")
    with pytest.raises(ShapeError, match=r"prediction \(9, 1\) and target \(9,\)"):
        ops.mse_loss(x, y)
