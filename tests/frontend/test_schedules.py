"""Schedules of the learning rate, value by value against torch.optim.lr_scheduler, and inside training steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim

s = optim.schedules
STEPS, LR = 60, 0.1


def torch_rates(make):
    """The rates that torch's optimiser takes its steps with."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return rates


def bert(t, warmup=7, total=40):
    return t / warmup if t < warmup else max(0.0, (total - t) / (total - warmup))


CASES = [
    (s.Constant(), lambda t, o: t.ConstantLR(o)),
    (s.Constant(0.2, 9), lambda t, o: t.ConstantLR(o, 0.2, 9)),
    (s.Linear(), lambda t, o: t.LinearLR(o)),
    (s.Linear(0.01, 0.5, 20), lambda t, o: t.LinearLR(o, 0.01, 0.5, 20)),
    (s.Step(7), lambda t, o: t.StepLR(o, 7)),
    (s.Step(5, 0.7), lambda t, o: t.StepLR(o, 5, 0.7)),
    (s.MultiStep([3, 10, 40], 0.5), lambda t, o: t.MultiStepLR(o, [3, 10, 40], 0.5)),
    (s.Exponential(0.93), lambda t, o: t.ExponentialLR(o, 0.93)),
    (s.Polynomial(), lambda t, o: t.PolynomialLR(o)),
    (s.Polynomial(31, 2.5), lambda t, o: t.PolynomialLR(o, 31, 2.5)),
    (s.Cosine(25), lambda t, o: t.CosineAnnealingLR(o, 25)),
    (s.Cosine(25, 0.03), lambda t, o: t.CosineAnnealingLR(o, 25, 0.03)),
    (s.CosineWarmRestarts(11), lambda t, o: t.CosineAnnealingWarmRestarts(o, 11)),
    (s.CosineWarmRestarts(4, 2, 0.01), lambda t, o: t.CosineAnnealingWarmRestarts(o, 4, 2, 0.01)),
    (s.CosineWarmRestarts(1, 3), lambda t, o: t.CosineAnnealingWarmRestarts(o, 1, 3)),
    (s.OneCycle(0.5, 60), lambda t, o: t.OneCycleLR(o, 0.5, 60, cycle_momentum=False)),
    (s.OneCycle(0.5, 60, 0.4, "linear", 10.0, 100.0), lambda t, o: t.OneCycleLR(o, 0.5, 60, pct_start=0.4, anneal_strategy="linear", div_factor=10.0, final_div_factor=100.0, cycle_momentum=False)),
    (s.OneCycle(None, 60, three_phase=True), lambda t, o: t.OneCycleLR(o, LR, 60, three_phase=True, cycle_momentum=False)),
    (s.Cyclic(0.01, 0.2, 7), lambda t, o: t.CyclicLR(o, 0.01, 0.2, 7, cycle_momentum=False)),
    (s.Cyclic(None, 0.2, 4, 9, "triangular2"), lambda t, o: t.CyclicLR(o, LR, 0.2, 4, 9, "triangular2", cycle_momentum=False)),
    (s.Cyclic(0.01, 0.2, 6, mode="exp_range", gamma=0.95), lambda t, o: t.CyclicLR(o, 0.01, 0.2, 6, mode="exp_range", gamma=0.95, cycle_momentum=False)),
    (s.InverseSqrt(8), lambda t, o: t.LambdaLR(o, lambda i: min((i + 1) / 8, math.sqrt(8 / (i + 1))))),
    (s.Noam(512, 10), lambda t, o: t.LambdaLR(o, lambda i: 512**-0.5 * min((i + 1) ** -0.5, (i + 1) * 10**-1.5))),
    (s.WarmupDecay(7, 40), lambda t, o: t.LambdaLR(o, bert)),
    (s.Sequential([s.Linear(0.1, total_iters=6), s.Cosine(30), s.Exponential(0.9)], [6, 36]), lambda t, o: t.SequentialLR(o, [t.LinearLR(o, 0.1, total_iters=6), t.CosineAnnealingLR(o, 30), t.ExponentialLR(o, 0.9)], [6, 36])),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("schedule", "make"), CASES, ids=[str(c[0]) for c in CASES])
def test_every_value_against_torch(schedule, make, target):
    wanted = torch_rates(make)
    t = np.arange(len(wanted), dtype=float)
    run = gc.compile(schedule, gc.spec("N", dtype="float64"), gc.spec(dtype="float64"), target=target)
    np.testing.assert_allclose(run(t, LR), wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([schedule(i, LR) for i in t], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mult", [2, 3, 10])
def test_restarts_begin_where_they_should(mult):
    """The first step of each cosine has the full rate, however large the step: logarithms are rounded."""
    schedule, start, length = s.CosineWarmRestarts(7, mult), 0, 7
    while start < 10**8:
        assert schedule(start, 1.0) == pytest.approx(1.0, abs=1e-12)
        assert start == 0 or schedule(start - 1, 1.0) < 1e-1
        start, length = start + length, length * mult


def test_epochs():
    schedule = s.Step(2, 0.1, steps_per_epoch=3)
    assert [schedule(t, 1.0) for t in range(13)] == pytest.approx([1.0] * 6 + [0.1] * 6 + [0.01])


def rates_of(opt, steps, target):
    """The rates that a training step takes, from the moves of a parameter whose gradient is 1."""
    w = nn.Parameter(np.zeros(2), name="w")

    def fn():
        loss = w.sum()
        opt.minimize(loss, [w])
        return loss

    step, found = gc.step(fn, target=target), []
    for _ in range(steps):
        before = w.numpy()
        step()
        found.append(float((before - w.numpy())[0]))
    return found, step


def test_rates_inside_of_a_step(target):
    schedule = s.Sequential([s.Linear(0.1, total_iters=3), s.Cosine(5)], [3])
    found, step = rates_of(optim.SGD(0.5, schedule=schedule), 10, target)
    assert found == pytest.approx([schedule(t, 0.5) for t in range(10)], rel=1e-12)
    assert [i.name for i in step.graph.inputs] == ["w", "optimizer.step", "optimizer.lr"]


def test_a_function_as_a_schedule(target):
    found, _ = rates_of(optim.SGD(0.5, schedule=lambda t, lr: lr / (1.0 + t)), 4, target)
    assert found == pytest.approx([0.5 / (1 + t) for t in range(4)], rel=1e-12)


def test_accumulated_calls_count_once(target):
    found, _ = rates_of(optim.SGD(1.0, schedule=s.Exponential(0.5), accumulate=2), 6, target)
    assert found == pytest.approx([0, 1, 0, 0.5, 0, 0.25], rel=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_groups_follow_their_own_rates_as_in_torch(target):
    torch = pytest.importorskip("torch")
    schedule = s.Cosine(6, 0.01)
    a, b = nn.Parameter(np.zeros(1), name="a"), nn.Parameter(np.zeros(1), name="b")
    opt = optim.SGD(0.5, schedule=schedule, groups=[optim.Group("b", lr=0.2)])

    def fn():
        loss = (a + b).sum()
        opt.minimize(loss, [a, b])
        return loss

    step = gc.step(fn, target=target)
    ta, tb = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    theirs = torch.optim.SGD([{"params": [ta]}, {"params": [tb], "lr": 0.2}], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 6, 0.01)
    for _ in range(8):
        step()
        theirs.zero_grad()
        (ta + tb).sum().backward()
        theirs.step()
        scheduler.step()
        np.testing.assert_allclose([a.numpy(), b.numpy()], [ta.detach().numpy(), tb.detach().numpy()], rtol=1e-12)


def test_a_resumed_training_goes_on_in_the_schedule(classifier, tmp_path):
    """One program for the whole schedule; the place in it is the step counter, which files hold."""
    x, y = np.random.default_rng(0).normal(size=(8, 6)).astype("float32"), np.arange(8) % 3
    model, other = (classifier(optim.SGD(0.1, schedule=s.Step(2, 0.1))) for _ in range(2))
    for _ in range(3):
        model.train_on_batch(x, y)
    model.save(tmp_path / "model")
    other.load(tmp_path / "model")
    program = model.executables["train_step"]
    for m in (model, other):
        for _ in range(3):
            m.train_on_batch(x, y)
        m.learning_rate = 0.05
        m.train_on_batch(x, y)
    assert model.executables["train_step"] is program
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, other.state_dict()[k])


def test_mistakes():
    for make, text in [
        (lambda: s.Step(0), "step_size = 0"),
        (lambda: s.Cosine(2.5), "T_max = 2.5"),
        (lambda: s.Exponential(0.0), "gamma = 0.0"),
        (lambda: s.Sequential([s.Cosine(3)], [2])(0, 1.0), "1 schedules with 1 milestones"),
        (lambda: s.OneCycle(1.0, 10, anneal_strategy="cosine")(0, 1.0), "anneal_strategy"),
        (lambda: s.Cyclic(0.1, 1.0, mode="square")(0, 1.0), "mode = 'square'"),
    ]:
        with pytest.raises(gc.ArgumentError, match=text):
            make()
