"""gc.grad, gc.value_and_grad, gc.step."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim


def test_first_second_and_third_derivative(target):
    def f(x):
        return (x**4).sum()

    x = np.array([1.0, -2.0, 0.5])
    d1 = gc.grad(f)
    d2 = gc.grad(lambda x: d1(x).sum())
    d3 = gc.grad(lambda x: d2(x).sum())
    spec = gc.spec("N", dtype="float64")
    np.testing.assert_allclose(gc.compile(d1, spec, target=target)(x), 4 * x**3, rtol=1e-12)
    np.testing.assert_allclose(gc.compile(d2, spec, target=target)(x), 12 * x**2, rtol=1e-12)
    np.testing.assert_allclose(gc.compile(d3, spec, target=target)(x), 24 * x, rtol=1e-12)


def test_only_the_asked_argument_counts(target):
    f = gc.compile(lambda x: gc.grad(lambda a, b: (a * b).sum())(x, x), gc.spec(2), target=target)
    np.testing.assert_allclose(f([3.0, 4.0]), [3, 4])
    g = gc.compile(lambda x: gc.grad(lambda a, b: (a * b * b).sum(), wrt=(0, 1))(x, x), gc.spec(2), target=target)
    a, b = g([3.0, 4.0])
    np.testing.assert_allclose(a, [9, 16])
    np.testing.assert_allclose(b, [18, 32])


def test_nested_gradients_do_not_mix(target):
    # d/dx (x * d/dy (x + y)) = 1: the classic perturbation confusion
    f = gc.compile(gc.grad(lambda x: x * gc.grad(lambda y: x + y)(x)), gc.spec(), target=target)
    assert f(3.0) == 1.0


def test_trees_and_negative_positions(target):
    def loss(p, x):
        return ((p["w"] * x + p["b"][0]) ** 2).sum()

    f = gc.compile(gc.value_and_grad(loss), {"w": gc.spec(2), "b": (gc.spec(2),)}, gc.spec(2), target=target)
    value, g = f({"w": [1.0, 2.0], "b": ([0.0, 1.0],)}, [3.0, 4.0])
    assert value == pytest.approx(90.0, rel=1e-6)
    np.testing.assert_allclose(g["w"], [18, 72])
    np.testing.assert_allclose(g["b"][0], [6, 18])
    h = gc.compile(gc.grad(loss, wrt=-1), {"w": gc.spec(2), "b": (gc.spec(2),)}, gc.spec(2), target=target)
    np.testing.assert_allclose(h({"w": [1.0, 2.0], "b": ([0.0, 1.0],)}, [3.0, 4.0]), [6, 36])


def test_gradient_of_a_network_with_respect_to_its_input(mlp, target):
    m = mlp()
    f = gc.compile(gc.grad(lambda x: m(x).sum()), gc.spec("N", 6), target=target)
    v = m.state_dict()
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    mask = (x @ v["fc.0.weight"].T + v["fc.0.bias"]) > 0
    want = (mask * v["fc.3.weight"].sum(0)) @ v["fc.0.weight"]
    np.testing.assert_allclose(f(x), want, rtol=1e-4, atol=1e-6)


def test_relu_at_zero(target):
    f = gc.compile(gc.grad(lambda x: x.relu().sum()), gc.spec(3), target=target)
    assert f([-1.0, 0.0, 2.0]).tolist() == [0, 0, 1]


def test_a_bare_parameter(target):
    w = nn.Parameter(np.array([1.0, 2.0], np.float32), name="w")
    opt = optim.SGD(0.5)

    def fn(x):
        loss = (w * x).sum()
        opt.minimize(loss, [w])
        return loss

    step = gc.step(fn, gc.spec(2), target=target)
    assert step([1.0, 1.0]) == 3.0
    np.testing.assert_allclose(w.numpy(), [0.5, 1.5])
    assert step([1.0, 1.0]) == 2.0
    assert [i.name for i in step.graph.inputs][:2] == ["x", "w"]


def test_two_networks_and_two_optimisers(target):
    """The shape of a GAN: each loss moves its own network, the second sees the first's update."""
    gen, disc = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    og, od = optim.SGD(0.1), optim.Adam(0.01)

    def fn(z, real):
        fake = gen(z)
        d_loss = disc(gc.stop_gradient(fake)).mean() - disc(real).mean()
        od.minimize(d_loss, disc.parameters())
        g_loss = -disc(fake).mean()
        og.minimize(g_loss, gen.parameters())
        return {"d": d_loss, "g": g_loss}

    step = gc.step(fn, gc.spec("N", 2), gc.spec("N", 2), target=target)
    g0, d0 = gen.weight.numpy(), disc.weight.numpy()
    z, real = np.array([[1.0, 2.0], [0.5, -1.0]], np.float32), np.array([[0.0, 1.0], [2.0, 2.0]], np.float32)
    out = step(z, real)
    fake = z @ g0.T
    assert out["d"] == pytest.approx((fake @ d0.T).mean() - (real @ d0.T).mean(), abs=1e-6)
    d1 = disc.weight.numpy()
    grad = (fake - real).mean(0)
    np.testing.assert_allclose(d1, d0 - 0.01 * np.sign(grad), atol=1e-5)
    assert out["g"] == pytest.approx(-(fake @ d1.T).mean(), abs=1e-6)
    np.testing.assert_allclose(gen.weight.numpy(), g0 + 0.1 * d1.T @ z.mean(0, keepdims=True), atol=1e-6)
    names = step.store.names()
    assert {
        "linear.weight",
        "linear_1.weight",
        "optimizer.step",
        "optimizer_1.lr",
        "optimizer.m.linear_1.weight",
    } <= set(names)
    assert step.graph.finite == "$loss"
    # the generator alone, over the same store
    sample = gc.compile(gen, gc.spec("N", 2), target=target)
    np.testing.assert_allclose(sample.predict(z), z @ gen.weight.numpy().T, rtol=1e-5)


def test_steps_write_nothing_when_one_loss_is_not_finite(target):
    a, b = nn.Parameter([1.0]), nn.Parameter([-1.0])

    def fn():
        first = (a * a).sum()
        optim.SGD(0.1).minimize(first, [a])
        second = b.log().sum()
        optim.SGD(0.1).minimize(second, [b])
        return first

    step = gc.step(fn, target=target)
    with pytest.raises(gc.NonFiniteError, match="first: log"):
        step()
    assert a.numpy() == 1.0 and b.numpy() == -1.0


def test_joint_losses_computed_before_their_updates(target):
    w = nn.Parameter([2.0])
    one, two = optim.SGD(0.1), optim.SGD(0.1)

    def fn():
        first, second = (w * w).sum(), (3.0 * w).sum()
        one.minimize(first, [w])
        two.minimize(second, [w])
        return first, second

    step = gc.step(fn, target=target)
    assert [float(v) for v in step()] == [4.0, 6.0]
    np.testing.assert_allclose(w.numpy(), [2.0 - 0.1 * 4.0 - 0.1 * 3.0], rtol=1e-6)


def test_minimize_outside_of_a_step(target):
    net, opt = nn.Linear(2, 1), optim.SGD(0.1)
    with pytest.raises(gc.TraceError, match="outside of a trace"):
        opt.minimize(None, [])

    def fn(x):
        loss = net(x).sum()
        opt.minimize(loss, net.parameters())
        return loss

    with pytest.raises(gc.TraceError, match="training step only"):
        gc.compile(fn, gc.spec("N", 2), target=target)
    with pytest.raises(gc.ShapeError, match="a loss must be a scalar"):
        gc.step(lambda x: opt.minimize(net(x), net.parameters()), gc.spec("N", 2), target=target)


def test_apply_takes_given_gradients_as_minimize_takes_its_own(target):
    nets = [nn.Linear(2, 3), nn.Linear(2, 3)]
    for net in nets:
        net.weight.assign(np.arange(6.0).reshape(3, 2) / 7)
        net.bias.assign(np.ones(3))
    one, two = (optim.Adam(0.1, clip_norm=1.0) for _ in nets)

    def loss_of(net, x):
        return (net(x) ** 2).sum()

    def minimized(x):
        one.minimize(loss_of(nets[0], x), nets[0].parameters())

    def applied(x):
        two.apply(gc.grad(lambda x: loss_of(nets[1], x), wrt=nets[1].parameters())(x), nets[1].parameters())

    steps = [gc.step(fn, gc.spec("N", 2), target=target) for fn in (minimized, applied)]
    before = nets[0].weight.numpy()
    for _ in range(2):
        for step in steps:
            step(np.array([[0.5, -1.0], [2.0, 0.25]], np.float32))
    assert abs(nets[0].weight.numpy() - before).max() > 0.1
    for name in ("weight", "bias"):
        np.testing.assert_allclose(getattr(nets[1], name).numpy(), getattr(nets[0], name).numpy(), rtol=1e-6)


def test_apply_leaves_frozen_parameters_and_refuses_what_does_not_fit(target):
    net, opt = nn.Linear(2, 1), optim.SGD(0.5)
    net.bias.trainable = False
    step = gc.step(lambda w, b: opt.apply([w, b], net.parameters()), gc.spec(1, 2), gc.spec(1), target=target)
    weight, bias = net.weight.numpy(), net.bias.numpy()
    step([[1.0, 2.0]], [3.0])
    np.testing.assert_allclose(net.weight.numpy(), weight - [[0.5, 1.0]], rtol=1e-6)
    assert net.bias.numpy() == bias

    def refused(error, message, grads, params=None):
        with pytest.raises(error, match=message):
            gc.step(lambda w: opt.apply(grads(w), params or net.parameters()[:1]), gc.spec(1, 2), target=target)

    refused(gc.ArgumentError, "2 gradients for 1 parameters", lambda w: [w, w])
    refused(gc.ArgumentError, "not groups", lambda w: [w], [{"params": net.parameters()[:1]}])
    refused(gc.ShapeError, r"the gradient of param f32\[1, 2\] is f32\[\]", lambda w: [w.sum()])
    refused(gc.ShapeError, r"the gradient of param f32\[1, 2\] is 0\.0", lambda w: [0.0])
    with pytest.raises(gc.TraceError, match="apply was called outside of a trace"):
        opt.apply([], [])
    with pytest.raises(gc.TraceError, match="training step only"):
        gc.compile(lambda w: opt.apply([w], net.parameters()[:1]), gc.spec(1, 2), target=target)


def test_models_with_stores_of_their_own_do_not_mix(target):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    gc.compile(a, gc.spec("N", 2), target=target)
    # a new module joins the store of the old one
    gc.compile(lambda x: b(a(x)), gc.spec("N", 2), target=target)
    assert a.weight.store is b.weight.store
    c = nn.Linear(2, 2)
    gc.compile(c, gc.spec("N", 2), target=target)
    with pytest.raises(gc.TraceError, match="another model's store"):
        gc.compile(lambda x: c(a(x)), gc.spec("N", 2), target=target)


def test_new_parameters_first_then_old_ones(target):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    gc.compile(a, gc.spec("N", 2), target=target)
    f = gc.compile(lambda x: a(b(x)), gc.spec("N", 2), target=target)
    assert a.weight.store is b.weight.store is f.store
    x = np.ones((1, 2), np.float32)
    want = (x @ b.weight.numpy().T + b.bias.numpy()) @ a.weight.numpy().T + a.bias.numpy()
    np.testing.assert_allclose(f(x), want, rtol=1e-5)
