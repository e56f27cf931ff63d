"""Optimiser updates as composites of several results: the new parameter, then its new moments."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dtypes import float64
from ..ir.node import Node
from ..ir.op import Sample
from .define import composite, constant, rand, show
from .elementwise import pow, sqrt

__all__ = ["adam_update", "sgd_update"]


def _check(moments: tuple[int, ...], scalars: tuple[int, ...]) -> Any:
    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        p = ins[0]
        assert p is not None
        for i in (1, *moments):
            part = ins[i]
            if part is not None and part.type != p.type:
                raise ShapeError(f"the parameter is {p.type}, operand {i} is {part.type}")
        for i in scalars:
            part = ins[i]
            assert part is not None
            if part.shape != ():
                raise ShapeError(f"operand {i} must be a scalar, not {show(part.shape)}")
        if not p.dtype.is_float:
            raise DTypeError(f"a parameter must be float, not {p.type}")
        for k, v in attrs.items():
            if isinstance(v, int) and not isinstance(v, bool):
                attrs[k] = float(v)

    return prepare


@composite(
    "sgd_update",
    inputs=4,
    prepare=_check((2,), (3,)),
    samples=lambda: [
        Sample((rand(5, 7), rand(5, 7, seed=1), rand(5, 7, seed=2), np.float32(0.1)), k)
        for k in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01})
    ],
)
def sgd_update(
    p: Node, g: Node, m: Node, lr: Node, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
) -> tuple[Node, Node]:
    """One step of gradient descent -> (p', m'), by torch's formulas (``torch.optim.SGD``, dampening 0).

    ``g <- g + weight_decay p``; ``m' = momentum m + g``; the step is ``m'``, with Nesterov ``g + momentum m'``, without
    momentum ``g`` (and m' = m); ``p' = p - lr * step``. ``lr`` is a scalar tensor, so changing it compiles nothing.
    """
    if weight_decay:
        g = g + p * weight_decay
    step = g
    if momentum:
        m = m * momentum + g
        step = g + m * momentum if nesterov else m
    return p - step * lr.cast(p.dtype), m


@composite(
    "adam_update",
    inputs=6,
    prepare=_check((2, 3), (4, 5)),
    samples=lambda: [
        Sample((rand(*s), rand(*s, seed=1), rand(*s, seed=2), rand(*s, seed=3, low=0.0), np.int64(t), np.float32(1e-3)), k)
        for s, t, k in (
            ((5, 7), 1, {}),
            ((130,), 10, {"weight_decay": 0.01}),
            ((2, 3), 1000, {"weight_decay": 0.1, "decoupled": True}),
            ((), 3, {"beta1": 0.5}),
        )
    ],
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def adam_update(
    p: Node, g: Node, m: Node, v: Node, step: Node, lr: Node,
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> tuple[Node, Node, Node]:  # fmt: skip
    """One step of Adam (Kingma & Ba 2015) -> (p', m', v'), equal to torch's up to rounding.

    ``step`` = t counts from 1. ``m' = b1 m + (1 - b1) g``, ``v' = b2 v + (1 - b2) g^2``, ``c1 = 1 - b1^t``, ``c2 = 1 - b2^t``:
    torch's ``p' = p - lr/c1 * m' / (sqrt(v')/sqrt(c2) + eps)`` is ``p - (lr sqrt(c2)/c1) * m' / (sqrt(v') + eps sqrt(c2))``, where
    both brackets are scalars, computed once a step and in float64 (``1 - b2`` has few digits in float32).
    ``weight_decay`` is added to the gradient (L2), or with ``decoupled`` shrinks p by ``lr * weight_decay`` first (AdamW).
    """
    rate, t = lr.cast(float64), step.cast(float64)
    root = sqrt(1.0 - pow(constant(beta2, float64), t))
    size = (rate * root / (1.0 - pow(constant(beta1, float64), t))).cast(p.dtype)
    floor = (root * eps).cast(p.dtype)
    if weight_decay and decoupled:
        p = p * (1.0 - rate * weight_decay).cast(p.dtype)
    elif weight_decay:
        g = g + p * weight_decay
    m = m * beta1 + g * (1.0 - beta1)
    v = v * beta2 + g * g * (1.0 - beta2)
    return p - size * m / (sqrt(v) + floor), m, v
