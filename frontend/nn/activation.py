"""Activations as modules, with torch's names, arguments and defaults; each is the operator of the same name.

``inplace`` is accepted where torch has it and changes nothing: a graph has no places, and the compiler reuses memory by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.node import Node

from ..init import constant
from ..module import Module
from ..parameter import Parameter, current_trace

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Heaviside",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class _Activation(Module):
    """An operator with the settings of the module; ``settings`` names them, in the operator's order."""

    operator: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()

    def forward(self, x: Node) -> Node:
        call: Callable[..., Node] = getattr(ops, self.operator)
        return call(x, *(getattr(self, name) for name in self.settings))

    def describe(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.settings}


class _Plain(_Activation):
    """Without settings."""

    def __init__(self, inplace: bool = False):
        pass


class ReLU(_Plain):
    """max(0, x)."""

    operator = "relu"


class ReLU6(_Plain):
    """min(max(0, x), 6)."""

    operator = "relu6"


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    operator = "sigmoid"


class Hardsigmoid(_Plain):
    """x / 6 + 1/2, kept within [0, 1]."""

    operator = "hardsigmoid"


class Tanh(_Activation):
    """The hyperbolic tangent."""

    operator = "tanh"


class Hardtanh(_Activation):
    """x kept within [min_val, max_val]."""

    operator, settings = "hardtanh", ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        if not min_val < max_val:
            raise ShapeError(f"Hardtanh: min_val = {min_val} is not below max_val = {max_val}", hint="Hardtanh(-1.0, 1.0)")
        self.min_val, self.max_val = min_val, max_val


class Heaviside(_Activation):
    """The unit step: 1 where x is positive, else 0 (``at_zero`` at 0). Its gradient is 0; torch has it as a function only."""

    operator, settings = "heaviside", ("at_zero",)

    def __init__(self, at_zero: float = 0.0):
        self.at_zero = at_zero


class GELU(_Activation):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016); ``approximate`` is "none" or "tanh"."""

    operator, settings = "gelu", ("approximate",)

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate


class SiLU(_Plain):
    """x * sigmoid(x), also called swish."""

    operator = "silu"


class Hardswish(_Plain):
    """x * hardsigmoid(x)."""

    operator = "hardswish"


class Mish(_Plain):
    """x * tanh(softplus(x))."""

    operator = "mish"


class Softplus(_Activation):
    """log(1 + exp(beta x)) / beta, without overflow; x itself where beta x exceeds ``threshold``."""

    operator, settings = "softplus", ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta, self.threshold = beta, threshold


class LogSigmoid(_Activation):
    """log(1 / (1 + exp(-x))), without overflow."""

    operator = "logsigmoid"


class Softsign(_Activation):
    """x / (1 + |x|)."""

    operator = "softsign"


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    operator = "tanhshrink"


class Softshrink(_Activation):
    """x moved towards 0 by ``lambd``, 0 within that distance."""

    operator, settings = "softshrink", ("lambd",)

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd


class Hardshrink(_Activation):
    """x where \\|x\\| exceeds ``lambd``, else 0."""

    operator, settings = "hardshrink", ("lambd",)

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd


class Threshold(_Activation):
    """x where it exceeds ``threshold``, else ``value``."""

    operator, settings = "threshold", ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False):
        self.threshold, self.value = threshold, value


class LeakyReLU(_Activation):
    """x where positive, ``negative_slope`` * x elsewhere."""

    operator, settings = "leaky_relu", ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope = negative_slope


class PReLU(Module):
    """x where positive, ``weight`` * x elsewhere: a parameter, one for all or one a channel (axis 1) (He et al. 2015)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = "float32"):
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter((num_parameters,), init=constant(init), dtype=dtype)

    def forward(self, x: Node) -> Node:
        return ops.prelu(x, self.weight)

    def describe(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters}


class RReLU(Module):
    """x where positive; elsewhere times a slope drawn from [lower, upper) for each element in training, else their mean (Xu et al. 2015)."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False):
        if not lower <= upper:
            raise ShapeError(f"RReLU: lower = {lower} is above upper = {upper}", hint="RReLU(1 / 8, 1 / 3)")
        self.lower, self.upper = lower, upper

    def forward(self, x: Node) -> Node:
        trace = current_trace()
        if trace is None or not trace.training:
            return ops.leaky_relu(x, (self.lower + self.upper) / 2)
        seed, step, stream = trace.random()
        slope = ops.uniform(seed, step, x.shape, stream, x.dtype) * (self.upper - self.lower) + self.lower
        return ops.where(x > 0.0, x, x * slope)

    def describe(self) -> dict[str, Any]:
        return {"lower": self.lower, "upper": self.upper}


class ELU(_Activation):
    """x where positive, ``alpha`` * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""

    operator, settings = "elu", ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha = alpha


class CELU(_Activation):
    """x where positive, ``alpha`` * (exp(x / alpha) - 1) elsewhere (Barron 2017)."""

    operator, settings = "celu", ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha = alpha


class SELU(_Plain):
    """A scaled ELU that keeps mean 0 and variance 1 (Klambauer et al. 2017)."""

    operator = "selu"


class _Along(_Activation):
    """Along the axis ``dim``."""

    settings = ("dim",)

    def __init__(self, dim: int = -1):
        self.dim = dim


class Softmax(_Along):
    """exp(x) / sum(exp(x)) along ``dim``."""

    operator = "softmax"


class LogSoftmax(_Along):
    """x - log(sum(exp(x))) along ``dim``."""

    operator = "log_softmax"


class Softmin(_Along):
    """exp(-x) / sum(exp(-x)) along ``dim``."""

    operator = "softmin"


class GLU(_Along):
    """a * sigmoid(b) for the two halves a, b of x along ``dim``."""

    operator = "glu"


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, x: Node) -> Node:
        if x.ndim not in (3, 4):
            raise ShapeError(f"Softmax2d: rank {x.ndim}, expected 3 or 4", hint="(N, C, H, W), or (C, H, W)")
        return ops.softmax(x, -3)
