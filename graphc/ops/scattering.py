"""Writing at indices that are data: rows of an array are set, added to, multiplied or bounded in the order of the updates.

The five primitives write rows ``x[indices[i]]`` along axis 0. Everything else (along an axis, in n dimensions) flattens its
indices to rows of one element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import prod
from ..ir.dtypes import int32, int64
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import Shape, TensorType
from .define import as_node, broadcast_shapes, composite, constant, normal_axis, primitive, rand, show
from .elementwise import eq, le, logical_and, lt, where
from .generate import iota
from .indexing import as_update, check_constant, in_range, need_int, sample_indices, take, wrapped
from .views import broadcast_to, reshape, swapaxes
from .views import slice as slice_

__all__ = [
    "flat_positions", "index_add", "index_copy", "put_along_axis", "scatter", "scatter_add", "scatter_elements", "scatter_max", "scatter_min",
    "scatter_mul", "scatter_reduce", "scatter_set", "WRITERS",
]  # fmt: skip


# -- the record ------------------------------------------------------------------------------------------------------------
def _infer(x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
    need_int(indices)
    if indices.rank != 1 or x.rank < 1 or updates.shape != (*indices.shape, *x.shape[1:]):
        raise ShapeError(f"updates {show(updates.shape)} do not fit indices {show(indices.shape)} and rows {show(x.shape[1:])}")
    if updates.dtype != x.dtype:
        raise DTypeError(f"operands have dtypes {x.dtype} and {updates.dtype}")
    return x


_order = """

    ``indices`` of any rank, ``updates`` of shape ``indices.shape + x.shape[1:]``. Updates are applied in the order of ``i``, so
    the result does not depend on the number of threads. Indices count from 0; one out of range is an error in the reference
    backend, and compiled kernels leave its update out.
    """


def _scatter(name: str, combine: str, neutral: float, numpy: Callable[..., Any], grad: Any, doc: str, **fields: Any) -> Callable[..., Node]:
    """Registers one way of writing rows; its user function takes torch's four arguments (x, axis, index, source) too."""

    def call(x: Any, indices: Any, updates: Any, source: Any = None) -> Node:
        if source is not None:
            return scatter_elements(x, updates, source, axis=indices, combine=name.removeprefix("scatter_"))
        node, at = as_node(x), as_node(indices)
        new = as_update(updates, node.dtype)
        if node.ndim == 0:
            raise ShapeError("a scalar has no rows")
        if new.shape != (*at.shape, *node.shape[1:]):
            raise ShapeError(f"updates {show(new.shape)} do not fit indices {show(at.shape)} and rows {show(node.shape[1:])}")
        check_constant(at, node.shape[0], 0)
        if at.ndim != 1:
            count = prod(at.shape)
            at, new = reshape(at, (count,)), reshape(new, (count, *node.shape[1:]))
        return Node.make(lookup(name), (node, at, new))

    def reference(x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        out = np.array(x)
        numpy(out, in_range(indices, x.shape[0], 0), updates)
        return out

    return primitive(
        name, "scatter", doc + _order, call, _infer, numpy=reference, grad=grad, flops=lambda n: n.inputs[2].size, reduce=(combine, neutral),
        samples=_samples, **fields,
        errors=lambda: [
            Sample((rand(5, 7), sample_indices(4, high=5), rand(3, 7)), error="do not fit"), Sample((rand(5), rand(2), rand(2)), error="integers"),
            Sample((rand(5), [1, 5], rand(2)), error="index 5"), Sample((np.arange(5), sample_indices(2, high=5), rand(2)), error="updates of int64"),
        ],
    )  # fmt: skip


def _samples() -> list[Sample]:
    ints = sample_indices
    return [
        Sample((rand(5, 7), ints(4, high=5), rand(4, 7, seed=1))), Sample((rand(5), ints(33, high=5), rand(33, seed=1))),
        Sample((rand(6, 2, 3), ints(2, 4, high=6, dtype=np.int64), rand(2, 4, 2, 3, seed=1))),
        Sample((rand(5, 7), ints(0, high=5), rand(0, 7))), Sample((rand(1, 19), ints(3, high=1), rand(3, 19, seed=1))),
        Sample((rand(4, 3), [2, 0], rand(2, 3, seed=1))),
    ]  # fmt: skip


def _put(out: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> None:
    for i, row in zip(indices, updates, strict=True):  # NumPy does not say which of several assignments stays
        out[i] = row


# -- gradients ---------------------------------------------------------------------------------------------------------------
def _column(rows: Node, like: Node) -> Node:
    """One value a row, over the shape of whole rows."""
    return broadcast_to(reshape(rows, (*rows.shape, *(1 for _ in like.shape[1:]))), like.shape)


def _set_grad(n: Node, g: Node) -> tuple[Node, None, Node]:
    x, at, new = n.inputs
    zeros = broadcast_to(constant(0.0, g.dtype), new.shape)
    back = take(g, at)
    value = at.attrs["value"] if at.op.kind == "const" else None
    if value is None or np.unique(value).size != value.size:
        # of several updates of a row the last one stayed: the others have no influence
        number = iota(at.shape, 0, int32)
        last = take(scatter_set(broadcast_to(constant(0, int32), x.shape[:1]), at, number), at)
        back = where(_column(eq(last, number), new), back, 0.0)
    return scatter_set(g, at, zeros), None, back


def _extreme_grad(n: Node, g: Node) -> tuple[Node, None, Node]:
    x, at, new = n.inputs
    mine, theirs = eq(x, n), eq(new, take(n, at))
    share = g / scatter_add(mine.cast(g.dtype), at, theirs.cast(g.dtype))
    return where(mine, share, 0.0), None, where(theirs, take(share, at), 0.0)


def _mul_grad(n: Node, g: Node) -> tuple[Node, None, Node]:
    x, at, new = n.inputs
    ones = broadcast_to(constant(1.0, x.dtype), x.shape)
    # the product of all other factors, right where factors are 0: without zeros divide, with one zero only it has a slope
    none_x, none_new = eq(x, 0.0), eq(new, 0.0)
    whole = scatter_mul(where(none_x, 1.0, x), at, where(none_new, 1.0, new))
    zeros = take(scatter_add(none_x.cast(int32), at, none_new.cast(int32)), at)
    others = where(eq(zeros, none_new.cast(int32)), take(whole, at) / where(none_new, 1.0, new), 0.0)
    return g * scatter_mul(ones, at, new), None, take(g, at) * others


scatter_add = _scatter(
    "scatter_add", "add", 0.0, np.add.at, lambda n, g: (g, None, take(g, n.inputs[1])),
    """``x`` plus, for each ``i``, ``updates[i]`` added to the row ``x[indices[i]]``; rows named twice get both.""", onnx="ScatterND",
)  # fmt: skip
scatter_set = _scatter(
    "scatter_set", "set", 0.0, _put, _set_grad,
    """``x`` with the row ``x[indices[i]]`` replaced by ``updates[i]``; of several updates of a row the last one stays.

    The gradient follows that (as JAX's; PyTorch leaves it open): overwritten rows of ``x`` and updates get 0.""", onnx="ScatterND",
)  # fmt: skip
scatter_max = _scatter(
    "scatter_max", "maximum", float("-inf"), np.maximum.at, _extreme_grad,
    """The larger of the row ``x[indices[i]]`` and ``updates[i]``, element by element, for each ``i``; NaN wins.

    Equal elements share the gradient, the element of ``x`` included, as in JAX.""", onnx="ScatterND",
)  # fmt: skip
scatter_min = _scatter(
    "scatter_min", "minimum", float("inf"), np.minimum.at, _extreme_grad,
    """The smaller of the row ``x[indices[i]]`` and ``updates[i]``, element by element, for each ``i``; NaN wins.

    Equal elements share the gradient, the element of ``x`` included, as in JAX.""", onnx="ScatterND",
)  # fmt: skip
scatter_mul = _scatter(
    "scatter_mul", "mul", 1.0, np.multiply.at, _mul_grad,
    """``x`` with the row ``x[indices[i]]`` multiplied by ``updates[i]`` for each ``i``; rows named twice by both.

    The gradient is right at zeros too: it is the product of the other factors.""", onnx="ScatterND", tolerance={"float32": 5e-6, "float64": 1e-12},
)  # fmt: skip

WRITERS: dict[str, Callable[..., Node]] = {
    "set": scatter_set, "add": scatter_add, "max": scatter_max, "min": scatter_min, "mul": scatter_mul,
}  # fmt: skip


# -- along an axis ---------------------------------------------------------------------------------------------------------
def flat_positions(parts: Sequence[Node | None], shape: Shape, like: Shape) -> Node:
    """Row-major positions in ``shape`` of the elements at ``parts``, one tensor of indices an axis, of shape ``like``.

    None stands for an axis of ``like`` in the same place, walked in order. An element outside gets -1, which no array has.
    """
    total = prod(shape)
    small = isinstance(total, int) and total < 2**31
    dtype = int32 if small else int64
    flat: Node | None = None
    inside: Node | None = None
    for axis, (part, size) in enumerate(zip(parts, shape, strict=True)):
        if part is None:
            at = iota(like, axis, dtype)
        else:
            wide = part.cast(int64)
            ok = logical_and(le(0, wide), lt(wide, as_node(size, int64)))
            inside = ok if inside is None else logical_and(inside, ok)
            at = part.cast(dtype)
        flat = at if flat is None else flat * as_node(size, dtype).cast(dtype) + at
    if flat is None:
        return broadcast_to(constant(0, dtype), like)
    return flat if inside is None else where(inside, flat, -1)


def _elements_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, at, new = ins
    assert x is not None and at is not None and new is not None
    attrs["axis"] = axis = normal_axis(attrs["axis"], x.ndim)
    if attrs["combine"] not in WRITERS:
        raise TraceError(f"combine={attrs['combine']!r}", hint=", ".join(WRITERS))
    if not x.ndim == at.ndim or new.ndim not in (0, x.ndim):
        raise ShapeError(f"x {show(x.shape)}, indices {show(at.shape)} and updates {show(new.shape)} must have one rank")
    for a, (full, size) in enumerate(zip(x.shape, at.shape, strict=True)):
        known = isinstance(full, int) and isinstance(size, int)
        if a != axis and (size > full if known else size not in (full, 1)):
            raise ShapeError(f"indices {show(at.shape)} are longer than x {show(x.shape)} on axis {a}")
        have = new.shape[a] if new.ndim else size
        if isinstance(have, int) and isinstance(size, int) and size > have:
            raise ShapeError(f"indices {show(at.shape)} are longer than updates {show(new.shape)} on axis {a}")
    if new.ndim == 0:
        ins[2] = broadcast_to(new.cast(x.dtype), at.shape)
    elif new.shape != at.shape:
        ins[2] = slice_(new, (0,) * new.ndim, at.shape)
    check_constant(at, x.shape[axis], axis)


@composite(
    "scatter_elements",
    prepare=_elements_prepare,
    samples=lambda: [
        Sample((rand(5, 7), sample_indices(3, 7, high=5), rand(3, 7, seed=1)), {"axis": 0, "combine": c}) for c in WRITERS
    ] + [
        Sample((rand(5, 7), sample_indices(4, 9, high=7, dtype=np.int64), rand(5, 9, seed=1)), {"axis": 1, "combine": "add"}),
        Sample((rand(2, 3, 4), sample_indices(2, 2, 4, high=3), rand(2, 2, 4, seed=1)), {"axis": -2}), Sample((rand(9), sample_indices(0, high=9), rand(0)), {"axis": 0}),
        Sample((rand(1, 33), sample_indices(1, 19, high=33), rand(1, 19, seed=1)), {"axis": 1, "combine": "max"}),
    ],
    errors=lambda: [
        Sample((rand(5, 7), sample_indices(4, high=5), rand(4)), error="one rank"), Sample((rand(5, 7), sample_indices(4, 8, high=5), rand(4, 8)), error="on axis 1"),
        Sample((rand(5), sample_indices(4, high=5), rand(3)), error="longer than updates"), Sample((rand(5), rand(4), rand(4)), error="integers"),
        Sample((rand(5), sample_indices(4, high=5), rand(4)), {"combine": "mean"}, error="combine"),
    ],
    onnx="ScatterElements",
    tolerance={"float32": 5e-6, "float64": 1e-12},
)  # fmt: skip
def scatter_elements(x: Node, indices: Node, updates: Node, axis: int = 0, combine: str = "set") -> Node:
    """``x`` with ``out[.., indices[.., i, ..], ..]`` combined with ``updates[.., i, ..]``: the position on ``axis`` is data.

    ``combine`` is set (the last one stays), add, mul, max or min: torch's ``scatter``, ``scatter_add`` and ``scatter_reduce``.
    ``indices`` may be shorter than ``x`` on the other axes; ``updates`` may be longer than ``indices``, or one number.
    """
    need_int(indices.tensor)
    flat = flat_positions([indices if a == axis else None for a in range(x.ndim)], x.shape, indices.shape)
    size = indices.size
    out = WRITERS[combine](reshape(x, (x.size,)), reshape(flat, (size,)), reshape(updates, (size,)))
    return reshape(out, x.shape)


_reductions = {"add": "add", "multiply": "mul", "sum": "add", "prod": "mul", "amax": "max", "amin": "min"}
_starts = {"add": 0.0, "mul": 1.0, "max": float("-inf"), "min": float("inf")}


@sugar
def scatter(x: Node, axis: int, index: Any, src: Any, reduce: str | None = None) -> Node:
    """torch's ``scatter(dim, index, src)``: elements of ``src`` written along ``axis``; ``reduce`` is None, "add" or "multiply".

    Of several elements written to one place the last one stays.
    """
    if reduce not in (None, "add", "multiply"):
        raise TraceError(f"scatter: reduce={reduce!r}", hint="'add' or 'multiply'; scatter_reduce has more")
    return scatter_elements(x, index, src, axis=axis, combine="set" if reduce is None else _reductions[reduce])


@sugar
def scatter_reduce(x: Node, axis: int, index: Any, src: Any, reduce: str, include_self: bool = True) -> Node:
    """torch's ``scatter_reduce``: ``reduce`` is "sum", "prod", "mean", "amax" or "amin"; ``include_self`` counts what ``x`` holds."""
    node, at = as_node(x), as_node(index)
    if reduce != "mean" and reduce not in _reductions:
        raise TraceError(f"scatter_reduce: reduce={reduce!r}", hint="'sum', 'prod', 'mean', 'amax' or 'amin'")
    combine = "add" if reduce == "mean" else _reductions[reduce]
    start = node
    if not include_self:
        untouched = broadcast_to(constant(True), node.shape)
        touched = scatter_elements(untouched, at, broadcast_to(constant(False), at.shape), axis=axis)
        start = where(touched, node, _starts[combine])
    out = scatter_elements(start, at, src, axis=axis, combine=combine)
    if reduce != "mean":
        return out
    ones = broadcast_to(constant(1, node.dtype), node.shape)
    first = ones if include_self else where(touched, ones, 0)
    return out / scatter_elements(first, at, broadcast_to(constant(1, node.dtype), at.shape), axis=axis, combine="add")


@sugar
def put_along_axis(x: Node, indices: Any, values: Any, axis: int = -1) -> Node:
    """``x`` with ``values`` at ``indices`` along ``axis``: NumPy's ``put_along_axis``, giving a new tensor. Indices broadcast and wrap."""
    node, at = as_node(x), as_node(indices)
    axis = normal_axis(axis, node.ndim)
    shape = broadcast_shapes([at.shape, (*node.shape[:axis], at.shape[axis], *node.shape[axis + 1 :])])
    at = broadcast_to(wrapped(at, node.shape[axis], axis), shape)
    return scatter_elements(node, at, broadcast_to(as_node(values, node.dtype), shape), axis=axis)


def _rows(x: Node, axis: int, index: Any, source: Any, combine: str) -> Node:
    node, new = as_node(x), as_node(source)
    axis = normal_axis(axis, node.ndim)
    return swapaxes(WRITERS[combine](swapaxes(node, 0, axis), index, swapaxes(new, 0, axis)), 0, axis)


@sugar
def index_add(x: Node, axis: int, index: Any, source: Any, alpha: float = 1.0) -> Node:
    """torch's ``index_add``: ``alpha`` times the slices of ``source`` added to the slices ``index`` of ``x`` along ``axis``."""
    return _rows(x, axis, index, source if alpha == 1.0 else as_node(source) * alpha, "add")


@sugar
def index_copy(x: Node, axis: int, index: Any, source: Any) -> Node:
    """torch's ``index_copy``: the slices ``index`` of ``x`` along ``axis`` replaced by those of ``source``; the last of equals stays."""
    return _rows(x, axis, index, source, "set")
