"""Metrics as array functions of one batch. They are piecewise constant, or meant to be read: none has a gradient.

Predictions come first, as in the losses. Classes are integers 0..C-1; a row whose target is no class does not count. What is needed over
many batches (``graphc.metrics``) adds up :func:`class_counts` and divides at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir.dtypes import float32, int32, int64
from ..ir.node import Node
from ..ir.op import Sample
from .define import composite, constant, rand, show
from .elementwise import eq, le, logical_and, logical_or, lt, maximum, minimum, sqrt, where
from .generate import iota
from .indexing import argmax
from .loss_terms import class_axis, class_targets, labels
from .reductions import max as reduce_max
from .reductions import mean
from .reductions import min as reduce_min
from .reductions import sum as reduce_sum
from .scattering import scatter_add
from .views import broadcast_to, concat, expand_dims, getitem, reshape

__all__ = [
    "accuracy",
    "average_precision",
    "binary_accuracy",
    "box_iou",
    "class_counts",
    "cohen_kappa",
    "confusion_matrix",
    "f_score",
    "jaccard",
    "matthews_corrcoef",
    "precision",
    "r2_score",
    "recall",
    "roc_auc",
    "roc_curve",
    "specificity",
    "top_k_accuracy",
]

FEW = 64
NO_GRADIENT = "a metric is piecewise constant, or is no loss: train with a loss"


def _ratio(a: Node, b: Node) -> Node:
    """``a / b``; 0 where b is 0."""
    none = eq(b, 0.0)
    return where(none, 0.0, a / where(none, 1.0, b))


# -- the share of correct rows ---------------------------------------------------------------------------------------------
@composite(
    "accuracy",
    grad=lambda n, g: (None, None),  # piecewise constant, and part of many training steps
    samples=lambda: [
        Sample((rand(5, 7), labels(5, classes=7))),
        Sample((rand(33, 10), np.eye(10)[labels(33, classes=10)])),
        Sample((rand(2, 5, 3), labels(2, 3, classes=5))),
    ],
)
def accuracy(logits: Node, targets: Node) -> Node:
    """The share of rows whose largest logit stands at the target: correct / all, a float32 scalar.

    ``targets`` are integers (N, ...) or one-hot rows of the logits' shape; classes on axis 1.
    """
    axis = class_axis(logits)
    if targets.shape == logits.shape:
        targets = argmax(targets, axis)
    found = argmax(logits, axis)
    if found.shape != targets.shape or not targets.dtype.is_int:
        raise ShapeError(f"logits {show(logits.shape)} need integer targets {show(found.shape)} or one-hot rows, not {targets.type}")
    return mean(eq(found.cast(targets.dtype), targets).cast(float32))


def _equal_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y = ins
    assert x is not None and y is not None
    if x.shape != y.shape:
        raise ShapeError(f"predictions {show(x.shape)} and targets {show(y.shape)} differ")
    if not x.dtype.is_float:
        raise DTypeError(f"predictions must be float, not {x.type}")


@composite(
    "binary_accuracy",
    grad=NO_GRADIENT,
    prepare=_equal_prepare,
    samples=lambda: [Sample((rand(*s, low=0.0, high=1.0), labels(*s, classes=2)), {"threshold": t}) for s, t in (((5, 7), 0.5), ((130,), 0.3), ((4, 1), 0.5), ((), 0.5))],
    errors=lambda: [Sample((rand(5, 1), labels(5, classes=2)), error="differ")],
    method=False,
)  # fmt: skip
def binary_accuracy(predictions: Node, targets: Node, threshold: float = 0.5) -> Node:
    """The share of elements on the right side of the threshold: ``mean((prediction > threshold) == target)``, targets 0 (or -1) and 1.

    For logits the threshold is 0.
    """
    yes = lt(constant(threshold, predictions.dtype), predictions)
    truth = targets if targets.dtype.kind == "b" else lt(0, targets)
    return mean(eq(yes, truth).cast(float32))


def _top_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y = ins
    assert x is not None and y is not None
    ins[1] = class_targets(x, y, probabilities=False)
    if isinstance(attrs["k"], bool) or not isinstance(attrs["k"], int) or attrs["k"] < 1:
        raise ArgumentError(f"k={attrs['k']!r}", hint="a positive int")


@composite(
    "top_k_accuracy",
    grad=NO_GRADIENT,
    prepare=_top_prepare,
    samples=lambda: [Sample((rand(*s), labels(*r, classes=c)), {"k": k}) for s, r, c, k in (((33, 10), (33,), 10, 3), ((5, 7), (5,), 7, 1), ((4, 3), (4,), 3, 5), ((2, 5, 3), (2, 3), 5, 2))],
    errors=lambda: [Sample((rand(5, 7), labels(5, classes=7)), {"k": 0}, error="k=0"), Sample((rand(5, 7), rand(5)), error="integer targets")],
    method=False,
)  # fmt: skip
def top_k_accuracy(logits: Node, targets: Node, k: int = 5) -> Node:
    """The share of rows whose target is among the ``k`` largest logits; of equal logits the first counts as larger, as for argmax."""
    axis = class_axis(logits)
    place = iota(logits.shape, axis, targets.dtype)
    label = expand_dims(targets, axis)
    hit = eq(place, label)
    own = reduce_sum(where(hit, logits, 0.0), axis, keepdims=True)
    before = logical_or(lt(own, logits), logical_and(eq(logits, own), lt(place, label)))
    rank = reduce_sum(before.cast(int32), axis)
    found = reduce_sum(logical_and(hit, eq(logits, logits)).cast(int32), axis)  # 0 where the target is no class, or its logit is NaN
    return mean(logical_and(lt(rank, k), eq(found, 1)).cast(float32))


# -- counts ----------------------------------------------------------------------------------------------------------------
def _classes_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y = ins
    assert x is not None and y is not None
    if not x.dtype.is_int or not y.dtype.is_int:
        raise DTypeError(f"classes must be integers, not {x.type} and {y.type}", hint="ops.argmax(scores, 1)")
    if x.shape != y.shape:
        raise ShapeError(f"predictions {show(x.shape)} and targets {show(y.shape)} differ")
    if isinstance(attrs["classes"], bool) or not isinstance(attrs["classes"], int) or attrs["classes"] < 1:
        raise ArgumentError(f"classes={attrs['classes']!r}", hint="the number of classes")
    if attrs.get("average") not in (None, "macro", "micro", "weighted", "binary"):
        raise ArgumentError(f"average={attrs['average']!r}", hint='"macro", "micro", "weighted", "binary" or None')
    if attrs.get("average") == "binary" and attrs["classes"] != 2:
        raise ArgumentError(f'average="binary" with {attrs["classes"]} classes', hint='"macro", "micro" or "weighted"')
    ins[:] = [reshape(v.cast(int64), -1) for v in (x, y)]


def _pairs(**attrs: Any) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], int]] = [((33,), 4), ((5, 7), 3), ((130,), 2), ((1,), 2), ((300,), 70)]
    return [Sample((labels(*s, classes=c), np.array(labels(*s, classes=c + 7) % c)), {"classes": c, **attrs}) for s, c in cases]


def _count_errors() -> list[Sample]:
    good = labels(5, classes=3)
    return [
        Sample((rand(5), good), {"classes": 3}, error="integers"),
        Sample((good, labels(4, classes=3)), {"classes": 3}, error="differ"),
        Sample((good, good), {"classes": 0}, error="classes=0"),
    ]


def _in_range(x: Node, classes: int) -> Node:
    return logical_and(le(0, x), lt(x, classes))


def _tally(places: Node, counted: Node, size: int) -> Node:
    """How often each of 0..size-1 stands in ``places`` where ``counted``.

    Comparing with every place is quickest for few; for many each row finds its own, and a place more takes the rows that do not count.
    """
    if size <= FEW:
        hit = eq(expand_dims(places, 1), iota((*places.shape, size), 1, places.dtype))
        return reduce_sum(logical_and(hit, expand_dims(counted, 1)).cast(int32), 0)
    ones = broadcast_to(constant(1, int32), places.shape)
    return getitem(scatter_add(broadcast_to(constant(0, int32), (size + 1,)), where(counted, places, size), ones), slice(0, size))


@composite(
    "confusion_matrix",
    grad=NO_GRADIENT,
    prepare=_classes_prepare,
    samples=lambda: [*_pairs(), Sample((labels(0, classes=3), labels(0, classes=3)), {"classes": 3})],
    errors=_count_errors,
    method=False,
)
def confusion_matrix(predictions: Node, targets: Node, *, classes: int) -> Node:
    """How often class i (rows: the target) was taken for class j (columns: the prediction): (C, C) int32, as scikit-learn's.

    Pairs with a class outside 0..C-1 are not counted.
    """
    counted = logical_and(_in_range(predictions, classes), _in_range(targets, classes))
    return reshape(_tally(targets * classes + predictions, counted, classes * classes), (classes, classes))


@composite(
    "class_counts",
    grad=NO_GRADIENT,
    prepare=_classes_prepare,
    samples=lambda: [*_pairs(), Sample((labels(0, classes=3), labels(0, classes=3)), {"classes": 3})],
    errors=_count_errors,
    method=False,
)
def class_counts(predictions: Node, targets: Node, *, classes: int) -> Node:
    """True positives, false positives, false negatives and true negatives of each class: (4, C) int32.

    Counts add up over batches, and precision, recall, F, specificity, IoU, kappa and Matthews follow from their sums. A row whose target
    is outside 0..C-1 does not count. They are 4 C numbers, where the confusion matrix has C^2.
    """
    counted = _in_range(targets, classes)
    predicted = _tally(predictions, logical_and(counted, _in_range(predictions, classes)), classes)
    actual = _tally(targets, counted, classes)
    right = _tally(targets, logical_and(counted, eq(predictions, targets)), classes)
    rows = broadcast_to(reduce_sum(counted.cast(int32)), (classes,))
    parts = (right, predicted - right, actual - right, rows - predicted - actual + right)
    return concat([expand_dims(p, 0) for p in parts], 0)


def _split(predictions: Node, targets: Node, classes: int) -> tuple[Node, ...]:
    counts = class_counts(predictions, targets, classes=classes).cast(float32)
    return tuple(getitem(counts, i) for i in range(4))


def _average(above: Node, below: Node, tp: Node, fp: Node, fn: Node, average: str | None) -> Node:
    """A quotient of counts a class, and its average."""
    if average == "micro":
        return _ratio(reduce_sum(above), reduce_sum(below))
    each = _ratio(above, below)
    if average is None:
        return each
    if average == "binary":
        return getitem(each, 1)
    # scikit-learn's default: the mean is over the classes that occur
    weight = tp + fn if average == "weighted" else lt(0.0, tp + fp + fn).cast(float32)
    return _ratio(reduce_sum(each * weight), reduce_sum(weight))


def _averaged() -> list[Sample]:
    averages = ("macro", "micro", "weighted", None)
    return [s for a in averages for s in _pairs(average=a)[:3]] + [s for s in _pairs(average="binary") if s.kwargs["classes"] == 2]


def _average_errors() -> list[Sample]:
    good = labels(5, classes=3)
    return [
        *_count_errors(),
        Sample((good, good), {"classes": 3, "average": "mean"}, error="average"),
        Sample((good, good), {"classes": 3, "average": "binary"}, error="3 classes"),
    ]


@composite("precision", grad=NO_GRADIENT, prepare=_classes_prepare, samples=_averaged, errors=_average_errors, method=False)
def precision(predictions: Node, targets: Node, *, classes: int, average: str | None = "macro") -> Node:
    """TP / (TP + FP) of each class, averaged. "macro" is the mean of the classes' values (those that occur), "micro" the quotient of the
    sums, "weighted" the mean by the targets' counts, "binary" the value of class 1, None all values. 0 / 0 is 0.
    """
    tp, fp, fn, _ = _split(predictions, targets, classes)
    return _average(tp, tp + fp, tp, fp, fn, average)


@composite("recall", grad=NO_GRADIENT, prepare=_classes_prepare, samples=_averaged, errors=_average_errors, method=False)
def recall(predictions: Node, targets: Node, *, classes: int, average: str | None = "macro") -> Node:
    """TP / (TP + FN), the true positive rate; averages as in :func:`precision`."""
    tp, fp, fn, _ = _split(predictions, targets, classes)
    return _average(tp, tp + fn, tp, fp, fn, average)


@composite("specificity", grad=NO_GRADIENT, prepare=_classes_prepare, samples=_averaged, errors=_average_errors, method=False)
def specificity(predictions: Node, targets: Node, *, classes: int, average: str | None = "macro") -> Node:
    """TN / (TN + FP), one minus the false positive rate; averages as in :func:`precision`."""
    tp, fp, fn, tn = _split(predictions, targets, classes)
    return _average(tn, tn + fp, tp, fp, fn, average)


@composite(
    "f_score",
    grad=NO_GRADIENT,
    prepare=_classes_prepare,
    samples=lambda: _averaged() + _pairs(beta=2.0) + _pairs(beta=0.5, average="micro"),
    errors=_average_errors,
    method=False,
)
def f_score(predictions: Node, targets: Node, *, classes: int, beta: float = 1.0, average: str | None = "macro") -> Node:
    """F_beta = (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP): the harmonic mean of precision and recall, recall counting b^2 times.

    Averages as in :func:`precision`: "macro" is the mean of the classes' F, not the F of mean precision and mean recall. F1 is also the
    Dice coefficient.
    """
    tp, fp, fn, _ = _split(predictions, targets, classes)
    b = float(beta) ** 2
    return _average(tp * (1.0 + b), tp * (1.0 + b) + fn * b + fp, tp, fp, fn, average)


@composite("jaccard", grad=NO_GRADIENT, prepare=_classes_prepare, samples=_averaged, errors=_average_errors, method=False)
def jaccard(predictions: Node, targets: Node, *, classes: int, average: str | None = "macro") -> Node:
    """TP / (TP + FP + FN): intersection over union of the sets of pixels (rows) of each class; averages as in :func:`precision`."""
    tp, fp, fn, _ = _split(predictions, targets, classes)
    return _average(tp, tp + fp + fn, tp, fp, fn, average)


def _shares(predictions: Node, targets: Node, classes: int) -> tuple[Node, Node, Node]:
    """Shares of all rows: the correct ones, and for each class those predicted and those that are of it."""
    tp, fp, fn, tn = _split(predictions, targets, classes)
    rows = tp + fp + fn + tn
    return reduce_sum(tp / rows), (tp + fp) / rows, (tp + fn) / rows


@composite("cohen_kappa", grad=NO_GRADIENT, prepare=_classes_prepare, samples=lambda: [*_pairs()[:3], _pairs()[-1]], errors=_count_errors, method=False)
def cohen_kappa(predictions: Node, targets: Node, *, classes: int) -> Node:
    """``(p_o - p_e) / (1 - p_e)``: agreement ``p_o`` of two raters beyond what their class frequencies give by chance, ``p_e`` (Cohen 1960).

    NaN where both name one class only.
    """
    agreed, predicted, actual = _shares(predictions, targets, classes)
    chance = reduce_sum(predicted * actual)
    return (agreed - chance) / (1.0 - chance)


@composite("matthews_corrcoef", grad=NO_GRADIENT, prepare=_classes_prepare, samples=_pairs, errors=_count_errors, method=False)
def matthews_corrcoef(predictions: Node, targets: Node, *, classes: int) -> Node:
    """The correlation of two labellings (Matthews 1975; Gorodkin 2004 for several classes), -1 to 1; 0 where one of them is constant."""
    agreed, predicted, actual = _shares(predictions, targets, classes)
    spread = (1.0 - reduce_sum(predicted * predicted)) * (1.0 - reduce_sum(actual * actual))
    return _ratio(agreed - reduce_sum(predicted * actual), sqrt(maximum(spread, 0.0)))


# -- ranking ---------------------------------------------------------------------------------------------------------------
def _scores_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _equal_prepare(ins[:2], attrs)
    x, y = ins[:2]
    assert x is not None and y is not None
    ins[:2] = [reshape(x, -1), reshape(y if y.dtype.kind == "b" else lt(0, y), -1)]


def _ranked() -> list[Sample]:
    tied = np.round(rand(33) * 2) / 2
    return [Sample((rand(130), labels(130, classes=2))), Sample((tied, labels(33, classes=2))), Sample((rand(5, 7), labels(5, 7, classes=2))), Sample((rand(2), np.array([0, 1])))]  # fmt: skip


@composite(
    "roc_auc",
    grad=NO_GRADIENT,
    prepare=_scores_prepare,
    samples=_ranked,
    errors=lambda: [Sample((rand(5), labels(4, classes=2)), error="differ")],
    method=False,
)
def roc_auc(scores: Node, targets: Node) -> Node:
    """The area under the ROC curve: the probability that a positive scores higher than a negative, ties counting one half.

    Exact, by comparing all pairs: O(N^2) operations and no memory, for one batch. NaN without positives or without negatives.
    """
    positive = targets.cast(scores.dtype)
    negative = 1.0 - positive
    above = lt(scores, expand_dims(scores, -1)).cast(scores.dtype) + eq(scores, expand_dims(scores, -1)).cast(scores.dtype) * 0.5
    beaten = reduce_sum(above * negative, -1) / reduce_sum(negative)
    return reduce_sum(beaten * positive) / reduce_sum(positive)


@composite(
    "average_precision",
    grad=NO_GRADIENT,
    prepare=_scores_prepare,
    samples=_ranked,
    errors=lambda: [Sample((rand(5), labels(4, classes=2)), error="differ")],
    method=False,
)
def average_precision(scores: Node, targets: Node) -> Node:
    """The area under the precision-recall curve as ``sum_n (R_n - R_{n-1}) P_n`` over all thresholds, scikit-learn's average precision.

    Exact, by comparing all pairs: the mean over positives of the precision at their score. O(N^2) operations, for one batch; 0 without positives.
    """
    positive = targets.cast(scores.dtype)
    at_least = le(expand_dims(scores, -1), scores).cast(scores.dtype)
    shares = reduce_sum(at_least * positive, -1) / reduce_sum(at_least, -1)
    return _ratio(reduce_sum(shares * positive), reduce_sum(positive))


@composite(
    "roc_curve",
    grad=NO_GRADIENT,
    prepare=_scores_prepare,
    samples=lambda: [Sample((*s.args, np.linspace(-1.0, 1.0, 9)), s.kwargs) for s in _ranked()],
    errors=lambda: [Sample((rand(5), labels(4, classes=2), rand(3)), error="differ"), Sample((rand(5), labels(5, classes=2), rand(3, 1)), error="thresholds")],
    method=False,
)  # fmt: skip
def roc_curve(scores: Node, targets: Node, thresholds: Node) -> Any:
    """False and true positive rates (FP / (FP + TN), TP / (TP + FN)) at each of the given thresholds: what scores at least that is positive.

    The curve at all thresholds of the data is ``graphc.metrics.roc_curve``, on NumPy arrays.
    """
    if thresholds.ndim != 1:
        raise ShapeError(f"thresholds must be (T,), not {show(thresholds.shape)}")
    positive = targets.cast(scores.dtype)
    negative = 1.0 - positive
    at_least = le(expand_dims(thresholds.cast(scores.dtype), -1), scores).cast(scores.dtype)
    return tuple(reduce_sum(at_least * kind, -1) / reduce_sum(kind) for kind in (negative, positive))


# -- values and regions ----------------------------------------------------------------------------------------------------
@composite(
    "r2_score",
    grad=NO_GRADIENT,
    prepare=_equal_prepare,
    samples=lambda: [Sample((rand(*s), rand(*s, seed=1))) for s in ((33,), (5, 7), (130, 2))] + [Sample((np.ones((4, 1)), np.ones((4, 1)))), Sample((rand(6), np.ones(6)))],
    errors=lambda: [Sample((rand(5, 1), rand(5)), error="differ")],
    method=False,
    tolerance={"float32": 2e-5, "float64": 1e-7},
)  # fmt: skip
def r2_score(prediction: Node, target: Node) -> Node:
    """``1 - sum (y - f)^2 / sum (y - mean y)^2``, the share of variance explained; of several outputs (N, K) the mean.

    As in scikit-learn a constant target gives 1 where it was met and 0 where it was not.
    """
    y = target.cast(prediction.dtype)
    left = reduce_sum((y - prediction) * (y - prediction), 0)
    d = y - mean(y, 0, keepdims=True)
    total = reduce_sum(d * d, 0)
    flat = eq(reduce_max(y, 0), reduce_min(y, 0))  # the sum of squares of rounding errors would not be 0
    each = where(flat, where(eq(left, 0.0), 1.0, 0.0).cast(y.dtype), 1.0 - left / where(flat, 1.0, total))
    return mean(each)


def _box_samples() -> list[Sample]:
    def boxes(n: int, seed: int) -> np.ndarray:
        low = rand(n, 2, seed=seed, low=0.0, high=5.0)
        return np.concatenate([low, low + rand(n, 2, seed=seed + 1, low=0.2, high=4.0)], 1)

    unit = np.array([[0.0, 0.0, 1.0, 1.0]])
    return [Sample((boxes(5, 1), boxes(7, 3)), smooth=False), Sample((unit, unit + 2.0)), Sample((boxes(1, 2), boxes(33, 4)), smooth=False), Sample((np.zeros((0, 4)), unit))]


@composite(
    "box_iou",
    samples=_box_samples,
    errors=lambda: [Sample((rand(5, 3), rand(5, 4)), error="corners")],
    method=False,
)
def box_iou(boxes: Node, others: Node) -> Node:
    """Intersection over union of each pair of boxes: (N, 4) and (M, 4) give (N, M). A box is its corners (x1, y1, x2, y2).

    Areas of the plane, not counts of pixels. Two boxes without area give 0.
    """
    if boxes.ndim != 2 or others.ndim != 2 or boxes.shape[1] != 4 or others.shape[1] != 4:
        raise ShapeError(f"boxes must be corners (N, 4) and (M, 4), not {show(boxes.shape)} and {show(others.shape)}")
    a = [expand_dims(getitem(boxes, (slice(None), i)), 1) for i in range(4)]
    b = [expand_dims(getitem(others, (slice(None), i)), 0) for i in range(4)]
    width, height = (maximum(minimum(a[i + 2], b[i + 2]) - maximum(a[i], b[i]), 0.0) for i in (0, 1))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return _ratio(both, union)
