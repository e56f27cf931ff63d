"""Gradient descent with and without momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc import ops
from graphc.errors import ArgumentError
from graphc.ir.node import Node
from graphc.locate import public

from .base import Optimizer

__all__ = ["SGD"]


@dataclass(eq=False, repr=False)
class SGD(Optimizer):
    """Gradient descent, ``w <- w - lr * g``, with momentum ``m' = momentum m + (1 - dampening) g``, Nesterov's variant and L2
    weight decay, as ``torch.optim.SGD``. Whether it is stochastic is up to the batches."""

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m",) if self.momentum else ()

    def check(self) -> None:
        super().check()
        self._numbers("momentum", high=1.0)
        self._numbers("dampening", "weight_decay")
        if self.nesterov and (not self.momentum or self.dampening):
            raise ArgumentError("nesterov needs a momentum and no dampening", hint="SGD(lr, momentum=0.9, nesterov=True)")

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> tuple[Node, ...]:
        out = ops.sgd_update(
            param, grad, state.get("m", grad), lr, step if self.dampening else None,
            momentum=self.momentum, dampening=self.dampening, weight_decay=self.weight_decay, nesterov=self.nesterov,
        )  # fmt: skip
        return tuple(out)[: 1 + len(state)]


public(globals())
