"""Optimisers and gradients against hand-written NumPy, and against torch where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim

STEPS = 10


def problem(dtype):
    rng = np.random.default_rng(3)
    return rng.normal(size=(37, 6)).astype(dtype), rng.integers(0, 3, 37)


def numpy_gradients(v, x, y):
    """Loss and gradients of the MLP with cross-entropy, by hand, in float64."""
    v = {k: a.astype(np.float64) for k, a in v.items()}
    x = x.astype(np.float64)
    a = x @ v["fc.0.weight"].T + v["fc.0.bias"]
    h = np.maximum(a, 0)
    z = h @ v["fc.3.weight"].T + v["fc.3.bias"]
    z = z - z.max(1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    n = len(x)
    dz = (np.exp(logp) - np.eye(3)[y]) / n
    da = (dz @ v["fc.3.weight"]) * (a > 0)
    grads = {"fc.3.weight": dz.T @ h, "fc.3.bias": dz.sum(0), "fc.0.weight": da.T @ x, "fc.0.bias": da.sum(0)}
    return -logp[np.arange(n), y].mean(), grads


def adam(v, g, state, t, lr, b1=0.9, b2=0.999, eps=1e-8, wd=0.0, decay=0.0):
    for k in v:
        v[k] = v[k] * (1 - lr * decay)
        d = g[k] + wd * v[k]
        m, s = state.setdefault(k, [np.zeros_like(v[k]), np.zeros_like(v[k])])
        m[:] = b1 * m + (1 - b1) * d
        s[:] = b2 * s + (1 - b2) * d * d
        v[k] = v[k] - lr * (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + eps)


def sgd(v, g, state, t, lr, momentum=0.0, nesterov=False, wd=0.0):
    for k in v:
        d = g[k] + wd * v[k]
        m = state[k] = momentum * state[k] + d if k in state else d
        v[k] = v[k] - lr * (d + momentum * m if nesterov else m)


def lion(v, g, state, lr, b1, b2, decay):
    for k in v:
        m = state.setdefault(k, np.zeros_like(v[k]))
        v[k] = v[k] - lr * (np.sign(b1 * m + (1 - b1) * g[k]) + decay * v[k])
        state[k] = b2 * m + (1 - b2) * g[k]


def lamb(v, g, state, t, lr, b1, b2, eps, decay):
    for k in v:
        m, s = state.setdefault(k, [np.zeros_like(v[k]), np.zeros_like(v[k])])
        m[:] = b1 * m + (1 - b1) * g[k]
        s[:] = b2 * s + (1 - b2) * g[k] ** 2
        r = m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps) + decay * v[k]
        norm = np.linalg.norm(v[k])
        v[k] = v[k] - lr * (norm / np.linalg.norm(r) if norm else 1.0) * r


CASES = [
    (optim.Adam(1e-2), lambda v, g, s, t: adam(v, g, s, t, 1e-2)),
    (
        optim.Adam(3e-3, (0.8, 0.95), 1e-6, weight_decay=0.1),
        lambda v, g, s, t: adam(v, g, s, t, 3e-3, 0.8, 0.95, 1e-6, 0.1),
    ),
    (optim.AdamW(1e-2, weight_decay=0.1), lambda v, g, s, t: adam(v, g, s, t, 1e-2, decay=0.1)),
    (optim.SGD(0.1), lambda v, g, s, t: sgd(v, g, s, t, 0.1)),
    (optim.SGD(0.1, momentum=0.9, weight_decay=0.01), lambda v, g, s, t: sgd(v, g, s, t, 0.1, 0.9, wd=0.01)),
    (optim.SGD(0.1, momentum=0.9, nesterov=True), lambda v, g, s, t: sgd(v, g, s, t, 0.1, 0.9, True)),
    (optim.Lion(1e-3, (0.8, 0.95), 0.1), lambda v, g, s, t: lion(v, g, s, 1e-3, 0.8, 0.95, 0.1)),
    (optim.LAMB(1e-2, (0.8, 0.95), 1e-4, 0.1), lambda v, g, s, t: lamb(v, g, s, t, 1e-2, 0.8, 0.95, 1e-4, 0.1)),
]


@pytest.mark.parametrize(("optimizer", "oracle"), CASES, ids=[str(c[0]) for c in CASES])
def test_ten_steps_in_float64(classifier, optimizer, oracle):
    x, y = problem("float64")
    model = classifier(optimizer, dtype="float64")
    v, state = model.state_dict(), {}
    for t in range(1, STEPS + 1):
        loss, grads = numpy_gradients(v, x, y)
        assert model.train_on_batch(x, y)["loss"] == pytest.approx(loss, rel=1e-11)
        oracle(v, grads, state, t)
    for k, a in model.state_dict().items():
        np.testing.assert_allclose(a, v[k], rtol=1e-9, atol=1e-11)


def test_gradients_of_one_step_in_float32(classifier, mlp, target):
    x, y = problem("float32")
    m = mlp()
    loss = gc.losses.as_loss("cross_entropy")
    f = gc.compile(
        gc.value_and_grad(lambda x, y: loss.fn(m(x), y), wrt=m.parameters()),
        gc.spec("N", 6),
        gc.spec("N", dtype="int64"),
        target=target,
    )
    value, grads = f(x, y)
    want, by_hand = numpy_gradients(m.state_dict(), x, y)
    assert value == pytest.approx(want, rel=1e-6)
    for (name, _), g in zip(m.named_parameters(), grads, strict=True):
        assert np.linalg.norm(g - by_hand[name]) <= 1e-5 * np.linalg.norm(by_hand[name])


TORCH = [  # ours, the name in torch.optim, its settings
    (optim.SGD(0.1), "SGD", {"lr": 0.1}),
    (optim.SGD(0.1, 0.9, 0.3, 0.01), "SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    (optim.SGD(0.1, 0.9, nesterov=True, maximize=True), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    (optim.Adagrad(), "Adagrad", {}),
    (
        optim.Adagrad(0.1, 0.1, 0.01, 0.5, 1e-4),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.5, "eps": 1e-4},
    ),
    (optim.Adadelta(), "Adadelta", {}),
    (optim.Adadelta(0.5, 0.8, 1e-4, 0.01), "Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.01}),
    (optim.RMSprop(), "RMSprop", {}),
    (
        optim.RMSprop(1e-3, 0.9, 1e-4, 0.01, 0.8, True),
        "RMSprop",
        {"lr": 1e-3, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.01, "momentum": 0.8, "centered": True},
    ),
    (optim.RMSprop(centered=True), "RMSprop", {"centered": True}),
    (optim.Adam(), "Adam", {}),
    (
        optim.Adam(1e-2, (0.8, 0.95), 1e-6, 0.1, True),
        "Adam",
        {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True},
    ),
    (optim.AdamW(), "AdamW", {}),
    (optim.AdamW(1e-2, weight_decay=0.2, amsgrad=True), "AdamW", {"lr": 1e-2, "weight_decay": 0.2, "amsgrad": True}),
    (optim.NAdam(), "NAdam", {}),
    (
        optim.NAdam(1e-2, weight_decay=0.1, momentum_decay=0.1, decoupled_weight_decay=True),
        "NAdam",
        {"lr": 1e-2, "weight_decay": 0.1, "momentum_decay": 0.1, "decoupled_weight_decay": True},
    ),
    (optim.RAdam(), "RAdam", {}),
    (
        optim.RAdam(1e-2, (0.8, 0.9), weight_decay=0.1, decoupled_weight_decay=True),
        "RAdam",
        {"lr": 1e-2, "betas": (0.8, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    (optim.Adamax(), "Adamax", {}),
    (optim.Adamax(1e-2, (0.8, 0.9), 1e-4, 0.1), "Adamax", {"lr": 1e-2, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("optimizer", "name", "settings"), TORCH, ids=[str(c[0]) for c in TORCH])
def test_ten_steps_against_torch(classifier, optimizer, name, settings):
    """Names, defaults and order of the arguments are torch's, and so is the arithmetic."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, y = problem("float64")
    model = classifier(optimizer, dtype="float64")
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Linear(8, 3)).double()
    net.load_state_dict({k.removeprefix("fc."): torch.tensor(a) for k, a in model.state_dict().items()})
    torch.set_default_dtype(torch.float64)  # also of the scalars that torch's optimisers keep
    try:
        opt = getattr(torch.optim, name)(net.parameters(), **settings)
        for _ in range(STEPS):
            opt.zero_grad()
            torch.nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y)).backward()
            opt.step()
            model.train_on_batch(x, y)
    finally:
        torch.set_default_dtype(torch.float32)
    for k, a in model.state_dict().items():
        np.testing.assert_allclose(a, net.state_dict()[k.removeprefix("fc.")].numpy(), rtol=1e-9, atol=1e-12)


def test_float32_gradients_against_torch(mlp, target):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, y = problem("float32")
    m = mlp()
    loss = gc.losses.as_loss("cross_entropy")
    f = gc.compile(
        gc.grad(lambda x, y: loss.fn(m(x), y), wrt=m.parameters()),
        gc.spec("N", 6),
        gc.spec("N", dtype="int64"),
        target=target,
    )
    grads = f(x, y)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Linear(8, 3))
    net.load_state_dict({k.removeprefix("fc."): torch.tensor(a) for k, a in m.state_dict().items()})
    torch.nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y)).backward()
    for g, p in zip(grads, net.parameters(), strict=True):
        assert np.linalg.norm(g - p.grad.numpy()) <= 1e-5 * np.linalg.norm(p.grad.numpy())


def test_mse_and_metrics(target):
    model = gc.compile(nn.Identity(), gc.spec("N", 2), loss="mse", metrics=["mse", "mae"], target=target)
    out = model.evaluate([[1.0, 2.0]], [[0.0, 4.0]])
    assert out == {"loss": 2.5, "mse": 2.5, "mae": 1.5}


def test_metric_names():
    with pytest.raises(gc.ArgumentError, match="different names"):
        gc.compile(nn.Identity(), gc.spec("N", 2), loss="mse", metrics=["mse", "mse"])


def test_a_loss_that_reaches_no_parameter(target):
    class Cut(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.a(x) + gc.stop_gradient(self.b(x))

    with pytest.raises(gc.GradientError, match=r"b\.weight"):
        gc.compile(Cut(), gc.spec("N", 2), loss="mse", optimizer="sgd", target=target)
    m = Cut()
    m.b.freeze()
    gc.compile(m, gc.spec("N", 2), loss="mse", optimizer="sgd", target=target).train_on_batch(
        np.ones((1, 2)), np.ones((1, 2))
    )
