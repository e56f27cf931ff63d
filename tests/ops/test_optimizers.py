"""Optimiser updates against PyTorch's over ten steps in float64."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.compiler import compile_graph
from graphc.errors import DTypeError, ShapeError
from graphc.testing import build_graph

torch = pytest.importorskip("torch")
rng = np.random.default_rng(0)
P, GRADS = rng.normal(size=(5, 7)), rng.normal(size=(10, 5, 7))


def torch_steps(make):
    p = torch.tensor(P.copy(), requires_grad=True)
    optimizer = make([p])
    for g in GRADS:
        p.grad = torch.tensor(g)
        optimizer.step()
    return p.detach().numpy()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "weight_decay": 0.05},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        {"weight_decay": 0.1},
    ],
)
def test_sgd(settings, target):
    graph, _ = build_graph(lambda p, g, m, lr: ops.sgd_update(p, g, m, lr, **settings), P, P, P, np.float64(0.1))
    run = compile_graph(graph, target)
    p, m = P, np.zeros_like(P)
    for g in GRADS:
        p, m = run({"x0": p, "x1": g, "x2": m, "x3": np.float64(0.1)}).values()
    np.testing.assert_allclose(p, torch_steps(lambda ps: torch.optim.SGD(ps, lr=0.1, **settings)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "settings", [{}, {"beta1": 0.7, "beta2": 0.9, "eps": 1e-3}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}]
)
def test_adam(settings, target):
    graph, _ = build_graph(
        lambda p, g, m, v, t, lr: ops.adam_update(p, g, m, v, t, lr, **settings), P, P, P, P, np.int64(1), np.float64(1e-2)
    )
    run = compile_graph(graph, target)
    p, m, v = P, np.zeros_like(P), np.zeros_like(P)
    for t, g in enumerate(GRADS, 1):
        p, m, v = run({"x0": p, "x1": g, "x2": m, "x3": v, "x4": np.int64(t), "x5": np.float64(1e-2)}).values()
    betas = (settings.get("beta1", 0.9), settings.get("beta2", 0.999))
    kind = torch.optim.AdamW if settings.get("decoupled") else torch.optim.Adam
    expected = torch_steps(
        lambda ps: kind(ps, lr=1e-2, betas=betas, eps=settings.get("eps", 1e-8), weight_decay=settings.get("weight_decay", 0.0))
    )
    np.testing.assert_allclose(p, expected, rtol=1e-11, atol=1e-12)


def test_the_bias_correction_keeps_its_digits_in_float32(target):
    """1 - 0.999 has four digits less in float32, so the scalars are float64: the first step is lr * sign(g), to rounding."""
    p, g, zero = np.zeros(4, np.float32), np.array([1, -2, 3, -4], np.float32), np.zeros(4, np.float32)
    graph, arrays = build_graph(ops.adam_update, p, g, zero, zero, np.int64(1), np.float32(1e-3))
    np.testing.assert_allclose(compile_graph(graph, target)(arrays)["o0"], -1e-3 * np.sign(g), rtol=5e-7)


def test_rates_and_steps_are_never_constants():
    graph, _ = build_graph(ops.adam_update, P, P, P, P, np.int64(1), np.float64(1e-2))
    assert [i.node.op.kind for i in graph.inputs] == ["input"] * 6
    assert compile_graph(graph, "reference") is not None


def test_operands_that_do_not_fit():
    p, q, lr = ops.input("p", (3,), "float32"), ops.input("q", (4,), "float32"), ops.input("lr", (), "float32")
    with pytest.raises(ShapeError, match=r"sgd_update: the parameter is f32\[3\], operand 1 is f32\[4\]"):
        ops.sgd_update(p, q, p, lr)
    with pytest.raises(ShapeError, match="scalar"):
        ops.sgd_update(p, p, p, q)
    i = ops.input("i", (3,), "int32")
    with pytest.raises(DTypeError, match="float"):
        ops.sgd_update(i, i, i, lr)
