"""Losses with a margin between scores: hinges of one score, of a class against the others, of a set of labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir.dtypes import int32
from ..ir.node import Node
from ..ir.op import Sample
from .define import as_node, composite, rand, show
from .elementwise import eq, le, logical_and, lt, maximum, where
from .generate import iota
from .loss_classification import along_classes, check_class_weight
from .loss_terms import (
    check_reduction,
    class_targets,
    labels,
    prediction_and_target,
    reduce_terms,
    same_shapes,
    signs,
    softplus,
    weighted,
)
from .reductions import mean
from .reductions import min as reduce_min
from .reductions import sum as reduce_sum
from .views import expand_dims

__all__ = [
    "hinge_embedding_loss",
    "hinge_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
    "squared_hinge_loss",
]

LOOSE = {"float32": 5e-6, "float64": 1e-12}
_shapes: list[tuple[tuple[int, ...], str]] = [((5, 7), "mean"), ((130,), "sum"), ((2, 3, 19), "none"), ((), "mean"), ((0, 3), "sum")]


def _samples(smooth: bool, **attrs: Any) -> list[Sample]:
    return [Sample((rand(*s), signs(*s)), {"reduction": r, **attrs}, grad=(0,), smooth=smooth) for s, r in _shapes]


def _errors() -> list[Sample]:
    return [Sample((rand(5, 1), rand(5)), error="differ"), Sample((rand(5), rand(5)), {"reduction": "avg"}, error="reduction")]


def _hinge(x: Node) -> Node:
    return maximum(x, 0.0)


# -- one score -------------------------------------------------------------------------------------------------------------
@composite("hinge_loss", prepare=prediction_and_target, samples=lambda: _samples(False), errors=_errors, tolerance=LOOSE)
def hinge_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean(max(0, 1 - t x))`` for targets ``t`` of -1 and 1: the loss of a support vector machine."""
    return reduce_terms(_hinge(1.0 - target * prediction), reduction)


@composite("squared_hinge_loss", prepare=prediction_and_target, samples=lambda: _samples(False), errors=_errors, tolerance=LOOSE)
def squared_hinge_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean(max(0, 1 - t x)^2)`` for targets ``t`` of -1 and 1."""
    h = _hinge(1.0 - target * prediction)
    return reduce_terms(h * h, reduction)


@composite("soft_margin_loss", prepare=prediction_and_target, samples=lambda: _samples(True), errors=_errors, tolerance=LOOSE)
def soft_margin_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean(log(1 + exp(-t x)))`` for targets ``t`` of -1 and 1, torch's ``soft_margin_loss``, without its overflow."""
    return reduce_terms(softplus(-(target * prediction)), reduction)


@composite(
    "hinge_embedding_loss",
    prepare=prediction_and_target,
    samples=lambda: _samples(False) + _samples(False, margin=0.4)[:2],
    errors=_errors,
    tolerance=LOOSE,
)
def hinge_embedding_loss(prediction: Node, target: Node, margin: float = 1.0, reduction: str = "mean") -> Node:
    """A distance ``x`` of two things alike (target 1) costs ``x``, of two unlike (-1) ``max(0, margin - x)``: torch's ``hinge_embedding_loss``."""
    alike = where(eq(target, -1.0), 0.0, prediction)
    unlike = where(eq(target, 1.0), 0.0, _hinge(margin - prediction))
    return reduce_terms(alike + unlike, reduction)


@composite(
    "margin_ranking_loss",
    prepare=same_shapes("first score", "second score", "target"),
    samples=lambda: [
        Sample((rand(*s), rand(*s, seed=1), signs(*s)), {"reduction": r, "margin": m}, grad=(0, 1), smooth=False) for s, r in _shapes for m in (0.0, 0.5)
    ],
    errors=lambda: [Sample((rand(5), rand(5), rand(4)), error="differ")],
    tolerance=LOOSE,
)  # fmt: skip
def margin_ranking_loss(first: Node, second: Node, target: Node, margin: float = 0.0, reduction: str = "mean") -> Node:
    """``mean(max(0, margin - t (first - second)))``: the first shall rank higher where the target is 1, lower where it is -1 (torch)."""
    return reduce_terms(_hinge(margin - target * (first - second)), reduction)


# -- one class against the others ------------------------------------------------------------------------------------------
def _multi_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y = ins[:2]
    assert x is not None and y is not None
    check_reduction(attrs)
    if x.ndim not in (1, 2):
        raise ShapeError(f"scores must be (N, C) or (C,), not {show(x.shape)}")
    ins[1] = class_targets(x, y, probabilities=False)
    check_class_weight(ins)
    if attrs.get("p", 1) not in (1, 2):
        raise ArgumentError(f"p={attrs['p']!r}", hint="1 or 2")


def _multi_samples() -> list[Sample]:
    weight = rand(7, seed=4, low=0.2, high=2.0)
    return [
        Sample((rand(*s), labels(*s[:-1], classes=s[-1]), *w), {"reduction": r, "p": p, "margin": m}, grad=(0,), smooth=False)
        for s, w, r, p, m in (((5, 7), (), "mean", 1, 1.0), ((5, 7), (weight,), "none", 2, 0.5), ((7,), (), "mean", 1, 1.0), ((33, 10), (), "sum", 2, 1.0),
                              ((4, 1), (), "mean", 1, 1.0), ((0, 3), (), "sum", 1, 1.0))
    ]  # fmt: skip


@composite(
    "multi_margin_loss",
    prepare=_multi_prepare,
    inputs=3,
    samples=_multi_samples,
    errors=lambda: [Sample((rand(5, 7), labels(5, classes=7)), {"p": 3}, error="p=3"), Sample((rand(5, 7), labels(4, classes=7)), error="integer targets")],
    tolerance=LOOSE,
)  # fmt: skip
def multi_margin_loss(
    scores: Node, targets: Node, weight: Node | None = None, p: int = 1, margin: float = 1.0, reduction: str = "mean"
) -> Node:
    """``weight[y] sum_{i != y} max(0, margin - x_y + x_i)^p / C`` a row, torch's ``multi_margin_loss``.

    Scores (N, C) or (C,), integer targets; a target outside 0..C-1 gives NaN. Crammer & Singer 2001 for ``p=1``.
    """
    hit = eq(iota(scores.shape, -1, targets.dtype), expand_dims(targets, -1))
    own = reduce_sum(where(hit, scores, 0.0), -1, keepdims=True)
    h = where(hit, 0.0, _hinge(margin - own + scores))
    terms = mean(h if p == 1 else h * h, -1)
    if weight is not None:
        terms = terms * reduce_sum(where(hit, along_classes(weight, scores), 0.0), -1)
    classes = as_node(scores.shape[-1]).cast(targets.dtype)
    return reduce_terms(where(logical_and(le(0, targets), lt(targets, classes)), terms, math.nan), reduction)


# -- sets of labels --------------------------------------------------------------------------------------------------------
def _set_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y = ins
    assert x is not None and y is not None
    check_reduction(attrs)
    if not x.dtype.is_float or not y.dtype.is_int:
        raise DTypeError(f"scores must be float and targets integers, not {x.type} and {y.type}")
    if x.ndim not in (1, 2) or y.shape != x.shape:
        raise ShapeError(f"scores {show(x.shape)} and targets {show(y.shape)} must both be (N, C) or (C,)")
    ins[1] = y.cast(int32)


def _label_sets(*shape: int) -> np.ndarray:
    """Some labels a row, then -1; what follows the first -1 does not count."""
    rng = np.random.default_rng(sum(shape))
    rows = np.stack([rng.permutation(shape[-1]) for _ in range(int(np.prod(shape[:-1])))] or [np.zeros(shape[-1], int)])
    for i, row in enumerate(rows):
        if shape[-1] > 1 and i % 3:
            row[(i + 1) % shape[-1]] = -1
    return np.asarray(rows[: int(np.prod(shape[:-1]))].reshape(shape), np.int64)


@composite(
    "multilabel_margin_loss",
    prepare=_set_prepare,
    samples=lambda: [
        Sample((rand(*s), _label_sets(*s)), {"reduction": r}, smooth=False)
        for s, r in (((5, 7), "mean"), ((7,), "mean"), ((6, 4), "none"), ((9, 5), "sum"), ((4, 1), "mean"), ((0, 3), "sum"))
    ],
    errors=lambda: [Sample((rand(5, 7), rand(5, 7)), error="integers"), Sample((rand(5, 7), labels(5, classes=7)), error="must both be")],
    tolerance=LOOSE,
)
def multilabel_margin_loss(scores: Node, targets: Node, reduction: str = "mean") -> Node:
    """``sum_{j in labels} sum_{i not in labels} max(0, 1 - (x_j - x_i)) / C`` a row, torch's ``multilabel_margin_loss``.

    ``targets`` (N, C) list the labels of each row; the first -1 ends the list.
    """
    place = iota(targets.shape, -1)
    classes = as_node(scores.shape[-1]).cast(int32)
    end = reduce_min(where(eq(targets, -1), place, classes), -1, keepdims=True)
    listed = where(lt(place, end), targets, -1)
    # how often each class is listed: (rows, classes listed, classes) summed over the list
    square = (*targets.shape, targets.shape[-1])
    count = reduce_sum(eq(expand_dims(listed, -1), iota(square, -1)).cast(scores.dtype), -2)
    gap = _hinge(1.0 - expand_dims(scores, -1) + expand_dims(scores, -2))  # 1 - x_j + x_i at [j, i]
    other = where(eq(count, 0.0), 1.0, 0.0).cast(scores.dtype)
    terms = reduce_sum(count * reduce_sum(expand_dims(other, -2) * gap, -1), -1)
    return reduce_terms(terms / as_node(scores.shape[-1]).cast(scores.dtype), reduction)


def _soft_set_samples() -> list[Sample]:
    weight = rand(7, seed=4, low=0.2, high=2.0)
    return [Sample((rand(*s), rand(*s, seed=1, low=0.0, high=1.0)), {"reduction": r}) for s, r in (((5, 7), "mean"), ((7,), "mean"), ((2, 3, 19), "none"), ((0, 3), "sum"))] + [
        Sample((rand(5, 7), rand(5, 7, seed=1, low=0.0, high=1.0), weight), {"reduction": r}, grad=(0, 1)) for r in ("mean", "none")
    ]  # fmt: skip


@composite(
    "multilabel_soft_margin_loss",
    prepare=prediction_and_target,
    inputs=3,
    samples=_soft_set_samples,
    errors=lambda: [Sample((rand(5, 1), rand(5)), error="differ"), Sample((rand(5), rand(5), rand(4)), error="weight")],
    tolerance=LOOSE,
)
def multilabel_soft_margin_loss(logits: Node, target: Node, weight: Node | None = None, reduction: str = "mean") -> Node:
    """The mean over classes (the last axis) of the binary cross entropy of each: one independent yes or no a class, as torch's."""
    terms = softplus(logits) - logits * target
    return reduce_terms(mean(weighted(terms, weight), -1), reduction)
