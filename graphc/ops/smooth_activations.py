"""Activations made of exponentials: the ELU family, softplus and what is built on it, gates."""

from __future__ import annotations

import math

from ..errors import ShapeError
from ..ir.node import Node
from ..ir.op import Sample, sugar
from .activations import sigmoid, silu, softmax
from .define import composite, normal_axis, rand, unary_samples
from .elementwise import absolute, exp, maximum, minimum, mul, tanh, where
from .transcendental import expm1, floats, log1p

__all__ = ["celu", "elu", "glu", "logsigmoid", "mish", "selu", "softmin", "softplus", "softsign", "tanhshrink"]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


# -- exponential linear units: expm1 keeps digits near 0; the exponent never grows, so the branch not taken is finite ---------
def _elu_grad(n: Node, g: Node) -> tuple[Node]:
    x = n.inputs[0]
    return (where(x > 0.0, g, g * (exp(minimum(x, 0.0)) * n.attrs["alpha"])),)


@composite("elu", samples=unary_samples(), prepare=floats, grad=_elu_grad, onnx="Elu")
def elu(x: Node, alpha: float = 1.0) -> Node:
    """``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere (Clevert et al. 2016)."""
    return where(x > 0.0, x, expm1(minimum(x, 0.0)) * alpha)


def _selu_samples() -> list[Sample]:
    return [Sample(s.args, smooth=False) for s in unary_samples(0.1, 2.0)()] + [Sample((rand(5, 7, low=-3.0, high=-0.1),))]


@composite("selu", samples=_selu_samples, prepare=floats, onnx="Selu")
def selu(x: Node) -> Node:
    """``scale * elu(x, alpha)`` with the two constants that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return elu(x, SELU_ALPHA) * SELU_SCALE


def _celu_grad(n: Node, g: Node) -> tuple[Node]:
    x = n.inputs[0]
    return (where(x > 0.0, g, g * exp(minimum(x, 0.0) * (1.0 / n.attrs["alpha"]))),)


@composite("celu", samples=unary_samples(), prepare=floats, grad=_celu_grad)
def celu(x: Node, alpha: float = 1.0) -> Node:
    """``x`` where positive, ``alpha * (exp(x / alpha) - 1)`` elsewhere: an ELU whose slope is continuous (Barron 2017)."""
    return where(x > 0.0, x, expm1(minimum(x, 0.0) * (1.0 / alpha)) * alpha)


# -- softplus and its relatives ------------------------------------------------------------------------------------------------
def _softplus_grad(n: Node, g: Node) -> tuple[Node]:
    scaled, threshold = n.inputs[0] * n.attrs["beta"], n.attrs["threshold"]
    slope = g * sigmoid(scaled)
    return (slope if threshold == math.inf else where(scaled > threshold, g, slope),)


def _softplus_samples() -> list[Sample]:
    return [*unary_samples(-6.0, 6.0)(), Sample((rand(33, low=-3.0, high=3.0),), {"beta": 2.0}), Sample((rand(3, 5) * 40,)), Sample((rand(3, 5) * 40,), {"threshold": math.inf})]


@composite("softplus", samples=_softplus_samples, prepare=floats, grad=_softplus_grad, onnx="Softplus")
def softplus(x: Node, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """``log(1 + exp(beta x)) / beta`` as ``max(beta x, 0) + log1p(exp(-|beta x|))``, so that nothing overflows.

    ``x`` itself where ``beta x > threshold``, as in torch; an infinite threshold cuts nothing. The gradient is ``sigmoid(beta x)``.
    """
    scaled = x * beta
    stable = (maximum(scaled, 0.0) + log1p(exp(-absolute(scaled)))) * (1.0 / beta)
    return stable if threshold == math.inf else where(scaled > threshold, x, stable)


@composite("logsigmoid", samples=unary_samples(-6.0, 6.0), prepare=floats, grad=lambda n, g: (g * sigmoid(-n.inputs[0]),))
def logsigmoid(x: Node) -> Node:
    """``log(sigmoid(x))`` as ``min(x, 0) - log1p(exp(-|x|))``: finite for every finite ``x``. The gradient is ``sigmoid(-x)``."""
    return minimum(x, 0.0) - log1p(exp(-absolute(x)))


@composite("mish", samples=unary_samples(-6.0, 6.0), prepare=floats, onnx="Mish")
def mish(x: Node) -> Node:
    """``x * tanh(softplus(x))`` (Misra 2019)."""
    return x * tanh(softplus(x))


@composite("softsign", samples=unary_samples(0.1, 3.0), prepare=floats, onnx="Softsign")
def softsign(x: Node) -> Node:
    """``x / (1 + |x|)``."""
    return x / (absolute(x) + 1.0)


@composite("tanhshrink", samples=unary_samples(-3.0, 3.0), prepare=floats)
def tanhshrink(x: Node) -> Node:
    """``x - tanh(x)``."""
    return x - tanh(x)


# -- along an axis ---------------------------------------------------------------------------------------------------------------
@composite(
    "glu",
    prepare=floats,
    samples=lambda: [
        Sample((rand(5, 8),)),
        Sample((rand(4, 3),), {"axis": 0}),
        Sample((rand(2, 6, 19),), {"axis": 1}),
        Sample((rand(0, 2),)),
    ],
    errors=lambda: [Sample((rand(5, 7),), error="size 7 does not halve")],
)
def glu(x: Node, axis: int = -1) -> Node:
    """``a * sigmoid(b)`` for the two halves ``a``, ``b`` of ``x`` along ``axis`` (Dauphin et al. 2017)."""
    axis = normal_axis(axis, x.ndim)
    size = x.shape[axis]
    if not isinstance(size, int) or size % 2:
        raise ShapeError(f"axis {axis} of size {size} does not halve")
    first: list[slice] = [slice(None)] * axis
    return mul(x[(*first, slice(0, size // 2))], sigmoid(x[(*first, slice(size // 2, size))]))


@composite(
    "softmin",
    prepare=floats,
    samples=lambda: [Sample((rand(*s),), {"axis": a}) for s, a in (((5, 7), -1), ((5, 7), 0), ((33,), 0), ((2, 3, 4), 1))],
)
def softmin(x: Node, axis: int = -1) -> Node:
    """``softmax(-x)`` along ``axis``."""
    return softmax(-x, axis)


sugar(silu, "swish")
sugar(logsigmoid, "log_sigmoid")
