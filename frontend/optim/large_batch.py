"""Steps in proportion to each parameter's norm, for large batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc import ops
from graphc.ir.node import Node

from .base import Optimizer

__all__ = ["LAMB"]


@dataclass(eq=False, repr=False)
class LAMB(Optimizer):
    """LAMB (You et al. 2020): Adam's direction, as long as the parameter's norm times lr. Usual: no decay for biases and norms,
    ``groups=[optim.Group(lambda name, p: p.ndim == 1, weight_decay=0.0)]``."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.0

    slots = ("m", "v")

    def check(self) -> None:
        super().check()
        self.betas = self._betas(self.betas)
        self._numbers("eps", "weight_decay")

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.lamb_update(
            param, grad, state["m"], state["v"], step, lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )
