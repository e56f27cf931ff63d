"""Random numbers of given distributions, from counter-based bits: the same seed, step and stream give the same on every target.

Uniform numbers are 24 bits, so they and everything decided by comparing them are equal everywhere. The other continuous
distributions are inverse distribution functions of all 32 bits, taken as ``(bits + 1/2) 2^-32`` (never 0 or 1), computed in
float64 and rounded once: targets agree to 1 ulp in float32. Inversion needs one word a number and no second one, as
Box-Muller does, and has no branches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Expr, Size
from ..ir.dtypes import as_dtype, float32, float64, int32, int64
from ..ir.node import Node
from ..ir.op import Sample
from ..loops import scalar as s
from ..loops.scalar import Scalar
from . import vecmath
from .define import FLOATS, as_node, broadcast_shapes, composite, elementwise, normal_axis, rand, show
from .elementwise import exp, log, lt, maximum, minimum
from .generate import random_bits
from .indexing import argmax
from .layers import uniform
from .sorting import argsort
from .views import broadcast_to, transpose

__all__ = [
    "ndtri", "random_bernoulli", "random_categorical", "random_exponential", "random_gumbel", "random_integers", "random_normal", "random_permutation",
    "random_truncated_normal", "random_uniform",
]  # fmt: skip


# -- the inverse of the normal distribution function -----------------------------------------------------------------------
# Wichura (1988), "Algorithm AS 241: the percentage points of the normal distribution", PPND16: relative error 1e-16
_CENTRE = (
    [2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4, 1.3731693765509461125e4,
     1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0],
    [5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4, 5.3941960214247511077e3,
     6.8718700749205790830e2, 4.2313330701600911252e1, 1.0],
)  # fmt: skip
_TAIL = (
    [7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0, 3.64784832476320460504e0,
     5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0],
    [1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1, 6.89767334985100004550e-1,
     1.67638483018380384940e0, 2.05319162663775882187e0, 1.0],
)  # fmt: skip
_FAR = (
    [2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2, 2.96560571828504891230e-1,
     1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0],
    [2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4, 1.48753612908506148525e-2,
     1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0],
)  # fmt: skip


def _ndtri_numpy(p: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        d = np.asarray(p, np.float64)
        q = d - 0.5
        r = np.sqrt(-np.log(np.minimum(d, 1.0 - d)))
        centre = q * np.polyval(_CENTRE[0], 0.180625 - q * q) / np.polyval(_CENTRE[1], 0.180625 - q * q)
        tail = np.polyval(_TAIL[0], r - 1.6) / np.polyval(_TAIL[1], r - 1.6)
        far = np.polyval(_FAR[0], r - 5.0) / np.polyval(_FAR[1], r - 5.0)
        far = np.where(np.isinf(r), np.inf, far)
        out = np.where(np.abs(q) <= 0.425, centre, np.copysign(np.where(r <= 5.0, tail, far), q))
        return np.asarray(out).astype(np.asarray(p).dtype)


def _ratio(r: Scalar, table: tuple[list[float], list[float]]) -> Scalar:
    return vecmath.horner(r, table[0]) / vecmath.horner(r, table[1])


def _ndtri_scalar(p: Scalar) -> Scalar:
    d = p.cast(float64)
    q = d - 0.5
    r = (-vecmath.log(d.minimum(1.0 - d))).sqrt()
    z = s.const(0.180625, float64) - q * q
    tail = (r <= 5.0).select(_ratio(r - 1.6, _TAIL), _ratio(r - 5.0, _FAR))
    tail = r.eq(math.inf).select(s.const(math.inf, float64), tail)
    out = (q.abs() <= 0.425).select(q * _ratio(z, _CENTRE), (q < 0.0).select(-tail, tail))
    return out.cast(p.dtype)


ndtri = elementwise(
    "ndtri", 1, scalar=_ndtri_scalar, numpy=_ndtri_numpy, kinds=FLOATS, cost=100,
    grad=lambda n, g: (g * exp(n * n * 0.5) * math.sqrt(2.0 * math.pi),),
    doc="The inverse of the standard normal distribution function: -inf at 0, inf at 1, NaN outside (SciPy's ``ndtri``). Computed in float64.",
    samples=lambda: [Sample((rand(*shape, low=0.05, high=0.95),)) for shape in ((), (0,), (5, 7), (130,), (2, 3, 19))],
)  # fmt: skip


# -- the distributions -------------------------------------------------------------------------------------------------------
_seed = np.array([1, 2], np.uint32)
_shapes: tuple[tuple[int, ...], ...] = ((5, 7), (130,), (), (0, 3))


def _prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    shape = attrs.get("shape", ())
    if shape is not None:
        shape = (shape,) if isinstance(shape, (int, np.integer, Expr)) else tuple(shape)
        if not all(isinstance(d, Expr) or (isinstance(d, (int, np.integer)) and d >= 0) for d in shape):
            raise ShapeError(f"shape={shape!r}", hint="sizes, named ones too: x.shape[0]")
        if "shape" in attrs:
            attrs["shape"] = shape
    attrs["stream"] = int(attrs["stream"]) & 0xFFFFFFFF
    if "dtype" in attrs:
        attrs["dtype"] = as_dtype(attrs["dtype"])


def _float_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _prepare(ins, attrs)
    if not attrs["dtype"].is_float:
        raise DTypeError(f"dtype={attrs['dtype']} is no float", hint="random_integers gives whole numbers")


def _samples(**kwargs: Any) -> Any:
    return lambda: [Sample((_seed, np.int64(7), shape), {"stream": 9, **kwargs}) for shape in _shapes]


def _error() -> list[Sample]:
    return [Sample((_seed, np.int64(7), (-1,)), error="shape"), Sample((_seed, np.int64(7), (3,)), {"dtype": "int32"}, error="no float")]


def _no(n: Node, g: Any) -> list[None]:
    return [None for _ in n.inputs]


def _unit(seed: Node, step: Node, shape: Sequence[Size], stream: int) -> Node:
    """float64 numbers inside (0, 1) of all 32 bits."""
    out: Node = (random_bits(seed, step, shape, stream).cast(float64) + 0.5) * 2.0**-32
    return out


@composite("random_uniform", inputs=2, prepare=_float_prepare, grad=_no, samples=_samples(), errors=_error, onnx="RandomUniform")
def random_uniform(seed: Node, step: Node, shape: Any = (), stream: int = 0, dtype: Any = float32) -> Node:
    """Uniform in [0, 1): multiples of 2^-24, the same in every dtype."""
    return uniform(seed, step, shape, stream, dtype)


@composite("random_normal", inputs=2, prepare=_float_prepare, grad=_no, samples=_samples(), errors=_error, onnx="RandomNormal")
def random_normal(seed: Node, step: Node, shape: Any = (), stream: int = 0, dtype: Any = float32) -> Node:
    """Standard normal numbers, by the inverse distribution function (``ndtri``) of 32 bits; none is beyond 6.34."""
    return ndtri(_unit(seed, step, shape, stream)).cast(dtype)  # type: ignore[no-any-return]


@composite("random_exponential", inputs=2, prepare=_float_prepare, grad=_no, samples=_samples(), errors=_error)
def random_exponential(seed: Node, step: Node, shape: Any = (), stream: int = 0, dtype: Any = float32) -> Node:
    """Exponential numbers of mean 1: ``-log(u)``."""
    return (-log(_unit(seed, step, shape, stream))).cast(dtype)  # type: ignore[no-any-return]


@composite("random_gumbel", inputs=2, prepare=_float_prepare, grad=_no, samples=_samples(), errors=_error)
def random_gumbel(seed: Node, step: Node, shape: Any = (), stream: int = 0, dtype: Any = float32) -> Node:
    """Standard Gumbel numbers: ``-log(-log(u))``. The largest of ``logits + gumbel`` is drawn with probability ``softmax(logits)``."""
    return (-log(-log(_unit(seed, step, shape, stream)))).cast(dtype)  # type: ignore[no-any-return]


def _truncated_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _float_prepare(ins, attrs)
    attrs["low"], attrs["high"] = float(attrs["low"]), float(attrs["high"])
    if not attrs["low"] < attrs["high"]:
        raise TraceError(f"low={attrs['low']} is not below high={attrs['high']}")


@composite(
    "random_truncated_normal",
    inputs=2,
    prepare=_truncated_prepare,
    grad=_no,
    samples=lambda: [Sample((_seed, np.int64(7), (130,)), {"low": a, "high": b}) for a, b in ((-2.0, 2.0), (3.0, 5.0), (-math.inf, -1.0), (0.0, math.inf))],
    errors=lambda: [Sample((_seed, np.int64(7), (3,)), {"low": 1.0, "high": 1.0}, error="not below")],
)
def random_truncated_normal(
    seed: Node, step: Node, shape: Any = (), low: float = -2.0, high: float = 2.0, stream: int = 0, dtype: Any = float32
) -> Node:
    """Standard normal numbers given that they lie in [low, high]: ``ndtri(cdf(low) + u (cdf(high) - cdf(low)))``."""
    if low > 0.0:  # near 1 the distribution function has no digits left: draw from the mirror image
        return -random_truncated_normal(seed, step, shape, -high, -low, stream, dtype)
    a, b = (0.5 * math.erfc(-v * math.sqrt(0.5)) for v in (low, high))
    z = ndtri(_unit(seed, step, shape, stream) * (b - a) + a).cast(dtype)
    return minimum(maximum(z, low), high)


def _bernoulli_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _prepare(ins, attrs)
    p = ins[2]
    assert p is not None
    if p.op.kind == "const" and ((p.attrs["value"] < 0) | (p.attrs["value"] > 1)).any():
        raise TraceError("p is no probability")
    if attrs["shape"] is None:
        attrs["shape"] = p.shape
    if broadcast_shapes([p.shape, attrs["shape"]]) != attrs["shape"]:
        raise ShapeError(f"p {show(p.shape)} does not broadcast to shape {show(attrs['shape'])}")


@composite(
    "random_bernoulli",
    inputs=3,
    prepare=_bernoulli_prepare,
    grad=_no,
    samples=lambda: [
        Sample((_seed, np.int64(7), np.float64(0.3), (5, 7))), Sample((_seed, np.int64(7), rand(19, low=0.0, high=1.0)), {"stream": 3}),
        Sample((_seed, np.int64(7), rand(3, 1, low=0.0, high=1.0), (3, 4))), Sample((_seed, np.int64(7), np.array([0.0, 1.0, 1.0]))),
    ],
    errors=lambda: [
        Sample((_seed, np.int64(7), np.array([1.5])), error="probability"), Sample((_seed, np.int64(7), rand(3, low=0.0, high=1.0), (4,)), error="broadcast"),
    ],
    onnx="Bernoulli",
)  # fmt: skip
def random_bernoulli(seed: Node, step: Node, p: Node, shape: Any = None, stream: int = 0) -> Node:
    """True with probability ``p`` (to 2^-24), as booleans: where a uniform number is below ``p``. ``p`` broadcasts to ``shape``."""
    return lt(uniform(seed, step, shape, stream, p.dtype if p.dtype.is_float else float32), p)


def _integers_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _prepare(ins, attrs)
    low, high, dtype = attrs["low"], attrs["high"], attrs["dtype"]
    if not dtype.is_int:
        raise DTypeError(f"dtype={dtype} is no integer")
    info = np.iinfo(dtype.numpy)
    for v in (low, high):
        if not isinstance(v, (int, np.integer, Expr)) or isinstance(v, bool):
            raise TraceError(f"bounds are whole numbers or sizes, not {v!r}")
    if isinstance(low, Expr) or isinstance(high, Expr):
        return
    if not 0 < high - low <= 2**32:
        raise TraceError(f"from {low} to {high} there are {high - low} numbers", hint="1 to 2**32 of them")
    if low < info.min or high - 1 > info.max:
        raise DTypeError(f"{low} to {high} do not fit {dtype}")


@composite(
    "random_integers",
    inputs=2,
    prepare=_integers_prepare,
    grad=_no,
    samples=lambda: [
        Sample((_seed, np.int64(7), low, high, shape), {"stream": 9, "dtype": d})
        for low, high, shape, d in ((0, 10, (5, 7), "int32"), (-3, 4, (130,), "int64"), (0, 1, (3,), "int32"), (0, 256, (0, 3), "uint8"), (-(2**31), 2**31, (33,), "int32"))
    ],
    errors=lambda: [
        Sample((_seed, np.int64(7), 3, 3), error="0 numbers"), Sample((_seed, np.int64(7), 0, 300), {"dtype": "uint8"}, error="do not fit"),
        Sample((_seed, np.int64(7), 0, 1.5), error="whole"), Sample((_seed, np.int64(7), 0, 3), {"dtype": "float32"}, error="no integer"),
    ],
)  # fmt: skip
def random_integers(seed: Node, step: Node, low: Any = 0, high: Any = 2, shape: Any = (), stream: int = 0, dtype: Any = int32) -> Node:
    """Whole numbers from ``low`` up to and without ``high``; the bounds may be sizes (``x.shape[0]``).

    ``low + floor(bits (high - low) / 2^32)``, in float64, which holds the product: each number has its probability to 2^-32,
    and the same numbers come out everywhere.
    """
    span = high - low
    wide = random_bits(seed, step, shape, stream).cast(float64) * as_node(span, float64).cast(float64) * 2.0**-32
    out: Node = (wide.cast(int64) + as_node(low, int64)).cast(dtype)
    return out


@composite(
    "random_permutation",
    inputs=2,
    prepare=_prepare,
    grad=_no,
    samples=lambda: [Sample((_seed, np.int64(7), n), {"stream": 9}) for n in (7, 130, 1, 0)],
)
def random_permutation(seed: Node, step: Node, n: Size = 1, stream: int = 0) -> Node:
    """The numbers 0 to n-1 (int32) in random order: the order of random bits, equal ones in their own. ``n`` may be a size."""
    return argsort(random_bits(seed, step, (n,), stream))


def _categorical_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _prepare(ins, attrs)
    x = ins[2]
    assert x is not None
    if not x.dtype.is_float or x.ndim == 0:
        raise DTypeError(f"logits must be float and have an axis, not {x.type}")
    axis = attrs["axis"] = normal_axis(attrs["axis"], x.ndim)
    batch = tuple(size for a, size in enumerate(x.shape) if a != axis)
    if attrs["shape"] is None:
        attrs["shape"] = batch
    if broadcast_shapes([batch, attrs["shape"]]) != attrs["shape"]:
        raise ShapeError(f"the rows {show(batch)} of the logits do not broadcast to shape {show(attrs['shape'])}")


@composite(
    "random_categorical",
    inputs=3,
    prepare=_categorical_prepare,
    grad=_no,
    samples=lambda: [
        Sample((_seed, np.int64(7), rand(5, 7))), Sample((_seed, np.int64(7), rand(4, 3)), {"axis": 0, "stream": 3}), Sample((_seed, np.int64(7), rand(9), (33,))),
        Sample((_seed, np.int64(7), rand(2, 5), (6, 2))), Sample((_seed, np.int64(7), rand(0, 3))),
    ],
    errors=lambda: [
        Sample((_seed, np.int64(7), np.arange(3)), error="float"), Sample((_seed, np.int64(7), rand(4, 3), (5,)), error="broadcast"),
    ],
    onnx="Multinomial",
)  # fmt: skip
def random_categorical(seed: Node, step: Node, logits: Node, shape: Any = None, axis: int = -1, stream: int = 0) -> Node:
    """Indices (int32) drawn with probability ``softmax(logits)`` along ``axis``, by the Gumbel-max trick (JAX's ``categorical``).

    One for each row of the logits; ``shape`` ends with the shape of the rows and says how many are drawn for each.
    """
    row = transpose(logits, (*(a for a in range(logits.ndim) if a != axis), axis))
    full = (*shape, row.shape[-1])
    noise = random_gumbel(seed, step, full, stream, float64)
    return argmax(broadcast_to(row, full).cast(float64) + noise, -1)


