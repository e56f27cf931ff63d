"""Losses by name: each knows the spec of its target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc import ops
from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dtypes import int64
from graphc.ir.node import Node
from graphc.ir.types import TensorType
from graphc.ops.define import show

from .specs import Spec

__all__ = ["LOSSES", "Loss", "as_loss"]


@dataclass(frozen=True)
class Loss:
    """``fn(prediction, target)`` gives a scalar; ``target_spec(type of the prediction)`` the spec of the target."""

    name: str
    fn: Callable[[Any, Any], Node]
    target_spec: Callable[[TensorType], Spec] | None = None

    def derive(self, prediction: Any) -> Spec:
        """The target's spec; raises ArgumentError where it must be given."""
        if self.target_spec is None or not isinstance(prediction, Node):
            raise ArgumentError(
                f"the target's spec does not follow from the loss {self.name}",
                hint="gc.compile(..., target_spec=gc.spec(...))",
            )
        return self.target_spec(prediction.tensor)


def _same(t: TensorType) -> Spec:
    return Spec(t)


def _labels(t: TensorType) -> Spec:
    if t.rank < 2:
        raise ShapeError(
            f"cross_entropy: predictions of shape {show(t.shape)} have no class axis", hint="logits are (N, classes)"
        )
    return Spec(TensorType((t.shape[0], *t.shape[2:]) if t.rank > 2 else t.shape[:1], int64))


LOSSES = {
    "mse": Loss("mse", lambda p, y: ops.mse_loss(p, y), _same),
    "cross_entropy": Loss("cross_entropy", lambda p, y: ops.cross_entropy(p, y), _labels),
}
"""``mse``: mean((p - y)^2), target like the prediction. ``cross_entropy``: mean of -log softmax(logits)[label]; logits
(N, C), labels int (N,), or one-hot rows with ``target_spec=gc.spec("N", C)``."""


def as_loss(value: Any) -> Loss:
    """A loss by name, as a record, or as a function of (prediction, target)."""
    if isinstance(value, Loss):
        return value
    if isinstance(value, str) and value in LOSSES:
        return LOSSES[value]
    if callable(value):
        return Loss(getattr(value, "__name__", "loss"), value)
    raise ArgumentError(
        f"{value!r} is not a loss", hint="a function of (prediction, target), or one of " + ", ".join(LOSSES)
    )
