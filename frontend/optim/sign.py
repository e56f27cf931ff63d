"""Steps of one size in every element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc import ops
from graphc.ir.node import Node
from graphc.locate import public

from .base import Optimizer

__all__ = ["Lion"]


@dataclass(eq=False, repr=False)
class Lion(Optimizer):
    """Lion (Chen et al. 2023): the sign of an average moves the parameter; weight decay is decoupled, as in AdamW.

    Its steps are larger than Adam's: a tenth of Adam's rate and ten times its weight decay are where to begin.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    slots = ("m",)

    def check(self) -> None:
        super().check()
        self.betas = self._betas(self.betas)
        self._numbers("weight_decay")

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.lion_update(param, grad, state["m"], lr, betas=self.betas, weight_decay=self.weight_decay)


public(globals())
