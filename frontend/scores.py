"""Metrics of whole arrays, in NumPy: scikit-learn's names and argument order, ``y_true`` first.

>>> f1_score([1, 0, 1, 1], [1, 1, 0, 1])
0.6666666666666666
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.locate import public

__all__ = [
    "accuracy_score",
    "auc",
    "average_precision_score",
    "balanced_accuracy_score",
    "box_iou",
    "cohen_kappa_score",
    "confusion_matrix",
    "dice_score",
    "f1_score",
    "fbeta_score",
    "jaccard_score",
    "log_loss",
    "matthews_corrcoef",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_log_error",
    "perplexity",
    "precision_recall_curve",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "roc_curve",
    "root_mean_squared_error",
    "specificity_score",
    "top_k_accuracy_score",
]

AVERAGES = ("binary", "macro", "micro", "weighted", None)


def _pair(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(y_true), np.asarray(y_pred)
    if a.shape != b.shape:
        raise ShapeError(f"y_true {a.shape} and y_pred {b.shape} differ", hint="arrays of one shape")
    if not a.size:
        raise ShapeError("no samples", hint="one sample at least")
    return a, b


def _ratio(a: Any, b: Any) -> np.ndarray:
    """a / b, and 0 where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    return np.divide(a, b, out=np.zeros(a.shape), where=b != 0)


# -- classes ---------------------------------------------------------------------------------------------------------------
def accuracy_score(y_true: Any, y_pred: Any) -> float:
    """Correct / all. Rows of several labels (N, K) are correct when all of them are."""
    a, b = _pair(y_true, y_pred)
    right = a == b
    return float(right.reshape(len(right), -1).all(1).mean() if right.ndim else right)


def confusion_matrix(y_true: Any, y_pred: Any, labels: Any = None) -> np.ndarray:
    """How often each class (rows) was taken for each (columns); the classes are ``labels``, or all that occur, sorted.

    >>> confusion_matrix([0, 1, 2, 2], [0, 2, 2, 2]).tolist()
    [[1, 0, 0], [0, 0, 1], [0, 0, 2]]
    """
    a, b = (v.reshape(-1) for v in _pair(y_true, y_pred))
    classes = np.unique(np.concatenate([a, b])) if labels is None else np.asarray(labels)
    order = np.argsort(classes, kind="stable")
    places, known = [], np.ones(len(a), bool)
    for v in (a, b):
        at = np.minimum(np.searchsorted(classes, v, sorter=order), len(classes) - 1)
        known &= classes[order[at]] == v
        places.append(order[at])
    out = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(out, (places[0][known], places[1][known]), 1)
    return out


def counts_of(y_true: Any, y_pred: Any, labels: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """(tp, fp, fn, tn) of each class as a (4, C) array, and the classes. Two-dimensional 0/1 rows are sets of labels."""
    a, b = _pair(y_true, y_pred)
    if a.ndim == 2 and a.shape[1] > 1:
        t, p = a != 0, b != 0
        parts = ((t & p).sum(0), (~t & p).sum(0), (t & ~p).sum(0), (~t & ~p).sum(0))
        return np.array(parts, float), np.arange(a.shape[1])
    every = np.unique(np.concatenate([a.reshape(-1), b.reshape(-1)]))
    m = confusion_matrix(a, b, every).astype(float)
    tp, predicted, actual = np.diag(m), m.sum(0), m.sum(1)
    counts = np.array([tp, predicted - tp, actual - tp, m.sum() - predicted - actual + tp])
    if labels is None:
        return counts, every
    wanted = np.asarray(labels)
    out = np.zeros((4, len(wanted)))
    out[3] = m.sum()
    for i, c in enumerate(wanted):
        if c in every:
            out[:, i] = counts[:, every == c][:, 0]
    return out, wanted


def quotient(kind: str, counts: np.ndarray, beta: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of a score from (tp, fp, fn, tn).

    F_beta is ``(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)``: recall counts b^2 times as much as precision.
    """
    tp, fp, fn, tn = counts
    b = beta * beta
    return {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "jaccard": (tp, tp + fp + fn),
        "f": ((1 + b) * tp, (1 + b) * tp + b * fn + fp),
    }[kind]


def averaged(above: np.ndarray, below: np.ndarray, counts: np.ndarray, average: str | None, occurring: bool = False) -> Any:
    """The average of a quotient over classes; ``occurring``: a macro mean leaves out classes that never occur."""
    if average == "micro":
        return float(_ratio(above.sum(), below.sum()))
    each = _ratio(above, below)
    if average is None:
        return each
    tp, fp, fn, _ = counts
    weight = tp + fn if average == "weighted" else (tp + fp + fn > 0).astype(float) if occurring else np.ones(len(each))
    return float(_ratio((each * weight).sum(), weight.sum()))


def _score(
    kind: str, y_true: Any, y_pred: Any, average: str | None, labels: Any, pos_label: Any, beta: float = 1.0
) -> Any:
    if average not in AVERAGES:
        raise ArgumentError(f"average={average!r}", hint=", ".join(map(repr, AVERAGES)))
    counts, _ = counts_of(y_true, y_pred, labels)
    if average == "binary":
        known = set(np.unique(np.asarray(y_true)).tolist()) | set(np.unique(np.asarray(y_pred)).tolist())
        if len(known) > 2 or np.asarray(y_true).ndim > 1:
            raise ArgumentError(
                f'average="binary" with {len(known)} classes', hint='average="macro", "micro", "weighted" or None'
            )
        counts, _ = counts_of(y_true, y_pred, [pos_label])
        return float(_ratio(*quotient(kind, counts, beta))[0])
    return averaged(*quotient(kind, counts, beta), counts, average)


def precision_score(
    y_true: Any, y_pred: Any, *, labels: Any = None, pos_label: Any = 1, average: str | None = "binary"
) -> Any:
    """TP / (TP + FP). ``average``: "binary" is the score of ``pos_label``; "macro" the mean over classes; "micro" the quotient of
    the sums; "weighted" the mean by the classes' sizes; None gives one score a class. 0 / 0 is 0.

    >>> precision_score([0, 1, 1, 1], [0, 1, 1, 0]), precision_score([0, 1, 2], [0, 2, 2], average="macro")
    (1.0, 0.5)
    """
    return _score("precision", y_true, y_pred, average, labels, pos_label)


def recall_score(
    y_true: Any, y_pred: Any, *, labels: Any = None, pos_label: Any = 1, average: str | None = "binary"
) -> Any:
    """TP / (TP + FN), averaged as :func:`precision_score`."""
    return _score("recall", y_true, y_pred, average, labels, pos_label)


def specificity_score(
    y_true: Any, y_pred: Any, *, labels: Any = None, pos_label: Any = 1, average: str | None = "binary"
) -> Any:
    """TN / (TN + FP), averaged as :func:`precision_score`: one minus the false positive rate."""
    return _score("specificity", y_true, y_pred, average, labels, pos_label)


def fbeta_score(
    y_true: Any, y_pred: Any, *, beta: float, labels: Any = None, pos_label: Any = 1, average: str | None = "binary"
) -> Any:
    """(1 + b^2) P R / (b^2 P + R) of precision P and recall R, averaged as :func:`precision_score`.

    "macro" is the mean of the classes' F, not the F of the mean precision and the mean recall.
    """
    return _score("f", y_true, y_pred, average, labels, pos_label, beta)


def f1_score(
    y_true: Any, y_pred: Any, *, labels: Any = None, pos_label: Any = 1, average: str | None = "binary"
) -> Any:
    """2 TP / (2 TP + FP + FN), :func:`fbeta_score` with beta 1."""
    return _score("f", y_true, y_pred, average, labels, pos_label)


def jaccard_score(
    y_true: Any, y_pred: Any, *, labels: Any = None, pos_label: Any = 1, average: str | None = "binary"
) -> Any:
    """Intersection over union, TP / (TP + FP + FN), averaged as :func:`precision_score`. Masks go flattened."""
    return _score("jaccard", y_true, y_pred, average, labels, pos_label)


def dice_score(y_true: Any, y_pred: Any) -> float:
    """2 |A n B| / (|A| + |B|) of two masks of any shape: the F1 of the pixels. Two empty masks agree: 1.

    >>> dice_score([[1, 1], [0, 0]], [[1, 0], [0, 0]])
    0.6666666666666666
    """
    a, b = (v != 0 for v in _pair(y_true, y_pred))
    total = int(a.sum() + b.sum())
    return 2.0 * float((a & b).sum()) / total if total else 1.0


def balanced_of(counts: np.ndarray) -> float:
    """The mean recall from (tp, fp, fn, tn) of all classes."""
    tp, actual = counts[0], counts[0] + counts[2]
    return float((tp[actual > 0] / actual[actual > 0]).mean())


def balanced_accuracy_score(y_true: Any, y_pred: Any) -> float:
    """The mean of the recalls of the classes that occur in ``y_true``."""
    return balanced_of(counts_of(y_true, y_pred)[0])


def kappa_of(counts: np.ndarray) -> float:
    """Cohen's kappa from (tp, fp, fn, tn) of all classes; NaN where both raters name one class only."""
    tp, fp, fn, _ = counts
    n = (tp + fn).sum()
    agreed, chance = tp.sum() / n, ((tp + fp) * (tp + fn)).sum() / n**2
    return float((agreed - chance) / (1 - chance)) if chance != 1 else float("nan")


def cohen_kappa_score(y1: Any, y2: Any, *, labels: Any = None, weights: str | None = None) -> float:
    """Agreement of two raters beyond chance (Cohen 1960): ``(p_o - p_e) / (1 - p_e)``.

    ``weights`` "linear" or "quadratic" let near misses of ordered classes count less.
    """
    m = confusion_matrix(y1, y2, labels).astype(float)
    k = np.arange(len(m))
    gap = np.abs(k[:, None] - k[None])
    kinds = {None: (gap > 0).astype(float), "linear": gap.astype(float), "quadratic": gap.astype(float) ** 2}
    if weights not in kinds:
        raise ArgumentError(f"weights={weights!r}", hint='None, "linear" or "quadratic"')
    expected = (kinds[weights] * np.outer(m.sum(1), m.sum(0))).sum() / m.sum()
    return float(1 - (kinds[weights] * m).sum() / expected) if expected else float("nan")


def matthews_of(counts: np.ndarray) -> float:
    """The Matthews correlation from (tp, fp, fn, tn) of all classes."""
    tp, fp, fn, _ = counts
    predicted, actual, n = tp + fp, tp + fn, (tp + fn).sum()
    spread = (n**2 - (predicted**2).sum()) * (n**2 - (actual**2).sum())
    return float(_ratio(tp.sum() * n - (predicted * actual).sum(), np.sqrt(spread)))


def matthews_corrcoef(y_true: Any, y_pred: Any) -> float:
    """The correlation of two labellings, -1 to 1 (Matthews 1975; Gorodkin 2004); 0 where one of them is constant."""
    return matthews_of(counts_of(y_true, y_pred)[0])


def top_k_accuracy_score(y_true: Any, y_score: Any, *, k: int = 2) -> float:
    """The share of rows whose label is among the ``k`` largest of ``y_score`` (N, C); of equal scores the first counts as larger."""
    y, s = np.asarray(y_true), np.asarray(y_score)
    if s.ndim != 2 or y.shape != s.shape[:1] or not y.size:
        raise ShapeError(f"y_true (N,) and y_score (N, C) are {y.shape} and {s.shape}", hint="a column of scores for each class")
    best = np.argsort(-s, axis=1, kind="stable")[:, :k]
    return float((best == y[:, None]).any(1).mean())


# -- scores and curves -----------------------------------------------------------------------------------------------------
def _ranked(y_true: Any, y_score: Any, pos_label: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positives when the threshold is each different score, from the largest down, and those scores."""
    a, s = (v.reshape(-1) for v in _pair(y_true, y_score))
    if not np.isfinite(s).all():
        raise ArgumentError("y_score holds NaN or infinity", hint="np.isfinite(y_score) shows where")
    order = np.argsort(-s, kind="stable")
    positive = (a == pos_label)[order]
    ends = np.r_[np.nonzero(np.diff(s[order]))[0], len(s) - 1]  # equal scores cross the threshold together
    tps = np.cumsum(positive)[ends].astype(float)
    return 1 + ends - tps, tps, s[order][ends]


def roc_curve(
    y_true: Any, y_score: Any, *, pos_label: Any = 1, drop_intermediate: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False positive rates, true positive rates and thresholds, from the strictest (infinity: nothing is positive) on.

    What scores at least the threshold is taken as positive. ``drop_intermediate`` leaves out points on straight lines.
    """
    fps, tps, thresholds = _ranked(y_true, y_score, pos_label)
    if drop_intermediate and len(fps) > 2:
        bend = np.r_[True, (np.diff(fps, 2) != 0) | (np.diff(tps, 2) != 0), True]
        fps, tps, thresholds = fps[bend], tps[bend], thresholds[bend]
    fps, tps, thresholds = np.r_[0.0, fps], np.r_[0.0, tps], np.r_[np.inf, thresholds]
    none = np.full(len(fps), np.nan)
    return fps / fps[-1] if fps[-1] else none, tps / tps[-1] if tps[-1] else none, thresholds


def auc(x: Any, y: Any) -> float:
    """The area under a curve by the trapezoidal rule; ``x`` grows or falls.

    >>> auc([0.0, 0.5, 1.0], [0.0, 1.0, 1.0])
    0.75
    """
    a, b = _pair(x, y)
    steps = np.diff(a)
    if (steps > 0).any() and (steps < 0).any():
        raise ArgumentError("auc: x is neither increasing nor decreasing", hint="sort the points by x")
    return float(abs((steps * (b[1:] + b[:-1]) / 2).sum()))


def roc_auc_score(y_true: Any, y_score: Any, *, average: str = "macro", multi_class: str = "raise") -> float:
    """The area under the ROC curve: 1 perfect, 0.5 chance, less is worse than chance. Ties count one half. NaN for one class only.

    Scores (N, C) of several classes need ``multi_class="ovr"``: the mean of each class against the rest ("weighted": by the
    classes' sizes).

    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    s = np.asarray(y_score)
    if s.ndim == 1 or s.shape[1] == 1:
        fpr, tpr, _ = roc_curve(np.asarray(y_true).reshape(-1), s.reshape(-1))
        return auc(fpr, tpr)
    if multi_class != "ovr" or average not in ("macro", "weighted"):
        raise ArgumentError(f"scores of {s.shape[1]} classes", hint='multi_class="ovr", average="macro" or "weighted"')
    y = np.asarray(y_true)
    each = [roc_auc_score((y == c).astype(int), s[:, c]) for c in range(s.shape[1])]
    return float(np.average(each, weights=[(y == c).sum() for c in range(s.shape[1])] if average == "weighted" else None))


def precision_recall_curve(
    y_true: Any, y_score: Any, *, pos_label: Any = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precisions, recalls and thresholds, from the loosest threshold on; the curve ends at precision 1 and recall 0."""
    fps, tps, thresholds = _ranked(y_true, y_score, pos_label)
    precision = tps / (tps + fps)
    recall = tps / tps[-1] if tps[-1] else np.ones_like(tps)
    return np.r_[precision[::-1], 1.0], np.r_[recall[::-1], 0.0], thresholds[::-1]


def average_precision_score(y_true: Any, y_score: Any, *, pos_label: Any = 1) -> float:
    """``sum_n (R_n - R_{n-1}) P_n``: the area under the precision-recall curve in steps, which a trapezoid would overstate.

    Unlike the ROC's area it falls when positives are rare.
    """
    precision, recall, _ = precision_recall_curve(y_true, y_score, pos_label=pos_label)
    if not (np.asarray(y_true) == pos_label).any():
        return 0.0
    return float(-(np.diff(recall) * precision[:-1]).sum())


# -- probabilities ---------------------------------------------------------------------------------------------------------
def log_loss(y_true: Any, y_pred: Any, *, normalize: bool = True, labels: Any = None) -> float:
    """The mean of ``-log p`` of the true class; ``y_pred`` are probabilities (N, C), or (N,) of the second of two classes.

    The classes are ``labels``, or those in ``y_true``, sorted. Probabilities are cut at the type's precision, so none is 0.
    """
    y, p = np.asarray(y_true), np.asarray(y_pred)
    if p.dtype.kind != "f":
        p = p.astype(float)
    p = np.stack([1 - p, p], 1) if p.ndim == 1 else p
    classes = np.unique(y) if labels is None else np.asarray(labels)
    if p.ndim != 2 or len(y) != len(p) or len(classes) != p.shape[1] or not len(y):
        raise ShapeError(f"{len(classes)} classes of {y.shape} labels against probabilities {p.shape}", hint="labels=range(C)")
    place = np.searchsorted(classes, y)
    eps = np.finfo(p.dtype).eps
    terms = -np.log(np.clip(p, eps, 1 - eps)[np.arange(len(y)), place])
    return float(terms.mean() if normalize else terms.sum())


def perplexity(y_true: Any, y_pred: Any) -> float:
    """``exp(log_loss)`` of labels 0..C-1 and probabilities (N, C): how many equally likely words the model hesitates between."""
    return float(np.exp(log_loss(y_true, y_pred, labels=range(np.asarray(y_pred).shape[1]))))


# -- values ----------------------------------------------------------------------------------------------------------------
def _values(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = _pair(y_true, y_pred)
    return a.astype(float), b.astype(float)


def mean_absolute_error(y_true: Any, y_pred: Any) -> float:
    """``mean(|y - f|)`` over all elements."""
    y, f = _values(y_true, y_pred)
    return float(np.abs(y - f).mean())


def mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """``mean((y - f)^2)`` over all elements."""
    y, f = _values(y_true, y_pred)
    return float(((y - f) ** 2).mean())


def root_mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """``sqrt(mean((y - f)^2))``; of several outputs (N, K) the mean of the outputs' roots, as in scikit-learn."""
    y, f = _values(y_true, y_pred)
    return float(np.sqrt(((y - f) ** 2).mean(0)).mean())


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> float:
    """``mean(|y - f| / |y|)``: a fraction, as in scikit-learn, where the loss "mape" is in percent. Huge where some y is 0."""
    y, f = _values(y_true, y_pred)
    return float((np.abs(y - f) / np.maximum(np.abs(y), np.finfo(float).eps)).mean())


def mean_squared_log_error(y_true: Any, y_pred: Any) -> float:
    """``mean((log(1 + y) - log(1 + f))^2)``; both must be above -1."""
    y, f = _values(y_true, y_pred)
    if (y <= -1).any() or (f <= -1).any():
        raise ArgumentError("mean_squared_log_error: values of -1 or less have no logarithm", hint="values above -1")
    return float(((np.log1p(y) - np.log1p(f)) ** 2).mean())


def r2_of(rows: Any, total: np.ndarray, squares: np.ndarray, left: np.ndarray) -> float:
    """R2 from sums over rows: the number of rows, of y, of y^2, of (y - f)^2, each by output."""
    spread = squares - total**2 / rows
    flat = spread <= 1e-13 * squares  # what is left is rounding
    each = np.where(flat, np.where(left <= 1e-13 * squares, 1.0, 0.0), 1 - left / np.where(flat, 1, spread))
    return float(each.mean())


def r2_score(y_true: Any, y_pred: Any) -> float:
    """``1 - sum (y - f)^2 / sum (y - mean y)^2``, the mean over outputs; a constant y gives 1 where it was met, else 0."""
    y, f = _values(y_true, y_pred)
    y, f = y.reshape(len(y), -1), f.reshape(len(f), -1)
    left, spread = ((y - f) ** 2).sum(0), ((y - y.mean(0)) ** 2).sum(0)
    return float(np.where(spread == 0, left == 0, 1 - _ratio(left, spread)).mean())


# -- boxes -----------------------------------------------------------------------------------------------------------------
def box_iou(boxes: Any, others: Any) -> np.ndarray:
    """Intersection over union of each pair of boxes (x1, y1, x2, y2): (N, 4) and (M, 4) give (N, M); 0 for boxes without area.

    >>> box_iou([[0, 0, 2, 2]], [[1, 1, 3, 3], [0, 0, 2, 2]]).round(4).tolist()
    [[0.1429, 1.0]]
    """
    a, b = np.asarray(boxes, float)[:, None], np.asarray(others, float)[None]
    both = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    area = [(v[..., 2:] - v[..., :2]).prod(-1) for v in (a, b)]
    return _ratio(both, area[0] + area[1] - both)


public(globals())
