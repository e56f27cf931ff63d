"""The loss of a labelling without alignment."""

from __future__ import annotations

from typing import Any

from graphc import ops
from graphc.ir.node import Node

from ..module import Module

__all__ = ["CTCLoss"]


class CTCLoss(Module):
    """Connectionist temporal classification (Graves et al. 2006): see ``graphc.ops.ctc_loss``.

    ``forward(log_probs, targets, input_lengths, target_lengths)`` with log_probs (time, batch, classes) and targets
    (batch, S), padded.
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        self.blank, self.reduction, self.zero_infinity = blank, reduction, zero_infinity

    def forward(self, log_probs: Node, targets: Node, input_lengths: Node, target_lengths: Node) -> Node:
        return ops.ctc_loss(log_probs, targets, input_lengths, target_lengths, **self.describe())

    def describe(self) -> dict[str, Any]:
        return {"blank": self.blank, "reduction": self.reduction, "zero_infinity": self.zero_infinity}
