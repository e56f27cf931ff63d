"""Indexing by tensors: ``x[i, j]``, ``x.at[i, j].set(v)``, gather_nd and scatter_nd.

The meaning of a key is NumPy's: index tensors broadcast against each other and their result stands where they stood, or in
front when something stands between them (torch differs there for an int beside a tensor). Negative indices count from
the end. A boolean mask would make a shape out of values, so it may be written through (``x.at[mask].set(0)``) but not read,
unless it is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, GuardError, ShapeError, TraceError
from ..ir.dims import Expr, Size, atom, prod
from ..ir.dtypes import bool_, int64
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import Shape, TensorType
from ..loops import scalar as s
from .define import as_node, broadcast_shapes, composite, constant, primitive, rand, show
from .elementwise import maximum, minimum, where
from .indexing import as_update, check_constant, need_int, sample_indices, wrapped
from .scattering import WRITERS, flat_positions, scatter_add
from .views import broadcast_to, builtin_slice, expand_keys, pad, reshape, transpose, window
from .views import slice as slice_

__all__ = ["At", "at", "gather_nd", "index_tensor", "scatter_nd", "take_points"]


# -- take_points -----------------------------------------------------------------------------------------------------------
def _points(x: Any, *indices: Any) -> Node:
    """``x[i, j, ...]``: one tensor of positions for each of the first axes, all of one shape, which the result begins with.

    Positions count from 0 and do not wrap. One out of range is an error in the reference backend; compiled kernels do not
    touch memory for it and give 0. The gradient adds up.
    """
    nodes = [as_node(i) for i in indices]
    shape = broadcast_shapes([n.shape for n in nodes])
    for axis, (n, size) in enumerate(zip(nodes, as_node(x).shape, strict=False)):
        check_constant(n, size, axis)
    return Node.make(lookup("take_points"), (as_node(x), *(broadcast_to(n, shape) for n in nodes)))


def _points_infer(x: TensorType, *indices: TensorType) -> TensorType:
    if not 0 < len(indices) <= x.rank:
        raise ShapeError(f"{len(indices)} index tensors for x {show(x.shape)}")
    for i in indices:
        need_int(i)
    if any(i.shape != indices[0].shape for i in indices):
        raise ShapeError("index tensors have shapes " + " and ".join(show(i.shape) for i in indices))
    return TensorType((*indices[0].shape, *x.shape[len(indices) :]), x.dtype)


def _points_numpy(x: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    for axis, i in enumerate(indices):
        bad = (i < 0) | (i >= x.shape[axis])
        if bad.any():
            raise GuardError(f"index {i[bad].flat[0]} is out of range for axis {axis} of size {x.shape[axis]}")
    return np.asarray(x[tuple(i.astype(np.intp) for i in indices)])


def _points_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x, *indices = node.inputs
    rank = indices[0].ndim
    at = [b.value(i, idx[:rank]).cast(int64) for i in indices]
    inside = [c for a, size in zip(at, x.shape, strict=False) for c in (a >= 0, a < s.index_value(size))]
    return b.guarded(x, (*map(atom, at), *idx[rank:]), inside, 0)


def _points_grad(n: Node, g: Node) -> list[Node | None]:
    x, *indices = n.inputs
    return [_write_points(broadcast_to(constant(0.0, g.dtype), x.shape), indices, g, scatter_add), *(None for _ in indices)]


take_points = primitive(
    "take_points", "gather", _points.__doc__ or "", _points, _points_infer, numpy=_points_numpy, lower=_points_lower, grad=_points_grad, cost=4,
    samples=lambda: [
        Sample((rand(5, 7), sample_indices(4, high=5), sample_indices(4, high=7))), Sample((rand(5, 7, 3), sample_indices(2, 9, high=5), sample_indices(9, high=7))),
        Sample((rand(5, 7), sample_indices(33, high=5, dtype=np.int64))), Sample((rand(2, 3, 4), *(sample_indices(19, high=k) for k in (2, 3, 4)))),
        Sample((rand(5, 7), sample_indices(0, high=5), sample_indices(0, high=7))), Sample((rand(3, 4), sample_indices(high=3), sample_indices(high=4))),
    ],
    errors=lambda: [
        Sample((rand(5), sample_indices(2, high=5), sample_indices(2, high=5)), error="2 index tensors"), Sample((rand(5, 7), rand(4)), error="integers"),
        Sample((rand(5, 7), sample_indices(4, high=5), sample_indices(3, high=5)), error="broadcast"),
    ],
)  # fmt: skip


def _write_points(x: Node, indices: Sequence[Node], updates: Node, writer: Callable[..., Node]) -> Node:
    """``x`` with the rows at points written: ``updates`` has the shape of the indices and then of the axes left."""
    k = len(indices)
    flat = flat_positions(indices, x.shape[:k], indices[0].shape)
    rows = reshape(x, (prod(x.shape[:k]), *x.shape[k:]))
    return reshape(writer(rows, flat, updates), x.shape)


def _columns(indices: Node) -> list[Node]:
    """The coordinates that stand in the last axis."""
    count = indices.shape[-1] if indices.ndim else None
    if not isinstance(count, int) or not count:
        raise ShapeError(f"the last axis of indices {show(indices.shape)} must hold one coordinate or more")
    return [indices[..., i] for i in range(count)]


def _pairs(*shape: int, high: Sequence[int]) -> np.ndarray:
    return np.stack([sample_indices(*shape, high=h) for h in high], -1)


@composite(
    "gather_nd",
    samples=lambda: [
        Sample((rand(5, 7), _pairs(4, high=(5, 7)))), Sample((rand(5, 7, 3), _pairs(2, 3, high=(5, 7)))), Sample((rand(5, 7), _pairs(9, high=(5,)))),
        Sample((rand(5, 7), _pairs(0, high=(5, 7)))),
    ],
    errors=lambda: [Sample((rand(5), _pairs(2, high=(5, 5))), error="2 index tensors"), Sample((rand(5, 7), rand(4, 2)), error="integers")],
    onnx="GatherND",
)  # fmt: skip
def gather_nd(x: Node, indices: Node) -> Node:
    """``x[indices[.., 0], indices[.., 1], ...]``: coordinates stand in the last axis of ``indices`` (ONNX's GatherND, TensorFlow's)."""
    return take_points(x, *_columns(indices))


def _nd_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    if attrs["combine"] not in WRITERS:
        raise TraceError(f"combine={attrs['combine']!r}", hint=", ".join(WRITERS))


@composite(
    "scatter_nd",
    prepare=_nd_prepare,
    samples=lambda: [
        Sample((rand(5, 7), _pairs(4, high=(5, 7)), rand(4, seed=1)), {"combine": c}) for c in ("set", "add")
    ] + [
        Sample((rand(5, 7, 3), _pairs(2, 3, high=(5, 7)), rand(2, 3, 3, seed=1)), {"combine": "max"}), Sample((rand(5, 7), _pairs(9, high=(5,)), rand(9, 7, seed=1)), {"combine": "mul"}),
        Sample((rand(5, 7), _pairs(0, high=(5, 7)), rand(0)), {"combine": "min"}),
    ],
    errors=lambda: [
        Sample((rand(5, 7), _pairs(2, high=(5, 5)), rand(3)), error="do not fit"), Sample((rand(5, 7), _pairs(2, high=(5, 5)), rand(2)), {"combine": "mean"}, error="combine"),
        Sample((rand(5), _pairs(2, high=(5, 5)), rand(2)), error="2 coordinates"),
    ],
    onnx="ScatterND",
    tolerance={"float32": 5e-6, "float64": 1e-12},
)  # fmt: skip
def scatter_nd(x: Node, indices: Node, updates: Node, combine: str = "set") -> Node:
    """``x`` with ``x[indices[.., 0], indices[.., 1], ...]`` combined with ``updates`` (ONNX's ScatterND): set, add, mul, max or min.

    ``updates`` has the shape of ``indices`` without its last axis, and then of the axes of ``x`` that are left.
    """
    need_int(indices.tensor)
    columns = _columns(indices)
    if len(columns) > x.ndim:
        raise ShapeError(f"{len(columns)} coordinates for x {show(x.shape)}")
    return _write_points(x, columns, updates, WRITERS[combine])


# -- keys ------------------------------------------------------------------------------------------------------------------
class _Key:
    """A key with tensors, sorted out: ints and slices apart from index tensors, which are non-negative and broadcast."""

    def __init__(self, x: Node, keys: Sequence[Any]):
        keys = expand_keys(x, [k for given in keys for k in _as_index(given)])
        tensors = [i for i, k in enumerate(keys) if isinstance(k, Node)]
        # an int beside a tensor is an index tensor too, as in NumPy
        self.advanced = [i for i, k in enumerate(keys) if isinstance(k, Node) or (tensors and isinstance(k, (int, np.integer, Expr)))]
        self.basic = [builtin_slice(None) if i in self.advanced else k for i, k in enumerate(keys)]
        self.joined = bool(self.advanced) and self.advanced == list(range(self.advanced[0], self.advanced[-1] + 1))
        axes = [sum(k is not None for k in keys[:i]) for i in range(len(keys))]
        parts = [wrapped(as_node(keys[i]), x.shape[axes[i]], axes[i]) for i in self.advanced]
        shape = broadcast_shapes([p.shape for p in parts])
        self.parts = [broadcast_to(p, shape) for p in parts]
        self.shape: Shape = shape

    def order(self, rank: int) -> tuple[int, ...]:
        """The axes with the indexed ones in front."""
        return (*self.advanced, *(a for a in range(rank) if a not in self.advanced))

    def back(self, rank: int) -> tuple[int, ...]:
        """The order of axes of a result that has the axes of the index tensors in front."""
        k = len(self.shape)
        first = self.advanced[0] if self.joined else 0
        return (*range(k, k + first), *range(k), *range(k + first, rank))


def _as_index(k: Any) -> list[Any]:
    if isinstance(k, (list, np.ndarray, np.bool_)):
        array = np.asarray(k)
        if array.dtype == bool:  # a constant mask is known to hold at these places
            return [constant(p.astype(np.int64)) for p in np.nonzero(array)] if array.ndim else [array]
        if array.dtype.kind == "f" and not array.size:
            array = array.astype(np.int64)  # an empty list has no integers that could show their dtype
        return [constant(array)]
    if hasattr(k, "__graphc_node__"):
        k = as_node(k)
    if isinstance(k, Node) and k.dtype == bool_:
        raise ShapeError(
            f"a mask {show(k.shape)} would make a shape out of values", hint="where(mask, x, fill), or x.at[mask].set(value) to write"
        )
    if isinstance(k, Node) and not k.dtype.is_int:
        raise DTypeError(f"indices must be integers, not {k.type}", hint="indices.cast('int32')")
    return [k]


@sugar
def index_tensor(x: Node, keys: Sequence[Any]) -> Node:
    """``x[keys]`` with index tensors among the keys."""
    key = _Key(x, keys)
    starts, sizes, steps, shape = window(x, key.basic)
    y = reshape(slice_(x, starts, sizes, steps), shape)
    if not key.advanced:
        return y
    if len(key.parts) == 1:
        return lookup("take").call(y, key.parts[0], key.advanced[0])  # type: ignore[no-any-return]
    out = take_points(transpose(y, key.order(y.ndim)), *key.parts)
    return transpose(out, key.back(out.ndim))


# -- at ----------------------------------------------------------------------------------------------------------------------
_simple: dict[str, Callable[..., Node]] = {
    "set": lambda old, new: new, "add": lambda old, new: old + new, "mul": lambda old, new: old * new, "max": maximum, "min": minimum,
}  # fmt: skip


class At:
    """``x.at[key]``: a part of a tensor, to be read or written; writing gives a new tensor."""

    def __init__(self, x: Node, key: Any):
        self.x, self.key = x, list(key) if isinstance(key, tuple) else [key]

    def get(self) -> Node:
        """``x[key]``."""
        return self.x[tuple(self.key)]

    def set(self, value: Any) -> Node:
        """``x`` with the part replaced; where indices repeat, the last one stays."""
        return self._write(value, "set")

    def add(self, value: Any) -> Node:
        """``x`` with ``value`` added to the part; where indices repeat, all are added."""
        return self._write(value, "add")

    def subtract(self, value: Any) -> Node:
        """``x`` with ``value`` subtracted from the part."""
        return self._write(-as_node(value, self.x.dtype), "add")

    def multiply(self, value: Any) -> Node:
        """``x`` with the part multiplied by ``value``."""
        return self._write(value, "mul")

    def min(self, value: Any) -> Node:
        """``x`` with the part not above ``value``."""
        return self._write(value, "min")

    def max(self, value: Any) -> Node:
        """``x`` with the part not below ``value``."""
        return self._write(value, "max")

    mul = multiply

    def _write(self, value: Any, combine: str) -> Node:
        x, new = self.x, as_update(value, self.x.dtype)
        mask = as_node(self.key[0]) if len(self.key) == 1 and isinstance(self.key[0], (Node, np.ndarray)) else None
        if mask is not None and mask.dtype == bool_:
            return _write_mask(x, mask, new, combine)
        key = _Key(x, self.key)
        if any(k is None for k in key.basic):
            raise ShapeError("at: a new axis cannot be written", hint="leave None out of the key")
        starts, sizes, steps, shape = window(x, key.basic)
        if not key.advanced:
            return _write_window(x, reshape(_spread(new, shape), tuple(sizes)), starts, steps, combine)
        y = slice_(x, starts, sizes, steps)
        ints = tuple(i for i, k in enumerate(key.basic) if not isinstance(k, builtin_slice))
        assert not ints  # beside a tensor they became index tensors
        order, rest = key.order(y.ndim), [y.shape[a] for a in range(y.ndim) if a not in key.advanced]
        rank = len(key.shape) + len(rest)
        back = key.back(rank)
        whole = [*key.shape, *rest]
        new = transpose(_spread(new, tuple(whole[i] for i in back)), tuple(back.index(i) for i in range(rank)))
        moved = _write_points(transpose(y, order), key.parts, new, WRITERS[combine])
        y = transpose(moved, tuple(order.index(a) for a in range(y.ndim)))
        return y if y.shape == x.shape and set(steps) <= {1} else _write_window(x, y, starts, steps, "set")


def _spread(value: Node, shape: Shape) -> Node:
    try:
        return broadcast_to(value, shape)
    except ShapeError:
        raise ShapeError(f"at: a value {show(value.shape)} does not fit the part {show(shape)}") from None


def _write_mask(x: Node, mask: Node, value: Node, combine: str) -> Node:
    rest = x.shape[mask.ndim :]
    if mask.ndim > x.ndim or broadcast_shapes([mask.shape, x.shape[: mask.ndim]]) != x.shape[: mask.ndim]:
        raise ShapeError(f"at: a mask {show(mask.shape)} for x {show(x.shape)}")
    if value.ndim > len(rest):
        raise ShapeError(f"at: values {show(value.shape)} for a mask: how many places it marks is not known", hint="where(mask, values, x)")
    wide = broadcast_to(reshape(mask, (*mask.shape, *(1 for _ in rest))), x.shape)
    out: Node = where(wide, _simple[combine](x, _spread(value, rest)), x)
    return out


def _write_window(x: Node, value: Node, starts: Sequence[Size], steps: Sequence[int], combine: str) -> Node:
    """``x`` with a strided window written: an index map of ``value`` and not a scatter."""
    low, high, inner = [], [], []
    for axis, (start, step, size, full) in enumerate(zip(starts, steps, value.shape, x.shape, strict=True)):
        if step < 0:
            value, start, step = value.flip(axis), start + (size - 1) * step, -step
        low.append(start)
        high.append(full - start - ((size - 1) * step + 1 if step != 1 else size))
        inner.append(step - 1)
    if any(isinstance(size, int) and size == 0 for size in value.shape):
        return x
    inside = pad(broadcast_to(constant(True), value.shape), low, high, inner)
    out: Node = where(inside, _simple[combine](x, pad(value, low, high, inner)), x)
    return out


class _AtKey:
    __slots__ = ("x",)

    def __init__(self, x: Node):
        self.x = x

    def __getitem__(self, key: Any) -> At:
        return At(self.x, key)


@sugar
def at(x: Node) -> Any:
    """``x.at[key].set(value)``: ``x`` with a part written, as JAX's ``at``; see :class:`At` for what can be done."""
    return _AtKey(x)
