"""One training step of whole models on the simulated CUDA target: loss, gradients and state equal the CPU's."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import optim

from .models import MODELS, RATE, batch, compiled


def step(name, target, rows):
    """The loss, and the gradient of every parameter or the new value of every state."""
    model = compiled(name, target)
    before = model.state_dict()
    loss = model.train_on_batch(*batch(name, rows))["loss"]
    after = model.state_dict()
    trained = {i.name for i in model.graphs["train_step"].inputs if i.role == "param"}
    wide = {n: v.astype(np.float64) for n, v in after.items()}
    return loss, {n: (before[n] - v) / RATE if n in trained else v for n, v in wide.items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_equals_the_cpus(name):
    compare_steps(name, "cuda-sim")


def compare_steps(name, target):
    """Loss, gradients and state of a training step on a target equal the CPU's."""
    (loss, found), (wanted_loss, wanted) = (step(name, t, 5) for t in (target, "cpu"))
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert found.keys() == wanted.keys() and len(found) > 3
    square = lambda values: sum(float((v**2).sum()) for v in values)
    off = square(found[n] - v for n, v in wanted.items())
    assert square(wanted.values()) > 0
    assert off <= 1e-10 * square(wanted.values())
    for n, v in wanted.items():  # each by itself: a small gradient must not hide behind a large one
        assert np.linalg.norm(found[n] - v) <= 3e-5 * max(np.linalg.norm(v), 1e-3), n


@pytest.mark.parametrize("name", ["mlp", "lstm"])
def test_three_steps_of_adam_follow_the_cpu(name):
    losses = {}
    for target in ("cuda-sim", "cpu"):
        model = compiled(name, target, optim.Adam(1e-2))
        losses[target] = [model.train_on_batch(*batch(name, 6))["loss"] for _ in range(3)]
    assert losses["cuda-sim"] == pytest.approx(losses["cpu"], rel=1e-4)
    assert losses["cpu"][2] < losses["cpu"][0]
