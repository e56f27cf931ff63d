"""A rate for each element, from the size of its past gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphc import ops
from graphc.ir.node import Node
from graphc.locate import public

from ..parameter import Parameter
from .base import Optimizer

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


@dataclass(eq=False, repr=False)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011), as ``torch.optim.Adagrad``: divides by the root of the sum of all squares."""

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def check(self) -> None:
        super().check()
        self._numbers("lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def state_spec(self, param: Parameter) -> dict[str, tuple[tuple[int, ...], Any, float]]:
        return {"sum": (param.shape, param.dtype.arithmetic, self.initial_accumulator_value)}

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.adagrad_update(
            param, grad, state["sum"], step, lr, lr_decay=self.lr_decay, weight_decay=self.weight_decay, eps=self.eps
        )


@dataclass(eq=False, repr=False)
class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012), as ``torch.optim.Adadelta``: steps in the units of the parameter."""

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    slots = ("v", "delta")

    def check(self) -> None:
        super().check()
        self._numbers("rho", high=1.0)
        self._numbers("eps", "weight_decay")

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.adadelta_update(
            param, grad, state["v"], state["delta"], lr, rho=self.rho, eps=self.eps, weight_decay=self.weight_decay
        )


@dataclass(eq=False, repr=False)
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012), as ``torch.optim.RMSprop``; ``centered`` divides by the standard deviation."""

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("v", *(("m",) if self.momentum else ()), *(("mean",) if self.centered else ()))

    def check(self) -> None:
        super().check()
        self._numbers("alpha", high=1.0)
        self._numbers("momentum", "eps", "weight_decay")

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.rmsprop_update(
            param, grad, state["v"], lr, state.get("m"), state.get("mean"),
            alpha=self.alpha, eps=self.eps, weight_decay=self.weight_decay, momentum=self.momentum,
        )  # fmt: skip


public(globals())
