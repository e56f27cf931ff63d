"""Tensors rearranged: rolled, repeated, split, joined, axes moved. All are views of slices, joins and permutations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..errors import ShapeError
from ..ir.dims import Expr, Size
from ..ir.node import Node
from ..ir.op import sugar
from .define import as_node, broadcast_shapes, normal_axis, show
from .views import broadcast_to, concat, expand_dims, flip, reshape, slice, transpose

__all__ = [
    "atleast_1d", "atleast_2d", "chunk", "expand", "hstack", "moveaxis", "permute", "ravel", "repeat", "roll", "rot90", "split", "split_sizes",
    "tile", "unbind", "unsqueeze", "view", "vstack",
]  # fmt: skip


def _part(x: Node, axis: int, start: Size, size: Size) -> Node:
    starts: list[Size] = [0] * x.ndim
    sizes = list(x.shape)
    starts[axis], sizes[axis] = start, size
    return slice(x, starts, sizes)


# -- order along an axis -------------------------------------------------------------------------------------------------------
@sugar
def roll(x: Node, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Node:
    """Elements moved by ``shift`` along ``axis``, those beyond the end to the start; the flat order if no axis is given."""
    if axis is None:
        return reshape(roll(reshape(x, (x.size,)), shift, 0), x.shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    shifts = [shift] * len(axes) if isinstance(shift, int) else list(shift)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for s, a in zip(shifts, axes, strict=True):
        a = normal_axis(a, x.ndim)
        size = x.shape[a]
        if isinstance(size, int):
            s = s % size if size else 0
        if s == 0:
            continue
        # a shift of a named axis is taken as it is: sizes below it are refused when they are bound
        cut = size - s if s > 0 else -s
        x = concat([_part(x, a, cut, size - cut), _part(x, a, 0, cut)], a)
    return x


@sugar
def rot90(x: Node, k: int = 1, axes: Sequence[int] = (0, 1)) -> Node:
    """Turned by ``k`` quarter turns in the plane of two axes, from the first towards the second (NumPy's ``rot90``)."""
    a, b = (normal_axis(i, x.ndim) for i in axes)
    if a == b:
        raise ShapeError("rot90: the two axes are the same")
    perm = list(range(x.ndim))
    perm[a], perm[b] = b, a
    k %= 4
    if k == 2:
        return flip(x, (a, b))
    return x if k == 0 else transpose(flip(x, b), perm) if k == 1 else flip(transpose(x, perm), b)


# -- repetition ----------------------------------------------------------------------------------------------------------------
@sugar
def tile(x: Node, *reps: Any) -> Node:
    """The whole tensor repeated ``reps[i]`` times along axis i, counted from the last (NumPy's ``tile``; torch's ``x.repeat``)."""
    counts = list(reps[0]) if len(reps) == 1 and isinstance(reps[0], (tuple, list)) else list(reps)
    rank = max(len(counts), x.ndim)
    counts = [1] * (rank - len(counts)) + counts
    shape = (1,) * (rank - x.ndim) + x.shape
    spread = reshape(x, tuple(s for size in shape for s in (1, size)))
    full = broadcast_to(spread, tuple(s for c, size in zip(counts, shape, strict=True) for s in (c, size)))
    return reshape(full, tuple(c * size for c, size in zip(counts, shape, strict=True)))


@sugar
def repeat(x: Node, repeats: Size, axis: int | None = None) -> Node:
    """Each element ``repeats`` times in a row along ``axis``, or of the flat order (NumPy's ``repeat``; torch's ``repeat_interleave``)."""
    if not isinstance(repeats, (int, Expr)):
        raise ShapeError(f"repeat: repeats must be one number, not {repeats!r}", hint="x.take(indices, axis) picks elements in any order; x.tile(...) repeats as torch")
    if axis is None:
        x, axis = reshape(x, (x.size,)), 0
    axis = normal_axis(axis, x.ndim)
    spread = broadcast_to(expand_dims(x, axis + 1), (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
    return reshape(spread, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))


@sugar
def expand(x: Node, *sizes: Any) -> Node:
    """torch's ``expand``: broadcast to a shape in which -1 keeps a size."""
    shape = list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else list(sizes)
    lead = len(shape) - x.ndim
    return broadcast_to(x, tuple(x.shape[i - lead] if isinstance(s, int) and s == -1 and i >= lead else s for i, s in enumerate(shape)))


# -- parts -----------------------------------------------------------------------------------------------------------------------
@sugar
def split(x: Node, sections: int | Sequence[Size], axis: int = 0) -> tuple[Node, ...]:
    """NumPy's ``split``: a number of equal parts, or the indices at which to cut. For torch's list of sizes see ``split_sizes``."""
    axis = normal_axis(axis, x.ndim)
    size = x.shape[axis]
    if isinstance(sections, int):
        if not isinstance(size, int) or sections < 1 or size % sections:
            raise ShapeError(f"split: axis {axis} of size {size} does not divide into {sections} equal parts", hint="x.chunk(n, axis) allows a smaller last part")
        return split_sizes(x, size // sections, axis) if size else (x,) * sections
    cuts: list[Size] = [0, *sections, size]
    return tuple(_part(x, axis, a, b - a) for a, b in itertools.pairwise(cuts))


@sugar
def split_sizes(x: Node, sizes: int | Sequence[Size], axis: int = 0) -> tuple[Node, ...]:
    """torch's ``split``: parts of one size (the last may be smaller), or of the given sizes."""
    axis = normal_axis(axis, x.ndim)
    total = x.shape[axis]
    if isinstance(sizes, int):
        if not isinstance(total, int) or sizes < 1:
            raise ShapeError(f"split_sizes: axis {axis} of size {total} in parts of {sizes}")
        sizes = [min(sizes, total - a) for a in range(0, total, sizes)] or [0]
    found: Size = 0
    parts = []
    for s in sizes:
        parts.append(_part(x, axis, found, s))
        found = found + s
    if found != total:
        raise ShapeError(f"split_sizes: sizes {show(tuple(sizes))} have the sum {found}, axis {axis} has size {total}")
    return tuple(parts)


@sugar
def chunk(x: Node, chunks: int, axis: int = 0) -> tuple[Node, ...]:
    """torch's ``chunk``: at most ``chunks`` parts, all of one size but the last."""
    axis = normal_axis(axis, x.ndim)
    size = x.shape[axis]
    if not isinstance(size, int) or chunks < 1:
        raise ShapeError(f"chunk: axis {axis} of size {size} in {chunks} parts")
    return split_sizes(x, max(-(-size // chunks), 1), axis)


@sugar
def unbind(x: Node, axis: int = 0) -> tuple[Node, ...]:
    """The slices along an axis, without it."""
    axis = normal_axis(axis, x.ndim)
    size = x.shape[axis]
    if not isinstance(size, int):
        raise ShapeError(f"unbind: axis {axis} has the named size {size}", hint="graphc.ops.scan walks along a named axis")
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return tuple(reshape(_part(x, axis, i, 1), rest) for i in range(size))


# -- axes --------------------------------------------------------------------------------------------------------------------------
@sugar
def moveaxis(x: Node, source: int | Sequence[int], destination: int | Sequence[int]) -> Node:
    """Axes moved to other places, the rest in their order (NumPy's ``moveaxis``, torch's ``movedim``)."""
    a = [normal_axis(i, x.ndim) for i in ([source] if isinstance(source, int) else source)]
    b = [normal_axis(i, x.ndim) for i in ([destination] if isinstance(destination, int) else destination)]
    if len(a) != len(b) or len(set(a)) != len(a) or len(set(b)) != len(b):
        raise ShapeError(f"moveaxis: {source} cannot go to {destination}")
    perm = [i for i in range(x.ndim) if i not in a]
    for to, of in sorted(zip(b, a, strict=True)):
        perm.insert(to, of)
    return transpose(x, perm)


@sugar
def permute(x: Node, *dims: Any) -> Node:
    """torch's ``permute``: ``transpose`` with all axes given."""
    axes = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    if len(axes) != x.ndim:
        raise ShapeError(f"permute: {len(axes)} axes for rank {x.ndim}")
    return transpose(x, *axes)


@sugar
def unsqueeze(x: Node, dim: int) -> Node:
    """torch's ``unsqueeze``: a new axis of size 1."""
    return expand_dims(x, dim)


@sugar
def view(x: Node, *shape: Any) -> Node:
    """torch's ``view``: a reshape."""
    return reshape(x, *shape)


@sugar
def ravel(x: Node) -> Node:
    """All elements in one axis, in row-major order."""
    return reshape(x, (x.size,))


@sugar
def atleast_1d(x: Any) -> Node:
    """A scalar as a vector of one element; the rest as they are."""
    node = as_node(x)
    return node if node.ndim else reshape(node, (1,))


@sugar
def atleast_2d(x: Any) -> Node:
    """A scalar or a vector as one row; the rest as they are."""
    node = as_node(x)
    return node if node.ndim > 1 else reshape(node, (1, node.size))


# -- joins -------------------------------------------------------------------------------------------------------------------------
@sugar
def vstack(xs: Sequence[Any]) -> Node:
    """Rows below one another: joined along the first axis, vectors being rows."""
    return concat([atleast_2d(x) for x in xs], 0)


@sugar
def hstack(xs: Sequence[Any]) -> Node:
    """Side by side: joined along the second axis, vectors along their only one."""
    nodes = [atleast_1d(x) for x in xs]
    return concat(nodes, 0 if nodes[0].ndim == 1 else 1)


@sugar
def broadcast_arrays(*xs: Any) -> tuple[Node, ...]:
    """All operands in their common shape."""
    nodes = [as_node(x) for x in xs]
    shape = broadcast_shapes([n.shape for n in nodes])
    return tuple(broadcast_to(n, shape) for n in nodes)


sugar(concat, "concatenate")
sugar(concat, "cat")
sugar(moveaxis, "movedim")
sugar(repeat, "repeat_interleave")
sugar(broadcast_arrays, "broadcast_tensors")
