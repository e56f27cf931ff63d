"""Steps in proportion to each parameter's norm, for large batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc import ops
from graphc.ir.node import Node
from graphc.locate import public

from .adam import Moments

__all__ = ["LAMB"]


@dataclass(eq=False, repr=False)
class LAMB(Moments):
    """LAMB (You et al. 2020): Adam's direction, as long as the parameter's norm times lr. Usual: no decay for biases and norms,
    ``groups=[optim.Group(lambda name, p: p.ndim == 1, weight_decay=0.0)]``."""

    eps: float = 1e-6

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.lamb_update(
            param, grad, state["m"], state["v"], step, lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


public(globals())
