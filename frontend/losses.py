"""Losses by name, each with the spec of its target; penalties on parameters.

The functions themselves are ``graphc.ops`` (``ops.huber_loss``), and as modules ``graphc.nn`` (``nn.HuberLoss``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from graphc import ops
from graphc.errors import ArgumentError, ShapeError, did_you_mean
from graphc.ir.dtypes import int64
from graphc.ir.node import Node
from graphc.ir.types import TensorType
from graphc.locate import boundary, public
from graphc.ops.define import as_node, show

from .module import Module
from .parameter import Parameter
from .specs import Spec

__all__ = ["LOSSES", "Loss", "as_loss", "l1_penalty", "l2_penalty", "labels_spec", "same_spec", "with_penalty"]


@dataclass(frozen=True)
class Loss:
    """``fn(prediction, target)`` gives a scalar, or one value a row whose mean is the loss; ``target_spec(type of the prediction)``
    gives the spec of the target.

    ``rows(prediction, target)`` gives the terms, samples on axis 0, of which the loss is the sum divided by ``total(prediction,
    target)`` (None: by their number, a mean); sample weights need it. ``extra`` is added to the loss. ``threshold`` is where the
    prediction of a yes-or-no question turns to yes: 0.5 for probabilities, 0 for logits. Metrics that count classes use it.
    """

    name: str
    fn: Callable[[Any, Any], Node]
    target_spec: Callable[[TensorType], Spec] | None = None
    threshold: float = 0.5
    rows: Callable[[Any, Any], Node] | None = None
    total: Callable[[Any, Any], Node | float | None] | None = None
    extra: Callable[[], Node] | None = None

    def derive(self, prediction: Any) -> Spec:
        """The target's spec; raises ArgumentError where it must be given."""
        if self.target_spec is None or not isinstance(prediction, Node):
            raise ArgumentError(
                f"the target's spec does not follow from the loss {self.name}",
                hint="gc.compile(..., target_spec=gc.spec(...))",
            )
        return self.target_spec(prediction.tensor)

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> Node:
        """The loss as a scalar; with a ``weight`` a sample, (N,), each sample's terms are multiplied by its weight.

        The divisor stays the same (N for a mean), as in Keras: ``sum_i w_i l_i / N``. So weights of 1 change nothing, a weight of 2
        counts as much as the sample twice, and the result does not depend on how an epoch is cut into batches.
        """
        value = self.fn(prediction, target) if weight is None else self._weighted(prediction, target, weight)
        if not isinstance(value, Node) or (weight is None and value.ndim > 1):
            raise ShapeError(f"the loss {self.name} gave {value!r}, not a scalar", hint="reduce it: loss.mean()")
        if value.ndim:
            value = ops.mean(value)
        return value if self.extra is None else value + self.extra()

    def _weighted(self, prediction: Any, target: Any, weight: Node) -> Node:
        terms = (self.rows or self.fn)(prediction, target)
        if not isinstance(terms, Node) or not terms.ndim or terms.shape[0] != weight.shape[0]:
            raise ArgumentError(
                f"the loss {self.name} cannot be weighted by samples: it gives {terms!r}, not one value a sample",
                hint="a function that gives losses of shape (N,); their mean is the loss",
            )
        terms = terms * weight.cast(terms.dtype).reshape(weight.shape[0], *[1] * (terms.ndim - 1))
        total = None if self.total is None else self.total(prediction, target)
        return ops.mean(terms) if total is None else ops.sum(terms) / total


@boundary
def same_spec(t: TensorType) -> Spec:
    """A target like the prediction."""
    return Spec(t)


@boundary
def labels_spec(t: TensorType, name: str = "cross_entropy") -> Spec:
    """A label (int64) a row of scores (N, C, ...)."""
    if t.rank < 2:
        raise ShapeError(f"{name}: predictions of shape {show(t.shape)} have no class axis", hint="scores are (N, classes)")
    return Spec(TensorType((t.shape[0], *t.shape[2:]), int64))


EPS = 1e-7  # Keras' cut of probabilities before a logarithm


def _log(p: Any) -> Node:
    return ops.log(ops.minimum(ops.maximum(p, EPS), 1.0 - EPS))


def _class_sums(p: Any, y: Any) -> Node:
    """-sum_k y_k log p_k of each row; classes on axis 1."""
    return -ops.sum(y * _log(p), 1)


def _divergences(p: Any, y: Any) -> Node:
    """sum_k y_k log(y_k / p_k) along the last axis."""
    return ops.sum(ops.kl_div(_log(p), y, reduction="none"), -1)


def _labels_total(p: Node, y: Node, weight: Node | None = None, ignore_index: int = -100) -> Node | None:
    """What the mean over labels divides by: the sum of the weights of those that are not ignored. None for rows of probabilities."""
    if y.shape == p.shape:
        return None
    ones = ops.broadcast_to(ops.const(-1.0, p.dtype), p.shape)
    return ops.nll_loss(ones, y, weight, ignore_index=ignore_index, reduction="sum")


def _one(p: Node, y: Node) -> float:
    """The divisor of a sum."""
    return 1.0


def _of_op(name: str, op: Callable[..., Node], target_spec: Any = same_spec, threshold: float = 0.5, total: Any = None, **settings: Any) -> Loss:
    """The loss of an operator that has a ``reduction``."""
    return Loss(name, partial(op, **settings), target_spec, threshold, partial(op, reduction="none", **settings), total)


def _of_rows(name: str, rows: Callable[[Any, Any], Node], target_spec: Any = same_spec) -> Loss:
    """The mean of a function that gives one value a row."""
    return Loss(name, rows, target_spec, rows=rows)


LOSSES = {
    loss.name: loss
    for loss in (
        _of_op("mse", ops.mse_loss),
        Loss("sse", lambda p, y: ops.sse_loss(p, y), same_spec, rows=partial(ops.mse_loss, reduction="none"), total=_one),
        _of_op("mae", ops.l1_loss),
        _of_op("mape", ops.mape_loss),
        _of_op("msle", ops.msle_loss),
        _of_op("huber", ops.huber_loss),
        _of_op("smooth_l1", ops.smooth_l1_loss),
        _of_op("log_cosh", ops.log_cosh_loss),
        _of_op("quantile", ops.quantile_loss),
        _of_rows("cosine", lambda p, y: 1.0 - ops.cosine_similarity(p, y, axis=-1)),
        _of_op("poisson", ops.poisson_nll_loss, log_input=False, eps=EPS),
        _of_rows("kl_divergence", _divergences),
        _of_op("cross_entropy", ops.cross_entropy, labels_spec, total=_labels_total),
        _of_op("nll", ops.nll_loss, lambda t: labels_spec(t, "nll"), total=_labels_total),
        Loss(
            "sparse_categorical_crossentropy", lambda p, y: ops.nll_loss(_log(p), y), lambda t: labels_spec(t, "sparse_categorical_crossentropy"),
            rows=lambda p, y: ops.nll_loss(_log(p), y, reduction="none"), total=_labels_total,
        ),
        _of_rows("categorical_crossentropy", _class_sums),
        _of_op("binary_crossentropy", ops.binary_cross_entropy),
        _of_op("binary_cross_entropy_with_logits", ops.binary_cross_entropy_with_logits, threshold=0.0),
        _of_op("focal", ops.focal_loss, threshold=0.0),
        _of_op("dice", ops.dice_loss),
        _of_op("hinge", ops.hinge_loss, threshold=0.0),
        _of_op("squared_hinge", ops.squared_hinge_loss, threshold=0.0),
    )
}  # fmt: skip
"""The losses of ``gc.compile(..., loss=name)``, all means unless said otherwise; targets are like the prediction except where labels stand.

- "mse", "sse" (a sum), "mae", "mape" (percent), "msle", "huber", "smooth_l1", "log_cosh", "quantile" (the median),
  "cosine" (1 - cosine similarity along the last axis), "poisson" (the prediction is the rate): real values
- "cross_entropy": *logits* (N, C), labels int (N,), or rows of probabilities with ``target_spec=gc.spec("N", C)``
- "nll": log-probabilities (N, C), labels int (N,)
- "sparse_categorical_crossentropy", "categorical_crossentropy": *probabilities* (N, C), as in Keras, for models that end in a
  softmax; labels int (N,) or rows of probabilities. Better: no softmax and "cross_entropy"
- "binary_crossentropy" ("bce"): *probabilities* as in Keras; "binary_cross_entropy_with_logits" ("bce_with_logits"): *logits*
- "focal" (logits), "dice" (probabilities), "kl_divergence" (probabilities, over the last axis), "hinge", "squared_hinge" (targets -1, 1)

Other settings go as a module or a function: ``loss=nn.HuberLoss(delta=0.5)``. A function gives a scalar, or one value a sample whose mean
is the loss; only the latter can take sample weights.
"""

ALIASES = {
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "l1": "mae",
    "mean_absolute_percentage_error": "mape",
    "mean_squared_logarithmic_error": "msle",
    "bce": "binary_crossentropy",
    "binary_cross_entropy": "binary_crossentropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "kl_div": "kl_divergence",
}
LOSSES |= {alias: LOSSES[name] for alias, name in ALIASES.items()}


def as_loss(value: Any) -> Loss:
    """A loss by name, as a record, as a module of ``nn`` (``nn.CrossEntropyLoss()``), or as a function of (prediction, target)."""
    if isinstance(value, Loss):
        return value
    if isinstance(value, str) and value in LOSSES:
        return LOSSES[value]
    if isinstance(value, type):
        raise ArgumentError(f"{value.__name__} is a class, not a loss", hint=f"loss=nn.{value.__name__}()")
    if isinstance(value, Module):
        return _of_module(value)
    if callable(value):
        return Loss(getattr(value, "__name__", "loss"), value)
    hint = did_you_mean(value, LOSSES) if isinstance(value, str) else 'a name ("mse"), a module of nn, or a function of (prediction, target)'
    raise ArgumentError(f"{value!r} is not a loss", hint=hint)


def _of_module(module: Module) -> Loss:
    """A loss module: its terms are what it gives with ``reduction="none"``."""
    reduction = getattr(module, "reduction", None)

    def rows(p: Any, y: Any) -> Node:
        module.reduction = "none"
        try:
            return module(p, y)
        finally:
            module.reduction = reduction

    def total(p: Node, y: Node) -> Any:
        if reduction == "sum":
            return 1.0
        if reduction == "batchmean":
            return as_node(p.shape[0]).cast(p.dtype)
        settings = getattr(module, "settings", {})
        return _labels_total(p, y, module.weight, settings["ignore_index"]) if "ignore_index" in settings else None

    known: dict[str, Any] = {} if reduction is None else {"rows": rows, "total": total}
    return Loss(type(module).__name__, module, getattr(module, "target_spec", None), getattr(module, "threshold", 0.5), **known)


# -- penalties -------------------------------------------------------------------------------------------------------------
def _penalty(parameters: Any, **strength: float) -> Node:
    from .optim import penalty

    if isinstance(parameters, Module):
        parameters = parameters.parameters()
    return penalty([parameters] if isinstance(parameters, (Parameter, Node)) else parameters, **strength)


def l1_penalty(parameters: Module | Parameter | Node | Iterable[Parameter | Node]) -> Node:
    """``sum |w|`` over a module's parameters, or over those given: ``loss + l1 * l1_penalty(net)``. Its gradient is the sign."""
    return _penalty(parameters, l1=1.0)


def l2_penalty(parameters: Module | Parameter | Node | Iterable[Parameter | Node]) -> Node:
    """``sum w^2`` over a module's parameters, or over those given: ``loss + l2 * l2_penalty([net.fc.weight])``.

    It is the square of the norm, so its gradient is ``2 w``: ``weight_decay=d`` of the optimisers is ``l2 = d / 2`` here.
    """
    return _penalty(parameters, l2=1.0)


def with_penalty(loss: Any, parameters: Any, l1: float = 0.0, l2: float = 0.0) -> Loss:
    """The loss plus ``l1 sum |w| + l2 sum w^2`` of a module's parameters or of those given, for ``gc.compile(net, ..., loss=...)``.

    The reported loss includes the penalty, in evaluation too. Where only the training needs it, the optimisers' ``l1=`` and
    ``l2=`` are cheaper.
    """
    plain = as_loss(loss)
    return replace(plain, extra=lambda: _penalty(parameters, l1=l1, l2=l2))


public(globals())
