"""The description of a fold, which every reducing operator's record gives (sum, max, windows, convolution)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir.dims import Size
from .scalar import Scalar

__all__ = ["Fold"]


@dataclass(frozen=True)
class Fold:
    """``out[o] = combine over i of value(o, i)``: ``outer`` are the sizes of the result, ``inner`` those folded over.

    ``value(b, outer_index, inner_index)`` builds the scalar with a :class:`graphc.loops.build.PointBuilder`; ``combine`` is
    the scalar instruction and ``neutral`` its neutral element (the result where ``inner`` is empty). Where ``outer`` has other axes than the
    result, ``place(outer_index)`` is the index in the result, each of which stands at one place.
    """

    outer: tuple[Size, ...]
    inner: tuple[Size, ...]
    value: Callable[..., Scalar]
    combine: str
    neutral: float
    place: Callable[[tuple[Size, ...]], tuple[Size, ...]] = lambda outer: outer
