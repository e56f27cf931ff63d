"""Reductions and running reductions over axes of a named size, and gradients where factors are zero."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops

CASES = {
    "prod": (lambda x: ops.prod(x, 0), lambda x: x.prod(0)),
    "min": (lambda x: ops.min(x, 1), lambda x: x.min(1)),
    "var": (lambda x: ops.var(x, 0, correction=1), lambda x: x.var(0, ddof=1)),
    "std": (lambda x: x.std(axis=(0, 1)), lambda x: x.std()),
    "norm": (lambda x: ops.norm(x, axis=0), lambda x: np.linalg.norm(x, axis=0)),
    "any": (lambda x: ops.any(x > 0.5, 0), lambda x: (x > 0.5).any(0)),
    "all": (lambda x: ops.all(x > -0.9, 0), lambda x: (x > -0.9).all(0)),
    "count_nonzero": (lambda x: ops.count_nonzero(x > 0, 0), lambda x: (x > 0).sum(0)),
    "argmin": (lambda x: ops.argmin(x, 1), lambda x: x.argmin(1)),
    "cumsum": (lambda x: ops.cumsum(x, 0), lambda x: x.cumsum(0)),
    "cumprod": (lambda x: ops.cumprod(x, 0), lambda x: x.cumprod(0)),
    "cummax": (lambda x: ops.cummax(x, 0, reverse=True), lambda x: np.maximum.accumulate(x[::-1], 0)[::-1]),
    "logcumsumexp": (lambda x: ops.logcumsumexp(x, 0), lambda x: np.logaddexp.accumulate(x, 0) if len(x) else x),
    "tril": (lambda x: ops.tril(x, 1), lambda x: np.tril(x, 1)),
    "clip": (lambda x: x.clip(-0.5, 0.5), lambda x: x.clip(-0.5, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_one_executable_serves_every_size(target):
    f = gc.compile(lambda x: tuple(ours(x) for ours, _ in CASES.values()), gc.spec("N", 4, dtype="float64"), target=target)
    for size in (37, 1, 2, 0):
        x = np.random.default_rng(size).uniform(-1, 1, (size, 4))
        with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) if size < 2 else _nothing():
            wanted = {name: theirs(x) for name, (_, theirs) in CASES.items()}
        for (name, w), found in zip(wanted.items(), f(x), strict=True):
            np.testing.assert_allclose(found, w, rtol=1e-10, atol=1e-12, err_msg=f"{name} of {size} rows")


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_the_gradient_of_a_product_with_zeros(zeros):
    x = np.array([[1.5, -2.0, 0.5, 3.0]])
    x[0, :zeros] = 0.0
    for fn in (lambda v: ops.prod(v, 1), lambda v: ops.cumprod(v, 1)[:, -1]):
        found = gc.compile(lambda v, fn=fn: gc.grad(lambda u: fn(u).sum(), wrt=0)(v), gc.spec(1, 4, dtype="float64"), target="reference")(x)
        others = [np.prod(np.delete(x[0], i)) for i in range(4)]
        np.testing.assert_allclose(found[0], others, rtol=1e-12)


def test_gradients_at_points_without_derivative_are_finite():
    x = np.zeros((3, 4))
    for fn in (lambda v: ops.norm(v), lambda v: ops.std(v, 0).sum(), lambda v: ops.hypot(v, v).sum(), lambda v: ops.norm(v, 1)):
        found = gc.compile(lambda v, fn=fn: gc.grad(fn, wrt=0)(v), gc.spec(3, 4, dtype="float64"), target="reference")(x)
        np.testing.assert_array_equal(found, 0.0)


def test_running_sums_do_not_overflow_in_the_logarithm():
    x = np.array([1e4, -1e4, 1e4, -np.inf])
    f = gc.compile(lambda v: (ops.logcumsumexp(v), gc.grad(lambda u: ops.logcumsumexp(u)[:3].sum(), wrt=0)(v)), gc.spec(4, dtype="float64"), target="reference")
    value, slope = f(x)
    np.testing.assert_allclose(value, np.logaddexp.accumulate(x))
    np.testing.assert_allclose(slope, [2.5, 0.0, 0.5, 0.0])
