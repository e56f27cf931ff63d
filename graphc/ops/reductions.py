"""Reductions: folds over axes with one combining instruction and its neutral element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Size, prod
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from ..loops.fold import Fold
from .define import NUMERIC, as_node, normal_axes, primitive, rand
from .elementwise import eq
from .views import broadcast_to, reshape

__all__ = ["max", "mean", "sum", "variance"]


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
            from ..ir.dtypes import int32

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

    low = np.iinfo(node.dtype.numpy).min if neutral == -np.inf and node.dtype.is_int else neutral
    return Fold(node.shape, tuple(x.shape[a] for a in axes), value, instruction, low)


def _max_numpy(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return np.asarray(np.max(x, axis=axes, initial=low))


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
    d = x - mean(x, axis, keepdims=True)
    return mean(d * d, axis, keepdims)


@sugar
def min(x: Node, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """The smallest element over ``axis``."""
    return -max(-x, axis, keepdims)


