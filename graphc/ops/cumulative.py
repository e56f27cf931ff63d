"""Running sums, products and extremes along an axis: composites over ``scan``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.dtypes import bool_, float32, int32
from ..ir.node import Node
from ..ir.op import Sample
from .define import composite, constant, normal_axis, rand
from .elementwise import add, maximum, minimum, mul
from .recurrence import scan
from .transcendental import logaddexp
from .views import broadcast_to, transpose

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "logcumsumexp"]


def _prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    if x.dtype == bool_:
        ins[0] = x.cast(int32)
    attrs["axis"] = normal_axis(attrs["axis"], max(x.ndim, 1))  # a scalar runs along the axis it would have


def _prepare_float(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    if x is not None and not x.dtype.is_float:
        ins[0] = x.cast(float32)
    _prepare(ins, attrs)


def _running(x: Node, axis: int, reverse: bool, combine: Callable[[Node, Node], Node], neutral: float) -> Node:
    """``combine`` folded along an axis, every intermediate result kept."""
    if x.ndim == 0:
        return x
    axis = normal_axis(axis, x.ndim)
    order = (axis, *(a for a in range(x.ndim) if a != axis))
    rows = transpose(x, order)

    def step(carry: Node, row: Node) -> tuple[Node, Node]:
        new = combine(carry, row)
        return new, new

    _, out = scan(step, broadcast_to(constant(neutral, x.dtype), rows.shape[1:]), rows, reverse=reverse)
    return transpose(out, tuple(order.index(a) for a in range(x.ndim)))


def _samples(low: float = -2.0, high: float = 2.0, smooth: bool = True) -> Callable[[], list[Sample]]:
    cases: tuple[tuple[tuple[int, ...], int, bool], ...] = (
        ((7,), -1, False), ((5, 7), 0, False), ((3, 5), 1, True), ((2, 3, 4), 1, False), ((1, 9), -1, True), ((3, 1), 1, False), ((0, 3), 0, False), ((3, 0), 0, False),
    )  # fmt: skip
    return lambda: [Sample((rand(*s, low=low, high=high),), {"axis": a, "reverse": r}, smooth=smooth) for s, a, r in cases]


@composite(
    "cumsum",
    prepare=_prepare,
    grad=lambda n, g: (g.cumsum(n.attrs["axis"], not n.attrs["reverse"]),),
    samples=_samples(),
    errors=lambda: [Sample((rand(3, 4),), {"axis": 2}, error="axis 2")],
)
def cumsum(x: Node, axis: int = -1, reverse: bool = False) -> Node:
    """``y[i] = x[0] + ... + x[i]`` along ``axis``, from the last element on with ``reverse``. Its gradient is the cumsum the other way."""
    return _running(x, axis, reverse, add, 0)


@composite("cumprod", prepare=_prepare, samples=_samples(0.5, 1.5))
def cumprod(x: Node, axis: int = -1, reverse: bool = False) -> Node:
    """``y[i] = x[0] * ... * x[i]`` along ``axis``, from the last element on with ``reverse``. The gradient holds for zeros, too."""
    return _running(x, axis, reverse, mul, 1)


def _extreme(x: Node, sign: int) -> float:
    if x.dtype.is_float:
        return sign * float("inf")
    info = np.iinfo(x.dtype.numpy)
    return int(info.max if sign > 0 else info.min)


@composite("cummax", prepare=_prepare, samples=_samples())
def cummax(x: Node, axis: int = -1, reverse: bool = False) -> Node:
    """``y[i] = max(x[0], ..., x[i])`` along ``axis``, from the last element on with ``reverse``; NaN stays."""
    return _running(x, axis, reverse, maximum, _extreme(x, -1))


@composite("cummin", prepare=_prepare, samples=_samples())
def cummin(x: Node, axis: int = -1, reverse: bool = False) -> Node:
    """``y[i] = min(x[0], ..., x[i])`` along ``axis``, from the last element on with ``reverse``; NaN stays."""
    return _running(x, axis, reverse, minimum, _extreme(x, 1))


@composite("logcumsumexp", prepare=_prepare_float, samples=_samples())
def logcumsumexp(x: Node, axis: int = -1, reverse: bool = False) -> Node:
    """``y[i] = log(exp(x[0]) + ... + exp(x[i]))`` along ``axis`` without overflow (torch's ``logcumsumexp``)."""
    return _running(x, axis, reverse, logaddexp, float("-inf"))
