"""Metrics: records for ``gc.compile(..., metrics=[...])``, computed inside the compiled step, and functions of arrays.

A metric of a whole evaluation is often no mean of the batches' values (precision, F, AUC, R2). Such a record computes *statistics*
of each batch, in the graph, which add up over batches; at the end they are divided. The functions of NumPy arrays
(``gc.metrics.f1_score(y_true, y_pred)``) have scikit-learn's names and argument order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc import ops
from graphc.errors import ArgumentError, ShapeError, did_you_mean
from graphc.ir.dims import prod
from graphc.ir.dtypes import float64, int64
from graphc.ir.node import Node
from graphc.locate import public
from graphc.ops.define import as_node, show

from . import scores
from .scores import (
    accuracy_score,
    auc,
    average_precision_score,
    balanced_accuracy_score,
    box_iou,
    cohen_kappa_score,
    confusion_matrix,
    dice_score,
    f1_score,
    fbeta_score,
    jaccard_score,
    log_loss,
    matthews_corrcoef,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_log_error,
    perplexity,
    precision_recall_curve,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
    roc_curve,
    root_mean_squared_error,
    specificity_score,
    top_k_accuracy_score,
)

__all__ = [
    "METRICS",
    "Metric",
    "Tally",
    "accuracy_score",
    "as_metrics",
    "auc",
    "average_precision_score",
    "balanced_accuracy_score",
    "binary_accuracy",
    "box_iou",
    "cohen_kappa_score",
    "confusion_matrix",
    "dice_score",
    "f1_score",
    "f_score",
    "fbeta_score",
    "jaccard",
    "jaccard_score",
    "log_loss",
    "matthews_corrcoef",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_log_error",
    "perplexity",
    "perplexity_of_logits",
    "precision",
    "precision_recall_curve",
    "precision_score",
    "r2_score",
    "recall",
    "recall_score",
    "roc_auc_score",
    "roc_curve",
    "root_mean_squared_error",
    "specificity",
    "specificity_score",
    "top_k_accuracy",
    "top_k_accuracy_score",
]


@dataclass(frozen=True)
class Metric:
    """One metric of predictions and targets.

    ``fn(prediction, target)`` gives a scalar that is a mean over samples. With ``finish`` it gives statistics instead, one tensor
    or a tuple: they are summed over batches (with ``gather``, joined along their first axis), and ``finish(*statistics)`` makes
    the number. With ``thresholded`` the function takes a third argument: where the loss's predictions turn to yes (0.5 for
    probabilities, 0 for logits).

    >>> worst = Metric("largest_error", lambda p, y: (p - y).max().reshape(1), lambda e: float(e.max()), gather=True)
    """

    name: str
    fn: Callable[..., Any]
    finish: Callable[..., float] | None = None
    gather: bool = False
    thresholded: bool = False

    def measure(self, prediction: Any, target: Any, threshold: float) -> Any:
        """What the graph computes: a scalar, or the statistics of this batch."""
        out = self.fn(prediction, target, threshold) if self.thresholded else self.fn(prediction, target)
        if self.finish is None and (not isinstance(out, Node) or out.shape != ()):
            raise ShapeError(f"the metric {self.name} gave {out!r}, not a scalar", hint="reduce it, or give finish=")
        return out


class Tally:
    """The loss and the metrics over the batches of an epoch or an evaluation.

    ``names`` says for each of them which outputs of the graph hold it (one name, or a tuple of the statistics' names).
    """

    def __init__(self, metrics: Iterable[Metric], names: Mapping[str, Any]):
        self.metrics = {m.name: m for m in metrics}
        self.names = names
        self.rows = 0
        self._sums: dict[str, Any] = {}
        self._last: dict[str, Any] = {}

    def add(self, outputs: Mapping[str, np.ndarray], rows: int) -> None:
        """Takes up one batch."""
        self.rows += rows
        for k, where in self.names.items():
            m = self.metrics.get(k)
            if m is None or m.finish is None:
                self._last[k] = float(outputs[where])
                self._sums[k] = self._sums.get(k, 0.0) + self._last[k] * rows
                continue
            parts = [outputs[w] for w in (where if isinstance(where, (tuple, list)) else (where,))]
            self._last[k] = parts
            if m.gather:
                self._sums.setdefault(k, []).append(parts)
            else:
                wide = [np.asarray(p, float) for p in parts]
                self._sums[k] = wide if k not in self._sums else [a + b for a, b in zip(self._sums[k], wide, strict=True)]

    def batch(self) -> dict[str, float]:
        """The values of the last batch alone."""
        return self.last()()

    def last(self) -> Callable[[], dict[str, float]]:
        """A function that gives the values of this batch, also after others were taken up."""
        held = dict(self._last)
        return lambda: {k: self._finish(k, v) for k, v in held.items()}

    def result(self) -> dict[str, float]:
        """The values of everything so far."""
        out = {}
        for k, v in self._sums.items():
            m = self.metrics.get(k)
            if m is None or m.finish is None:
                out[k] = v / self.rows
            else:
                out[k] = self._finish(k, [np.concatenate(p) for p in zip(*v, strict=True)] if m.gather else v)
        return out

    def state_dict(self) -> dict[str, Any]:
        """Everything so far, to go on from with another tally of the same metrics."""
        return {"rows": self.rows, "sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from another tally's :meth:`state_dict`."""
        if set(state["sums"]) != set(self.names):
            names = ", ".join(map(str, state["sums"]))
            raise ArgumentError(f"measured were {names}; now {', '.join(self.names)}", hint="the metrics of this model")
        self.rows = int(state["rows"])
        for k, v in state["sums"].items():
            m = self.metrics.get(k)
            if m is None or m.finish is None:
                self._sums[k] = float(v)
            elif m.gather:
                self._sums[k] = [[np.asarray(p) for p in parts] for parts in v]
            else:
                self._sums[k] = [np.asarray(p, float) for p in v]
        self.result()  # raises for what is nothing of these metrics

    def _finish(self, name: str, value: Any) -> float:
        m = self.metrics.get(name)
        return float(value) if m is None or m.finish is None else float(m.finish(*value))


# -- classes ---------------------------------------------------------------------------------------------------------------
def _is_binary(p: Node, y: Node) -> bool:
    return p.shape == y.shape and (p.ndim < 2 or p.shape[1] == 1)


def _yes(p: Node, threshold: float) -> Node:
    return ops.lt(ops.const(threshold, p.dtype), p)


def _true(y: Node) -> Node:
    return y if y.dtype.kind == "b" else ops.lt(0, y)


def _counts(task: str | None, threshold: float | None, p: Node, y: Node, default: float) -> Node:
    """(4, C) counts of tp, fp, fn, tn: of both answers of a yes-or-no question, of classes, or of independent labels."""
    at = default if threshold is None else threshold
    if task == "multilabel":
        if p.shape != y.shape or p.ndim != 2:
            raise ShapeError(
                f"labels need predictions and targets (N, K), not {show(p.shape)} and {show(y.shape)}", hint="one column a label"
            )
        a, b = (v.cast(int64) for v in (_yes(p, at), _true(y)))
        tp, predicted, actual = ops.sum(a * b, 0), ops.sum(a, 0), ops.sum(b, 0)
        tn = as_node(p.shape[0]).cast(int64) - predicted - actual + tp
        return ops.concat([v.expand_dims(0) for v in (tp, predicted - tp, actual - tp, tn)], 0)
    if task == "binary" or (task is None and _is_binary(p, y)):
        return ops.class_counts(_yes(p, at).cast(int64), _true(y).cast(int64), classes=2)
    classes = p.shape[1] if p.ndim > 1 else 0
    if not isinstance(classes, int) or classes < 2:
        raise ShapeError(
            f"predictions {show(p.shape)} against targets {show(y.shape)} are neither classes nor yes-or-no",
            hint="scores (N, C) with labels (N,), or predictions and targets of one shape (N,) or (N, 1)",
        )
    found = ops.argmax(p, 1)
    label = ops.argmax(y, 1) if y.shape == p.shape else y
    if label.shape != found.shape or not label.dtype.is_int:
        raise ShapeError(
            f"scores {show(p.shape)} need integer targets {show(found.shape)} or one-hot rows, not {y.type}",
            hint="y.argmax(-1) makes labels",
        )
    return ops.class_counts(found, label, classes=classes)


TASKS = (None, "binary", "multiclass", "multilabel")


def _from_counts(name: str, finish: Callable[[np.ndarray], float], task: str | None, threshold: float | None) -> Metric:
    if task not in TASKS:
        raise ArgumentError(f"task={task!r}", hint=", ".join(map(repr, TASKS)))
    return Metric(name, functools.partial(_counts, task, threshold), finish, thresholded=True)


def _quotient(
    kind: str, name: str, average: str | None, threshold: float | None, task: str | None, beta: float = 1.0
) -> Metric:
    if average not in ("binary", "macro", "micro", "weighted", None):
        raise ArgumentError(f"average={average!r}", hint='"binary", "macro", "micro", "weighted", or None for what fits')

    def finish(counts: np.ndarray) -> float:
        way = average or ("binary" if counts.shape[1] == 2 and task != "multilabel" else "macro")
        if way == "binary":
            if counts.shape[1] != 2:
                raise ArgumentError(f'{name}: average="binary" of {counts.shape[1]} classes', hint='average="macro"')
            counts, way = counts[:, 1:], "macro"
        return float(scores.averaged(*scores.quotient(kind, counts, beta), counts, way, occurring=task != "multilabel"))

    return _from_counts(name, finish, task, threshold)


def precision(
    average: str | None = None, threshold: float | None = None, task: str | None = None, name: str = "precision"
) -> Metric:
    """TP / (TP + FP) over the whole evaluation.

    Scores (N, C, ...) with labels (N, ...) or one-hot rows are classes; predictions and targets of one shape (N,) or (N, 1) are
    yes-or-no, with the loss's ``threshold`` unless given. ``task="multilabel"`` takes (N, K) as K questions, ``task="binary"`` any
    shape as one. ``average``: "binary" (the yes), "macro", "micro" or "weighted"; None is binary for two classes, else macro.
    """
    return _quotient("precision", name, average, threshold, task)


def recall(
    average: str | None = None, threshold: float | None = None, task: str | None = None, name: str = "recall"
) -> Metric:
    """TP / (TP + FN) over the whole evaluation; arguments as :func:`precision`."""
    return _quotient("recall", name, average, threshold, task)


def specificity(
    average: str | None = None, threshold: float | None = None, task: str | None = None, name: str = "specificity"
) -> Metric:
    """TN / (TN + FP) over the whole evaluation; arguments as :func:`precision`."""
    return _quotient("specificity", name, average, threshold, task)


def f_score(
    beta: float = 1.0,
    average: str | None = None,
    threshold: float | None = None,
    task: str | None = None,
    name: str = "",
) -> Metric:
    """F_beta over the whole evaluation; arguments as :func:`precision`. For masks with ``task="binary"`` F1 is the Dice coefficient."""
    return _quotient("f", name or f"f{beta:g}", average, threshold, task, beta)


def jaccard(
    average: str | None = None, threshold: float | None = None, task: str | None = None, name: str = "iou"
) -> Metric:
    """Intersection over union, TP / (TP + FP + FN), of the pixels (rows) of each class; arguments as :func:`precision`."""
    return _quotient("jaccard", name, average, threshold, task)


def _accuracy(p: Node, y: Node, threshold: float) -> Node:
    return ops.binary_accuracy(p, y, threshold=threshold) if _is_binary(p, y) else ops.accuracy(p, y)


def binary_accuracy(threshold: float | None = None, name: str = "binary_accuracy") -> Metric:
    """The share of elements on the right side of the threshold (the loss's, unless given)."""

    def fn(p: Node, y: Node, default: float) -> Node:
        return ops.binary_accuracy(p, y, threshold=default if threshold is None else threshold)

    return Metric(name, fn, thresholded=True)


def top_k_accuracy(k: int = 5, name: str = "") -> Metric:
    """The share of rows whose label is among the ``k`` largest scores."""
    return Metric(name or f"top_{k}_accuracy", lambda p, y: ops.top_k_accuracy(p, y, k=k))


# -- ranks -----------------------------------------------------------------------------------------------------------------
def _ranks(p: Node, y: Node) -> tuple[Node, Node]:
    """Scores of yes and the truth, as rows: a curve needs all of them, so they are kept."""
    if p.ndim == 2 and p.shape[1] == 2 and y.shape == p.shape[:1]:
        p = p[:, 1] - p[:, 0]
    if p.shape != y.shape:
        raise ShapeError(
            f"a curve needs one score a target, not {show(p.shape)} for {show(y.shape)}", hint="the score of the class that is yes, (N,)"
        )
    return p.reshape(-1), _true(y).reshape(-1)


# -- values ----------------------------------------------------------------------------------------------------------------
def _wide(p: Node, y: Node) -> tuple[Node, Node]:
    """Values in float64: sums over many batches, and differences of such sums."""
    if p.shape != y.shape:
        raise ShapeError(
            f"prediction {show(p.shape)} and target {show(y.shape)} differ", hint="y[..., None] adds an axis, p[..., 0] takes one"
        )
    rows = (p.shape[0] if p.ndim else 1, prod(p.shape[1:]))
    return p.cast(float64).reshape(rows), y.cast(float64).reshape(rows)


def _r2_sums(p: Node, y: Node) -> tuple[Node, ...]:
    p, y = _wide(p, y)
    rows = as_node(p.shape[0]).cast(float64)
    return rows, ops.sum(y, 0), ops.sum(y * y, 0), ops.sum((y - p) * (y - p), 0)


def _squares(p: Node, y: Node) -> tuple[Node, Node]:
    p, y = _wide(p, y)
    return as_node(p.shape[0]).cast(float64), ops.sum((y - p) * (y - p), 0)


def perplexity_of_logits(ignore_index: int = -100, name: str = "perplexity") -> Metric:
    """``exp`` of the mean cross entropy of logits (N, C, ...) and labels over the whole evaluation; ignored labels do not count."""

    def fn(p: Node, y: Node) -> tuple[Node, Node]:
        total = ops.cross_entropy(p, y, ignore_index=ignore_index, reduction="sum")
        return total, ops.sum(ops.ne(y, ignore_index).cast(int64))

    return Metric(name, fn, lambda total, count: float(np.exp(total / count)) if count else float("nan"))


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", _accuracy, thresholded=True),
        binary_accuracy(),
        top_k_accuracy(),
        precision(),
        recall(),
        specificity(),
        f_score(),
        jaccard(),
        f_score(task="binary", name="dice"),
        _from_counts("balanced_accuracy", scores.balanced_of, None, None),
        _from_counts("cohen_kappa", scores.kappa_of, None, None),
        _from_counts("matthews", scores.matthews_of, None, None),
        Metric("auc", _ranks, lambda s, y: roc_auc_score(y, s), gather=True),
        Metric("average_precision", _ranks, lambda s, y: average_precision_score(y, s), gather=True),
        perplexity_of_logits(),
        Metric("mae", lambda p, y: ops.l1_loss(p, y)),
        Metric("mse", lambda p, y: ops.mse_loss(p, y)),
        Metric("rmse", _squares, lambda n, s: float(np.sqrt(s / n).mean())),
        Metric("mape", lambda p, y: ops.mape_loss(p, y)),
        Metric("msle", lambda p, y: ops.msle_loss(p, y)),
        Metric("r2", _r2_sums, scores.r2_of),
        Metric("cosine_similarity", lambda p, y: ops.mean(ops.cosine_similarity(p, y, axis=-1))),
    )
}
"""The metrics of ``gc.compile(..., metrics=[name])``, all over the whole evaluation or epoch (in training, of the predictions made
before each update).

- classes, or yes-or-no with the loss's threshold: "accuracy", "binary_accuracy", "top_5_accuracy", "precision", "recall",
  "specificity", "f1", "iou" (Jaccard), "dice" (over all elements), "balanced_accuracy", "cohen_kappa", "matthews"
- ranks: "auc" (the area under the ROC curve), "average_precision" ("pr_auc"); exact, ties counted right, from all scores
- language: "perplexity" (of logits)
- values: "mae", "mse", "rmse", "mape" (percent), "msle", "r2", "cosine_similarity"

Other settings: ``metrics=[gc.metrics.f_score(beta=2, average="macro"), gc.metrics.precision(threshold=0.3)]``.
"""
METRICS |= {a: replace(METRICS[n], name=a) for a, n in {"pr_auc": "average_precision", "jaccard": "iou"}.items()}


def as_metrics(values: Sequence[Any]) -> list[Metric]:
    """Metrics by name, as records, or as functions. Raises ArgumentError for others."""
    out: list[Metric] = []
    for v in [values] if isinstance(values, (str, Metric)) or callable(values) else values:
        if isinstance(v, Metric):
            out.append(v)
        elif isinstance(v, str) and v in METRICS:
            out.append(METRICS[v])
        elif callable(v):
            out.append(Metric(getattr(v, "__name__", f"metric_{len(out)}"), v))
        else:
            hint = did_you_mean(v, METRICS) if isinstance(v, str) else 'a name ("accuracy"), or a function of (prediction, target)'
            raise ArgumentError(f"{v!r} is not a metric", hint=hint)
    names = [m.name for m in out]
    if len(set(names)) != len(names) or "loss" in names:
        raise ArgumentError(f"metrics need different names: {', '.join(names)}", hint="gc.metrics records take name=")
    return out


public(globals())
