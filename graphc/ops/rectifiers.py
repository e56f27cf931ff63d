"""Piecewise activations: steps, rectifiers and shrinkers. At a kink the gradient is torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ir.node import Node
from ..ir.op import Sample
from .define import composite, rand, show
from .elementwise import absolute, eq, maximum, minimum, ne, where
from .transcendental import floats, reduce_like

__all__ = [
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "heaviside",
    "leaky_relu",
    "prelu",
    "relu6",
    "softshrink",
    "threshold",
]


def _off(*kinks: float, low: float = -2.0, high: float = 2.0, **attrs: Any) -> Callable[[], list[Sample]]:
    """Samples at least 0.05 away from the kinks."""

    def make(*shape: int) -> np.ndarray:
        x = rand(*shape, low=low, high=high)
        for k in kinks:
            x = np.where(np.abs(x - k) < 0.05, k + 0.1, x)
        return np.asarray(x)

    return lambda: [Sample((make(*s),), attrs, smooth=False) for s in ((), (0,), (1,), (5, 7), (2, 3, 19), (130,))]


@composite(
    "heaviside",
    inputs=2,
    prepare=floats,
    samples=lambda: [*_off(0.0)(), Sample((np.array([-1.0, 0.0, 2.0, 0.0]), rand(2, 4)), smooth=False, grad=(1,))],
)
def heaviside(x: Node, at_zero: Any = 0.0) -> Node:
    """The unit step: 1 where ``x > 0``, 0 where ``x < 0``, ``at_zero`` at 0 (NumPy's ``heaviside``). Its gradient by ``x`` is 0."""
    step = where(eq(x, 0.0), at_zero, where(x > 0.0, 1.0, 0.0).cast(x.dtype))
    return where(ne(x, x), x, step)


def _leaky_grad(n: Node, g: Node) -> tuple[Node]:
    return (where(n.inputs[0] > 0.0, g, g * n.attrs["negative_slope"]),)


@composite("leaky_relu", samples=_off(0.0, negative_slope=0.2), prepare=floats, grad=_leaky_grad, onnx="LeakyRelu")
def leaky_relu(x: Node, negative_slope: float = 0.01) -> Node:
    """``x`` where positive, ``negative_slope * x`` elsewhere (Maas et al. 2013)."""
    return where(x > 0.0, x, x * negative_slope)


def _prelu_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, weight = n.inputs
    slope = _by_channel(x, weight)
    d_slope = reduce_like(slope, where(x > 0.0, 0.0, g * x))
    return where(x > 0.0, g, g * slope), d_slope.reshape(weight.shape)


def _by_channel(x: Node, weight: Node) -> Node:
    """The weight in a shape that broadcasts against ``x``: one for all, or one an index of axis 1."""
    if weight.ndim > 1:
        raise ShapeError(f"the weight must have at most one axis, not {show(weight.shape)}")
    if weight.ndim == 0 or weight.shape[0] == 1:
        return weight.reshape((1,) * x.ndim)  # type: ignore[no-any-return]
    channels = x.shape[1] if x.ndim > 1 else x.shape[0] if x.ndim else 1
    if weight.shape[0] != channels:
        raise ShapeError(f"{weight.shape[0]} weights for {channels} channels of {show(x.shape)}")
    return weight.reshape((weight.shape[0], *(1,) * max(x.ndim - 2, 0)))  # type: ignore[no-any-return]


@composite(
    "prelu",
    prepare=floats,
    grad=_prelu_grad,
    samples=lambda: [
        *[Sample((np.where(np.abs(x := rand(*s)) < 0.05, 0.1, x), w), smooth=False) for s, w in (
            ((5, 7), rand(7, seed=1)), ((2, 3, 19), rand(3, seed=1)), ((5, 7), rand(1, seed=1)), ((33,), rand(seed=1)), ((0, 3), rand(3, seed=1)), ((2, 3, 4, 5), rand(3)),
        )],
    ],
    errors=lambda: [Sample((rand(5, 7), rand(6)), error="6 weights for 7 channels"), Sample((rand(5, 7), rand(5, 7)), error="one axis")],
    onnx="PRelu",
)  # fmt: skip
def prelu(x: Node, weight: Node) -> Node:
    """``x`` where positive, ``weight * x`` elsewhere: one weight, or one for each index of axis 1 (He et al. 2015)."""
    return where(x > 0.0, x, x * _by_channel(x, weight))


def _inside(x: Node, low: float, high: float, g: Any) -> Node:
    """``g`` strictly between the bounds, else 0."""
    return where((x > low) & (x < high), g, 0.0)


@composite(
    "hardtanh",
    samples=_off(-0.7, 1.1, min_val=-0.7, max_val=1.1),
    prepare=floats,
    grad=lambda n, g: (_inside(n.inputs[0], n.attrs["min_val"], n.attrs["max_val"], g),),
)
def hardtanh(x: Node, min_val: float = -1.0, max_val: float = 1.0) -> Node:
    """``x`` kept within ``[min_val, max_val]``; the gradient on the bounds is 0, unlike that of ``clip``."""
    return minimum(maximum(x, min_val), max_val)


@composite("relu6", samples=_off(0.0, 6.0, low=-4.0, high=10.0), prepare=floats, grad=lambda n, g: (_inside(n.inputs[0], 0.0, 6.0, g),))
def relu6(x: Node) -> Node:
    """``min(max(x, 0), 6)``."""
    return minimum(maximum(x, 0.0), 6.0)


@composite(
    "hardsigmoid",
    samples=_off(-3.0, 3.0, low=-5.0, high=5.0),
    prepare=floats,
    grad=lambda n, g: (_inside(n.inputs[0], -3.0, 3.0, g * (1.0 / 6.0)),),
)
def hardsigmoid(x: Node) -> Node:
    """``x / 6 + 1/2`` kept within [0, 1] (torch's; Keras up to version 2 had a slope of 0.2)."""
    return minimum(maximum(x + 3.0, 0.0), 6.0) * (1.0 / 6.0)


def _hardswish_grad(n: Node, g: Node) -> tuple[Node]:
    x = n.inputs[0]
    return (where(x < -3.0, 0.0, where(x > 3.0, g, g * (x * (1.0 / 3.0) + 0.5))),)


@composite("hardswish", samples=_off(-3.0, 3.0, low=-5.0, high=5.0), prepare=floats, grad=_hardswish_grad, onnx="HardSwish")
def hardswish(x: Node) -> Node:
    """``x * hardsigmoid(x)`` (Howard et al. 2019)."""
    return x * (minimum(maximum(x + 3.0, 0.0), 6.0) * (1.0 / 6.0))


@composite("softshrink", samples=_off(-0.5, 0.5), prepare=floats)
def softshrink(x: Node, lambd: float = 0.5) -> Node:
    """``x`` moved towards 0 by ``lambd``, 0 within that distance."""
    return where(x > lambd, x - lambd, where(x < -lambd, x + lambd, 0.0 * x))


@composite("hardshrink", samples=_off(-0.5, 0.5), prepare=floats)
def hardshrink(x: Node, lambd: float = 0.5) -> Node:
    """``x`` where ``|x| > lambd``, else 0; NaN stays."""
    return where(absolute(x) <= lambd, 0.0, x)


@composite("threshold", inputs=1, samples=_off(0.3, threshold=0.3, value=-1.5), prepare=floats)
def threshold(x: Node, threshold: float, value: float) -> Node:
    """``x`` where it exceeds ``threshold``, else ``value``; NaN stays."""
    return where(x <= threshold, value, x)
