"""Elementwise primitives: one scalar program each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.dtypes import DType, as_dtype, float32
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from . import vecmath
from .define import FLOATS, NUMERIC, as_node, binary_samples, composite, elementwise, primitive, rand, unary_samples

_verf = np.vectorize(math.erf, otypes=[float])


def _erf(x: np.ndarray) -> np.ndarray:
    return _verf(x).astype(x.dtype) if x.size else x


def quiet(fn: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return fn(*args)

    return run


def _div(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if x.dtype.kind == "f":
            return np.asarray(x / y)
        return np.where(y == 0, 0, np.trunc(x / np.where(y == 0, 1, y))).astype(x.dtype)


add = elementwise("add", 2, scalar=lambda x, y: x + y, numpy=np.add, commutative=True, grad=lambda n, g: (g, g), doc="``x + y``.", samples=binary_samples())
sub = elementwise("sub", 2, scalar=lambda x, y: x - y, numpy=np.subtract, grad=lambda n, g: (g, -g), doc="``x - y``.", samples=binary_samples())
mul = elementwise(
    "mul", 2, scalar=lambda x, y: x * y, numpy=np.multiply, commutative=True, grad=lambda n, g: (g * n.inputs[1], g * n.inputs[0]), doc="``x * y``.", samples=binary_samples()
)
div = elementwise(
    "div",
    2,
    scalar=lambda x, y: x / y,
    numpy=_div,
    grad=lambda n, g: (g / n.inputs[1], -(g * n / n.inputs[1])),
    doc="``x / y``; integers truncate towards zero and ``x / 0`` is 0 for them.",
    samples=binary_samples(second=(0.5, 2.0)),
    cost=4,
)


@sugar
def true_divide(x: Any, y: Any) -> Node:
    """``x / y`` in floating point, what ``/`` stands for: integers become float32 first (``div`` truncates, ``//`` rounds down)."""
    a, b = as_node(x), as_node(y)
    whole = not a.dtype.is_float and not b.dtype.is_float
    out: Node = div(a.cast("float32"), b.cast("float32")) if whole else div(x, y)
    return out


neg = elementwise("neg", 1, scalar=lambda x: -x, numpy=np.negative, grad=lambda n, g: (-g,), doc="``-x``.", samples=unary_samples())


def _pick(n: Node, g: Node) -> tuple[Node, Node]:
    # a tie shares the gradient equally, as torch and JAX do for maximum and minimum
    x, y = n.inputs
    half = where(eq(x, y), 0.5, 1.0).cast(g.dtype)
    zero = g * 0.0
    return where(eq(x, n), g * half, zero), where(eq(y, n), g * half, zero)


maximum = elementwise(
    "maximum", 2, scalar=lambda x, y: x.maximum(y), numpy=np.maximum, commutative=True, grad=_pick, doc="The larger of two; NaN wins.", samples=binary_samples()
)
minimum = elementwise(
    "minimum", 2, scalar=lambda x, y: x.minimum(y), numpy=np.minimum, commutative=True, grad=_pick, doc="The smaller of two; NaN wins.", samples=binary_samples()
)

_no = "comparisons are piecewise constant"
ANY = NUMERIC + "b"
lt = elementwise("lt", 2, scalar=lambda x, y: x < y, numpy=np.less, grad=_no, result="bool", doc="``x < y``.", samples=binary_samples())
le = elementwise("le", 2, scalar=lambda x, y: x <= y, numpy=np.less_equal, grad=_no, result="bool", doc="``x <= y``.", samples=binary_samples())
eq = elementwise("eq", 2, scalar=lambda x, y: x.eq(y), numpy=np.equal, commutative=True, grad=_no, result="bool", kinds=ANY, doc="``x == y``.", samples=binary_samples())
ne = elementwise("ne", 2, scalar=lambda x, y: x.ne(y), numpy=np.not_equal, commutative=True, grad=_no, result="bool", kinds=ANY, doc="``x != y``.", samples=binary_samples())

_bits = "bit operations have no gradient"
logical_and = elementwise(
    "logical_and", 2, scalar=lambda x, y: x & y, numpy=np.logical_and, commutative=True, grad=_bits, kinds="b", doc="``x and y``.",
    samples=lambda: [Sample((rand(5, 7) > 0, rand(5, 7, seed=1) > 0))],
)  # fmt: skip
logical_or = elementwise(
    "logical_or", 2, scalar=lambda x, y: x | y, numpy=np.logical_or, commutative=True, grad=_bits, kinds="b", doc="``x or y``.",
    samples=lambda: [Sample((rand(5, 7) > 0, rand(5, 7, seed=1) > 0))],
)  # fmt: skip
logical_not = elementwise(
    "logical_not", 1, scalar=lambda x: ~x, numpy=np.logical_not, grad=_bits, kinds="b", doc="``not x``.", samples=lambda: [Sample((rand(5, 7) > 0,))]
)

shift_right = elementwise(
    "shift_right", 2, scalar=lambda x, y: x >> y, numpy=np.right_shift, grad=_bits, kinds="iu", doc="``x >> y``; arithmetic for signed integers.",
    samples=lambda: [Sample((np.arange(35, dtype=np.uint32) * np.uint32(123456789), np.uint32(8))), Sample((np.arange(-9, 9, dtype=np.int32), np.int32(1)))],
)  # fmt: skip


def pick(condition: Node, x: Any, y: Any) -> Node:
    """``where``, for rules that stand before it."""
    out: Node = lookup("where").call(condition, x, y)
    return out


where = elementwise(
    "where",
    3,
    scalar=lambda c, x, y: c.select(x, y),
    numpy=np.where,
    grad=lambda n, g: (None, pick(n.inputs[0], g, 0.0), pick(n.inputs[0], 0.0, g)),
    uniform=(1, 2),
    kinds=ANY,
    doc="``x`` where the condition holds, else ``y``.",
    samples=lambda: [
        Sample((rand(5, 7) > 0, rand(5, 7, seed=1), rand(5, 7, seed=2))),
        Sample((rand(3, 1) > 0, rand(19, seed=1), rand(3, 1, seed=2))),
        Sample((rand(0, 4) > 0, rand(4, seed=1), rand(seed=2))),
    ],
)

exp = elementwise("exp", 1, scalar=vecmath.exp, numpy=quiet(np.exp), grad=lambda n, g: (g * n,), kinds=FLOATS, doc="e to the x.", samples=unary_samples(), cost=12, ulp=(1, 1))
log = elementwise(
    "log", 1, scalar=vecmath.log, numpy=quiet(np.log), grad=lambda n, g: (g / n.inputs[0],), kinds=FLOATS,
    doc="Natural logarithm; -inf at 0, NaN below.", samples=unary_samples(0.1, 5.0), cost=16, ulp=(1, 1.5),
)  # fmt: skip
sqrt = elementwise(
    "sqrt", 1, scalar=lambda x: x.sqrt(), numpy=quiet(np.sqrt), grad=lambda n, g: (g * 0.5 / n,), kinds=FLOATS, doc="Square root.",
    samples=unary_samples(0.1, 5.0), cost=4, ulp=(0.5, 0.5),
)  # fmt: skip
tanh = elementwise(
    "tanh", 1, scalar=vecmath.tanh, numpy=np.tanh, grad=lambda n, g: (g * (1.0 - n * n),), kinds=FLOATS, doc="Hyperbolic tangent.",
    samples=unary_samples(-3, 3), cost=20, ulp=(1.5, 1.5),
)  # fmt: skip
erf = elementwise(
    "erf", 1, scalar=vecmath.erf, numpy=_erf, kinds=FLOATS,
    grad=lambda n, g: (g * (exp(-(n.inputs[0] * n.inputs[0])) * (2.0 / math.sqrt(math.pi))),),
    doc="The error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to x.", samples=unary_samples(-3, 3), cost=30, ulp=(1.5, 1.5),
)  # fmt: skip
absolute = elementwise(
    "absolute", 1, scalar=lambda x: x.abs(), numpy=np.absolute, doc="``|x|``; its gradient at 0 is 0.", samples=unary_samples(),
    grad=lambda n, g: (where(lt(n.inputs[0], 0.0), -g, where(lt(0.0, n.inputs[0]), g, 0.0)),),
)  # fmt: skip


def _pow_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, y = n.inputs
    return g * y * pow(x, y - 1.0), where(lt(0.0, x), g * n * log(where(lt(0.0, x), x, 1.0)), 0.0)


pow = elementwise(
    "pow", 2, scalar=vecmath.pow_, numpy=quiet(np.power), grad=_pow_grad, kinds=FLOATS,
    doc="``x ** y``, by e^(y log x); NaN for negative x with a fractional y.", cost=90, ulp=(0.6, 2.5),
    samples=binary_samples(0.3, 2.0, second=(-2.0, 2.0)),
)  # fmt: skip


def _cast_infer(t: TensorType, *, dtype: DType) -> TensorType:
    return TensorType(t.shape, dtype)


def _cast_numpy(x: np.ndarray, *, dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(x != 0) if dtype.kind == "b" else np.asarray(x).astype(dtype.numpy)


def _cast(x: Node, dtype: object) -> Node:
    target = as_dtype(dtype)
    if x.dtype == target:
        return x
    if (x.dtype.is_storage and target != float32) or (target.is_storage and x.dtype != float32):
        x = _cast(x, float32)  # storage types are only ever converted from and to float32
    return x if x.dtype == target else Node.make(lookup("cast"), (x,), dtype=target)


cast = primitive(
    "cast",
    "elementwise",
    "``x`` in another dtype: float to int truncates, anything to bool is ``x != 0``. Gradients flow between floats only.",
    _cast,
    _cast_infer,
    numpy=_cast_numpy,
    lower=lambda b, n, idx: b.value(n.inputs[0], idx).cast(n.dtype),
    storage=True,
    grad=lambda n, g: (g.cast(n.inputs[0].dtype) if n.inputs[0].dtype.is_float and n.dtype.is_float else None,),
    samples=lambda: [Sample((rand(5, 7),), {"dtype": "float32"}), Sample((rand(5, 7) * 10,), {"dtype": "int32"}), Sample((rand(33) > 0,), {"dtype": "float64"})],
)


@composite("rounded", method=False)
def rounded(*results: Node, dtypes: tuple[DType, ...]) -> tuple[Node, ...]:
    """The float32 results of an operator with several, in the dtypes of its operands (:mod:`graphc.ir.storage`)."""
    return tuple(r.cast(d) for r, d in zip(results, dtypes, strict=True))
