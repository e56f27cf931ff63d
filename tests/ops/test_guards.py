"""Named sizes that must be equal: not known when the graph is built, checked when sizes are bound."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
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
