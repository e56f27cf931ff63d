"""Rounding, signs and remainders: piecewise constant or linear primitives, whose gradients are 0 between the steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.dtypes import promote
from ..ir.node import Node
from ..ir.op import Sample, sugar
from . import vecmath
from .define import FLOATS, binary_samples, broadcast_shapes, composite, constant, elementwise, operands, rand
from .elementwise import cast, maximum, minimum, quiet, where
from .transcendental import reduce_like
from .views import broadcast_to

__all__ = ["ceil", "clip", "copysign", "floor", "floor_divide", "fmod", "mod", "round", "sign", "trunc"]


def _zeros(x: Node) -> Node:
    return broadcast_to(constant(0.0, x.dtype), x.shape)


def _whole(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Integers stay what they are: NumPy would make floats of some."""
    return lambda x: fn(x) if x.dtype.kind == "f" else x


def _rounding(name: str, numpy: Any, scalar: Any, doc: str) -> Callable[..., Node]:
    return elementwise(
        name, 1, scalar=scalar, numpy=_whole(numpy), grad=lambda n, g: (_zeros(n.inputs[0]),), doc=doc + " Integers stay; the gradient is 0.",
        samples=lambda: [Sample((_off_steps(*s),), smooth=False) for s in ((), (0,), (1,), (5, 7), (2, 3, 19), (130,))],
    )  # fmt: skip


def _off_steps(*shape: int) -> np.ndarray:
    """Between -4 and 4, at least 0.05 away from every multiple of 1/2."""
    x = rand(*shape, low=-4.0, high=4.0) * 2
    return np.asarray(np.floor(x) + 0.1 + 0.8 * (x - np.floor(x))) / 2


floor = _rounding("floor", np.floor, lambda x: x.floor(), "The largest integer not above ``x``.")
ceil = _rounding("ceil", np.ceil, lambda x: x.ceil(), "The smallest integer not below ``x``.")
trunc = _rounding("trunc", np.trunc, lambda x: x.trunc(), "``x`` without its fraction.")
round = _rounding("round", np.rint, lambda x: x.rint(), "The nearest integer, halves to even (NumPy's and torch's ``round``).")
sugar(round, "rint")
sugar(trunc, "fix")


def _sign(x: Any) -> Any:
    negative = x if x.dtype.kind == "u" else (x < 0).select(-1, x)
    return (x > 0).select(1, x.eq(0).select(0, negative))


sign = elementwise(
    "sign", 1, scalar=_sign, numpy=np.sign, grad=lambda n, g: (_zeros(n.inputs[0]),), doc="-1, 0 or 1; NaN stays. The gradient is 0.",
    samples=lambda: [Sample((np.where(np.abs(x := rand(*s)) < 0.1, 0.5, x),), smooth=False) for s in ((), (0,), (5, 7), (130,))],
)  # fmt: skip

copysign: Callable[..., Node] = elementwise(
    "copysign", 2, scalar=vecmath.copy_sign, numpy=np.copysign, kinds=FLOATS, doc="``|x|`` with the sign of ``y``.",
    grad=lambda n, g: (g * copysign(1.0, n.inputs[0]) * copysign(1.0, n.inputs[1]), _zeros(n.inputs[1])),
    samples=binary_samples(),
)  # fmt: skip


# -- remainders --------------------------------------------------------------------------------------------------------------
def _fmod(x: Any, y: Any) -> Any:
    return vecmath.fmod(x, y) if x.dtype.is_float else y.eq(0).select(0, x - x / y * y)


def _mod(x: Any, y: Any) -> Any:
    r = _fmod(x, y)
    if x.dtype.kind == "u":
        return r
    r = (r.ne(0) & (r < 0).ne(y < 0)).select(r + y, r)
    return r.eq(0).select(vecmath.copy_sign(r, y), r) if x.dtype.is_float else r


def _floor_divide(x: Any, y: Any) -> Any:
    if x.dtype.is_float:
        q = ((x - _mod(x, y)) / y).rint()
        whole = q.eq(0).select(vecmath.copy_sign(q, x / y), q)
        return y.eq(0).select(x / y, whole)
    q = x / y
    if x.dtype.kind == "u":
        return q
    r = x - q * y
    return y.eq(0).select(0, (r.ne(0) & (r < 0).ne(y < 0)).select(q - 1, q))


_divisors = binary_samples(-4.0, 4.0, second=(0.6, 1.7))

mod = elementwise(
    "mod", 2, scalar=_mod, numpy=quiet(np.mod), samples=_divisors, cost=40, ulp=(0.5, 0.5),
    grad=lambda n, g: (g, -(g * floor_divide(n.inputs[0], n.inputs[1]))),
    doc="The remainder of the division rounded down, with the sign of ``y``: Python's ``%``. For integers ``x % 0`` is 0.",
)  # fmt: skip
fmod = elementwise(
    "fmod", 2, scalar=_fmod, numpy=quiet(np.fmod), samples=_divisors, cost=40, ulp=(0, 0),
    grad=lambda n, g: (g, -(g * trunc(n.inputs[0] / n.inputs[1]))),
    doc="The remainder of the division rounded to zero, with the sign of ``x``: C's ``fmod``. Exact where ``|x / y| < 2**150`` (float32: always).",
)  # fmt: skip
floor_divide: Callable[..., Node] = elementwise(
    "floor_divide", 2, scalar=_floor_divide, numpy=quiet(np.floor_divide), samples=lambda: [Sample(s.args, smooth=False) for s in _divisors()], cost=44,
    grad=lambda n, g: (_zeros(n.inputs[0]), _zeros(n.inputs[1])),
    doc="``x / y`` rounded down: Python's ``//``. For integers ``x // 0`` is 0. The gradient is 0.",
)  # fmt: skip
sugar(mod, "remainder")


# -- bounds ------------------------------------------------------------------------------------------------------------------
def _bounded(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    given = [x for x in ins if x is not None]
    dtype = functools.reduce(promote, (x.dtype for x in given))
    ins[:] = [x if x is None else cast(x, dtype) for x in ins]
    assert ins[0] is not None
    ins[0] = broadcast_to(ins[0], broadcast_shapes([x.shape for x in given]))


def _clip_grad(n: Node, g: Node) -> list[Node | None]:
    x, low, high = operands(n)
    below = None if low is None else x < low
    above = None if high is None else (x > high)
    outside = below if above is None else above if below is None else below | above
    return [
        g if outside is None else where(outside, 0.0, g),
        None if low is None else reduce_like(low, where(below if above is None else below & ~above, g, 0.0)),
        None if high is None else reduce_like(high, where(above, g, 0.0)),
    ]


@composite(
    "clip",
    inputs=3,
    prepare=_bounded,
    grad=_clip_grad,
    samples=lambda: [
        Sample((rand(5, 7), -0.7, 0.9), smooth=False), Sample((rand(33), None, 0.5), smooth=False), Sample((rand(33), -0.5), smooth=False),
        Sample((rand(5, 7), rand(7, seed=1) - 1.5, rand(5, 1, seed=2) + 1.5), smooth=False), Sample((rand(0, 3), 0.0, 1.0)),
        Sample((rand(3), rand(4, 3, seed=1) - 0.5, 1.5), smooth=False),
    ],
)  # fmt: skip
def clip(x: Node, min: Node | None = None, max: Node | None = None) -> Node:
    """``x`` kept within ``[min, max]``, either of which may be left out: NumPy's ``clip``, torch's ``clamp``.

    On a bound the gradient goes to ``x``, outside to the bound.
    """
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)


sugar(clip, "clamp")
