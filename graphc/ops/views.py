"""Views: index maps without arithmetic. The loop builder folds them into the loads of whoever reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Expr, Size, evaluate, floordiv, prod
from ..ir.node import Node
from ..ir.op import Sample, function, lookup, sugar
from ..ir.types import Shape, TensorType
from .define import as_node, broadcast_shapes, normal_axes, normal_axis, primitive, rand, show

__all__ = ["at_least", "broadcast_to", "concat", "expand_dims", "flatten", "flip", "getitem", "pad", "reshape", "slice", "squeeze", "transpose"]


# -- reshape -------------------------------------------------------------------------------------------------------------
def _reshape_infer(t: TensorType, *, shape: Shape) -> TensorType:
    if prod(shape) != t.size:
        raise ShapeError(f"{show(t.shape)} has {t.size} elements, {show(shape)} has {prod(shape)}")
    return TensorType(shape, t.dtype)


def _reshape(x: Node, *shape: Any) -> Node:
    """``x`` with another shape and the same elements in row-major order; one size may be -1."""
    sizes: list[Size] = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else list(shape)
    unknown = [i for i, s in enumerate(sizes) if isinstance(s, int) and s == -1]
    if len(unknown) > 1:
        raise ShapeError("reshape: only one size may be -1")
    if unknown:
        rest = prod(s for i, s in enumerate(sizes) if i != unknown[0])
        sizes[unknown[0]] = floordiv(x.size, rest)
        if prod(sizes) != x.size:
            raise ShapeError(
                f"reshape: {x.size} elements of {show(x.shape)} do not divide into {show(tuple(shape))}",
                hint=f"a row has {prod(x.shape[1:])} elements: x.reshape(-1, {prod(x.shape[1:])})" if x.ndim > 1 else "a size that divides all of them",
            )
    target = tuple(sizes)
    return x if target == x.shape else Node.make(lookup("reshape"), (x,), shape=target)


def _reshape_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    return b.value(node.inputs[0], b.reindex(idx, node.shape, node.inputs[0].shape))


def _dynamic(shape: Shape, dims: Any) -> tuple[int, ...]:
    return tuple(evaluate(s, dims or {}) for s in shape)


reshape = primitive(
    "reshape", "view", _reshape.__doc__ or "", _reshape, _reshape_infer,
    numpy=lambda x, *, shape, dims=None: np.reshape(x, _dynamic(shape, dims)),
    lower=_reshape_lower, grad=lambda n, g: (_reshape(g, n.inputs[0].shape),), cost=0,
    samples=lambda: [Sample((rand(6, 4), (3, 8))), Sample((rand(2, 3, 5), (30,))), Sample((rand(0, 4), (2, 0))), Sample((rand(1), ()))],
    errors=lambda: [Sample((rand(6, 4), (5, 5)), error="elements")],
)  # fmt: skip


# -- assume --------------------------------------------------------------------------------------------------------------
def _assume_infer(t: TensorType, *, shape: Shape) -> TensorType:
    if len(shape) != t.rank or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(shape, t.shape, strict=True)):
        raise ShapeError(f"{show(t.shape)} cannot be {show(shape)}")
    return TensorType(shape, t.dtype)


assume = primitive(
    "assume", "view", "``x``, whose sizes are claimed to equal ``shape``; the claim is checked when sizes are bound (a guard).",
    lambda x, shape: x if tuple(shape) == x.shape else Node.make(lookup("assume"), (x,), shape=tuple(shape)), _assume_infer,
    numpy=lambda x, *, shape: x, lower=lambda b, n, idx: b.value(n.inputs[0], idx),
    grad=lambda n, g: (lookup("assume").call(g, n.inputs[0].shape),), method=False, cost=0,
)  # fmt: skip


# -- at_least ------------------------------------------------------------------------------------------------------------
def _at_least(x: Node, size: Size, least: int, why: str = "") -> Node:
    """``x``, with the claim that ``size`` is ``least`` or more; a named size is checked when it is bound (a guard).

    ``why`` ends the error's message.
    """
    if isinstance(size, int):
        if size < least:
            raise ShapeError(f"{size} where at least {least} are needed{why and ': '}{why}")
        return x
    return Node.make(lookup("at_least"), (x,), size=size, least=least, why=why)


at_least = primitive(
    "at_least", "view", _at_least.__doc__ or "", _at_least, lambda t, *, size, least, why: t,
    numpy=lambda x, *, size, least, why: x, lower=lambda b, n, idx: b.value(n.inputs[0], idx), grad=lambda n, g: (g,), method=False, cost=0,
    errors=lambda: [Sample((rand(1), 1, 2), error="at least 2")],
)  # fmt: skip


# -- transpose -----------------------------------------------------------------------------------------------------------
def _transpose(x: Node, *axes: Any) -> Node:
    """``x`` with its axes in another order; without axes, the last two swapped for rank 2 (NumPy's reversal in general)."""
    given: Sequence[int] = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    perm = tuple(normal_axis(a, x.ndim) for a in given) if given else tuple(reversed(range(x.ndim)))
    if sorted(perm) != list(range(x.ndim)):
        raise ShapeError(f"transpose: axes {perm} are no permutation of rank {x.ndim}")
    return x if perm == tuple(range(x.ndim)) else Node.make(lookup("transpose"), (x,), perm=perm)


def _inverse(perm: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


transpose = primitive(
    "transpose", "view", _transpose.__doc__ or "", _transpose,
    lambda t, *, perm: TensorType(tuple(t.shape[p] for p in perm), t.dtype),
    numpy=lambda x, *, perm: np.transpose(x, perm),
    lower=lambda b, n, idx: b.value(n.inputs[0], tuple(idx[i] for i in _inverse(n.attrs["perm"]))),
    grad=lambda n, g: (_transpose(g, *_inverse(n.attrs["perm"])),), cost=0,
    samples=lambda: [Sample((rand(5, 7), (1, 0))), Sample((rand(2, 3, 19), (2, 0, 1))), Sample((rand(2, 1, 3, 4), (0, 2, 3, 1)))],
)  # fmt: skip


# -- broadcast -----------------------------------------------------------------------------------------------------------
def _broadcast_infer(t: TensorType, *, shape: Shape) -> TensorType:
    if len(shape) < t.rank or broadcast_shapes([t.shape, shape]) != tuple(shape):
        raise ShapeError(f"{show(t.shape)} does not broadcast to {show(shape)}")
    return TensorType(tuple(shape), t.dtype)


def _broadcast_to(x: Any, shape: Sequence[Size]) -> Node:
    """``x`` repeated along new leading axes and axes of size 1, by NumPy's rule."""
    node = as_node(x)
    return node if node.shape == tuple(shape) else Node.make(lookup("broadcast_to"), (node,), shape=tuple(shape))


def _broadcast_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x = node.inputs[0]
    tail = idx[len(idx) - x.ndim :]
    return b.value(x, tuple(0 if s == 1 else i for s, i in zip(x.shape, tail, strict=True)))


def _broadcast_grad(n: Node, g: Node) -> tuple[Node]:
    x = n.inputs[0]
    lead = n.ndim - x.ndim
    axes = tuple(range(lead)) + tuple(lead + i for i, s in enumerate(x.shape) if s == 1 and n.shape[lead + i] != 1)
    return (_reshape(lookup("sum").call(g, axes), x.shape),)


broadcast_to = primitive(
    "broadcast_to", "view", _broadcast_to.__doc__ or "", _broadcast_to, _broadcast_infer,
    numpy=lambda x, *, shape, dims=None: np.broadcast_to(x, _dynamic(shape, dims)),
    lower=_broadcast_lower, grad=_broadcast_grad, cost=0,
    samples=lambda: [Sample((rand(7),), {"shape": (5, 7)}), Sample((rand(5, 1),), {"shape": (5, 7)}), Sample((rand(),), {"shape": (3, 2)}), Sample((rand(1, 3),), {"shape": (0, 3)})],
    errors=lambda: [Sample((rand(3),), {"shape": (4,)}, error="broadcast")],
)  # fmt: skip


# -- slice and pad: each other's gradient --------------------------------------------------------------------------------
def _slice_infer(t: TensorType, *, starts: Shape, sizes: Shape, steps: tuple[int, ...]) -> TensorType:
    if not len(starts) == len(sizes) == len(steps) == t.rank:
        raise ShapeError(f"starts, sizes and steps must have {t.rank} entries")
    return TensorType(tuple(sizes), t.dtype)


def _slice(x: Node, starts: Sequence[Size], sizes: Sequence[Size], steps: Sequence[int] | None = None) -> Node:
    """``sizes[a]`` elements of each axis from ``starts[a]`` on, every ``steps[a]``-th; negative steps walk backwards."""
    steps = tuple(steps) if steps is not None else (1,) * x.ndim
    if all(s == 0 for s in starts) and tuple(sizes) == x.shape and all(s == 1 for s in steps):
        return x
    for axis, (start, size, step, full) in enumerate(zip(starts, sizes, steps, x.shape, strict=True)):
        if all(isinstance(v, int) for v in (start, size, full)) and size:
            last = start + (size - 1) * step
            if not (0 <= start < full and 0 <= last < full):
                raise ShapeError(f"slice: axis {axis}: elements {start} to {last} of {full}")
    return Node.make(lookup("slice"), (x,), starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))


def _slice_numpy(x: np.ndarray, *, starts: Shape, sizes: Shape, steps: tuple[int, ...], dims: Any = None) -> np.ndarray:
    for axis, (start, size, step) in enumerate(zip(_dynamic(starts, dims), _dynamic(sizes, dims), steps, strict=True)):
        x = np.take(x, start + step * np.arange(size), axis=axis)
    return x


def _slice_grad(n: Node, g: Node) -> tuple[Node]:
    x = n.inputs[0]
    low, high, inner = [], [], []
    for axis, (start, size, step, full) in enumerate(zip(n.attrs["starts"], n.attrs["sizes"], n.attrs["steps"], x.shape, strict=True)):
        if step < 0:
            g, start, step = _flip(g, axis), start + (size - 1) * step, -step
        span = (size - 1) * step + 1 if step != 1 else size
        low.append(start)
        high.append(full - start - span)
        inner.append(step - 1)
    return (_pad(g, low, high, inner),)


slice = primitive(
    "slice", "view", _slice.__doc__ or "", _slice, _slice_infer, numpy=_slice_numpy,
    lower=lambda b, n, idx: b.value(n.inputs[0], tuple(i * st + s for i, s, st in zip(idx, n.attrs["starts"], n.attrs["steps"], strict=True))),
    grad=_slice_grad, cost=0,
    samples=lambda: [
        Sample((rand(5, 7),), {"starts": (1, 2), "sizes": (3, 4)}), Sample((rand(19,),), {"starts": (1,), "sizes": (6,), "steps": (3,)}),
        Sample((rand(3, 19),), {"starts": (2, 18), "sizes": (3, 10), "steps": (-1, -2)}), Sample((rand(4,),), {"starts": (1,), "sizes": (0,)}),
    ],
)  # fmt: skip


def _pad_infer(t: TensorType, *, low: Shape, high: Shape, inner: tuple[int, ...], value: float) -> TensorType:
    if not len(low) == len(high) == len(inner) == t.rank:
        raise ShapeError(f"low, high and inner must have {t.rank} entries")
    if any(isinstance(p, int) and p < 0 for p in (*low, *high, *inner)):
        raise ShapeError("pads must not be negative", hint="slice instead")
    return TensorType(tuple(_padded(s, lo, hi, i) for s, lo, hi, i in zip(t.shape, low, high, inner, strict=True)), t.dtype)


def _padded(size: Size, low: Size, high: Size, inner: int) -> Size:
    if inner and isinstance(size, Expr):
        return low + high + size * (inner + 1) - inner
    span = size * (inner + 1) - inner if inner and size != 0 else size
    return low + high + span


def _pad(x: Node, low: Sequence[Size], high: Sequence[Size], inner: Sequence[int] | None = None, value: float = 0.0) -> Node:
    """``x`` with ``value`` before (``low``), after (``high``) and between (``inner``) the elements of each axis."""
    inner = tuple(inner) if inner is not None else (0,) * x.ndim
    if all(p == 0 for p in (*low, *high, *inner)):
        return x
    return Node.make(lookup("pad"), (x,), low=tuple(low), high=tuple(high), inner=inner, value=float(value))


def _pad_numpy(x: np.ndarray, *, low: Shape, high: Shape, inner: tuple[int, ...], value: float, dims: Any = None) -> np.ndarray:
    lo, hi = _dynamic(low, dims), _dynamic(high, dims)
    shape = tuple(evaluate(_padded(s, a, b, i), {}) for s, a, b, i in zip(x.shape, lo, hi, inner, strict=True))
    out = np.full(shape, value, x.dtype)
    if x.size:
        out[tuple(np.s_[a : a + (s - 1) * (i + 1) + 1 : i + 1] for s, a, i in zip(x.shape, lo, inner, strict=True))] = x
    return out


def _pad_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    x = node.inputs[0]
    source: list[Size] = []
    conditions = []
    for i, lo, hole, size in zip(idx, node.attrs["low"], node.attrs["inner"], x.shape, strict=True):
        at = i - lo
        if hole:
            conditions += [b.inside(at, size * (hole + 1)), b.divisible(at, hole + 1)]
            at = floordiv(at, hole + 1)
        else:
            conditions.append(b.inside(at, size))
        source.append(at)
    return b.guarded(x, tuple(source), conditions, node.attrs["value"])


def _pad_grad(n: Node, g: Node) -> tuple[Node]:
    x = n.inputs[0]
    return (_slice(g, n.attrs["low"], x.shape, tuple(i + 1 for i in n.attrs["inner"])),)


pad = primitive(
    "pad", "view", _pad.__doc__ or "", _pad, _pad_infer, numpy=_pad_numpy, lower=_pad_lower, grad=_pad_grad, cost=2,
    samples=lambda: [
        Sample((rand(5, 7),), {"low": (1, 2), "high": (3, 0)}), Sample((rand(6,),), {"low": (1,), "high": (0,), "inner": (2,), "value": -1.5}),
        Sample((rand(0, 3),), {"low": (1, 0), "high": (0, 0)}), Sample((rand(19,),), {"low": (0,), "high": (14,)}),
    ],
    errors=lambda: [Sample((rand(3),), {"low": (-1,), "high": (0,)}, error="negative")],
)  # fmt: skip


# -- flip and concat -----------------------------------------------------------------------------------------------------
def _flip(x: Node, axis: int) -> Node:
    starts: list[Size] = [0] * x.ndim
    steps = [1] * x.ndim
    starts[axis], steps[axis] = x.shape[axis] - 1, -1
    return _slice(x, starts, x.shape, steps)


def flip(x: Node, axis: int | Sequence[int] | None = None) -> Node:
    """``x`` backwards along one axis, several, or all if none is given (NumPy's ``flip``)."""
    for a in normal_axes(axis, x.ndim):
        x = _flip(x, a)
    return x


def _concat_infer(*types: TensorType, axis: int) -> TensorType:
    first = types[0]
    for t in types[1:]:
        if t.dtype != first.dtype:
            raise DTypeError(f"operands have dtypes {first.dtype} and {t.dtype}")
        if t.rank != first.rank or any(a != b for i, (a, b) in enumerate(zip(t.shape, first.shape, strict=True)) if i != axis):
            raise ShapeError(
                f"{show(first.shape)} and {show(t.shape)} differ in an axis other than {axis}",
                hint="gc.ops.stack makes a new axis" if t.rank == first.rank else "all operands need the same number of axes: x[..., None]",
            )
    total: Size = 0
    for t in types:
        total = total + t.shape[axis]
    return TensorType((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)


def _concat(xs: Sequence[Node], axis: int = 0) -> Node:
    """Tensors joined along an axis."""
    nodes = [as_node(x) for x in xs]
    if not nodes:
        raise ShapeError("concat: no operands")
    axis = normal_axis(axis, nodes[0].ndim)
    return nodes[0] if len(nodes) == 1 else Node.make(lookup("concat"), nodes, axis=axis)


def _concat_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    axis = node.attrs["axis"]
    result, start = None, node.shape[axis]
    for x in reversed(node.inputs):
        start = start - x.shape[axis]
        at = idx[axis] - start
        part = b.guarded(x, (*idx[:axis], at, *idx[axis + 1 :]), [b.inside(at, x.shape[axis])], 0)
        result = part if result is None else b.inside(at, x.shape[axis]).select(part, result)
    return result


def _concat_grad(n: Node, g: Node) -> list[Node]:
    axis, at = n.attrs["axis"], 0
    out = []
    for x in n.inputs:
        starts: list[Size] = [0] * n.ndim
        starts[axis] = at
        out.append(_slice(g, starts, x.shape))
        at = at + x.shape[axis]
    return out


concat = primitive(
    "concat", "view", _concat.__doc__ or "", _concat, _concat_infer,
    numpy=lambda *xs, axis: np.concatenate(xs, axis), lower=_concat_lower, grad=_concat_grad, method=False, cost=3,
    samples=lambda: [
        Sample(([rand(5, 7), rand(5, 2, seed=1)],), {"axis": 1}), Sample(([rand(3), rand(0, seed=1), rand(19, seed=2)],), {"axis": 0}),
        Sample(([rand(2, 3, 4), rand(2, 1, 4)],), {"axis": 1}),
    ],
    errors=lambda: [Sample(([rand(5, 7), rand(4, 2)],), {"axis": 1}, error="differ")],
)  # fmt: skip


# -- sugar ---------------------------------------------------------------------------------------------------------------
@sugar
def flatten(x: Node, start_dim: int = 0, end_dim: int = -1) -> Node:
    """Axes ``start_dim`` to ``end_dim`` (inclusive) as one axis, as torch's ``flatten``."""
    if x.ndim == 0:
        return _reshape(x, (1,))
    a, b = normal_axis(start_dim, x.ndim), normal_axis(end_dim, x.ndim)
    return _reshape(x, (*x.shape[:a], prod(x.shape[a : b + 1]), *x.shape[b + 1 :]))


@sugar
def unflatten(x: Node, dim: int, sizes: Sequence[Size]) -> Node:
    """Axis ``dim`` as several axes of ``sizes``, one of which may be -1; as torch's ``unflatten``."""
    axis = normal_axis(dim, x.ndim)
    sizes = list(sizes)
    if -1 in sizes:
        rest = prod(s for i, s in enumerate(sizes) if i != sizes.index(-1))
        sizes[sizes.index(-1)] = floordiv(x.shape[axis], rest)
    if prod(sizes) != x.shape[axis]:
        raise ShapeError(f"unflatten: axis {axis} of {show(x.shape)} does not divide into {show(tuple(sizes))}")
    return _reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


@sugar
def expand_dims(x: Node, axis: int) -> Node:
    """A new axis of size 1 at ``axis``."""
    axis = normal_axis(axis, x.ndim + 1)
    return _reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


@sugar
def squeeze(x: Node, axis: int | Sequence[int] | None = None) -> Node:
    """Without the given axes of size 1 (all of them if none is given)."""
    axes = tuple(i for i, s in enumerate(x.shape) if s == 1) if axis is None else normal_axes(axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} has size {x.shape[a]}")
    return _reshape(x, tuple(s for i, s in enumerate(x.shape) if i not in axes))


@sugar
def stack(xs: Sequence[Node], axis: int = 0) -> Node:
    """Tensors of one shape joined along a new axis."""
    return _concat([expand_dims(as_node(x), axis) for x in xs], axis)


@sugar
def swapaxes(x: Node, a: int, b: int) -> Node:
    """Two axes exchanged."""
    perm = list(range(x.ndim))
    a, b = normal_axis(a, x.ndim), normal_axis(b, x.ndim)
    perm[a], perm[b] = b, a
    return _transpose(x, *perm)


@sugar
def getitem(x: Node, key: Any) -> Node:
    """NumPy's indexing: ints, slices, None, Ellipsis, and integer tensors, whose result has their shape (see ``at`` to write)."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(k, (Node, np.ndarray, list, np.bool_)) for k in keys):
        return function("index_tensor")(x, keys)  # type: ignore[no-any-return]
    starts, sizes, steps, shape = window(x, expand_keys(x, keys))
    return _reshape(_slice(x, starts, sizes, steps), shape)


def expand_keys(x: Node, keys: Sequence[Any]) -> list[Any]:
    """One key an axis, besides the None that make new axes."""
    keys = list(keys)
    used = sum(k is not None and k is not Ellipsis for k in keys)
    if used > x.ndim:
        raise ShapeError(f"{used} indices for rank {x.ndim}")
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(dots) > 1:
        raise ShapeError("an index can have one ... only")
    if dots:
        keys[dots[0] : dots[0] + 1] = [builtin_slice(None)] * (x.ndim - used)
    return keys + [builtin_slice(None)] * (x.ndim - sum(k is not None for k in keys))


def window(x: Node, keys: Sequence[Any]) -> tuple[list[Size], list[Size], list[int], Shape]:
    """Starts, sizes and steps of ints and slices, and the shape of what they take out."""
    starts: list[Size] = []
    sizes: list[Size] = []
    steps: list[int] = []
    shape: list[Size] = []
    axis = 0
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        full = x.shape[axis]
        axis += 1
        if isinstance(k, builtin_slice):
            start, size, step = _resolve(k, full)
            shape.append(size)
        elif isinstance(k, (int, np.integer, Expr)) and not isinstance(k, bool):
            if isinstance(full, int) and not isinstance(k, Expr) and not -full <= k < full:
                raise ShapeError(f"index {k} is out of range for axis {axis - 1} of size {full}")
            negative = isinstance(k, (int, np.integer)) and k < 0
            start, size, step = k if isinstance(k, Expr) else full + int(k) if negative else int(k), 1, 1
        else:
            raise ShapeError(f"{k!r} is no index", hint="ints, slices, None, ..., and integer tensors are")
        starts.append(start)
        sizes.append(size)
        steps.append(step)
    return starts, sizes, steps, tuple(shape)


builtin_slice = type(np.s_[:])


def _resolve(k: Any, full: Size) -> tuple[Size, Size, int]:
    step = 1 if k.step is None else int(k.step)
    if isinstance(full, int):
        start, stop, step = k.indices(full)
        return start, len(range(start, stop, step)), step
    if step != 1:
        if k.start is None and k.stop is None and step == -1:
            return full - 1, full, -1
        raise ShapeError(f"a step of {step} on the named axis {full}")
    ends = [0 if k.start is None else k.start, full if k.stop is None else k.stop]
    a, b = (full + e if isinstance(e, int) and e < 0 else e for e in ends)
    return a, b - a, 1


sugar(flip, "flip")
