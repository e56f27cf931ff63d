"""The rewrite rules: one table, in the language of :mod:`graphc.passes.patterns`. The first that matches wins.

Not here, for floats: ``x + 0``, ``x * 0``, ``x - x``, ``x / x``. They change bits (-0 + 0 is +0) or hide a NaN.

Passes that replace whole structures (contractions, layouts, scans) stay functions: each has one case, and what it does depends on
sizes and on other nodes, so a pattern would hold nothing but the operator's name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.dims import Size, prod
from ..ir.dtypes import DType, bool_, float32, float64, int32, uint8
from ..ir.node import Node
from ..ir.types import Shape
from ..ops.define import constant
from ..ops.elementwise import add, exp, where
from ..ops.views import broadcast_to, reshape
from .patterns import Rule, attributes, computed, constant_value, numbers, of_kind, one_of, op, result, tensors

__all__ = ["RULES"]

SERIAL = 4096
"""Elements up to which folding to a few values is left to one thread."""
PARTS = 128
"""Results up to which a fold has too few parallel parts: a vector of them is one part."""

ACROSS = 1 << 20
"""Elements from which on a fold across rows of memory is made for some rows at a time: about what the second cache holds."""


# -- what a structure cannot say: conditions -----------------------------------------------------------------------------
@computed
def is_float(x: Node) -> bool:
    return x.dtype.is_float


@computed
def is_whole(x: Node) -> bool:
    """Integers and bools: there is no NaN, and no -0."""
    return not x.dtype.is_float


@computed
def is_signed(x: Node) -> bool:
    return x.dtype.kind != "u"


@computed
def is_scalar(x: Node) -> bool:
    return x.ndim == 0


@computed
def has_exact_inverse(c: Any, x: Node) -> bool:
    """A power of two whose inverse is a normal number of the dtype of ``x``: multiplying rounds as dividing does."""
    if not x.dtype.is_float or not np.isfinite(c) or abs(np.frexp(c)[0]) != 0.5:
        return False
    info = x.dtype.finfo
    return bool(info.tiny <= abs(1.0 / c) <= info.max)


@computed
def is_small_power(c: Any) -> bool:
    return bool(c == np.trunc(c) and 1 <= abs(c) <= 8)


@computed
def is_positive(c: Any) -> bool:
    return bool(c > 0 and np.isfinite(c))


@computed
def leading_ones(s: Shape, x: Node) -> bool:
    """Shape ``s`` is that of ``x`` behind new axes of size 1."""
    new = len(s) - x.ndim
    return new >= 0 and s[new:] == x.shape and all(n == 1 for n in s[:new])


@computed
def all_ones(x: Node, axes: tuple[int, ...]) -> bool:
    """Every one of the axes has size 1."""
    return all(x.shape[a] == 1 for a in axes)


@computed
def is_counted(s: Shape, axes: tuple[int, ...]) -> bool:
    """The number of elements along the axes of a shape is known, and not 0."""
    return all(isinstance(s[a], int) and s[a] != 0 for a in axes)


@computed
def is_lossless(x: Node, middle: DType, last: DType) -> bool:
    """A cast of ``x`` by way of ``middle`` gives what the direct one gives."""
    first = x.dtype
    if first.is_float != middle.is_float and first.itemsize == 8:  # float64 does not hold every int64, whatever NumPy's table says
        return False
    if first.is_storage or middle.is_storage or last.is_storage:  # which are cast from and to float32 only
        return first.is_storage and last == first
    # from float to int only within the range is defined: so no new way to get there
    return np.can_cast(first.numpy, middle.numpy, "safe") and (last == first or not middle.is_float or last.is_float)


@computed
def is_spread(y: Node, s: Shape, axes: tuple[int, ...]) -> bool:
    """``y``, which is no single number, becomes one of shape ``s`` by copies along all of the axes."""
    new = len(s) - y.ndim
    return y.ndim > 0 and all(i < new or y.shape[i - new] == 1 for i in axes)


@computed
def is_large(x: Node) -> bool:
    """A fold that is worth two steps: ``steps_of`` knows how."""
    return steps_of(x) is not None


# -- attributes and numbers worked out from what was captured ------------------------------------------------------------
@computed
def shape(x: Node) -> Shape:
    return x.shape


@computed
def dtype(x: Node) -> DType:
    return x.dtype


@computed
def zeros(x: Node) -> tuple[int, ...]:
    return (0,) * x.ndim


@computed
def ones(x: Node) -> tuple[int, ...]:
    return (1,) * x.ndim


@computed
def in_order(x: Node) -> tuple[int, ...]:
    return tuple(range(x.ndim))


@computed
def composed(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(p[i] for i in q)


@computed
def along(starts: Shape, offsets: Shape, steps: tuple[int, ...]) -> Shape:
    return tuple(s + o * t for s, o, t in zip(starts, offsets, steps, strict=True))


@computed
def times(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a * b for a, b in zip(p, q, strict=True))


@computed
def number_of(s: Shape, axes: tuple[int, ...]) -> float:
    return float(prod(s[a] for a in axes))


@computed
def logarithm(c: float) -> float:
    return float(np.log(c))


# -- replacements worked out from what was captured ----------------------------------------------------------------------
@computed
def folded(node: Node) -> Node:
    """An elementwise operator of constants, by its own reference."""
    values = [np.asarray(constant_value(i), i.dtype.numpy) for i in node.inputs]
    assert node.op.numpy is not None
    with np.errstate(all="ignore"):
        out = np.asarray(node.op.numpy(*values, **node.attrs))
    return broadcast_to(constant(out, node.dtype), node.shape)


@computed
def products(x: Node, c: Any) -> Node:
    """x ** c for a whole c by repeated squaring: faster than the power, and right for negative x."""
    out, square, k = None, x, int(abs(c))
    while k:
        if k & 1:
            out = square if out is None else out * square
        square, k = (square * square if k > 1 else square), k >> 1
    assert out is not None
    return out if c > 0 else 1.0 / out


@computed
def without(y: Node, s: Shape, axes: tuple[int, ...]) -> Node:
    """``y``, which was to be copied to shape ``s``, in that shape without the axes."""
    whole = reshape(y, (*(1,) * (len(s) - y.ndim), *y.shape))
    left = [i for i in range(len(s)) if i not in axes]
    return broadcast_to(reshape(whole, tuple(whole.shape[i] for i in left)), tuple(s[i] for i in left))


def steps_of(node: Node) -> tuple[Shape, tuple[int, ...], tuple[int, ...]] | None:
    """How a fold to few values is made in two steps: the shape as which its operand is seen, the axes that are folded first, and those
    of their result that are folded then. None where one step does: there are parts enough, or a row is too little work for one."""
    x, axes = node.inputs[0], node.attrs["axes"]
    kept = node.size
    if not isinstance(kept, int) or not 0 < kept < PARTS:
        return _across(x.shape, axes)
    if isinstance(x.size, int) and x.size <= SERIAL:
        return None
    shape = x.shape
    if len([i for i in axes if shape[i] != 1]) < 2:
        found = _in_rows(shape, axes)
        if found is None:
            return None
        shape, axes = found
    lead: list[int] = []
    parts: Size = kept
    for n, i in enumerate(axes[:-1], 1):
        inner = prod(shape[j] for j in axes[n:])
        if not isinstance(parts, int) or parts >= PARTS or not isinstance(inner, int) or inner < max(16, kept + 1):
            break
        lead.append(i)
        parts = parts * shape[i]
    if parts == kept:
        return None
    rest = tuple(i for i in axes if i not in lead)
    return shape, rest, tuple(i - sum(r < i for r in rest) for i in lead)


def _across(shape: Shape, axes: tuple[int, ...]) -> tuple[Shape, tuple[int, ...], tuple[int, ...]] | None:
    """The steps of a fold along an axis that lies across the rows of much memory: some rows at a time, each as wide as it is. Down the
    columns of all of them every row would be another page, read again and again."""
    at, *more = axes
    size = shape[at]
    if more or at == len(shape) - 1 or not isinstance(size, int) or not all(isinstance(s, int) for s in shape) or prod(shape) < ACROSS:
        return None
    rows = next((r for r in (64, 48, 32) if size % r == 0 and size >= 4 * r), None)
    if rows is None:
        return None
    return (*shape[:at], size // rows, rows, *shape[at + 1 :]), (at + 1,), (at,)


def _in_rows(shape: Shape, axes: tuple[int, ...]) -> tuple[Shape, tuple[int, ...]] | None:
    """A shape in which the one long axis of a fold is two."""
    at = max(axes, key=lambda i: shape[i] != 1)
    size = shape[at]
    if not isinstance(size, int) or prod(s for s in shape if isinstance(s, int)) < 16 * SERIAL:
        return None
    rows = next((r for r in (64, 48, 32, 16) if size % r == 0), None)
    if rows is None:
        return None
    return (*shape[:at], rows, size // rows, *shape[at + 1 :]), tuple(sorted({*(i + (i > at) for i in axes), at, at + 1}))


@computed
def in_steps(node: Node) -> Node:
    """A fold to few values has few parallel parts, one to a single value none: it folds within each row (sample, line of an image),
    then the results of rows. The order of additions does not depend on the number of threads."""
    steps = steps_of(node)
    assert steps is not None
    shape, first, then = steps
    fold = node.op.call
    out: Node = fold(fold(reshape(node.inputs[0], shape), first), then)
    return out


# -- the table -----------------------------------------------------------------------------------------------------------
x, y, z, b = tensors("x y z b")
(c,) = numbers("c")
a, p, q, s, t, u, v, w = attributes("a p q s t u v w")
f = of_kind("f", "elementwise")
fold = one_of("fold", "prod", "max", "min")
extreme = one_of("extreme", "max", "min")
same = one_of("same", "maximum", "minimum", "logical_and", "logical_or", "bitwise_and", "bitwise_or")  # of x and x gives x

_dtypes = (float32, float64, int32, uint8, bool_)
_copies = broadcast_to(constant(1.5), (2, 3))
_to_few: list[dict[str, Any]] = [
    {"x": (90, 50), "a": (0, 1)}, {"x": (65536,), "a": (0,)}, {"x": (9, 3, 20, 20), "a": (0, 2, 3)}, {"x": (3, 1, 32768), "a": (1, 2)}, {"x": (2048, 512), "a": (0,)},
]  # fmt: skip

RULES: list[Rule] = [
    # constants
    Rule("constants", f(*c), folded(result), at=lambda: [add(1.5, 2.0), exp(1.5), where(True, 1, 2), _copies.cast("int32")]),
    # arithmetic
    Rule("mul one", x * 1, x),
    Rule("mul minus one", x * -1, -x),
    Rule("add zero", x + 0, x, [is_whole(x)]),
    Rule("add minus zero", x + -0.0, x),
    Rule("sub zero", x - 0, x),
    Rule("div one", x / 1, x),
    Rule("div power of two", x / c, x * (1.0 / c), [has_exact_inverse(c, x)], at={"c": 4.0}),
    Rule("neg neg", -(-x), x),
    Rule("add neg", x + (-y), x - y),
    Rule("sub neg", x - (-y), x + y),
    Rule("mul neg neg", (-x) * (-y), x * y),
    Rule("div neg neg", (-x) / (-y), x / y, [is_float(x)]),
    Rule("mul neg number", (-x) * c, x * (-c), [is_float(x)]),
    Rule("neg mul number", -(x * c), x * (-c), [is_float(x)]),
    Rule("absolute neg", op.absolute(-x), op.absolute(x), [is_signed(x)]),
    Rule("absolute absolute", op.absolute(op.absolute(x)), op.absolute(x)),
    # powers
    Rule("square root", x**0.5, op.sqrt(x), exact=False),
    Rule("small power", x**c, products(x, c), [is_small_power(c)], exact=False, at=[{"c": k} for k in (1, 2, 3, 7, 8, -1, -4)]),
    Rule("power of a number", c**y, op.exp(y * logarithm(c)), [is_positive(c)], exact=False, at={"c": 0.9}),
    # conditions and choices
    Rule("same", same(x, x), x),
    Rule("not not", op.logical_not(op.logical_not(x)), x),
    Rule("and true", op.logical_and(x, True), x),
    Rule("and false", op.logical_and(x, False), False),
    Rule("or false", op.logical_or(x, False), x),
    Rule("or true", op.logical_or(x, True), True),
    Rule("is true", op.eq(x, True), x),
    Rule("is not false", op.ne(x, False), x),
    Rule("not equal", op.logical_not(op.eq(x, y)), op.ne(x, y)),
    Rule("not unequal", op.logical_not(op.ne(x, y)), op.eq(x, y)),
    Rule("not less", op.logical_not(x < y), y <= x, [is_whole(x)]),
    Rule("not less or equal", op.logical_not(x <= y), y < x, [is_whole(x)]),
    Rule("less than itself", x < x, False),
    Rule("choice of one", op.where(b, x, x), x),
    Rule("choice by true", op.where(True, x, y), x),
    Rule("choice by false", op.where(False, x, y), y),
    Rule("choice by not", op.where(op.logical_not(b), x, y), op.where(b, y, x)),
    # casts
    Rule("cast to itself", op.cast(x, dtype=dtype(x)), x),
    Rule("cast cast", op.cast(op.cast(x, dtype=t), dtype=u), op.cast(x, dtype=u), [is_lossless(x, t, u)],
         at=[{"t": m, "u": n} for m in _dtypes for n in _dtypes]),
    # views
    Rule("reshape reshape", op.reshape(op.reshape(x, shape=s), shape=t), op.reshape(x, shape=t), at={"s": (6,), "t": (3, 2)}),
    Rule("reshape to itself", op.reshape(x, shape=shape(x)), x),
    Rule("reshape number", op.reshape(c, shape=s), c, at={"s": (1, 1)}),
    Rule("reshape copies", op.reshape(op.broadcast_to(x, shape=s), shape=t), op.broadcast_to(x, shape=t), [is_scalar(x)],
         at={"x": (), "s": (2, 3), "t": (6,)}),
    Rule("transpose copies", op.transpose(op.broadcast_to(x, shape=s), perm=p), op.broadcast_to(x, shape=shape(result)), [is_scalar(x)],
         at={"x": (), "s": (2, 3), "p": (1, 0)}),
    Rule("transpose transpose", op.transpose(op.transpose(x, perm=p), perm=q), op.transpose(x, perm=composed(p, q)),
         at={"x": (2, 3, 4), "p": (1, 2, 0), "q": (0, 2, 1)}),
    Rule("transpose identity", op.transpose(x, perm=in_order(x)), x),
    Rule("broadcast broadcast", op.broadcast_to(op.broadcast_to(x, shape=s), shape=t), op.broadcast_to(x, shape=t),
         at={"x": (3, 1), "s": (3, 2), "t": (4, 3, 2)}),
    Rule("broadcast to itself", op.broadcast_to(x, shape=shape(x)), x),
    Rule("broadcast reshape", op.broadcast_to(op.reshape(x, shape=s), shape=t), op.broadcast_to(x, shape=t), [leading_ones(s, x)],
         at={"s": (1, 2, 3), "t": (4, 2, 3)}),
    Rule("slice of everything", op.slice(x, starts=zeros(x), sizes=shape(x), steps=ones(x)), x),
    Rule("slice slice", op.slice(op.slice(x, starts=p, sizes=s, steps=u), starts=q, sizes=t, steps=v),
         op.slice(x, starts=along(p, q, u), sizes=t, steps=times(u, v)),
         at={"x": (9, 7), "p": (8, 1), "s": (4, 5), "u": (-2, 1), "q": (1, 4), "t": (2, 3), "v": (2, -2)}),
    Rule("slice of pad", op.slice(op.pad(x, low=p, high=q, inner=zeros(x), value=w), starts=p, sizes=shape(x), steps=ones(x)), x,
         at={"p": (1, 0), "q": (2, 3), "w": 1.5}),
    Rule("pad by nothing", op.pad(x, low=zeros(x), high=zeros(x), inner=zeros(x), value=w), x, at={"w": 1.5}),
    Rule("concat of one", op.concat(x, axis=a), x, at={"a": 1}),
    # reductions
    Rule("fold of no axes", fold(x, axes=()), x),
    Rule("fold of ones", fold(x, axes=a), op.reshape(x, shape=shape(result)), [all_ones(x, a)], at={"x": (2, 1, 3, 1), "a": (1, 3)}),
    Rule("sum of no axes", op.sum(x, axes=()), x, exact=False),  # the sum of -0 alone is +0
    Rule("sum of ones", op.sum(x, axes=a), op.reshape(x, shape=shape(result)), [all_ones(x, a)], exact=False,
         at={"x": (2, 1, 3, 1), "a": (1, 3)}),
    Rule("sum of copies", op.sum(op.broadcast_to(x, shape=s), axes=a), op.broadcast_to(x * number_of(s, a), shape=shape(result)),
         [is_scalar(x), is_float(x), is_counted(s, a)], exact=False, at={"x": (), "s": (3, 4), "a": (0,)}),
    Rule("extreme of copies", extreme(op.broadcast_to(x, shape=s), axes=a), op.broadcast_to(x, shape=shape(result)),
         [is_scalar(x), is_counted(s, a)], at={"x": (), "s": (3, 4), "a": (0,)}),
    Rule("sum of scaled", op.sum(x * op.broadcast_to(y, shape=s), axes=a), op.sum(x, axes=a) * without(y, s, a), [is_float(x), is_spread(y, s, a)],
         exact=False, at={"x": (2, 3, 4), "y": (3, 1), "s": (2, 3, 4), "a": (0, 2)}),
    Rule("sum of scaled products", op.sum(x * op.broadcast_to(y, shape=s) * z, axes=a), op.sum(x * z, axes=a) * without(y, s, a),
         [is_float(x), is_spread(y, s, a)], exact=False, at={"x": (2, 3, 4), "y": (3, 1), "s": (2, 3, 4), "z": (2, 3, 4), "a": (0, 2)}),
    Rule("sum in two steps", op.sum(x, axes=a), in_steps(result), [is_large(result)], exact=False, at=_to_few),
    Rule("extreme in two steps", extreme(x, axes=a), in_steps(result), [is_large(result)], at=_to_few),
]  # fmt: skip
