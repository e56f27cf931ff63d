"""Activations as modules; each is the operator of the same name, applied element by element or along an axis."""

from __future__ import annotations

from typing import Any

from graphc import ops
from graphc.ir.node import Node

from ..module import Module

__all__ = ["ELU", "GELU", "LeakyReLU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]


class ReLU(Module):
    """max(0, x)."""

    def forward(self, x: Node) -> Node:
        return ops.relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Node) -> Node:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Node) -> Node:
        return ops.tanh(x)


class GELU(Module):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016)."""

    def forward(self, x: Node) -> Node:
        return ops.gelu(x)


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, x: Node) -> Node:
        return ops.silu(x)


class Softplus(Module):
    """log(1 + exp(x)), without overflow."""

    def forward(self, x: Node) -> Node:
        return ops.maximum(x, 0.0) + ops.log(1.0 + ops.exp(-ops.absolute(x)))


class LeakyReLU(Module):
    """x where positive, ``slope`` * x elsewhere."""

    def __init__(self, slope: float = 0.01):
        self.slope = slope

    def forward(self, x: Node) -> Node:
        return ops.where(x > 0.0, x, x * self.slope)

    def describe(self) -> dict[str, Any]:
        return {"slope": self.slope}


class ELU(Module):
    """x where positive, ``alpha`` * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Node) -> Node:
        return ops.where(x > 0.0, x, self.alpha * (ops.exp(ops.minimum(x, 0.0)) - 1.0))

    def describe(self) -> dict[str, Any]:
        return {"alpha": self.alpha}


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis."""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def forward(self, x: Node) -> Node:
        return ops.softmax(x, self.axis)

    def describe(self) -> dict[str, Any]:
        return {"axis": self.axis}


class LogSoftmax(Module):
    """x - log(sum(exp(x))) along an axis."""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def forward(self, x: Node) -> Node:
        return ops.log_softmax(x, self.axis)

    def describe(self) -> dict[str, Any]:
        return {"axis": self.axis}
