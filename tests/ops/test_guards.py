"""Named sizes that must be equal: not known when the graph is built, checked when sizes are bound."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.errors import GuardError, ShapeError

TARGETS = ("reference", "cpu")


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "fn,specs,good,bad",
    [
        (lambda a, b: a + b, (("N", 3), ("M", 3)), ((4, 3), (4, 3)), ((4, 3), (5, 3))),
        (lambda a, b: gc.ops.where(a < b, a, b), (("N",), ("M",)), ((4,), (4,)), ((1,), (3,))),
        (lambda a, b: a @ b, ((2, "N"), ("M", 3)), ((2, 7), (7, 3)), ((2, 7), (6, 3))),
        (lambda a, b: gc.grad(lambda u, v: (u * v).sum(), wrt=1)(a, b), (("N", 3), ("M", 3)), ((4, 3), (4, 3)), ((4, 3), (3, 3))),
    ],
)
def test_equal_named_sizes_are_a_guard(target, fn, specs, good, bad):
    f = gc.compile(fn, *(gc.spec(*s) for s in specs), target=target)
    expected = gc.compile(fn, *(gc.spec(*s) for s in good), target="reference")
    values = [ones(*s) for s in good]
    np.testing.assert_allclose(f(*values), expected(*values))
    with pytest.raises(GuardError, match="must be equal") as caught:
        f(*(ones(*s) for s in bad))
    assert "test_guards.py" in str(caught.value)


def test_a_named_size_against_a_number_is_an_error_at_once():
    with pytest.raises(ShapeError, match="N against 5"):
        gc.compile(lambda a, b: a + b, gc.spec("N"), gc.spec(5), target="reference").graph


@pytest.mark.parametrize("target", TARGETS)
def test_a_named_size_that_is_too_small_is_refused_when_bound(target):
    def fn(x):
        return ops.at_least(x, x.shape[0] * 2, 4, "rows") * 2.0

    f = gc.compile(fn, gc.spec("N", 3), target=target)
    np.testing.assert_array_equal(f(ones(2, 3)), 2 * ones(2, 3))
    with pytest.raises(GuardError, match=r"2\*N = 2 where at least 4 are needed: rows") as caught:
        f(ones(1, 3))
    assert "test_guards.py" in str(caught.value)
    g = gc.compile(gc.grad(lambda x: (fn(x) * x).sum()), gc.spec("N", 3), target=target)
    np.testing.assert_array_equal(g(ones(2, 3)), 4 * ones(2, 3))
    with pytest.raises(GuardError, match="at least 4"):
        g(ones(1, 3))
