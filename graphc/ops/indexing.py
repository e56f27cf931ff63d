"""Indices that are data: take, scatter_add, embedding, argmax, one_hot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, GuardError, ShapeError
from ..ir.dims import Size, atom, prod
from ..ir.dtypes import DType, as_dtype, float32, int32, int64
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from ..loops import scalar as s
from .define import as_node, composite, constant, normal_axis, primitive, rand, show
from .elementwise import eq, logical_or, ne, where
from .generate import iota
from .reductions import max as reduce_max
from .reductions import min as reduce_min
from .views import broadcast_to, expand_dims, reshape, transpose

__all__ = ["argmax", "embedding", "one_hot", "scatter_add", "take"]


def _need_int(t: TensorType) -> None:
    if not t.dtype.is_int:
        raise DTypeError(f"indices must be integers, not {t}", hint="indices.cast('int32')")


def _in_range(indices: np.ndarray, size: int, axis: int) -> np.ndarray:
    bad = (indices < 0) | (indices >= size)
    if bad.any():
        raise GuardError(f"index {indices[bad].flat[0]} is out of range for axis {axis} of size {size}")
    return indices.astype(np.intp)


# -- take ----------------------------------------------------------------------------------------------------------------
def _take(x: Any, indices: Any, axis: int = 0) -> Node:
    """``x[..., indices, ...]``: the shape is ``x.shape[:axis] + indices.shape + x.shape[axis+1:]`` (NumPy's ``take``).

    Indices count from 0 and do not wrap. One out of range is an error in the reference backend; compiled kernels do not
    touch memory for it and give 0. The gradient adds rows up (``scatter_add``).
    """
    node, at = as_node(x), as_node(indices)
    if node.ndim == 0:
        raise ShapeError("take: a scalar has no axis")
    axis = normal_axis(axis, node.ndim)
    size = node.shape[axis]
    if at.op.kind == "const" and isinstance(size, int):
        value = at.attrs["value"]
        if value.dtype.kind in "iu" and ((value < 0) | (value >= size)).any():
            raise ShapeError(
                f"take: index {value.min() if value.min() < 0 else value.max()} is out of range for axis {axis} of size {size}"
            )
    return Node.make(lookup("take"), (node, at), axis=axis)


def _take_infer(x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    _need_int(indices)
    if not 0 <= axis < x.rank:
        raise ShapeError(f"axis {axis} is out of range for rank {x.rank}")
    return TensorType((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


def _take_numpy(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    return np.take(x, _in_range(indices, x.shape[axis], axis), axis=axis)


def _take_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x, indices = node.inputs
    axis = node.attrs["axis"]
    end = axis + indices.ndim
    at = b.value(indices, idx[axis:end]).cast(int64)
    inside = (at >= 0) & (at < s.index_value(x.shape[axis]))
    return b.guarded(x, (*idx[:axis], atom(at), *idx[end:]), [inside], 0)


def _take_grad(n: Node, g: Node) -> tuple[Node, None]:
    x, indices = n.inputs
    axis, k = n.attrs["axis"], indices.ndim
    front = (*range(axis, axis + k), *range(axis), *range(axis + k, n.ndim))
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    rows = reshape(transpose(g, front), (prod(indices.shape), *rest))
    zeros = broadcast_to(constant(0.0, x.dtype), (x.shape[axis], *rest))
    summed = scatter_add(zeros, reshape(indices, (prod(indices.shape),)), rows)
    return transpose(summed, (*range(1, axis + 1), 0, *range(axis + 1, x.ndim))), None


def _ints(*shape: int, high: int, dtype: Any = np.int32) -> np.ndarray:
    return np.random.default_rng(sum(shape) + high).integers(0, high, shape).astype(dtype)


take = primitive(
    "take", "gather", _take.__doc__ or "", _take, _take_infer, numpy=_take_numpy, lower=_take_lower, grad=_take_grad, cost=2, onnx="Gather",
    samples=lambda: [
        Sample((rand(5, 7), _ints(4, high=5))), Sample((rand(5, 7), _ints(2, 3, high=7, dtype=np.int64)), {"axis": 1}), Sample((rand(9), _ints(high=9))),
        Sample((rand(2, 5, 3), _ints(6, high=5)), {"axis": 1}), Sample((rand(5, 7), _ints(0, high=5))), Sample((rand(1, 33), _ints(19, high=1))),
        Sample((rand(0, 3), _ints(0, high=1))),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(3)), error="integers"), Sample((rand(5, 7), _ints(4, high=5)), {"axis": 2}, error="axis 2"),
                    Sample((rand(5, 7), [1, 5]), error="index 5")],
)  # fmt: skip


# -- scatter_add -----------------------------------------------------------------------------------------------------------
def _scatter_add(x: Any, indices: Any, updates: Any) -> Node:
    """``x`` plus, for each ``i``, ``updates[i]`` added to the row ``x[indices[i]]``; rows named twice get both.

    ``indices`` of any rank, ``updates`` of shape ``indices.shape + x.shape[1:]``. Rows are added in the order of ``i``, so
    the result is reproducible. An index out of range is an error in the reference backend; compiled kernels skip it.
    """
    node, at, new = as_node(x), as_node(indices), as_node(updates)
    if node.ndim == 0:
        raise ShapeError("scatter_add: a scalar has no rows")
    if new.shape != (*at.shape, *node.shape[1:]):
        raise ShapeError(f"scatter_add: updates {show(new.shape)} do not fit indices {show(at.shape)} and rows {show(node.shape[1:])}")
    if at.ndim != 1:
        count = prod(at.shape)
        at, new = reshape(at, (count,)), reshape(new, (count, *node.shape[1:]))
    return Node.make(lookup("scatter_add"), (node, at, new.cast(node.dtype)))


def _scatter_infer(x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
    _need_int(indices)
    if indices.rank != 1 or x.rank < 1 or updates.shape != (*indices.shape, *x.shape[1:]):
        raise ShapeError(f"updates {show(updates.shape)} do not fit indices {show(indices.shape)} and rows {show(x.shape[1:])}")
    if updates.dtype != x.dtype:
        raise DTypeError(f"operands have dtypes {x.dtype} and {updates.dtype}")
    return x


def _scatter_numpy(x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
    out = np.array(x)
    np.add.at(out, _in_range(indices, x.shape[0], 0), updates)
    return out


scatter_add = primitive(
    "scatter_add", "scatter", _scatter_add.__doc__ or "", _scatter_add, _scatter_infer, numpy=_scatter_numpy,
    grad=lambda n, g: (g, None, take(g, n.inputs[1])), flops=lambda n: n.inputs[2].size, onnx="ScatterND", reduce=("add", 0.0),
    samples=lambda: [
        Sample((rand(5, 7), _ints(4, high=5), rand(4, 7, seed=1))), Sample((rand(5), _ints(33, high=5), rand(33, seed=1))),
        Sample((rand(6, 2, 3), _ints(2, 4, high=6, dtype=np.int64), rand(2, 4, 2, 3, seed=1))), Sample((rand(5, 7), _ints(0, high=5), rand(0, 7))),
        Sample((rand(1, 19), _ints(3, high=1), rand(3, 19, seed=1))),
    ],
    errors=lambda: [Sample((rand(5, 7), _ints(4, high=5), rand(3, 7)), error="do not fit"), Sample((rand(5), rand(2), rand(2)), error="integers")],
)  # fmt: skip


# -- built on them ---------------------------------------------------------------------------------------------------------
@composite(
    "embedding",
    samples=lambda: [Sample((_ints(4, high=5), rand(5, 7))), Sample((_ints(2, 3, high=5, dtype=np.int64), rand(5, 4)))],
)
def embedding(indices: Node, weight: Node) -> Node:
    """Rows of ``weight`` (V, D) named by ``indices`` (...): shape (..., D). As torch's ``embedding(input, weight)``."""
    if weight.ndim != 2:
        raise ShapeError(f"the weight must be (words, features), not {show(weight.shape)}")
    return take(weight, indices)


def _argmax_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    attrs["axis"] = normal_axis(attrs["axis"], x.ndim)


@composite(
    "argmax",
    prepare=_argmax_prepare,
    grad=lambda n, g: (None,),
    samples=lambda: [
        Sample((rand(*shape),), {"axis": a}) for shape, a in (((5, 7), -1), ((5, 7), 0), ((2, 3, 19), 1), ((130,), 0), ((4, 1), 1))
    ],
)
def argmax(x: Node, axis: int = -1) -> Node:
    """The index (int32) of the largest element along ``axis``, the first one of equals; of the first NaN if there is one."""
    axis = normal_axis(axis, x.ndim)
    top = reduce_max(x, axis, keepdims=True)
    hit = eq(x, top)
    if x.dtype.is_float:
        hit = logical_or(hit, ne(x, x))
    size = as_node(x.shape[axis], int32).cast(int32)
    return reduce_min(where(hit, iota(x.shape, axis), size), axis)


@sugar
def one_hot(indices: Node, classes: int, dtype: DType | str = float32) -> Node:
    """1 at each index of a new last axis of size ``classes``, 0 elsewhere; all 0 for an index out of range."""
    _need_int(indices.tensor)
    shape: Sequence[Size] = (*indices.shape, classes)
    out: Node = eq(expand_dims(indices, -1).cast(int64), iota(shape, -1, int64)).cast(as_dtype(dtype))
    return out
