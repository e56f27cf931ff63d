"""Losses by name, each with the spec of its target; penalties on parameters.

The functions themselves are ``graphc.ops`` (``ops.huber_loss``), and as modules ``graphc.nn`` (``nn.HuberLoss``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from graphc import ops
from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dtypes import int64
from graphc.ir.node import Node
from graphc.ir.types import TensorType
from graphc.ops.define import show

from .module import Module
from .parameter import Parameter
from .specs import Spec

__all__ = ["LOSSES", "Loss", "as_loss", "l1_penalty", "l2_penalty", "labels_spec", "same_spec", "with_penalty"]


@dataclass(frozen=True)
class Loss:
    """``fn(prediction, target)`` gives a scalar; ``target_spec(type of the prediction)`` the spec of the target.

    ``threshold`` is where the prediction of a yes-or-no question turns to yes: 0.5 for probabilities, 0 for logits. Metrics
    that count classes use it.
    """

    name: str
    fn: Callable[[Any, Any], Node]
    target_spec: Callable[[TensorType], Spec] | None = None
    threshold: float = 0.5

    def derive(self, prediction: Any) -> Spec:
        """The target's spec; raises ArgumentError where it must be given."""
        if self.target_spec is None or not isinstance(prediction, Node):
            raise ArgumentError(
                f"the target's spec does not follow from the loss {self.name}",
                hint="gc.compile(..., target_spec=gc.spec(...))",
            )
        return self.target_spec(prediction.tensor)


def same_spec(t: TensorType) -> Spec:
    """A target like the prediction."""
    return Spec(t)


def labels_spec(t: TensorType, name: str = "cross_entropy") -> Spec:
    """A label (int64) a row of scores (N, C, ...)."""
    if t.rank < 2:
        raise ShapeError(f"{name}: predictions of shape {show(t.shape)} have no class axis", hint="scores are (N, classes)")
    return Spec(TensorType((t.shape[0], *t.shape[2:]), int64))


EPS = 1e-7  # Keras' cut of probabilities before a logarithm


def _log(p: Any) -> Node:
    return ops.log(ops.minimum(ops.maximum(p, EPS), 1.0 - EPS))


def _class_sum(p: Any, y: Any) -> Node:
    """-sum_k y_k log p_k, the mean over rows; classes on axis 1."""
    return -ops.mean(ops.sum(y * _log(p), 1))


def _divergence(p: Any, y: Any) -> Node:
    """sum_k y_k log(y_k / p_k) along the last axis, the mean over rows."""
    return ops.mean(ops.sum(ops.kl_div(_log(p), y, reduction="none"), -1))


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("mse", lambda p, y: ops.mse_loss(p, y), same_spec),
        Loss("sse", lambda p, y: ops.sse_loss(p, y), same_spec),
        Loss("mae", lambda p, y: ops.l1_loss(p, y), same_spec),
        Loss("mape", lambda p, y: ops.mape_loss(p, y), same_spec),
        Loss("msle", lambda p, y: ops.msle_loss(p, y), same_spec),
        Loss("huber", lambda p, y: ops.huber_loss(p, y), same_spec),
        Loss("smooth_l1", lambda p, y: ops.smooth_l1_loss(p, y), same_spec),
        Loss("log_cosh", lambda p, y: ops.log_cosh_loss(p, y), same_spec),
        Loss("quantile", lambda p, y: ops.quantile_loss(p, y), same_spec),
        Loss("cosine", lambda p, y: ops.mean(1.0 - ops.cosine_similarity(p, y, axis=-1)), same_spec),
        Loss("poisson", lambda p, y: ops.poisson_nll_loss(p, y, log_input=False, eps=EPS), same_spec),
        Loss("kl_divergence", _divergence, same_spec),
        Loss("cross_entropy", lambda p, y: ops.cross_entropy(p, y), labels_spec),
        Loss("nll", lambda p, y: ops.nll_loss(p, y), lambda t: labels_spec(t, "nll")),
        Loss("sparse_categorical_crossentropy", lambda p, y: ops.nll_loss(_log(p), y), lambda t: labels_spec(t, "sparse_categorical_crossentropy")),
        Loss("categorical_crossentropy", _class_sum, same_spec),
        Loss("binary_crossentropy", lambda p, y: ops.binary_cross_entropy(p, y), same_spec),
        Loss("binary_cross_entropy_with_logits", lambda p, y: ops.binary_cross_entropy_with_logits(p, y), same_spec, 0.0),
        Loss("focal", lambda p, y: ops.focal_loss(p, y), same_spec, 0.0),
        Loss("dice", lambda p, y: ops.dice_loss(p, y), same_spec),
        Loss("hinge", lambda p, y: ops.hinge_loss(p, y), same_spec, 0.0),
        Loss("squared_hinge", lambda p, y: ops.squared_hinge_loss(p, y), same_spec, 0.0),
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

Other settings go as a module or a function: ``loss=nn.HuberLoss(delta=0.5)``.
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
        return Loss(type(value).__name__, value, getattr(value, "target_spec", None), getattr(value, "threshold", 0.5))
    if callable(value):
        return Loss(getattr(value, "__name__", "loss"), value)
    raise ArgumentError(
        f"{value!r} is not a loss", hint="a function of (prediction, target), or one of " + ", ".join(LOSSES)
    )


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
    return replace(plain, fn=lambda p, y: plain.fn(p, y) + _penalty(parameters, l1=l1, l2=l2))
