"""Reductions: folds over axes with one combining instruction and its neutral element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Size, prod
from ..ir.dtypes import float32, int32
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from ..loops.fold import Fold
from .define import NUMERIC, as_node, composite, normal_axes, primitive, rand
from .elementwise import absolute, eq, logical_not, maximum, ne, sqrt, where
from .views import broadcast_to, reshape

__all__ = ["all", "any", "count_nonzero", "max", "mean", "min", "moments", "norm", "std", "sum", "var", "variance"]


def _infer(t: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    if t.dtype.kind not in NUMERIC:
        raise DTypeError(f"{t.dtype} operands are not supported", hint="x.cast('int32')")
    if normal_axes(axes, t.rank) != axes:
        raise ShapeError(f"axes {axes} are not sorted axes of rank {t.rank}")
    return TensorType(tuple(s for i, s in enumerate(t.shape) if i not in axes), t.dtype)


def keep(x: Node, axes: Sequence[int], result: Node) -> Node:
    """``result`` of a reduction of ``x`` with the reduced axes back, of size 1."""
    return reshape(result, tuple(1 if i in axes else s for i, s in enumerate(x.shape)))


def spread(x: Node, axes: Sequence[int], result: Node) -> Node:
    """``result`` of a reduction of ``x``, repeated to the shape of ``x``."""
    return broadcast_to(keep(x, axes, result), x.shape)


def _reduction(name: str, instruction: str, neutral: float, numpy: Any, grad: Any, doc: str, samples: Any) -> Callable[..., Node]:
    def call(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
        node = as_node(x)
        axes = normal_axes(axis, node.ndim)
        if node.dtype.kind == "b":
            node = node.cast(int32)
        if not axes:
            return node
        out = Node.make(lookup(name), (node,), axes=axes)
        return keep(node, axes, out) if keepdims else out

    return primitive(
        name, "reduce", doc, call, _infer, numpy=lambda x, *, axes: numpy(x, axes), grad=grad, samples=samples,
        reduce=(instruction, neutral), nest=lambda b, node: _fold(node, instruction, neutral),
    )  # fmt: skip


def _fold(node: Node, instruction: str, neutral: float) -> Fold:
    x, axes = node.inputs[0], node.attrs["axes"]

    def value(b: Any, outer: tuple[Size, ...], inner: tuple[Size, ...]) -> Any:
        o, i = iter(outer), iter(inner)
        return b.value(x, tuple(next(i) if a in axes else next(o) for a in range(x.ndim)))

    return Fold(node.shape, tuple(x.shape[a] for a in axes), value, instruction, _end(node.dtype.numpy, neutral))


def _end(dtype: np.dtype[Any], neutral: float) -> float:
    """A neutral element in a dtype: for infinities of integers their least or largest value."""
    if dtype.kind in "iu" and not np.isfinite(neutral):
        return int(np.iinfo(dtype).min if neutral < 0 else np.iinfo(dtype).max)
    return neutral


def _max_numpy(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.max(x, axis=axes, initial=_end(x.dtype, -np.inf)))


def _min_numpy(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.min(x, axis=axes, initial=_end(x.dtype, np.inf)))


def _max_grad(n: Node, g: Node) -> tuple[Node]:
    x, axes = n.inputs[0], n.attrs["axes"]
    hit = eq(x, spread(x, axes, n)).cast(g.dtype)
    # ties share the gradient, as in JAX
    count = lookup("sum").call(hit, axes)
    return (hit * spread(x, axes, g / count),)


_shapes: list[tuple[tuple[int, ...], Any]] = [((5, 7), 1), ((5, 7), 0), ((5, 7), None), ((2, 3, 19), (0, 2)), ((130,), 0), ((4, 33), -1), ((2, 37, 3), 1), ((3, 1), 1)]

sum = _reduction(
    "sum", "add", 0.0, lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype),
    lambda n, g: (spread(n.inputs[0], n.attrs["axes"], g),),
    "The sum over ``axis`` (all axes if None); 0 for no elements.",
    lambda: [Sample((rand(*s),), {"axis": a}) for s, a in [*_shapes, ((0, 3), 0), ((3, 0), 1)]],
)  # fmt: skip
max = _reduction(
    "max", "maximum", float("-inf"), _max_numpy, _max_grad,
    "The largest element over ``axis`` (all axes if None); ties share the gradient; -inf for no elements.",
    lambda: [Sample((rand(*s),), {"axis": a}) for s, a in _shapes],
)  # fmt: skip


min = _reduction(
    "min", "minimum", float("inf"), _min_numpy, _max_grad,
    "The smallest element over ``axis`` (all axes if None); ties share the gradient; inf for no elements.",
    lambda: [Sample((rand(*s),), {"axis": a}) for s, a in _shapes],
)  # fmt: skip


def _prod_grad(n: Node, g: Node) -> tuple[Node]:
    """``g * n / x`` without a zero; the product of the others at a single zero; nothing if there are more."""
    x, axes = n.inputs[0], n.attrs["axes"]
    zero = eq(x, 0.0)
    others = lookup("prod").call(where(zero, 1.0, x), axes)
    zeros = lookup("sum").call(zero.cast(x.dtype), axes)
    per = spread(x, axes, g * others)
    one, none = eq(spread(x, axes, zeros), 1.0), eq(spread(x, axes, zeros), 0.0)
    return (where(zero, where(one, per, 0.0), where(none, per / where(zero, 1.0, x), 0.0)),)


def _with_zeros(*shape: int, count: int) -> np.ndarray:
    x = rand(*shape, low=0.5, high=1.5)
    x.flat[:count] = 0.0
    return x


prod_ = _reduction(
    "prod", "mul", 1.0, lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype), _prod_grad,
    "The product over ``axis`` (all axes if None); 1 for no elements. The gradient is right where elements are zero, too.",
    lambda: [
        *[Sample((rand(*s, low=0.6, high=1.4),), {"axis": a}) for s, a in [*_shapes, ((0, 3), 0), ((3, 0), 1)]],
        Sample((_with_zeros(7, count=1),), {"axis": 0}, smooth=False), Sample((_with_zeros(3, 4, count=6),), {"axis": 1}, smooth=False),
    ],
)  # fmt: skip


@sugar
def mean(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """The mean over ``axis`` (all axes if None)."""
    axes = normal_axes(axis, x.ndim)
    count = prod(x.shape[a] for a in axes)
    inverse = 1.0 / count if isinstance(count, int) and count else None
    total = sum(x, axes, keepdims)
    return total * inverse if inverse is not None else total / as_node(count).cast(total.dtype)


@sugar
def variance(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """The mean squared distance from the mean (no correction)."""
    return moments(x, axis, keepdims)[1]


@sugar
def moments(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> tuple[Node, Node]:
    """The mean, and the mean squared distance from it, over ``axis`` (all axes if None).

    Two passes, the mean first and then the squares of differences, so that a large mean costs no digits. Where the axes lie across
    rows of memory, parts of equal size are folded first, while they are in the cache: the variance is the mean of the parts'
    variances plus the variance of their means (Chan, Golub and LeVeque 1979).
    """
    axes = normal_axes(axis, x.ndim)
    parts = _parts(x.shape, axes)
    if parts is None:
        center = mean(x, axes, keepdims=True)
        d = x - center
        return (center if keepdims else mean(x, axes)), mean(d * d, axes, keepdims)
    shape, inner, outer = parts
    split = reshape(x, shape)
    d = split - mean(split, inner, keepdims=True)
    centers, spreads = mean(split, inner), mean(d * d, inner)
    e = centers - mean(centers, outer, keepdims=True)
    found = mean(centers, outer), mean(spreads, outer) + mean(e * e, outer)
    return (keep(x, axes, found[0]), keep(x, axes, found[1])) if keepdims else found


PART = 32
"""Elements along the axes, at least, of a part that :func:`moments` folds by itself."""
LARGE = 1 << 16
"""Elements that are known to be there from which on parts pay: less stays in the cache as it is."""


def _parts(shape: tuple[Size, ...], axes: tuple[int, ...]) -> tuple[tuple[Size, ...], tuple[int, ...], tuple[int, ...]] | None:
    """The shape as which ``moments`` sees its operand, the axes of a part, and those of the parts in the result of that; None for no parts."""
    if not axes or axes == tuple(range(len(shape) - len(axes), len(shape))):
        return None  # what lies side by side is folded in one pass over memory as it is
    if prod(s for s in shape if isinstance(s, int)) < LARGE:
        return None
    inner = prod(shape[i] for i in axes[1:])
    if len(axes) > 1 and isinstance(inner, int) and inner >= PART:
        return shape, axes[1:], axes[:1]
    first, size = axes[0], shape[axes[0]]
    rows = next((r for r in (64, 48, 32) if isinstance(size, int) and size >= 2 * r and size % r == 0), None)
    if len(axes) > 1 or rows is None:
        return None
    return (*shape[:first], size // rows, rows, *shape[first + 1 :]), (first + 1,), (first,)


# -- moments and norms -------------------------------------------------------------------------------------------------------
def _axes_of_floats(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    if not x.dtype.is_float:
        ins[0] = x.cast(float32)
    attrs["axis"] = normal_axes(attrs["axis"], x.ndim)


def _moments() -> list[Sample]:
    cases = [*[(s, a) for s, a in _shapes if s != (3, 1)], ((3, 2), 1)]
    return [Sample((rand(*s),), {"axis": a, **k}) for s, a in cases for k in ({}, {"correction": 1, "keepdims": True})]


@composite("var", samples=_moments, prepare=_axes_of_floats)
def var(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False, correction: float = 0) -> Node:
    """The sum of squared distances from the mean over ``axis``, divided by their number less ``correction`` (NumPy's ``ddof``).

    As NumPy's ``var`` the default is no correction; torch's is 1.
    """
    axes = normal_axes(axis, x.ndim)
    d = x - mean(x, axes, keepdims=True)
    total = sum(d * d, axes, keepdims)
    count = prod(x.shape[a] for a in axes)
    if isinstance(count, int):
        return total / (count - correction if count > correction else 0.0)
    return total / maximum(as_node(count).cast(total.dtype) - correction, 0.0)


def _root(x: Node) -> Node:
    """The square root, with gradient 0 at 0 (where no derivative exists)."""
    zero = eq(x, 0.0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, x)))


@composite("std", samples=_moments, prepare=_axes_of_floats)
def std(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False, correction: float = 0) -> Node:
    """The root of :func:`var`; where all elements are equal the gradient is 0."""
    return _root(var(x, axis, keepdims, correction))


def _norm_samples() -> list[Sample]:
    orders: list[Any] = [1, 2, float("inf"), float("-inf"), 3, 0.5]
    smooth = (2, 3)
    return [
        *[Sample((_off_zero(*s),), {"ord": o, "axis": a}, smooth=o in smooth) for o in orders for s, a in (((5, 7), 1), ((2, 3, 4), 0))],
        Sample((_off_zero(5, 7),), {"ord": 0, "axis": 0}, smooth=False), Sample((_off_zero(130),)), Sample((_off_zero(2, 3, 4),), {"axis": 1, "keepdims": True}),
    ]  # fmt: skip


def _off_zero(*shape: int) -> np.ndarray:
    x = rand(*shape)
    return np.asarray(x + 0.3 * np.sign(x))


@composite("norm", samples=_norm_samples, prepare=_axes_of_floats)
def norm(x: Node, ord: float | str = 2, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """The vector norm over ``axis`` (all elements if None): ``sum(|x|**ord) ** (1/ord)``.

    ``inf`` and ``-inf`` give the largest and smallest magnitude, 0 the number of elements that are not zero. The gradient of the 2-norm
    at 0 is 0. NumPy's ``linalg.vector_norm``; for a matrix without ``axis`` it is the Frobenius norm.
    """
    if ord == "fro":
        ord = 2
    if isinstance(ord, str):
        raise ShapeError(f"ord={ord!r}", hint="a number, inf, -inf or 'fro'")
    size = absolute(x)
    if ord == float("inf"):
        return max(size, axis, keepdims)
    if ord == float("-inf"):
        return min(size, axis, keepdims)
    if ord == 0:
        return sum(ne(x, 0.0).cast(x.dtype), axis, keepdims)
    if ord == 1:
        return sum(size, axis, keepdims)
    if ord == 2:
        return _root(sum(x * x, axis, keepdims))
    return sum(size**ord, axis, keepdims) ** (1.0 / ord)


# -- truth values ------------------------------------------------------------------------------------------------------------
def _truths() -> list[Sample]:
    return [Sample((rand(*s) > t,), {"axis": a}) for s, a in _shapes for t in (-1.0, 1.0)] + [Sample((np.array([0.0, 2.0, -1.0]),)), Sample((np.zeros((0, 3), bool),), {"axis": 0})]


def _truth(x: Node) -> Node:
    return x if x.dtype.kind == "b" else ne(x, 0)


@composite("any", samples=_truths)
def any(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """Whether an element over ``axis`` (all axes if None) is true or not 0; False for no elements."""
    return ne(sum(_truth(x).cast(int32), axis, keepdims), 0)


@composite("all", samples=_truths)
def all(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """Whether every element over ``axis`` (all axes if None) is true or not 0; True for no elements."""
    return eq(sum(logical_not(_truth(x)).cast(int32), axis, keepdims), 0)


@composite("count_nonzero", samples=_truths)
def count_nonzero(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """How many elements over ``axis`` (all axes if None) are true or not 0, as int32."""
    return sum(_truth(x).cast(int32), axis, keepdims)


sugar(max, "amax")
sugar(min, "amin")
