"""Tensors of constants and of counted values: zeros, arange, linspace, meshgrid. Sizes may be named dims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ShapeError
from ..ir.dims import Expr, Size
from ..ir.dtypes import DType, as_dtype, float32, int32
from ..ir.node import Node
from ..ir.op import sugar
from .define import as_node, constant
from .elementwise import maximum
from .generate import iota
from .views import broadcast_to, reshape

__all__ = ["arange", "full", "full_like", "linspace", "logspace", "meshgrid", "ones", "ones_like", "zeros", "zeros_like"]


def _shape(shape: Size | Sequence[Size]) -> tuple[Size, ...]:
    return (shape,) if isinstance(shape, (int, Expr)) else tuple(shape)


@sugar
def full(shape: Size | Sequence[Size], value: Any, dtype: DType | str | None = None) -> Node:
    """``value`` (a number or a scalar tensor) in every element."""
    node = as_node(value) if dtype is None or isinstance(value, Node) else constant(value, as_dtype(dtype))
    return broadcast_to(node if dtype is None else node.cast(as_dtype(dtype)), _shape(shape))


@sugar
def zeros(shape: Size | Sequence[Size], dtype: DType | str = float32) -> Node:
    """0 in every element."""
    return full(shape, 0, dtype)


@sugar
def ones(shape: Size | Sequence[Size], dtype: DType | str = float32) -> Node:
    """1 in every element."""
    return full(shape, 1, dtype)


@sugar
def full_like(x: Node, value: Any, dtype: DType | str | None = None) -> Node:
    """``value`` in the shape and dtype of ``x``."""
    return full(x.shape, value, x.dtype if dtype is None else dtype)


@sugar
def zeros_like(x: Node, dtype: DType | str | None = None) -> Node:
    """0 in the shape and dtype of ``x``."""
    return full_like(x, 0, dtype)


@sugar
def ones_like(x: Node, dtype: DType | str | None = None) -> Node:
    """1 in the shape and dtype of ``x``."""
    return full_like(x, 1, dtype)


@sugar
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: DType | str | None = None) -> Node:
    """``start, start + step, ...`` below ``stop``; ``arange(n)`` counts from 0. int32 for integers, float32 for floats, or ``dtype``.

    A bound that is a named dim needs an integer start and the step 1.
    """
    start, stop = (0, start) if stop is None else (start, stop)
    numbers = [start, stop, step]
    if any(isinstance(n, Node) for n in numbers):
        raise ShapeError("arange: a bound that is a tensor", hint="a size must be known when the graph is built, or be a named dim")
    kind = as_dtype(dtype) if dtype is not None else float32 if any(isinstance(n, float) for n in numbers) else int32
    if any(isinstance(n, Expr) for n in numbers):
        if step != 1 or isinstance(start, float):
            raise ShapeError(f"arange: a step of {step} from {start} to the named size {stop}")
        count: Size = stop - start
    elif step == 0:
        raise ShapeError("arange: a step of 0")
    else:
        count = max(math.ceil((stop - start) / step), 0)
    out = iota((count,), 0, kind)
    if step != 1:
        out = out * constant(step, kind)
    return out if isinstance(start, int) and start == 0 else out + (as_node(start).cast(kind) if isinstance(start, Expr) else constant(start, kind))


@sugar
def linspace(start: float, stop: float, num: Size = 50, endpoint: bool = True, dtype: DType | str = float32) -> Node:
    """``num`` evenly spaced numbers from ``start`` to ``stop``, which is the last one unless ``endpoint`` is False (NumPy's ``linspace``)."""
    kind = as_dtype(dtype)
    parts = num - 1 if endpoint else num
    at = iota((num,), 0, kind)
    share = at * (1.0 / parts if parts else 0.0) if isinstance(parts, int) else at / maximum(as_node(parts).cast(kind), 1.0)
    # from both ends, so that the last one is exact
    return (1.0 - share) * start + share * stop if parts != 0 else at + start


@sugar
def logspace(start: float, stop: float, num: Size = 50, endpoint: bool = True, base: float = 10.0, dtype: DType | str = float32) -> Node:
    """``base`` to the powers of :func:`linspace`."""
    out: Node = base ** linspace(start, stop, num, endpoint, dtype)
    return out


@sugar
def meshgrid(*xs: Any, indexing: str = "xy") -> tuple[Node, ...]:
    """Coordinates of a grid from one vector an axis; "xy" exchanges the first two axes, as NumPy (torch's default is "ij")."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"meshgrid: indexing={indexing!r}", hint="'xy' or 'ij'")
    lines = [as_node(x) for x in xs]
    if any(x.ndim > 1 for x in lines):
        raise ShapeError("meshgrid: operands must be vectors")
    order = [1, 0, *range(2, len(lines))] if indexing == "xy" and len(lines) > 1 else list(range(len(lines)))
    sizes = [x.size for x in lines]
    shape = tuple(sizes[i] for i in order)
    return tuple(broadcast_to(reshape(x, tuple(sizes[i] if order[a] == i else 1 for a in range(len(lines)))), shape) for i, x in enumerate(lines))
