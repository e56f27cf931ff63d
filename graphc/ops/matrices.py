"""Diagonals and triangles: ``diagonal`` is a view, the rest are masks by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ir.dims import Size
from ..ir.dtypes import DType, as_dtype, float32
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from .define import composite, normal_axis, primitive, rand, show
from .elementwise import cast, eq, le, where
from .generate import iota
from .reductions import sum as reduce_sum
from .views import expand_dims, pad, transpose

__all__ = ["diag", "diag_embed", "diagonal", "eye", "trace", "tri", "tril", "triu"]


# -- diagonal ----------------------------------------------------------------------------------------------------------------
def _diagonal(x: Node, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """The elements ``x[..., i, ..., i + offset, ...]`` of two axes, as a new last axis (NumPy's ``diagonal``)."""
    if x.ndim < 2:
        raise ShapeError(f"{show(x.shape)} has no two axes")
    a, b = normal_axis(axis1, x.ndim), normal_axis(axis2, x.ndim)
    if a == b:
        raise ShapeError(f"axis {axis1} and axis {axis2} are the same")
    return Node.make(lookup("diagonal"), (x,), offset=int(offset), axis1=a, axis2=b)


def _length(rows: Size, columns: Size, offset: int) -> Size:
    if isinstance(rows, int) and isinstance(columns, int):
        return max(min(rows + min(offset, 0), columns - max(offset, 0)), 0) if offset else min(rows, columns)
    if rows == columns and offset == 0:
        return rows
    raise ShapeError(f"a diagonal of the named sizes {rows} and {columns}, offset {offset}", hint="both axes equal and offset 0")


def _diagonal_infer(t: TensorType, *, offset: int, axis1: int, axis2: int) -> TensorType:
    rest = tuple(s for i, s in enumerate(t.shape) if i not in (axis1, axis2))
    return TensorType((*rest, _length(t.shape[axis1], t.shape[axis2], offset)), t.dtype)


def _diagonal_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x, offset, a1, a2 = node.inputs[0], node.attrs["offset"], node.attrs["axis1"], node.attrs["axis2"]
    rest = iter(idx[:-1])
    at = {a1: idx[-1] + max(-offset, 0), a2: idx[-1] + max(offset, 0)}
    return b.value(x, tuple(at[i] if i in at else next(rest) for i in range(x.ndim)))


def _diagonal_grad(n: Node, g: Node) -> tuple[Node]:
    x, offset, a1, a2 = n.inputs[0], n.attrs["offset"], n.attrs["axis1"], n.attrs["axis2"]
    rows, columns = x.shape[a1], x.shape[a2]
    return (_in_axes(_placed(g, rows, columns, offset), a1, a2),)


def _in_axes(x: Node, axis1: int, axis2: int) -> Node:
    """The last two axes moved to the given places."""
    if axis1 == axis2:
        raise ShapeError(f"axis {axis1} and axis {axis2} are the same")
    rest = iter(range(x.ndim - 2))
    return transpose(x, tuple(x.ndim - 2 if i == axis1 else x.ndim - 1 if i == axis2 else next(rest) for i in range(x.ndim)))


def _placed(values: Node, rows: Size, columns: Size, offset: int) -> Node:
    """A matrix with ``values`` (the last axis) on a diagonal, 0 elsewhere."""
    before: Size = max(-offset, 0)
    after = rows - before - values.shape[-1]
    if isinstance(after, int) and after < 0:  # the diagonal lies outside: no element is on the mask
        before, after = rows - values.shape[-1], 0
    lead = (0,) * (values.ndim - 1)
    on = eq(iota((rows, columns), 0) + offset, iota((rows, columns), 1))
    return where(on, expand_dims(pad(values, (*lead, before), (*lead, after)), -1), 0)


diagonal = primitive(
    "diagonal", "view", _diagonal.__doc__ or "", _diagonal, _diagonal_infer,
    numpy=lambda x, *, offset, axis1, axis2: np.diagonal(x, offset, axis1, axis2), lower=_diagonal_lower, grad=_diagonal_grad, cost=0,
    samples=lambda: [
        Sample((rand(5, 5),)), Sample((rand(5, 7),), {"offset": 2}), Sample((rand(5, 7),), {"offset": -3}), Sample((rand(2, 3, 19, 4),), {"axis1": 1, "axis2": 2}),
        Sample((rand(4, 2, 4),), {"offset": 1, "axis1": 2, "axis2": 0}), Sample((rand(3, 4),), {"offset": 9}), Sample((rand(0, 3),)), Sample((rand(1, 6),)),
    ],
    errors=lambda: [Sample((rand(5),), error="no two axes"), Sample((rand(5, 5),), {"axis2": 0}, error="are the same"), Sample((rand(5, 5),), {"axis1": 2}, error="axis 2")],
)  # fmt: skip


@composite("diag_embed", samples=lambda: [Sample((rand(2, 3, 4),), {"axis1": 0, "axis2": 2}), Sample((rand(5),)), Sample((rand(2, 3),), {"offset": 1}), Sample((rand(2, 3),), {"offset": -2}), Sample((rand(3, 0),))])
def diag_embed(x: Node, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Node:
    """Square matrices with the last axis of ``x`` on a diagonal, 0 elsewhere; they lie in two axes of the result (torch's ``diag_embed``)."""
    size = x.shape[-1] + abs(offset)
    return _in_axes(_placed(x, size, size, offset), normal_axis(axis1, x.ndim + 1), normal_axis(axis2, x.ndim + 1))


@sugar
def diag(x: Node, offset: int = 0) -> Node:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal (NumPy's ``diag``)."""
    if x.ndim not in (1, 2):
        raise ShapeError(f"diag: {show(x.shape)} is neither a vector nor a matrix", hint="diagonal or diag_embed")
    return diag_embed(x, offset) if x.ndim == 1 else diagonal(x, offset)


@sugar
def trace(x: Node, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """The sum of a diagonal (NumPy's ``trace``)."""
    return reduce_sum(diagonal(x, offset, axis1, axis2), -1)


# -- masks by index ------------------------------------------------------------------------------------------------------------
def _below(rows: Size, columns: Size, offset: int) -> Node:
    """Where the column is at most the row plus ``offset``."""
    return le(iota((rows, columns), 1), iota((rows, columns), 0) + offset)


@sugar
def eye(n: Size, m: Size | None = None, offset: int = 0, dtype: DType | str = float32) -> Node:
    """1 on a diagonal of an (n, m) matrix, 0 elsewhere; square without ``m``."""
    shape = (n, n if m is None else m)
    return cast(eq(iota(shape, 0) + offset, iota(shape, 1)), as_dtype(dtype))


@sugar
def tri(n: Size, m: Size | None = None, offset: int = 0, dtype: DType | str = float32) -> Node:
    """1 on and below a diagonal of an (n, m) matrix, 0 above (NumPy's ``tri``)."""
    return cast(_below(n, n if m is None else m, offset), as_dtype(dtype))


def _lower(x: Node, offset: int) -> Node:
    """:func:`_below` for the last two axes of ``x``."""
    if x.ndim < 2:
        raise ShapeError(f"{show(x.shape)} has no two axes")
    return _below(x.shape[-2], x.shape[-1], offset)


def _triangles() -> list[Sample]:
    return [Sample((rand(5, 7),), {"offset": k}) for k in (0, 2, -2, 9)] + [Sample((rand(2, 3, 19),)), Sample((rand(0, 3),)), Sample((rand(4, 1),))]


@composite("tril", samples=_triangles, errors=lambda: [Sample((rand(5),), error="no two axes")])
def tril(x: Node, offset: int = 0) -> Node:
    """The lower triangle of the last two axes, from the diagonal ``offset`` on; 0 above."""
    return where(_lower(x, offset), x, 0)


@composite("triu", samples=_triangles)
def triu(x: Node, offset: int = 0) -> Node:
    """The upper triangle of the last two axes, from the diagonal ``offset`` on; 0 below."""
    return where(_lower(x, offset - 1), 0, x)
