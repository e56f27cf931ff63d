"""What may happen to gradients before an update: clipping, and the gradients of penalties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.errors import ArgumentError
from graphc.ir.node import Node
from graphc.locate import public

from ..parameter import Parameter

__all__ = ["clip_by_global_norm", "clip_by_norm", "clip_by_value", "number", "penalised", "penalty"]


def number(name: str, value: Any, low: float = 0.0, high: float = float("inf")) -> float:
    """A setting as a float in [low, high), or ArgumentError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not low <= value < high:
        raise ArgumentError(f"{name} = {value!r} is not a number in [{low:g}, {high:g})", hint="optim.SGD(lr=0.1), optim.Adam(lr=1e-3)" if name == "lr" else "")
    return float(value)


def clip_by_value(grads: Iterable[Node], limit: float) -> list[Node]:
    """Every element of every gradient limited to [-limit, limit]: ``torch.nn.utils.clip_grad_value_``, Keras' ``clipvalue``."""
    limit = number("clip_value", limit)
    return [ops.minimum(ops.maximum(g, -limit), limit) for g in grads]


def clip_by_norm(grads: Iterable[Node], limit: float) -> list[Node]:
    """Each gradient scaled by min(1, limit / (its own norm + 1e-6)): Keras' ``clipnorm``."""
    return [clip_by_global_norm([g], limit)[0] for g in grads]


def clip_by_global_norm(grads: Sequence[Node], limit: float) -> list[Node]:
    """All gradients scaled by min(1, limit / (norm + 1e-6)), where norm is that of all of them together (Pascanu et al. 2013).

    As ``torch.nn.utils.clip_grad_norm_``; Keras' ``global_clipnorm``.
    """
    limit = number("clip_norm", limit)
    total: Any = 0.0
    for g in grads:
        total = total + (g * g).sum()
    scale = ops.minimum(1.0, limit / (ops.sqrt(total) + 1e-6))
    return [g * scale.cast(g.dtype) for g in grads]


def penalised(grad: Node, param: Node, l1: float, l2: float) -> Node:
    """The gradient of ``loss + l1 * sum |w| + l2 * sum w^2``: ``grad + l1 * sign(w) + 2 * l2 * w``; sign(0) is 0."""
    if l2:
        grad = grad + param * (2.0 * l2)
    if l1:
        grad = ops.where(ops.lt(0.0, param), grad + l1, ops.where(ops.lt(param, 0.0), grad - l1, grad))
    return grad


def penalty(params: Iterable[Parameter | Node], l1: float = 0.0, l2: float = 0.0) -> Node:
    """``l1 * sum |w| + l2 * sum w^2`` over the given parameters, as a scalar to add to a loss.

    An optimiser's ``l1=`` and ``l2=`` make the same updates without this sum; use it to see the penalised loss itself.
    Note the factor: ``weight_decay=d`` of the optimisers is ``l2 = d / 2`` here.
    """
    l1, l2 = number("l1", l1), number("l2", l2)
    total: Any = 0.0
    for p in params:
        w = p.node if isinstance(p, Parameter) else p
        if l1:
            total = total + ops.absolute(w).sum() * l1
        if l2:
            total = total + (w * w).sum() * l2
    if not isinstance(total, Node):
        raise ArgumentError("a penalty of nothing", hint="give parameters, and l1= or l2=")
    return total


public(globals())
