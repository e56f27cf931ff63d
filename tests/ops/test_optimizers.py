"""Optimiser updates over ten steps in float64: against PyTorch's, or the papers' formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.compiler import compile_graph
from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.testing import build_graph

rng = np.random.default_rng(0)
P, GRADS = rng.normal(size=(5, 7)), rng.normal(size=(10, 5, 7))
ZERO, LR, STEP = np.zeros_like(P), np.float64(1e-2), np.int64(1)


def our_steps(target, update, state, scalars, grads=GRADS, start=P, **settings):
    """Ten steps: ``state`` are the first moments, ``scalars`` the operands behind them; "step" stands for the step's number."""
    filled = [STEP if s == "step" else s for s in scalars]
    graph, _ = build_graph(lambda *a: update(*a, **settings), start, grads[0], *state, *filled)
    run = compile_graph(graph, target)
    p, moments = start, list(state)
    for t, g in enumerate(grads, 1):
        operands = [p, g, *moments, *(np.int64(t) if isinstance(s, str) else s for s in scalars)]
        p, *moments = run({f"x{i}": v for i, v in enumerate(operands)}).values()
        moments = moments[: len(state)]
    return p


@pytest.fixture
def torch_steps():
    """``torch_steps(name, **settings)``: ten steps of ``torch.optim.<name>``, with its scalars in float64 too."""
    torch = pytest.importorskip("torch")

    def run(name, **settings):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            p = torch.tensor(P.copy(), requires_grad=True)
            optimizer = getattr(torch.optim, name)([p], **{"lr": float(LR), **settings})
            for g in GRADS:
                p.grad = torch.tensor(g)
                optimizer.step()
            return p.detach().numpy()
        finally:
            torch.set_default_dtype(default)

    return run


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "weight_decay": 0.05},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        {"momentum": 0.8, "dampening": 0.4},
        {"weight_decay": 0.1},
    ],
)
def test_sgd(settings, target, torch_steps):
    found = our_steps(target, ops.sgd_update, [ZERO], [LR, "step"], **settings)
    close(found, torch_steps("SGD", **settings))


def test_sgd_without_the_steps_number(target, torch_steps):
    close(our_steps(target, ops.sgd_update, [ZERO], [LR], momentum=0.9), torch_steps("SGD", momentum=0.9))
    with pytest.raises(ArgumentError, match="sgd_update: dampening needs the step"):
        our_steps(target, ops.sgd_update, [ZERO], [LR], momentum=0.9, dampening=0.1)


@pytest.mark.parametrize(
    "settings", [{}, {"betas": (0.7, 0.9), "eps": 1e-3}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}]
)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam(settings, amsgrad, target, torch_steps):
    if amsgrad:
        update = lambda p, g, m, v, top, t, lr, **k: ops.adam_update(p, g, m, v, t, lr, top, **k)
        found = our_steps(target, update, [ZERO, ZERO, ZERO], ["step", LR], **settings)
    else:
        found = our_steps(target, ops.adam_update, [ZERO, ZERO], ["step", LR], **settings)
    rest = {k: v for k, v in settings.items() if k != "decoupled"}
    name = "AdamW" if settings.get("decoupled") else "Adam"
    close(found, torch_steps(name, amsgrad=amsgrad, **{"weight_decay": 0.0, **rest}))


@pytest.mark.parametrize(
    "settings",
    [{}, {"betas": (0.7, 0.9), "eps": 1e-3, "momentum_decay": 0.1}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}],
)
def test_nadam(settings, target, torch_steps):
    found = our_steps(target, ops.nadam_update, [ZERO, ZERO, np.float64(1.0)], ["step", LR], **settings)
    if settings.pop("decoupled", False):
        settings = {**settings, "decoupled_weight_decay": True}
    close(found, torch_steps("NAdam", **settings))


@pytest.mark.parametrize(
    "settings", [{}, {"betas": (0.7, 0.9), "eps": 1e-3}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}, {"betas": (0.9, 0.6)}]
)
def test_radam(settings, target, torch_steps):
    found = our_steps(target, ops.radam_update, [ZERO, ZERO], ["step", LR], **settings)
    settings = {("decoupled_weight_decay" if k == "decoupled" else k): v for k, v in settings.items()}
    close(found, torch_steps("RAdam", **settings))


@pytest.mark.parametrize("settings", [{}, {"betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": 0.1}])
def test_adamax(settings, target, torch_steps):
    close(our_steps(target, ops.adamax_update, [ZERO, ZERO], ["step", LR], **settings), torch_steps("Adamax", **settings))


@pytest.mark.parametrize("settings", [{}, {"lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-3}, {"initial": 0.3}])
def test_adagrad(settings, target, torch_steps):
    start = settings.pop("initial", 0.0) if "initial" in settings else 0.0
    found = our_steps(target, ops.adagrad_update, [np.full_like(P, start)], ["step", LR], **settings)
    close(found, torch_steps("Adagrad", initial_accumulator_value=start, **settings))


@pytest.mark.parametrize("settings", [{}, {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1}])
def test_adadelta(settings, target, torch_steps):
    close(our_steps(target, ops.adadelta_update, [ZERO, ZERO], [LR], **settings), torch_steps("Adadelta", **settings))


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop(settings, momentum, centered, target, torch_steps):
    def update(p, g, s, *rest, **k):
        *held, lr = rest
        held = list(held)
        m = held.pop(0) if momentum else None
        return ops.rmsprop_update(p, g, s, lr, m, held.pop(0) if centered else None, momentum=momentum, **k)

    found = our_steps(target, update, [ZERO] * (1 + bool(momentum) + centered), [LR], **settings)
    close(found, torch_steps("RMSprop", momentum=momentum, centered=centered, **settings))


@pytest.mark.parametrize("settings", [{}, {"betas": (0.8, 0.95), "weight_decay": 0.1}])
def test_lion(settings, target):
    b1, b2 = settings.get("betas", (0.9, 0.99))
    p, m = P, ZERO
    for g in GRADS:
        c = b1 * m + (1 - b1) * g
        p, m = p - LR * (np.sign(c) + settings.get("weight_decay", 0.0) * p), b2 * m + (1 - b2) * g
    close(our_steps(target, ops.lion_update, [ZERO], [LR], **settings), p)


def test_lion_stands_where_the_sign_is_0(target):
    np.testing.assert_array_equal(our_steps(target, ops.lion_update, [ZERO], [LR], np.zeros_like(GRADS)), P)


@pytest.mark.parametrize("settings", [{}, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}])
def test_lamb(settings, target):
    (b1, b2), eps, decay = settings.get("betas", (0.9, 0.999)), settings.get("eps", 1e-6), settings.get("weight_decay", 0.0)
    p, m, v = P, ZERO, ZERO
    for t, g in enumerate(GRADS, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        r = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * p
        p = p - LR * np.linalg.norm(p) / np.linalg.norm(r) * r
    close(our_steps(target, ops.lamb_update, [ZERO, ZERO], ["step", LR], **settings), p)


def test_lion_and_lamb_against_optax(target):
    optax = pytest.importorskip("optax", reason="optax is not installed")
    import jax

    def steps(optimizer):
        p, state = P, optimizer.init(P)
        for g in GRADS:
            change, state = optimizer.update(g, state, p)
            p = np.asarray(p + change)
        return p

    with jax.enable_x64(True):
        lion = steps(optax.lion(float(LR), 0.8, 0.95, weight_decay=0.1))
        lamb = steps(optax.lamb(float(LR), 0.8, 0.95, eps=1e-3, weight_decay=0.1))
    close(our_steps(target, ops.lion_update, [ZERO], [LR], betas=(0.8, 0.95), weight_decay=0.1), lion)
    settings = {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}
    close(our_steps(target, ops.lamb_update, [ZERO, ZERO], ["step", LR], **settings), lamb)


def test_lamb_moves_zeros_and_leaves_what_has_no_gradient(target):
    moved = our_steps(target, ops.lamb_update, [ZERO, ZERO], ["step", LR], start=ZERO)
    assert np.isfinite(moved).all() and np.abs(moved).min() > 0
    still = our_steps(target, ops.lamb_update, [ZERO, ZERO], ["step", LR], grads=np.zeros_like(GRADS))
    np.testing.assert_array_equal(still, P)


def test_the_bias_correction_keeps_its_digits_in_float32(target):
    """1 - 0.999 has four digits less in float32, so the scalars are float64: the first step is lr * sign(g), to rounding."""
    p, g, zero = np.zeros(4, np.float32), np.array([1, -2, 3, -4], np.float32), np.zeros(4, np.float32)
    graph, arrays = build_graph(ops.adam_update, p, g, zero, zero, np.int64(1), np.float32(1e-3))
    np.testing.assert_allclose(compile_graph(graph, target)(arrays)["o0"], -1e-3 * np.sign(g), rtol=5e-7)


def test_rates_and_steps_are_never_constants():
    graph, _ = build_graph(ops.adam_update, P, P, P, P, STEP, LR)
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
