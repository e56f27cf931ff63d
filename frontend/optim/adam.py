"""Adam and its relatives: averages of the gradient and of its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

from graphc import ops
from graphc.ir.dtypes import float64
from graphc.ir.node import Node
from graphc.locate import public

from ..parameter import Parameter
from .base import Optimizer

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


@dataclass(eq=False, repr=False)
class Moments(Optimizer):
    """The settings that this family shares: decay rates of the two averages, a floor under the divisor, weight decay."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots: ClassVar[Any] = ("m", "v")

    def check(self) -> None:
        super().check()
        self.betas = self._betas(self.betas)
        self._numbers("eps", "weight_decay")


@dataclass(eq=False, repr=False)
class Adam(Moments):
    """Adam (Kingma and Ba 2015) with bias correction, as ``torch.optim.Adam``.

    ``weight_decay`` is added to the gradient (L2), with ``decoupled_weight_decay`` as in :class:`AdamW`; ``amsgrad`` divides by the
    largest second moment so far (Reddi, Kale and Kumar 2018).
    """

    amsgrad: bool = False
    _: KW_ONLY
    decoupled_weight_decay: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "v", "top") if self.amsgrad else ("m", "v")

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.adam_update(
            param, grad, state["m"], state["v"], step, lr, state.get("top"),
            betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, decoupled=self.decoupled_weight_decay,
        )  # fmt: skip


@dataclass(eq=False, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr * weight_decay before each step (Loshchilov and Hutter 2019)."""

    weight_decay: float = 0.01
    decoupled_weight_decay: bool = field(default=True, init=False)


@dataclass(eq=False, repr=False)
class NAdam(Moments):
    """Adam with Nesterov's momentum (Dozat 2016), as ``torch.optim.NAdam``."""

    lr: float = 2e-3
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    def check(self) -> None:
        super().check()
        self._numbers("momentum_decay")

    def state_spec(self, param: Parameter) -> dict[str, tuple[tuple[int, ...], Any, float]]:
        return {**super().state_spec(param), "mu_product": ((), float64, 1.0)}

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.nadam_update(
            param, grad, state["m"], state["v"], state["mu_product"], step, lr, betas=self.betas, eps=self.eps,
            weight_decay=self.weight_decay, momentum_decay=self.momentum_decay, decoupled=self.decoupled_weight_decay,
        )  # fmt: skip


@dataclass(eq=False, repr=False)
class RAdam(Moments):
    """Rectified Adam (Liu et al. 2020): plain momentum until the second moment can be trusted, as ``torch.optim.RAdam``."""

    decoupled_weight_decay: bool = False

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.radam_update(
            param, grad, state["m"], state["v"], step, lr,
            betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, decoupled=self.decoupled_weight_decay,
        )  # fmt: skip


@dataclass(eq=False, repr=False)
class Adamax(Moments):
    """Adam with the largest gradient in the place of the second moment (Kingma and Ba 2015), as ``torch.optim.Adamax``."""

    lr: float = 2e-3

    slots = ("m", "u")

    def update(self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node) -> Node:
        return ops.adamax_update(
            param, grad, state["m"], state["u"], step, lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


public(globals())
