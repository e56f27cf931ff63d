"""Reading at indices that are data: take, take_along_axis, dynamic slices, argmax, one_hot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, GuardError, ShapeError
from ..ir.dims import Size, atom, evaluate, prod
from ..ir.dtypes import DType, as_dtype, bool_, float32, int32, int64
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from ..loops import scalar as s
from .define import as_node, axis_hint, broadcast_shapes, composite, constant, normal_axis, primitive, rand, show
from .elementwise import eq, logical_or, lt, ne, where
from .generate import iota
from .reductions import max as reduce_max
from .reductions import min as reduce_min
from .views import broadcast_to, expand_dims, reshape, transpose

__all__ = [
    "argmax", "argmin", "as_update", "check_constant", "dynamic_slice", "dynamic_update_slice", "gather", "in_range", "index_select", "masked_fill", "need_int",
    "one_hot", "sample_indices", "take", "take_along_axis", "wrapped",
]  # fmt: skip


def need_int(t: TensorType) -> None:
    if not t.dtype.is_int:
        raise DTypeError(f"indices must be integers, not {t}", hint="indices.cast('int32')")


def in_range(indices: np.ndarray, size: int, axis: int) -> np.ndarray:
    bad = (indices < 0) | (indices >= size)
    if bad.any():
        raise GuardError(f"index {indices[bad].flat[0]} is out of range for axis {axis} of size {size}")
    return indices.astype(np.intp)


def check_constant(indices: Node, size: Size, axis: int) -> None:
    """Raises ShapeError for a constant index that is out of range: known before anything runs."""
    if indices.op.kind == "const" and isinstance(size, int):
        value = indices.attrs["value"]
        bad = value[(value < 0) | (value >= size)] if value.dtype.kind in "iu" else value[:0]
        if bad.size:
            raise ShapeError(f"index {bad.flat[0]} is out of range for axis {axis} of size {size}")


def wrapped(node: Node, size: Size, axis: int) -> Node:
    """Indices counted from 0 for indices of which negative ones count from the end."""
    need_int(node.tensor)
    if node.op.kind == "const":
        value = node.attrs["value"]
        if isinstance(size, int):
            counted = np.where(value < 0, value.astype(np.int64) + size, value)
            if ((counted < 0) | (counted >= size)).any():
                check_constant(node, size, axis) if (value >= 0).all() else check_constant(constant(counted), size, axis)
            return constant(counted.astype(np.int64 if size >= 2**31 else np.int32))
        if (value >= 0).all():
            return node
    if node.dtype.kind == "u":
        return node
    narrow = isinstance(size, int) and size < 2**31 and node.dtype in (int32, int64)
    if not narrow:
        node = node.cast(int64)
    count = as_node(size, node.dtype).cast(node.dtype)
    out: Node = where(lt(node, 0), node + count, node)
    return out


def as_update(value: Any, dtype: DType) -> Node:
    """What is written into an array of ``dtype``: a number, or a tensor cast to it; floats do not go into integers silently."""
    new = as_node(value, dtype)
    if new.dtype.is_float and not dtype.is_float:
        raise DTypeError(f"{new.dtype} updates of {dtype} elements", hint=f"updates.cast('{dtype}')")
    out: Node = new.cast(dtype)
    return out


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
    check_constant(at, node.shape[axis], axis)
    return Node.make(lookup("take"), (node, at), axis=axis)


def _take_infer(x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    need_int(indices)
    if not 0 <= axis < x.rank:
        raise ShapeError(f"axis {axis} is out of range for rank {x.rank}", hint=axis_hint(x.rank))
    return TensorType((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


def _take_numpy(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    return np.take(x, in_range(indices, x.shape[axis], axis), axis=axis)


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
    summed = lookup("scatter_add").call(zeros, reshape(indices, (prod(indices.shape),)), rows)
    return transpose(summed, (*range(1, axis + 1), 0, *range(axis + 1, x.ndim))), None


def sample_indices(*shape: int, high: int, dtype: Any = np.int32) -> np.ndarray:
    """Indices for the samples of records; with repetitions as soon as there are a few."""
    return np.random.default_rng(sum(shape) + high).integers(0, high, shape).astype(dtype)


take = primitive(
    "take", "gather", _take.__doc__ or "", _take, _take_infer, numpy=_take_numpy, lower=_take_lower, grad=_take_grad, cost=2, onnx="Gather",
    samples=lambda: [
        Sample((rand(5, 7), sample_indices(4, high=5))), Sample((rand(5, 7), sample_indices(2, 3, high=7, dtype=np.int64)), {"axis": 1}), Sample((rand(9), sample_indices(high=9))),
        Sample((rand(2, 5, 3), sample_indices(6, high=5)), {"axis": 1}), Sample((rand(5, 7), sample_indices(0, high=5))), Sample((rand(1, 33), sample_indices(19, high=1))),
        Sample((rand(0, 3), sample_indices(0, high=1))),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(3)), error="integers"), Sample((rand(5, 7), sample_indices(4, high=5)), {"axis": 2}, error="axis 2"),
                    Sample((rand(5, 7), [1, 5]), error="index 5")],
)  # fmt: skip


# -- take_along_axis --------------------------------------------------------------------------------------------------------
def _along(x: Any, indices: Any, axis: int = -1) -> Node:
    """``out[.., i, ..] = x[.., indices[.., i, ..], ..]``: the position on ``axis`` is data (NumPy's ``take_along_axis``).

    Sizes of 1 on the other axes are broadcast; negative indices count from the end (``gather`` leaves both out). One out of
    range is an error in the reference backend; compiled kernels do not touch memory for it and give 0. The gradient adds elements
    up; one index a row becomes a comparison, which needs no scatter.
    """
    node, at = as_node(x), as_node(indices)
    if node.ndim == 0 or node.ndim != at.ndim:
        raise ShapeError(f"x {show(node.shape)} and indices {show(at.shape)} must have one rank, of 1 or more")
    axis = normal_axis(axis, node.ndim)
    rest = broadcast_shapes([tuple(1 if a == axis else size for a, size in enumerate(n.shape)) for n in (node, at)])
    node, at = (broadcast_to(n, tuple(n.shape[a] if a == axis else size for a, size in enumerate(rest))) for n in (node, at))
    return gather(node, axis, wrapped(at, node.shape[axis], axis))


def _along_infer(x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    need_int(indices)
    if x.rank != indices.rank:
        raise ShapeError(f"x {show(x.shape)} and indices {show(indices.shape)} must have one rank")
    for a, (full, size) in enumerate(zip(x.shape, indices.shape, strict=True)):
        known = isinstance(full, int) and isinstance(size, int)
        if a != axis and (size > full if known else size not in (full, 1)):
            raise ShapeError(f"indices {show(indices.shape)} are longer than x {show(x.shape)} on axis {a}")
    return TensorType(indices.shape, x.dtype)


def _along_numpy(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    part = x[tuple(np.s_[:] if a == axis else np.s_[:n] for a, n in enumerate(indices.shape))]
    return np.take_along_axis(part, in_range(indices, x.shape[axis], axis), axis)


def _along_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x, indices = node.inputs
    axis = node.attrs["axis"]
    at = b.value(indices, idx).cast(int64)
    inside = (at >= 0) & (at < s.index_value(x.shape[axis]))
    return b.guarded(x, (*idx[:axis], atom(at), *idx[axis + 1 :]), [inside], 0)


def _along_grad(n: Node, g: Node) -> tuple[Node, None]:
    x, indices = n.inputs
    axis = n.attrs["axis"]
    if indices.shape == tuple(1 if a == axis else size for a, size in enumerate(x.shape)):
        return where(eq(iota(x.shape, axis, indices.dtype), indices), g, 0.0), None
    zeros = broadcast_to(constant(0.0, g.dtype), x.shape)
    return lookup("scatter_elements").call(zeros, indices, g, axis=axis, combine="add"), None


take_along_axis = primitive(
    "take_along_axis", "gather", _along.__doc__ or "", _along, _along_infer, numpy=_along_numpy, lower=_along_lower, grad=_along_grad, cost=2,
    onnx="GatherElements",
    samples=lambda: [
        Sample((rand(5, 7), sample_indices(5, 4, high=7))), Sample((rand(5, 7), sample_indices(9, 7, high=5, dtype=np.int64)), {"axis": 0}),
        Sample((rand(2, 3, 19), sample_indices(1, 8, 1, high=3)), {"axis": 1}), Sample((rand(5, 33), sample_indices(5, 1, high=33))),
        Sample((rand(9), sample_indices(4, high=9))), Sample((rand(5, 7), sample_indices(5, 0, high=7))), Sample((rand(0, 3), sample_indices(0, 2, high=3))),
        Sample((rand(1, 1), sample_indices(1, 3, high=1))),
    ],
    errors=lambda: [
        Sample((rand(5, 7), sample_indices(4, high=5)), error="one rank"), Sample((rand(5, 7), rand(5, 1)), error="integers"),
        Sample((rand(5, 7), sample_indices(4, 1, high=5)), error="broadcast"), Sample((rand(3), [3]), {"axis": 0}, error="index 3"),
    ],
)  # fmt: skip


@sugar
def gather(x: Node, axis: int, index: Any) -> Node:
    """torch's ``gather(dim, index)``: ``out[.., i, ..] = x[.., index[.., i, ..], ..]``; ``index`` may be shorter on other axes."""
    node, at = as_node(x), as_node(index)
    axis = normal_axis(axis, node.ndim)
    check_constant(at, node.shape[axis], axis)
    return Node.make(lookup("take_along_axis"), (node, at), axis=axis)


@sugar
def index_select(x: Node, axis: int, index: Any) -> Node:
    """torch's ``index_select(dim, index)``: the slices ``index`` along ``axis``, that is ``take``."""
    return take(x, index, axis)


@sugar
def masked_fill(x: Node, mask: Any, value: Any) -> Node:
    """``value`` where ``mask`` holds, else ``x``: torch's ``masked_fill``."""
    out: Node = where(mask, as_update(value, x.dtype), x)
    return out


# -- dynamic slices ----------------------------------------------------------------------------------------------------------
def _starts_of(starts: Any) -> Node:
    """Starts as one vector: a tensor, or numbers and scalar tensors one by one."""
    if isinstance(starts, Node):
        return starts
    parts = [as_node(v) for v in starts]
    if all(p.op.kind == "const" for p in parts):
        return constant(np.array([int(p.attrs["value"]) for p in parts], np.int64))
    return lookup("concat").call([reshape(p.cast(int64), (1,)) for p in parts], 0) if len(parts) > 1 else reshape(parts[0], (1,))


def _clamped(b: Any, starts: Node, shape: Sequence[Size], sizes: Sequence[Size]) -> list[Any]:
    """The first index on each axis, moved so that the window lies inside."""
    out = []
    for axis, (full, size) in enumerate(zip(shape, sizes, strict=True)):
        at = b.value(starts, (axis,)).cast(int64)
        out.append(at.minimum(s.index_value(full - size)).maximum(0))
    return out


def _check_window(starts: TensorType, x: TensorType, sizes: Sequence[Size]) -> None:
    need_int(starts)
    if starts.shape != (x.rank,) or len(sizes) != x.rank:
        raise ShapeError(f"x {show(x.shape)} needs {x.rank} starts and sizes, not {show(starts.shape)} and {show(tuple(sizes))}")
    for axis, (full, size) in enumerate(zip(x.shape, sizes, strict=True)):
        if isinstance(full, int) and isinstance(size, int) and not 0 <= size <= full:
            raise ShapeError(f"a window of {size} on axis {axis} of {show(x.shape)}")


def _windows(starts: np.ndarray, shape: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    at = [max(min(int(a), n - k), 0) for a, n, k in zip(starts, shape, sizes, strict=True)]
    return tuple(np.s_[a : a + k] for a, k in zip(at, sizes, strict=True))


def _dynamic_slice(x: Any, starts: Any, sizes: Sequence[Size]) -> Node:
    """``sizes[a]`` elements of each axis from ``starts[a]`` on; the starts are data (JAX's ``dynamic_slice``).

    ``starts`` is a vector, or a list of numbers and scalar tensors. A start is moved so that the window lies inside ``x``, as
    in JAX; so nothing is ever out of range.
    """
    return Node.make(lookup("dynamic_slice"), (as_node(x), _starts_of(starts)), sizes=tuple(sizes))


def _dynamic_infer(x: TensorType, starts: TensorType, *, sizes: Sequence[Size]) -> TensorType:
    _check_window(starts, x, sizes)
    return TensorType(tuple(sizes), x.dtype)


def _dynamic_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x, starts = node.inputs
    at = _clamped(b, starts, x.shape, node.shape)
    return b.value(x, tuple(atom(a) + i for a, i in zip(at, idx, strict=True)))


dynamic_slice = primitive(
    "dynamic_slice", "gather", _dynamic_slice.__doc__ or "", _dynamic_slice, _dynamic_infer, lower=_dynamic_lower, cost=2,
    numpy=lambda x, starts, *, sizes, dims=None: x[_windows(starts, x.shape, [evaluate(k, dims or {}) for k in sizes])],
    grad=lambda n, g: (lookup("dynamic_update_slice").call(broadcast_to(constant(0.0, g.dtype), n.inputs[0].shape), g, n.inputs[1]), None),
    samples=lambda: [
        Sample((rand(5, 7), np.array(at), size)) for at, size in (([1, 2], (3, 4)), ([4, -3], (3, 7)), ([0, 9], (5, 1)), ([1, 1], (0, 2)))
    ] + [Sample((rand(130), np.array([77], np.int32), (33,))), Sample((rand(2, 3, 19), np.array([1, 0, 5]), (1, 2, 9)))],
    errors=lambda: [
        Sample((rand(5, 7), np.array([1]), (2, 2)), error="needs 2 starts"), Sample((rand(5), np.array([1]), (6,)), error="a window of 6"),
        Sample((rand(5), rand(1), (2,)), error="integers"),
    ],
)  # fmt: skip


def _update_slice(x: Any, update: Any, starts: Any) -> Node:
    """``x`` with the window from ``starts`` on replaced by ``update``; the starts are data (JAX's ``dynamic_update_slice``).

    A start is moved so that the window lies inside ``x``, as in JAX.
    """
    node = as_node(x)
    return Node.make(lookup("dynamic_update_slice"), (node, as_update(update, node.dtype), _starts_of(starts)))


def _update_infer(x: TensorType, update: TensorType, starts: TensorType) -> TensorType:
    _check_window(starts, x, update.shape)
    if update.dtype != x.dtype:
        raise DTypeError(f"operands have dtypes {x.dtype} and {update.dtype}")
    return x


def _update_numpy(x: np.ndarray, update: np.ndarray, starts: np.ndarray) -> np.ndarray:
    out = np.array(x)
    out[_windows(starts, x.shape, update.shape)] = update
    return out


def _update_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x, update, starts = node.inputs
    at = [s.index_value(i) - a for i, a in zip(idx, _clamped(b, starts, x.shape, update.shape), strict=True)]
    inside = s.const(True, bool_)
    for a, size in zip(at, update.shape, strict=True):
        inside = inside & (a >= 0) & (a < s.index_value(size))
    return inside.select(b.guarded(update, tuple(atom(a) for a in at), [inside], 0), b.value(x, idx))


def _update_grad(n: Node, g: Node) -> tuple[Node, Node, None]:
    _, update, starts = n.inputs
    zeros = broadcast_to(constant(0.0, g.dtype), update.shape)
    return dynamic_update_slice(g, zeros, starts), dynamic_slice(g, starts, update.shape), None


dynamic_update_slice = primitive(
    "dynamic_update_slice", "gather", _update_slice.__doc__ or "", _update_slice, _update_infer, numpy=_update_numpy, lower=_update_lower, grad=_update_grad,
    cost=4,
    samples=lambda: [
        Sample((rand(5, 7), rand(*size, seed=1), np.array(at))) for at, size in (([1, 2], (3, 4)), ([4, -3], (3, 7)), ([0, 9], (5, 1)), ([1, 1], (0, 2)))
    ] + [Sample((rand(130), rand(33, seed=1), np.array([77], np.int32))), Sample((rand(2, 3, 19), rand(1, 2, 9, seed=1), np.array([1, 0, 5])))],
    errors=lambda: [
        Sample((rand(5, 7), rand(2, 2), np.array([1])), error="needs 2 starts"), Sample((rand(5), rand(6), np.array([1])), error="a window of 6"),
        Sample((np.arange(5), rand(2), np.array([1])), error="float64 updates"),
    ],
)  # fmt: skip


# -- built on them ---------------------------------------------------------------------------------------------------------
def _argmax_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    if attrs["axis"] is not None:
        attrs["axis"] = normal_axis(attrs["axis"], max(x.ndim, 1))


def _first_at(x: Node, extreme: Any, axis: int | None, keepdims: bool) -> Node:
    """The first index along ``axis`` at which ``x`` is its extreme or NaN."""
    if axis is None or x.ndim == 0:
        flat = _first_at(reshape(x, (x.size,)), extreme, 0, False)
        return reshape(flat, (1,) * x.ndim) if keepdims else flat
    hit = eq(x, extreme(x, axis, keepdims=True))
    if x.dtype.is_float:
        hit = logical_or(hit, ne(x, x))
    size = as_node(x.shape[axis], int32).cast(int32)
    return reduce_min(where(hit, iota(x.shape, axis), size), axis, keepdims)


def _argmax_samples() -> list[Sample]:
    cases = (((5, 7), -1), ((5, 7), 0), ((2, 3, 19), 1), ((130,), 0), ((4, 1), 1), ((3, 5), None), ((), None))
    return [Sample((rand(*shape),), {"axis": a}) for shape, a in cases] + [Sample((rand(3, 5),), {"axis": 1, "keepdims": True})]


@composite("argmax", prepare=_argmax_prepare, grad=lambda n, g: (None,), samples=_argmax_samples)
def argmax(x: Node, axis: int | None = None, keepdims: bool = False) -> Node:
    """The index (int32) of the largest element along ``axis``, in the flat order if None; of equals the first, of NaNs the first."""
    return _first_at(x, reduce_max, axis, keepdims)


@composite("argmin", prepare=_argmax_prepare, grad=lambda n, g: (None,), samples=_argmax_samples)
def argmin(x: Node, axis: int | None = None, keepdims: bool = False) -> Node:
    """The index (int32) of the smallest element along ``axis``, in the flat order if None; of equals the first, of NaNs the first."""
    return _first_at(x, reduce_min, axis, keepdims)


@sugar
def one_hot(indices: Node, classes: int, dtype: DType | str = float32) -> Node:
    """1 at each index of a new last axis of size ``classes``, 0 elsewhere; all 0 for an index out of range."""
    need_int(indices.tensor)
    shape: Sequence[Size] = (*indices.shape, classes)
    out: Node = eq(expand_dims(indices, -1).cast(int64), iota(shape, -1, int64)).cast(as_dtype(dtype))
    return out
