"""Normalisation and regularisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.node import Node
from graphc.ops.define import show

from ..module import Module
from ..parameter import Parameter, current_trace

__all__ = ["Dropout", "LayerNorm"]


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last axes, then ``weight`` and ``bias`` (Ba et al. 2016).

    ``shape`` is the size of the last axis, or the sizes of the last axes; the variance is the biased one, as in torch.
    """

    def __init__(self, shape: int | Sequence[int], eps: float = 1e-5, dtype: Any = "float32"):
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.eps = eps
        self.weight = Parameter(self.shape, init="ones", dtype=dtype)
        self.bias = Parameter(self.shape, init="zeros", dtype=dtype)

    def forward(self, x: Node) -> Node:
        n = len(self.shape)
        if x.shape[x.ndim - n :] != self.shape or x.ndim < n:
            raise ShapeError(
                f"layer_norm: the last axes of {show(x.shape)} are not {show(self.shape)}",
                hint="nn.LayerNorm(sizes of the last axes)",
            )
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps, axes=n)

    def describe(self) -> dict[str, Any]:
        return {"shape": self.shape, "eps": self.eps}


class Dropout(Module):
    """In training, each element is 0 with probability ``p`` and else divided by 1 - p; otherwise the input itself."""

    def __init__(self, p: float = 0.5):
        if not 0.0 <= p < 1.0:
            raise ShapeError(f"Dropout: p = {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Node) -> Node:
        trace = current_trace()
        if trace is None or not trace.training or self.p == 0.0:
            return x
        seed, step, stream = trace.random()
        return ops.dropout(x, seed, step, p=self.p, stream=stream)

    def describe(self) -> dict[str, Any]:
        return {"p": self.p}
