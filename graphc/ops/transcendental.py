"""Elementwise mathematics beyond exp, log, tanh and erf: scalar programs of :mod:`.vecmath` and :mod:`.vectrig`.

Errors in ulp stand in ``docs/vector_math.md``, measured on compiled kernels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.dtypes import float32, promote
from ..ir.node import Node
from ..ir.op import Sample, sugar
from . import vecmath, vectrig
from .define import FLOATS, binary_samples, composite, elementwise, rand, unary_samples
from .elementwise import absolute, cast, div, eq, exp, le, log, lt, maximum, minimum, mul, quiet, sqrt, where

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "erfc",
    "exp2",
    "expm1",
    "hypot",
    "log1p",
    "log2",
    "log10",
    "rsqrt",
    "sin",
    "sinh",
    "tan",
]

_verfc = np.vectorize(math.erfc, otypes=[float])


def _math(
    name: str,
    scalar: Callable[..., Any],
    ulp: tuple[float, float],
    numpy: Callable[..., Any],
    grad: Callable[[Node, Node, Node], Node],
    doc: str,
    low: float = -2.0,
    high: float = 2.0,
    cost: int = 30,
    alias: str = "",
) -> Callable[..., Node]:
    """A function of one float operand; ``grad(x, n, g)`` from operand, result and cotangent."""
    fn = elementwise(
        name, 1, scalar=scalar, numpy=quiet(numpy), grad=lambda n, g: (grad(n.inputs[0], n, g),), kinds=FLOATS,
        doc=doc, samples=unary_samples(low, high), cost=cost, ulp=ulp,
    )  # fmt: skip
    return sugar(fn, alias) if alias else fn


expm1 = _math(
    "expm1", vecmath.expm1, (2, 2.5), np.expm1, lambda x, n, g: g * (n + 1.0), "``exp(x) - 1``, accurate for small ``x``.", cost=14
)
exp2 = _math("exp2", vecmath.exp2, (1, 1), np.exp2, lambda x, n, g: g * n * math.log(2.0), "2 to the x.", cost=12)
log1p = _math(
    "log1p",
    vecmath.log1p,
    (2, 2),
    np.log1p,
    lambda x, n, g: g / (x + 1.0),
    "``log(1 + x)``, accurate for small ``x``; -inf at -1, NaN below.",
    -0.9,
    4.0,
    cost=24,
)
log2 = _math(
    "log2",
    vecmath.log2,
    (0.6, 2),
    np.log2,
    lambda x, n, g: g / (x * math.log(2.0)),
    "Logarithm to base 2; exact at powers of two.",
    0.1,
    5.0,
)
log10 = _math("log10", vecmath.log10, (0.6, 2), np.log10, lambda x, n, g: g / (x * math.log(10.0)), "Logarithm to base 10.", 0.1, 5.0)

sin = _math(
    "sin",
    vectrig.sin,
    (0.6, 1),
    np.sin,
    lambda x, n, g: g * cos(x),
    "Sine, for float32 of every size; float64 up to 2**40.",
    -9.0,
    9.0,
    cost=60,
)
cos: Callable[..., Node] = _math(
    "cos",
    vectrig.cos,
    (0.6, 1),
    np.cos,
    lambda x, n, g: -(g * sin(x)),
    "Cosine, for float32 of every size; float64 up to 2**40.",
    -9.0,
    9.0,
    cost=60,
)
tan = _math(
    "tan",
    vectrig.tan,
    (0.6, 3),
    np.tan,
    lambda x, n, g: g * (n * n + 1.0),
    "Tangent, for float32 of every size; float64 up to 2**40.",
    -1.2,
    1.2,
    cost=70,
)
asin = _math(
    "asin",
    vectrig.asin,
    (0.6, 1.5),
    np.arcsin,
    lambda x, n, g: g / sqrt(1.0 - x * x),
    "Inverse sine, in [-pi/2, pi/2]; NaN beyond 1.",
    -0.9,
    0.9,
    alias="arcsin",
)
acos = _math(
    "acos",
    vectrig.acos,
    (0.6, 1),
    np.arccos,
    lambda x, n, g: -(g / sqrt(1.0 - x * x)),
    "Inverse cosine, in [0, pi]; NaN beyond 1.",
    -0.9,
    0.9,
    alias="arccos",
)
atan = _math(
    "atan",
    vectrig.atan,
    (0.6, 1),
    np.arctan,
    lambda x, n, g: g / (x * x + 1.0),
    "Inverse tangent, in [-pi/2, pi/2].",
    -4.0,
    4.0,
    alias="arctan",
)

sinh = _math("sinh", vecmath.sinh, (0.6, 3), np.sinh, lambda x, n, g: g * cosh(x), "Hyperbolic sine.", -3.0, 3.0, cost=60)
cosh: Callable[..., Node] = _math(
    "cosh", vecmath.cosh, (0.6, 2), np.cosh, lambda x, n, g: g * sinh(x), "Hyperbolic cosine.", -3.0, 3.0, cost=60
)
asinh = _math(
    "asinh",
    vecmath.asinh,
    (0.6, 3),
    np.arcsinh,
    lambda x, n, g: g / sqrt(x * x + 1.0),
    "Inverse hyperbolic sine.",
    -4.0,
    4.0,
    cost=60,
    alias="arcsinh",
)
acosh = _math(
    "acosh",
    vecmath.acosh,
    (0.6, 3),
    np.arccosh,
    lambda x, n, g: g / (sqrt(x - 1.0) * sqrt(x + 1.0)),
    "Inverse hyperbolic cosine; NaN below 1.",
    1.2,
    5.0,
    cost=60,
    alias="arccosh",
)
atanh = _math(
    "atanh",
    vecmath.atanh,
    (0.6, 3),
    np.arctanh,
    lambda x, n, g: g / ((1.0 - x) * (x + 1.0)),
    "Inverse hyperbolic tangent; infinite at 1, NaN beyond.",
    -0.9,
    0.9,
    cost=60,
    alias="arctanh",
)

cbrt = _math(
    "cbrt",
    vecmath.cbrt,
    (0.6, 1),
    np.cbrt,
    lambda x, n, g: g / (n * n * 3.0),
    "The real cube root, also of negative ``x``.",
    0.2,
    5.0,
    cost=40,
)
erfc = _math(
    "erfc", vecmath.erfc, (0.6, 8), lambda x: _verfc(x).astype(x.dtype) if x.size else x, lambda x, n, g: g * (exp(-(x * x)) * (-2.0 / math.sqrt(math.pi))),
    "``1 - erf(x)``, accurate where that is small.", -3.0, 5.0, cost=70,
)  # fmt: skip


def _atan2_grad(n: Node, g: Node) -> tuple[Node, Node]:
    y, x = n.inputs
    scaled = g / (x * x + y * y)
    return scaled * x, -(scaled * y)


atan2 = sugar(
    elementwise(
        "atan2", 2, scalar=vectrig.atan2, numpy=quiet(np.arctan2), grad=_atan2_grad, kinds=FLOATS, cost=60, samples=binary_samples(), ulp=(0.6, 2),
        doc="The angle of the point (second operand, first operand), from -pi to pi: NumPy's ``arctan2(y, x)``.",
    ),
    "arctan2",
)  # fmt: skip


def _hypot_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, y = n.inputs
    unit = g / where(eq(n, 0.0), 1.0, n)  # 0 at the origin, where no derivative exists
    return unit * x, unit * y


hypot = elementwise(
    "hypot", 2, scalar=vecmath.hypot, numpy=quiet(np.hypot), commutative=True, grad=_hypot_grad, kinds=FLOATS, cost=40, samples=binary_samples(0.2, 2.0), ulp=(0.6, 1),
    doc="``sqrt(x**2 + y**2)`` without overflow; its gradient at the origin is 0.",
)  # fmt: skip


# -- composites ------------------------------------------------------------------------------------------------------------
def floats(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    """``prepare`` of composites of floats: operands get one dtype, float32 if all are integers."""
    dtype = functools.reduce(promote, (x.dtype for x in ins if x is not None))
    for i, x in enumerate(ins):
        if x is not None:
            ins[i] = cast(x, dtype if dtype.is_float else float32)


@composite("rsqrt", grad=lambda n, g: (g * (n * n * n) * -0.5,), samples=unary_samples(0.2, 5.0), prepare=floats, ulp=(1.5, 1.5))
def rsqrt(x: Node) -> Node:
    """``1 / sqrt(x)``. The gradient ``-n**3 / 2`` needs only the output. Error: at most 1.5 ulp."""
    return div(1.0, sqrt(x))


@composite("square", grad=lambda n, g: (g * (n.inputs[0] * 2),), samples=unary_samples())
def square(x: Node) -> Node:
    """``x * x``."""
    return mul(x, x)


@composite("reciprocal", grad=lambda n, g: (-(g * (n * n)),), samples=unary_samples(0.3, 2.0), prepare=floats)
def reciprocal(x: Node) -> Node:
    """``1 / x``. The gradient ``-n**2`` needs only the output."""
    return div(1.0, x)


@composite("sinc", samples=unary_samples(0.1, 3.0), prepare=floats)
def sinc(x: Node) -> Node:
    """``sin(pi x) / (pi x)``, 1 at 0 (NumPy's ``sinc``)."""
    t = where(eq(x, 0.0), 1.0, x * math.pi)
    return where(eq(x, 0.0), 1.0, sin(t) / t)


@composite("logaddexp", samples=binary_samples(), prepare=floats, grad=lambda n, g: _logaddexp_grad(n, g))
def logaddexp(x: Node, y: Node) -> Node:
    """``log(exp(x) + exp(y))`` without overflow: the larger plus ``log1p(exp(-|x - y|))``."""
    top = maximum(x, y)
    distance = where(eq(x, y), 0.0, absolute(x - y))  # inf - inf would be NaN
    return top + log1p(exp(-distance))


def _logaddexp_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, y = n.inputs
    return reduce_like(x, g * _share(x, n)), reduce_like(y, g * _share(y, n))


def _share(x: Node, total: Node) -> Node:
    return exp(where(eq(x, total), 0.0, x - total))  # inf - inf would be NaN


def reduce_like(x: Node, g: Node) -> Node:
    """The gradient of an operand that was broadcast: ``g`` summed over the axes along which ``x`` was repeated."""
    lead = g.ndim - x.ndim
    axes = tuple(range(lead)) + tuple(lead + i for i, s in enumerate(x.shape) if s == 1 and g.shape[lead + i] != 1)
    out: Node = g.sum(axes).reshape(x.shape) if axes else g
    return out


@composite("xlogy", samples=binary_samples(0.3, 2.0), prepare=floats)
def xlogy(x: Node, y: Node) -> Node:
    """``x * log(y)``, 0 where ``x`` is 0 (SciPy's ``xlogy``)."""
    zero = eq(x, 0.0)
    return where(zero, 0.0, x * log(where(zero, 1.0, y)))


@composite("logit", samples=unary_samples(0.05, 0.95), prepare=floats)
def logit(x: Node, eps: float | None = None) -> Node:
    """``log(x / (1 - x))``, the inverse of the sigmoid; ``x`` is kept within ``[eps, 1 - eps]`` if given (torch's ``logit``)."""
    if eps is not None:
        x = minimum(maximum(x, eps), 1.0 - eps)
    return log(x / (1.0 - x))


@composite("lerp", samples=lambda: [Sample((rand(5, 7), rand(5, 7, seed=1), rand(5, 7, seed=2))), Sample((rand(19), rand(2, 19), rand()))])
def lerp(start: Node, end: Node, weight: Node) -> Node:
    """``start + weight * (end - start)``: torch's ``lerp``."""
    return start + weight * (end - start)


@sugar
def isnan(x: Node) -> Node:
    """Where ``x`` is not a number."""
    return x.ne(x)  # type: ignore[no-any-return]


@sugar
def isinf(x: Node) -> Node:
    """Where ``x`` is plus or minus infinity."""
    return eq(absolute(x), math.inf)


@sugar
def isfinite(x: Node) -> Node:
    """Where ``x`` is neither infinite nor NaN."""
    return lt(absolute(x), math.inf)


def _finite_limits(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    assert ins[0] is not None
    if ins[0].dtype.is_float:
        top = float(ins[0].dtype.finfo.max)
        attrs["posinf"] = top if attrs["posinf"] is None else attrs["posinf"]
        attrs["neginf"] = -top if attrs["neginf"] is None else attrs["neginf"]


@composite(
    "nan_to_num", prepare=_finite_limits,
    samples=lambda: [Sample((np.array([1.0, np.nan, np.inf, -np.inf, -2.0]),), {"nan": 0.5, "posinf": 7.0, "neginf": -7.0})],
)
def nan_to_num(x: Node, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Node:
    """NaN, inf and -inf replaced, by 0 and the largest and lowest finite numbers if not given (NumPy's ``nan_to_num``)."""
    if not x.dtype.is_float:
        return x
    x = where(isnan(x), nan, x)
    x = where(eq(x, math.inf), posinf, x)
    return where(eq(x, -math.inf), neginf, x)


@sugar
def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Node:
    """Where ``|x - y| <= atol + rtol * |y|``; equal infinities are close (NumPy's ``isclose``)."""
    near = le(absolute(x - y), atol + rtol * absolute(y)) & isfinite(y) | eq(x, y)
    return near | isnan(x) & isnan(y) if equal_nan else near


@sugar
def deg2rad(x: Node) -> Node:
    """Degrees as radians."""
    return x * (math.pi / 180.0)


@sugar
def rad2deg(x: Node) -> Node:
    """Radians as degrees."""
    return x * (180.0 / math.pi)


sugar(absolute, "abs")
sugar(absolute, "fabs")
