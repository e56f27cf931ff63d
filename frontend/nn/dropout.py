"""Dropout in its forms: they act in training only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.dims import Size
from graphc.ir.node import Node
from graphc.ops.define import constant, show

from ..module import Module
from ..parameter import current_trace

__all__ = ["AlphaDropout", "DropPath", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]


class Dropout(Module):
    """In training, each element is 0 with probability ``p`` and else divided by 1 - p; otherwise the input itself."""

    def __init__(self, p: float = 0.5):
        if not 0.0 <= p <= 1.0:
            raise ShapeError(
                f"{type(self).__name__}: p = {p} is not in [0, 1]", hint="p is the part of the elements that becomes 0: nn.Dropout(0.5)"
            )
        self.p = p

    def forward(self, x: Node) -> Node:
        trace = current_trace()
        if trace is None or not trace.training or self.p == 0.0:
            return x
        return self.drop(x, *trace.random())

    def drop(self, x: Node, seed: Node, step: Node, stream: int) -> Node:
        """What training does, by the random numbers that are named."""
        return ops.dropout(x, seed, step, p=self.p, stream=stream)

    def describe(self) -> dict[str, Any]:
        return {"p": self.p}


class _Whole(Dropout):
    """Drops slices: one random number for all elements behind the leading axes."""

    def leading(self, x: Node) -> Sequence[Size]:
        """The leading sizes; each of their indices is kept or dropped as a whole."""
        raise NotImplementedError

    def drop(self, x: Node, seed: Node, step: Node, stream: int) -> Node:
        lead = tuple(self.leading(x))
        ones = ops.broadcast_to(constant(1.0, x.dtype), (*lead, *(1,) * (x.ndim - len(lead))))
        return x * ops.dropout(ones, seed, step, p=self.p, stream=stream)


class _Channels(_Whole):
    rank = 0

    def leading(self, x: Node) -> Sequence[Size]:
        if x.ndim not in (self.rank, self.rank - 1):
            raise ShapeError(
                f"{type(self).__name__}: {show(x.shape)} is not of rank {self.rank}, or {self.rank - 1} without a batch",
                hint="nn.Dropout takes any rank",
            )
        return x.shape[: 2 - (x.ndim < self.rank)]


class Dropout1d(_Channels):
    """Drops whole channels of (N, C, L) or (C, L), each sample's by itself (Tompson et al. 2015)."""

    rank = 3


class Dropout2d(_Channels):
    """Drops whole channels of images (N, C, H, W) or (C, H, W), each sample's by itself."""

    rank = 4


class Dropout3d(_Channels):
    """Drops whole channels of volumes (N, C, D, H, W) or (C, D, H, W), each sample's by itself."""

    rank = 5


class DropPath(_Whole):
    """Drops whole samples (the leading axis): stochastic depth when it ends a residual branch (Huang et al. 2016)."""

    def leading(self, x: Node) -> Sequence[Size]:
        return x.shape[:1]


class AlphaDropout(Dropout):
    """Dropout that keeps mean 0 and variance 1, for SELU networks (Klambauer et al. 2017).

    A dropped element becomes a = -1.7581, SELU's lower limit, and then all are mapped by ``u x + v`` with
    ``u = ((1 - p) (1 + p a^2))^(-1/2)`` and ``v = -u a p``. With ``p = 1`` everything is 0.
    """

    def drop(self, x: Node, seed: Node, step: Node, stream: int) -> Node:
        p, low = self.p, -1.7580993408473766
        kept = ops.dropout(ops.broadcast_to(constant(1.0, x.dtype), x.shape), seed, step, p=p, stream=stream) > 0.0
        if p == 1.0:
            return ops.where(kept, x, 0.0)
        u = ((1.0 - p) * (1.0 + p * low * low)) ** -0.5
        return ops.where(kept, x, low) * u - u * low * p
