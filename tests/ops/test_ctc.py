"""CTC loss: by counting every path, against torch with gradients, on named sizes, and at its edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def by_counting(log_probs, target, blank):
    """-log of the summed chances of all paths of one sequence that read as the target."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [k for k, _ in itertools.groupby(path) if k != blank] == list(target):
            total += np.exp(sum(log_probs[t, k] for t, k in enumerate(path)))
    return -np.log(total)


@pytest.mark.parametrize("target", [(), (1,), (1, 1), (2, 0), (0, 2, 0)])
def test_the_loss_counts_every_path(target):
    x = log_softmax(np.random.default_rng(0).normal(size=(5, 4)))
    specs = gc.spec(5, 4, dtype="float64"), gc.spec(len(target), dtype="int64"), gc.spec(dtype="int64"), gc.spec(dtype="int64")
    f = gc.compile(lambda *a: ops.ctc_loss(*a, blank=3, reduction="sum"), *specs, target="reference")
    assert f(x, np.array(target, np.int64), np.int64(5), np.int64(len(target))) == pytest.approx(by_counting(x, target, 3), rel=1e-12)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(1, 6, (4, 5))
    targets[1, :3] = 2  # repeats need a blank between them
    lengths, sizes = np.array([9, 8, 2, 5]), np.array([5, 3, 2, 0])
    for row, n in zip(targets, sizes, strict=True):
        row[n:] = -7  # padding may hold anything
    return rng.normal(size=(9, 4, 6)), targets, lengths, sizes


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_values_and_gradients_equal_torch(reduction, target):
    torch = pytest.importorskip("torch")
    loss = nn.CTCLoss(reduction=reduction)

    def run(x, *integers):
        value = loss(x.log_softmax(-1), *integers)
        return value, gc.grad(lambda x: loss(x.log_softmax(-1), *integers).sum())(x)

    whole = [gc.spec("N", *rest, dtype="int64") for rest in (("S",), (), ())]
    f = gc.compile(run, gc.spec("T", "N", 6, dtype="float64"), *whole, target=target)
    for x, *integers in (batch(), [batch(1)[0][:, :1], *(i[:1] for i in batch(1)[1:])]):
        value, slope = f(x, *integers)
        given = torch.tensor(x, requires_grad=True)
        wanted = torch.nn.functional.ctc_loss(given.log_softmax(-1), *map(torch.tensor, integers), reduction=reduction)
        wanted.sum().backward()
        np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(slope, given.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("zero", [False, True])
def test_targets_that_no_path_reads(zero):
    torch = pytest.importorskip("torch")
    x, targets, lengths, sizes = batch()
    lengths[0], lengths[3] = 4, 0  # too short; nothing to read and nothing read
    loss = nn.CTCLoss(reduction="none", zero_infinity=zero)
    ints = gc.spec(4, 5, dtype="int64"), gc.spec(4, dtype="int64"), gc.spec(4, dtype="int64")
    f = gc.compile(lambda x, *i: (loss(x, *i), gc.grad(lambda x: ops.where(loss(x, *i) < 1e9, loss(x, *i), 0.0).sum())(x)), gc.spec(9, 4, 6, dtype="float64"), *ints)
    value, slope = f(log_softmax(x), targets, lengths, sizes)
    wanted = torch.nn.functional.ctc_loss(torch.tensor(log_softmax(x)), *map(torch.tensor, (targets, lengths, sizes)), reduction="none", zero_infinity=zero)
    np.testing.assert_allclose(value, wanted.numpy(), rtol=1e-9)
    assert value[0] == (0.0 if zero else np.inf) and value[3] == 0.0
    assert np.isfinite(slope).all() and not slope[:, 0].any() and slope[:, 1].any()


def test_a_class_without_any_chance():
    """log 0 on a class of the target: inf where every path needs it, else the other paths count; no gradient is NaN."""
    x = log_softmax(np.random.default_rng(0).normal(size=(4, 2, 3)))
    x[1, 0, 1] = -np.inf  # one time step without class 1
    x[:, 1, 1] = -np.inf  # no class 1 at all
    specs = gc.spec(4, 2, 3, dtype="float64"), gc.spec(2, 1, dtype="int64"), gc.spec(2, dtype="int64"), gc.spec(2, dtype="int64")
    integers = np.array([[1], [1]]), np.array([4, 4]), np.array([1, 1])
    value = gc.compile(lambda *a: ops.ctc_loss(*a, reduction="none"), *specs, target="reference")(x, *integers)
    assert value[0] == pytest.approx(by_counting(x[:, 0], (1,), 0)) and value[1] == np.inf
    slope = gc.compile(gc.grad(lambda *a: ops.ctc_loss(*a, reduction="sum", zero_infinity=True)), *specs, target="reference")(x, *integers)
    assert np.isfinite(slope).all() and not slope[:, 1].any()
