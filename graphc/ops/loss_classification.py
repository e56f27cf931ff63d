"""Losses of class scores and probabilities. Classes stand on axis 1, as in torch, and on axis 0 of a single vector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ir.dims import Size
from ..ir.node import Node
from ..ir.op import Sample
from .activations import log_softmax, logsumexp, sigmoid, softmax
from .define import as_node, composite, operands, rand, show
from .elementwise import eq, exp, le, log, logical_and, lt, maximum, where
from .generate import iota
from .loss_terms import (
    check_reduction,
    class_axis,
    class_targets,
    labels,
    number_in,
    per_term,
    prediction_and_target,
    reduce_terms,
    same_shapes,
    softplus,
    weighted,
)
from .reductions import sum as reduce_sum
from .transcendental import log1p
from .views import broadcast_to, expand_dims, reshape

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "dice_loss", "focal_loss", "kl_div", "nll_loss"]

LOOSE = {"float32": 5e-6, "float64": 1e-12}


# -- labels ----------------------------------------------------------------------------------------------------------------
class _Rows:
    """Integer labels of rows of scores: which class each row has, which rows count, and how much."""

    def __init__(self, scores: Node, targets: Node, weight: Node | None, ignore_index: int):
        self.axis = class_axis(scores)
        self.hit = eq(iota(scores.shape, self.axis, targets.dtype), expand_dims(targets, self.axis))
        classes = as_node(scores.shape[self.axis]).cast(targets.dtype)
        self.valid = logical_and(le(0, targets), lt(targets, classes))
        self.ignored = eq(targets, ignore_index)
        self.dtype = scores.dtype
        self.weight = None if weight is None else along_classes(weight, scores)
        self.row_weight = None if self.weight is None else self.at(self.weight)

    def at(self, values: Node) -> Node:
        """The values at the label of each row."""
        return reduce_sum(where(self.hit, values, 0.0), self.axis)

    def settled(self, rows: Node) -> Node:
        """0 where the row is ignored; NaN where the label is no class, so that a training step stops before it writes."""
        return where(self.ignored, 0.0, where(self.valid, rows, math.nan))

    def total(self) -> Node:
        """What a mean divides by: the weights of the rows that count."""
        one = self.row_weight if self.row_weight is not None else as_node(1.0, self.dtype)
        return reduce_sum(where(self.ignored, 0.0, one))

    def reduce(self, rows: Node, reduction: str) -> Node:
        rows = self.settled(rows)
        return reduce_sum(rows) / self.total() if reduction == "mean" else reduce_terms(rows, reduction)

    def each(self, g: Node, reduction: str) -> Node:
        """The cotangent of each row, with an axis of size 1 for the classes."""
        g = g / self.total() if reduction == "mean" else g
        return expand_dims(where(self.ignored, 0.0, g), self.axis)


def along_classes(weight: Node, scores: Node) -> Node:
    """A weight a class, shaped so that it broadcasts against the scores."""
    return reshape(weight, (*weight.shape, *(1,) * (scores.ndim - 1 - class_axis(scores))))


def check_class_weight(ins: list[Node | None]) -> None:
    scores, weight = ins[0], ins[2]
    assert scores is not None
    if weight is not None:
        classes = scores.shape[class_axis(scores)]
        if weight.shape != (classes,):
            raise ShapeError(f"the weight of {classes} classes must be ({classes},), not {show(weight.shape)}")
        ins[2] = weight.cast(scores.dtype)


def _label_prepare(ins: list[Node | None], attrs: dict[str, Any], probabilities: bool = False) -> None:
    x, y = ins[:2]
    assert x is not None and y is not None
    check_reduction(attrs)
    ins[1] = class_targets(x, y, probabilities)
    check_class_weight(ins)
    ignore = attrs["ignore_index"]
    if isinstance(ignore, bool) or not isinstance(ignore, (int, np.integer)) or not -(2**31) <= ignore < 2**31:
        raise ArgumentError(f"ignore_index={ignore!r}", hint="an int")
    attrs["ignore_index"] = int(ignore)


# -- cross entropy ---------------------------------------------------------------------------------------------------------
def _entropy_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _label_prepare(ins, attrs, probabilities=True)
    number_in("label_smoothing", attrs["label_smoothing"], 0.0, 1.0, "a number from 0 to 1")
    assert ins[1] is not None
    if not ins[1].dtype.is_int and attrs["ignore_index"] >= 0:
        raise ArgumentError("ignore_index goes with integer targets, and these are probabilities")


def _smoothed(targets: Node, classes: Size, smoothing: float) -> Node:
    if not smoothing:
        return targets
    even: Node = as_node(smoothing, targets.dtype) / as_node(classes).cast(targets.dtype)
    return targets * (1.0 - smoothing) + even


def _entropy_grad(n: Node, g: Node) -> tuple[Node | None, ...]:
    x, y, weight = operands(n)
    axis, reduction, smoothing = class_axis(x), n.attrs["reduction"], n.attrs["label_smoothing"]
    classes = x.shape[axis]
    p = softmax(x, axis)
    if y.dtype.is_int:
        rows = _Rows(x, y, weight, n.attrs["ignore_index"])
        target = _smoothed(where(rows.hit, 1.0, 0.0).cast(x.dtype), classes, smoothing)
        if rows.weight is None:
            return (p - target) * rows.each(g, reduction), None, None
        target = target * rows.weight
        return (p * reduce_sum(target, axis, keepdims=True) - target) * rows.each(g, reduction), None, None
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    each = expand_dims(per_term(g, shape, reduction), axis)
    w = None if weight is None else along_classes(weight, x)
    target = weighted(_smoothed(y, classes, smoothing), w)
    dy = -(weighted(log_softmax(x, axis), w) * each)
    return (p * reduce_sum(target, axis, keepdims=True) - target) * each, dy * (1.0 - smoothing) if smoothing else dy, None


def _distribution(*shape: int, axis: int = 1) -> np.ndarray:
    p = rand(*shape, seed=3, low=0.1, high=1.0)
    return np.asarray(p / p.sum(axis, keepdims=True))


def _ignoring(y: np.ndarray, every: int, index: int = -100) -> np.ndarray:
    y = np.array(y)
    y.reshape(-1)[::every] = index
    return y


def _entropy_samples() -> list[Sample]:
    weight = rand(7, seed=4, low=0.2, high=2.0)
    y, p = labels(5, classes=7), _distribution(5, 7)
    plain = [
        Sample((rand(5, 7), y)), Sample((rand(5, 7), p)), Sample((rand(5, 7), np.eye(7)[y])),
        Sample((rand(7), labels(classes=7))), Sample((rand(2, 5, 3), labels(2, 3, classes=5, dtype=np.int32))),
        Sample((rand(33, 10), labels(33, classes=10)), {"reduction": "sum"}), Sample((rand(6, 10), labels(6, classes=10)), {"reduction": "none"}),
        Sample((rand(4, 1), labels(4, classes=1))), Sample((rand(0, 3), labels(0, classes=3)), {"reduction": "sum"}),
    ]  # fmt: skip
    full = [
        Sample((rand(5, 7), t, w), {"reduction": r, "label_smoothing": e}, grad=(0,) if t is y else (0, 1))
        for t in (y, p) for w in (None, weight) for r, e in (("mean", 0.2), ("sum", 0.1), ("none", 0.0))
    ]  # fmt: skip
    return plain + full + [
        Sample((rand(5, 7), _ignoring(y, 2), weight), {"label_smoothing": 0.2}, grad=(0,)), Sample((rand(5, 7), _ignoring(y, 2))),
        Sample((rand(2, 5, 3), _ignoring(labels(2, 3, classes=5), 4, 1)), {"ignore_index": 1}),
        Sample((rand(2, 7, 3), labels(2, 3, classes=7), weight), {"reduction": "none", "label_smoothing": 0.3}, grad=(0,)),
    ]  # fmt: skip


@composite(
    "cross_entropy",
    prepare=_entropy_prepare,
    grad=_entropy_grad,
    inputs=3,
    samples=_entropy_samples,
    errors=lambda: [
        Sample((rand(5, 7), labels(4, classes=7)), error="integer targets"), Sample((rand(5, 7), rand(5)), error="probabilities"),
        Sample((rand(5, 7), labels(5, classes=7), rand(5)), error="weight"), Sample((rand(5, 7), rand(5, 7)), {"ignore_index": 3}, error="ignore_index"),
        Sample((rand(5, 7), labels(5, classes=7)), {"label_smoothing": 2.0}, error="label_smoothing"),
    ],
    tolerance=LOOSE,
    onnx="SoftmaxCrossEntropyLoss",
)  # fmt: skip
def cross_entropy(
    logits: Node, targets: Node, weight: Node | None = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
) -> Node:
    """``-log softmax(logits)[target]``, mean over all rows: logits (N, C) or (N, C, ...), classes on axis 1, as torch's ``cross_entropy``.

    Integer ``targets`` (N, ...): ``logsumexp(logits) - logits[target]``. Rows whose target is ``ignore_index`` count neither in the sum nor
    in the mean; any other target outside 0..C-1 gives NaN, so that a training step stops before it writes. Float targets of the logits'
    shape are probabilities or one-hot rows: ``-sum(t log softmax)``.

    ``weight`` (C,) multiplies the terms of each class; a mean over labels divides by the weights of the labels, over probabilities by the
    number of rows. ``label_smoothing`` e (Szegedy et al. 2016) takes ``(1 - e) t + e / C`` as the target. The gradient is
    ``(softmax(logits) - onehot) * g / N``; the weight has none.
    """
    axis = class_axis(logits)
    classes = logits.shape[axis]
    if not targets.dtype.is_int:
        target = weighted(_smoothed(targets, classes, label_smoothing), None if weight is None else along_classes(weight, logits))
        return reduce_terms(-reduce_sum(target * log_softmax(logits, axis), axis), reduction)
    rows = _Rows(logits, targets, weight, ignore_index)
    normaliser = logsumexp(logits, axis)
    terms = weighted(normaliser - rows.at(logits), rows.row_weight)
    if label_smoothing:
        spread = reduce_sum(weighted(expand_dims(normaliser, axis) - logits, rows.weight), axis)
        terms = terms * (1.0 - label_smoothing) + spread * label_smoothing / as_node(classes).cast(logits.dtype)
    return rows.reduce(terms, reduction)


def _nll_grad(n: Node, g: Node) -> tuple[Node | None, ...]:
    x, y, weight = operands(n)
    rows = _Rows(x, y, weight, n.attrs["ignore_index"])
    each = rows.each(-g, n.attrs["reduction"])
    return where(rows.hit, broadcast_to(weighted(each, rows.weight), x.shape), 0.0), None, None


def _nll_samples() -> list[Sample]:
    weight, y = rand(7, seed=4, low=0.2, high=2.0), labels(5, classes=7)
    return [
        Sample((rand(*s), labels(*r, classes=c)), {"reduction": how})
        for s, r, c, how in (((5, 7), (5,), 7, "mean"), ((7,), (), 7, "mean"), ((2, 5, 3), (2, 3), 5, "none"), ((33, 10), (33,), 10, "sum"), ((0, 3), (0,), 3, "sum"))
    ] + [
        Sample((rand(5, 7), _ignoring(y, 2), weight), {"reduction": r}, grad=(0,)) for r in ("mean", "sum", "none")
    ]  # fmt: skip


@composite(
    "nll_loss",
    prepare=_label_prepare,
    grad=_nll_grad,
    inputs=3,
    samples=_nll_samples,
    errors=lambda: [Sample((rand(5, 7), rand(5, 7)), error="integer targets"), Sample((rand(5, 7), labels(5, classes=7), rand(5)), error="weight")],
    tolerance=LOOSE,
    onnx="NegativeLogLikelihoodLoss",
)  # fmt: skip
def nll_loss(
    log_probabilities: Node, targets: Node, weight: Node | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Node:
    """``-log_probabilities[target]`` a row, for what ``log_softmax`` gives, as torch's ``nll_loss``; labels, weights and means as in
    :func:`cross_entropy`, which is the two together.
    """
    rows = _Rows(log_probabilities, targets, weight, ignore_index)
    return rows.reduce(-weighted(rows.at(log_probabilities), rows.row_weight), reduction)


# -- two classes -----------------------------------------------------------------------------------------------------------
def _binary_grad(n: Node, g: Node) -> tuple[Node | None, ...]:
    p, t, weight = operands(n)
    each = weighted(per_term(g, p.shape, n.attrs["reduction"]), weight)
    return (p - t) / maximum(p * (1.0 - p), 1e-12) * each, (_log_no(p) - _log_yes(p)) * each, None


def _log_yes(p: Node) -> Node:
    return maximum(log(p), -100.0)


def _log_no(p: Node) -> Node:
    return maximum(log1p(-p), -100.0)


def _binary_samples(low: float, high: float) -> list[Sample]:
    shapes: list[tuple[tuple[int, ...], str]] = [((5, 7), "mean"), ((130,), "sum"), ((2, 3, 19), "none"), ((), "mean"), ((0, 3), "sum")]
    pairs = [(rand(*s, low=low, high=high), rand(*s, seed=1, low=0.05, high=0.95), r) for s, r in shapes]
    weight = rand(7, seed=4, low=0.2, high=2.0)
    return [Sample((x, t), {"reduction": r}) for x, t, r in pairs] + [
        Sample((pairs[0][0], np.rint(pairs[0][1]), weight), {"reduction": r}, grad=(0,)) for r in ("mean", "none")
    ]


def _binary_errors() -> list[Sample]:
    return [Sample((rand(5, 1), rand(5)), error="differ"), Sample((rand(5), rand(5), rand(4)), error="weight")]


@composite(
    "binary_cross_entropy",
    prepare=prediction_and_target,
    grad=_binary_grad,
    inputs=3,
    samples=lambda: _binary_samples(0.05, 0.95),
    errors=_binary_errors,
    tolerance=LOOSE,
)
def binary_cross_entropy(probabilities: Node, target: Node, weight: Node | None = None, reduction: str = "mean") -> Node:
    """``-(t log p + (1 - t) log(1 - p))`` of probabilities, as torch's: logarithms are cut at -100, so that p = 0 and p = 1 stay finite.

    The gradient is ``(p - t) / max(p (1 - p), 1e-12)``. A probability outside 0..1 gives NaN. With logits at hand,
    :func:`binary_cross_entropy_with_logits` is exact where this saturates. ``weight`` broadcasts and has no gradient.
    """
    terms = -(target * _log_yes(probabilities) + (1.0 - target) * _log_no(probabilities))
    return reduce_terms(weighted(terms, weight), reduction)


def _positives(target: Node, pos_weight: Node) -> Node:
    """How much the softplus of each term counts."""
    return (pos_weight - 1.0) * target + 1.0


def _logits_grad(n: Node, g: Node) -> tuple[Node | None, ...]:
    x, t, weight, pos_weight = operands(n)
    each = weighted(per_term(g, x.shape, n.attrs["reduction"]), weight)
    if pos_weight is None:
        return (sigmoid(x) - t) * each, -(x * each), None, None
    dt = (pos_weight - 1.0) * softplus(-x) - x
    return (sigmoid(x) * _positives(t, pos_weight) - pos_weight * t) * each, dt * each, None, None


def _logits_samples() -> list[Sample]:
    plain = _binary_samples(-6.0, 6.0)
    x, t = plain[0].args
    pos = rand(7, seed=5, low=0.2, high=3.0)
    return plain + [Sample((x, t, w, pos), {"reduction": r}, grad=(0, 1)) for w in (None, pos * 0.5) for r in ("mean", "none")]


@composite(
    "binary_cross_entropy_with_logits",
    prepare=prediction_and_target,
    grad=_logits_grad,
    inputs=4,
    samples=_logits_samples,
    errors=_binary_errors,
    tolerance=LOOSE,
)
def binary_cross_entropy_with_logits(
    logits: Node, target: Node, weight: Node | None = None, pos_weight: Node | None = None, reduction: str = "mean"
) -> Node:
    """``binary_cross_entropy(sigmoid(x), t)`` as ``max(x, 0) - x t + log(1 + exp(-|x|))``, which neither overflows nor saturates.

    ``pos_weight`` multiplies the terms of positives (torch): ``(1 - t) x + (1 + (pos_weight - 1) t) softplus(-x)``. Both weights broadcast
    and have no gradient. The gradient by the logits is ``sigmoid(x) - t``.
    """
    if pos_weight is None:
        terms = softplus(logits) - logits * target
    else:
        terms = (1.0 - target) * logits + _positives(target, pos_weight) * softplus(-logits)
    return reduce_terms(weighted(terms, weight), reduction)


def _focal_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    prediction_and_target(ins, attrs)
    number_in("gamma", attrs["gamma"], 0.0, math.inf, "0 or a positive number")
    number_in("alpha", attrs["alpha"], -math.inf, 1.0, "a number from 0 to 1, or a negative one for no balancing")


@composite(
    "focal_loss",
    prepare=_focal_prepare,
    samples=lambda: [Sample(s.args, {**s.kwargs, **extra}) for s in _binary_samples(-4.0, 4.0)[:5] for extra in ({}, {"alpha": -1.0, "gamma": 1.5}, {"gamma": 0.0})],
    errors=lambda: [Sample((rand(5, 1), rand(5)), error="differ"), Sample((rand(5), rand(5)), {"gamma": -1.0}, error="gamma")],
    tolerance=LOOSE,
)  # fmt: skip
def focal_loss(logits: Node, target: Node, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean") -> Node:
    """``a (1 - p_t)^gamma`` times the binary cross entropy (Lin et al. 2017), where ``p_t`` is the probability of the true class.

    ``a`` is ``alpha`` for positives and ``1 - alpha`` for negatives; a negative ``alpha`` means no balancing, as in torchvision's
    ``sigmoid_focal_loss``. ``gamma=0`` leaves the (balanced) cross entropy.
    """
    terms = binary_cross_entropy_with_logits(logits, target, None, None, "none")
    if gamma:
        miss = target * sigmoid(-logits) + (1.0 - target) * sigmoid(logits)  # 1 - p_t, exact where p_t is near 1
        terms = terms * (miss * miss if gamma == 2 else miss ** float(gamma))
    if alpha >= 0:
        terms = terms * (target * (2.0 * alpha - 1.0) + (1.0 - alpha))
    return reduce_terms(terms, reduction)


# -- distributions and regions ---------------------------------------------------------------------------------------------
def _kl_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    check_reduction(attrs, ("mean", "sum", "none", "batchmean"))
    same_shapes("prediction", "target")(ins, {})


def _kl_samples() -> list[Sample]:
    cases: list[tuple[tuple[int, ...], str]] = [((5, 7), "batchmean"), ((5, 7), "mean"), ((33, 4), "sum"), ((2, 3, 19), "none"), ((0, 3), "sum")]
    return [Sample((rand(*s), rand(*s, seed=1, low=0.1, high=1.0)), {"reduction": r, "log_target": known}) for s, r in cases for known in (False, True)]


@composite(
    "kl_div",
    prepare=_kl_prepare,
    samples=_kl_samples,
    errors=lambda: [Sample((rand(5, 1), rand(5)), error="differ"), Sample((rand(5), rand(5)), {"reduction": "avg"}, error="batchmean")],
    tolerance=LOOSE,
)
def kl_div(log_probabilities: Node, target: Node, reduction: str = "mean", log_target: bool = False) -> Node:
    """The terms ``t (log t - log_probabilities)`` of the Kullback-Leibler divergence of the prediction from the target ``t``, as torch.

    0 log 0 is 0. "mean" divides by the number of elements; "batchmean" by the number of rows, which is the divergence's mean.
    ``log_target``: the target is given as ``log t``.
    """
    if log_target:
        terms = exp(target) * (target - log_probabilities)
    else:
        safe = where(eq(target, 0.0), 1.0, target)
        terms = target * log(safe) - target * log_probabilities
    if reduction != "batchmean":
        return reduce_terms(terms, reduction)
    if not terms.ndim:
        raise ShapeError("batchmean of a scalar")
    rows: Node = as_node(terms.shape[0]).cast(terms.dtype)
    return reduce_sum(terms) / rows


def _dice_samples() -> list[Sample]:
    cases: list[tuple[tuple[int, ...], str]] = [((5, 7), "mean"), ((2, 3, 19), "none"), ((4, 1), "sum"), ((3, 2, 2, 5), "mean"), ((9,), "mean")]
    return [Sample((rand(*s, low=0.05, high=0.95), rand(*s, seed=1, low=0.05, high=0.95)), {"reduction": r}) for s, r in cases]


@composite(
    "dice_loss",
    prepare=prediction_and_target,
    samples=_dice_samples,
    errors=lambda: [Sample((rand(5, 1), rand(5)), error="differ")],
    tolerance=LOOSE,
)
def dice_loss(probabilities: Node, target: Node, smooth: float = 1.0, reduction: str = "mean") -> Node:
    """``1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)``, one value a sample (over all axes but the first), then their mean.

    Dice 1945 as a soft overlap of regions (Sudre et al. 2017); ``smooth`` makes two empty regions agree. Milletari et al. 2016 square
    the sums below.
    """
    axes = tuple(range(1, probabilities.ndim))
    both = reduce_sum(probabilities * target, axes)
    total = reduce_sum(probabilities, axes) + reduce_sum(target, axes)
    return reduce_terms(1.0 - (both * 2.0 + smooth) / (total + smooth), reduction)
