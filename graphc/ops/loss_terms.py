"""What the losses share: reductions of terms, checks of operands, sample data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir.dims import Size, prod
from ..ir.dtypes import int32, int64
from ..ir.node import Node
from .define import as_node, rand, show
from .reductions import mean
from .reductions import sum as reduce_sum
from .smooth_activations import softplus as cut_softplus
from .views import broadcast_to

__all__ = [
    "check_pair",
    "check_reduction",
    "class_axis",
    "class_targets",
    "labels",
    "number_in",
    "per_term",
    "prediction_and_target",
    "reduce_terms",
    "same_shapes",
    "signs",
    "softplus",
    "weighted",
]

REDUCTIONS = ("mean", "sum", "none")


def reduce_terms(x: Node, reduction: str) -> Node:
    """The mean or the sum of a loss's terms, or the terms."""
    return mean(x) if reduction == "mean" else reduce_sum(x) if reduction == "sum" else x


def check_reduction(attrs: dict[str, Any], allowed: Sequence[str] = REDUCTIONS) -> None:
    if attrs["reduction"] not in allowed:
        raise ArgumentError(f"reduction={attrs['reduction']!r}", hint="one of " + ", ".join(map(repr, allowed)))


def per_term(g: Node, shape: Sequence[Size], reduction: str) -> Node:
    """The cotangent of each term of a reduced loss. The division stands on the scalar, not on every element."""
    if reduction == "mean":
        count = prod(shape)
        g = g * (1.0 / count) if isinstance(count, int) and count else g / as_node(count).cast(g.dtype)
    return broadcast_to(g, shape)


softplus = partial(cut_softplus, threshold=math.inf)
"""``log(1 + exp(x))``, exact everywhere: by default the operator is cut at a threshold, as torch's is."""


def number_in(name: str, value: Any, low: float, high: float, hint: str) -> None:
    """Refuses an attribute that is no number in ``low..high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        raise ArgumentError(f"{name}={value!r}", hint=hint)


# -- operands --------------------------------------------------------------------------------------------------------------
def _float(x: Node, what: str) -> None:
    if not x.dtype.is_float:
        raise DTypeError(f"{what} must be float, not {x.type}", hint="x.cast('float32')")


def same_shapes(*names: str) -> Callable[[list[Node | None], dict[str, Any]], None]:
    """``prepare`` of a loss whose operands ``names`` have one shape: nothing broadcasts, the first gives the dtype.

    Operands after them are broadcast to that shape (weights).
    """

    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        x = ins[0]
        assert x is not None
        if "reduction" in attrs:
            check_reduction(attrs)
        _float(x, f"the {names[0]}")
        for i, name in enumerate(names[1:], 1):
            y = ins[i]
            assert y is not None
            if y.shape != x.shape:
                raise ShapeError(f"{names[0]} {show(x.shape)} and {name} {show(y.shape)} differ")
            ins[i] = y.cast(x.dtype)
        for i in range(len(names), len(ins)):
            w = ins[i]
            if w is not None:
                if w.ndim > x.ndim or any(a not in (1, b) for a, b in zip(reversed(w.shape), reversed(x.shape), strict=False)):
                    raise ShapeError(f"a weight {show(w.shape)} does not broadcast to {show(x.shape)}")
                ins[i] = w.cast(x.dtype)

    return prepare


def check_pair(x: Node, y: Node, first: str, second: str) -> tuple[Node, Node]:
    """Two operands of one shape in the dtype of the first, for losses that have others besides."""
    pair: list[Node | None] = [x, y]
    same_shapes(first, second)(pair, {})
    assert pair[1] is not None
    return x, pair[1]


prediction_and_target = same_shapes("prediction", "target")


def weighted(terms: Node, weight: Node | None) -> Node:
    return terms if weight is None else terms * weight


def class_axis(x: Node) -> int:
    """Axis 1, as in torch; a single vector of scores has its classes on axis 0."""
    return 0 if x.ndim == 1 else 1


def class_targets(scores: Node, targets: Node, probabilities: bool) -> Node:
    """Checked targets: labels as int32 or int64 (narrow types could not hold the number of classes), or probabilities."""
    if not scores.dtype.is_float or scores.ndim < 1:
        raise DTypeError(f"scores must be float (N, C, ...), not {scores.type}")
    axis = class_axis(scores)
    rows = (*scores.shape[:axis], *scores.shape[axis + 1 :])
    if targets.dtype.is_int and targets.shape == rows:
        label: Node = targets if targets.dtype in (int32, int64) else targets.cast(int64 if targets.dtype.itemsize > 2 else int32)
        return label
    if probabilities and targets.shape == scores.shape:
        probability: Node = targets.cast(scores.dtype)
        return probability
    also = f" or probabilities {show(scores.shape)}" if probabilities else ""
    raise ShapeError(f"scores {show(scores.shape)} need integer targets {show(rows)}{also}, not {targets.type}")


# -- sample data -----------------------------------------------------------------------------------------------------------
def labels(*shape: int, classes: int, dtype: Any = np.int64) -> np.ndarray:
    return np.random.default_rng(classes).integers(0, classes, shape).astype(dtype)


def signs(*shape: int) -> np.ndarray:
    """Targets of -1 and 1."""
    return np.asarray(np.sign(rand(*shape, seed=9)))
