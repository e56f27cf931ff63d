"""Losses and accuracy as composites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Size, prod
from ..ir.dtypes import float32
from ..ir.node import Node
from ..ir.op import Sample
from .activations import log_softmax, logsumexp, softmax
from .define import as_node, composite, rand, show
from .elementwise import eq, le, logical_and, lt, where
from .generate import iota
from .indexing import argmax
from .reductions import mean
from .reductions import sum as reduce_sum
from .views import broadcast_to, expand_dims

__all__ = ["accuracy", "cross_entropy", "mse_loss"]


def _reduce(x: Node, reduction: str) -> Node:
    return mean(x) if reduction == "mean" else reduce_sum(x) if reduction == "sum" else x


def _check_reduction(attrs: dict[str, Any]) -> None:
    if attrs["reduction"] not in ("mean", "sum", "none"):
        raise TraceError(f"reduction={attrs['reduction']!r}", hint="'mean', 'sum' or 'none'")


def _per_element(g: Node, shape: Sequence[Size], reduction: str) -> Node:
    """The cotangent of each term of a reduced loss. The division stands on the scalar, not on every element."""
    if reduction == "mean":
        count = prod(shape)
        g = g * (1.0 / count) if isinstance(count, int) and count else g / as_node(count).cast(g.dtype)
    return broadcast_to(g, shape)


# -- mean squared error ----------------------------------------------------------------------------------------------------
def _same(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y = ins
    assert x is not None and y is not None
    _check_reduction(attrs)
    if x.shape != y.shape:
        raise ShapeError(f"prediction {show(x.shape)} and target {show(y.shape)} differ")
    if not x.dtype.is_float:
        raise DTypeError(f"the prediction must be float, not {x.type}")
    ins[1] = y.cast(x.dtype)


def _mse_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, y = n.inputs
    dx = (x - y) * _per_element(g * 2.0, x.shape, n.attrs["reduction"])
    return dx, -dx


@composite(
    "mse_loss",
    prepare=_same,
    grad=_mse_grad,
    samples=lambda: [Sample((rand(*s), rand(*s, seed=1)), {"reduction": r}) for s, r in (((5, 7), "mean"), ((130,), "sum"), ((2, 3, 19), "none"), ((), "mean"), ((4, 1), "mean"))],
    errors=lambda: [Sample((rand(5, 1), rand(5)), error="differ"), Sample((rand(5), rand(5)), {"reduction": "avg"}, error="reduction")],
    tolerance={"float32": 5e-6, "float64": 1e-12},
)  # fmt: skip
def mse_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean((prediction - target)^2)`` over all elements (or their "sum", or "none"). Shapes must be equal: no broadcasting."""
    d = prediction - target
    return _reduce(d * d, reduction)


# -- cross entropy ---------------------------------------------------------------------------------------------------------
def _class_axis(x: Node) -> int:
    return 0 if x.ndim == 1 else 1


def _entropy_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y = ins
    assert x is not None and y is not None
    _check_reduction(attrs)
    if not x.dtype.is_float or x.ndim < 1:
        raise DTypeError(f"logits must be float (N, C, ...), not {x.type}")
    axis = _class_axis(x)
    rows = (*x.shape[:axis], *x.shape[axis + 1 :])
    if y.dtype.is_int and y.shape != x.shape:
        if y.shape != rows:
            raise ShapeError(
                f"logits {show(x.shape)} need integer targets {show(rows)} or probabilities {show(x.shape)}, not {show(y.shape)}"
            )
    elif y.shape == x.shape:
        ins[1] = y.cast(x.dtype)
    else:
        raise ShapeError(f"logits {show(x.shape)} need integer targets {show(rows)} or probabilities {show(x.shape)}, not {y.type}")


def _entropy_grad(n: Node, g: Node) -> tuple[Node, Node | None]:
    x, y = n.inputs
    axis = _class_axis(x)
    rows = (*x.shape[:axis], *x.shape[axis + 1 :])
    each = expand_dims(_per_element(g, rows, n.attrs["reduction"]), axis)
    p = softmax(x, axis)
    if y.dtype.is_int:
        hit = eq(iota(x.shape, axis, y.dtype), expand_dims(y, axis))
        return (p - where(hit, 1.0, 0.0).cast(x.dtype)) * each, None
    return (p * reduce_sum(y, axis, keepdims=True) - y) * each, -(log_softmax(x, axis) * each)


def _labels(*shape: int, classes: int, dtype: Any = np.int64) -> np.ndarray:
    return np.random.default_rng(classes).integers(0, classes, shape).astype(dtype)


def _distribution(*shape: int, axis: int = 1) -> np.ndarray:
    p = rand(*shape, seed=3, low=0.1, high=1.0)
    return np.asarray(p / p.sum(axis, keepdims=True))


@composite(
    "cross_entropy",
    prepare=_entropy_prepare,
    grad=_entropy_grad,
    samples=lambda: [
        Sample((rand(5, 7), _labels(5, classes=7))), Sample((rand(5, 7), _distribution(5, 7))), Sample((rand(5, 7), np.eye(7)[_labels(5, classes=7)])),
        Sample((rand(7), _labels(classes=7))), Sample((rand(2, 5, 3), _labels(2, 3, classes=5, dtype=np.int32))), Sample((rand(33, 10), _labels(33, classes=10)), {"reduction": "sum"}),
        Sample((rand(6, 10), _labels(6, classes=10)), {"reduction": "none"}), Sample((rand(4, 1), _labels(4, classes=1))),
    ],
    errors=lambda: [Sample((rand(5, 7), _labels(4, classes=7)), error="integer targets"), Sample((rand(5, 7), rand(5)), error="probabilities")],
    tolerance={"float32": 5e-6, "float64": 1e-12},
    onnx="SoftmaxCrossEntropyLoss",
)  # fmt: skip
def cross_entropy(logits: Node, targets: Node, reduction: str = "mean") -> Node:
    """``-log softmax(logits)[target]``, mean over all rows: logits (N, C) or (N, C, ...), classes on axis 1, as in torch.

    Integer ``targets`` (N, ...): ``logsumexp(logits) - logits[target]``; a target outside 0..C-1 gives NaN, so that a training
    step stops before it writes. Float targets of the logits' shape are probabilities or one-hot rows: ``-sum(t log softmax)``.
    The gradient is ``(softmax(logits) - onehot) * g / N``.
    """
    axis = _class_axis(logits)
    if not targets.dtype.is_int:
        return _reduce(-reduce_sum(targets * log_softmax(logits, axis), axis), reduction)
    hit = eq(iota(logits.shape, axis, targets.dtype), expand_dims(targets, axis))
    rows = logsumexp(logits, axis) - reduce_sum(where(hit, logits, 0.0), axis)
    classes = as_node(logits.shape[axis]).cast(targets.dtype)
    valid = logical_and(le(0, targets), lt(targets, classes))
    return _reduce(where(valid, rows, math.nan), reduction)


@composite(
    "accuracy",
    grad=lambda n, g: (None, None),  # piecewise constant
    samples=lambda: [
        Sample((rand(5, 7), _labels(5, classes=7))),
        Sample((rand(33, 10), np.eye(10)[_labels(33, classes=10)])),
        Sample((rand(2, 5, 3), _labels(2, 3, classes=5))),
    ],
)
def accuracy(logits: Node, targets: Node) -> Node:
    """The share of rows whose largest logit stands at the target: correct / all, a float32 scalar.

    ``targets`` are integers (N, ...) or one-hot rows of the logits' shape; classes on axis 1.
    """
    axis = _class_axis(logits)
    if targets.shape == logits.shape:
        targets = argmax(targets, axis)
    found = argmax(logits, axis)
    if found.shape != targets.shape or not targets.dtype.is_int:
        raise ShapeError(f"logits {show(logits.shape)} need integer targets {show(found.shape)} or one-hot rows, not {targets.type}")
    return mean(eq(found.cast(targets.dtype), targets).cast(float32))
