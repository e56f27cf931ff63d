"""One training step of whole models on the simulated CUDA target: loss, gradients and state equal the CPU's."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphc import optim

from .models import MODELS, RATE, batch, compiled


def step(name, target, rows, **options):
    """The loss, and the gradient of every parameter or the new value of every state."""
    model = compiled(name, target, **options)
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


# -- tensor cores ------------------------------------------------------------------------------------------------------------
ROUNDING = {"tf32": 2.0**-11, "bf16": 2.0**-8}
"""The relative error of one rounded factor, at most."""


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("name", ["mlp", "lenet", "transformer"])
def test_a_training_step_on_tensor_cores_is_the_cpus_but_for_what_factors_lose(name, precision):
    (loss, found), (wanted_loss, wanted) = step(name, "cuda-sim", 5, precision=precision), step(name, "cpu", 5)
    assert loss == pytest.approx(wanted_loss, rel=4 * ROUNDING[precision])
    square = lambda values: sum(float((v**2).sum()) for v in values)
    off, all_ = square(found[n] - v for n, v in wanted.items()), square(wanted.values())
    # a gradient is a chain of half a dozen products, each with two rounded factors
    assert 0.05 * ROUNDING[precision] <= np.sqrt(off / all_) <= 4 * ROUNDING[precision]
    for n, v in wanted.items():
        assert np.linalg.norm(found[n] - v) <= 12 * ROUNDING[precision] * max(np.linalg.norm(v), 1e-2), n


def test_parameters_and_moments_stay_float32_and_keep_steps_that_bfloat16_would_lose():
    model = compiled("mlp", "cuda-sim", optim.Adam(1e-5), precision="bf16")
    before = {n: v.copy() for n, v in model.state_dict().items()}
    for _ in range(2):
        model.train_on_batch(*batch("mlp", 6))
    after = model.state_dict()
    trained = [i.name for i in model.graphs["train_step"].inputs if i.role == "param"]
    assert {after[n].dtype for n in trained} == {np.dtype(np.float32)}
    slots = model.executables["train_step"].schedule.buffers.values()
    assert {str(b.type.dtype) for b in slots if b.space == "slot" and b.type.dtype.is_float} == {"float32"}
    weight = max(trained, key=lambda n: before[n].size)
    moved = np.abs(after[weight] - before[weight])
    large = np.abs(before[weight]) > 0.05  # where bfloat16 has steps of 2**-13 and more, ten times what was moved
    assert large.any() and (moved[large] > 1e-6).mean() > 0.9 and moved.max() < 1e-4
    rounded = lambda v: v.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert (rounded(after[weight]) != after[weight]).mean() > 0.9  # and it is not a rounded copy that is kept


def test_a_model_learns_in_bfloat16_as_it_does_in_float32():
    losses = {}
    for precision in ("bf16", "float32"):
        model = compiled("mlp", "cuda-sim", optim.Adam(1e-2), precision=precision)
        losses[precision] = [model.train_on_batch(*batch("mlp", 16))["loss"] for _ in range(12)]
    assert losses["float32"][-1] < 0.7 * losses["float32"][0]
    np.testing.assert_allclose(losses["bf16"], losses["float32"], rtol=0.03)
