"""Losses as modules, with torch's names, arguments and defaults (without the deprecated ``size_average`` and ``reduce``).

Each calls the operator of its name; ``reduction`` is "mean", "sum" or "none".
"""

from __future__ import annotations

from typing import Any

from graphc import ops
from graphc.ir.node import Node
from graphc.ir.types import TensorType
from graphc.ops.define import broadcast_shapes

from ..losses import labels_spec, same_spec
from ..module import Module
from ..parameter import Buffer
from ..specs import Spec

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PairwiseDistance",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
]


class _Loss(Module):
    """What losses share: the reduction, and their settings in ``repr``."""

    def __init__(self, reduction: str = "mean", **settings: Any):
        self.reduction = reduction
        self.settings = settings

    def describe(self) -> dict[str, Any]:
        return {**self.settings, "reduction": self.reduction}


class _Pointwise(_Loss):
    """A loss whose target is like the prediction: ``gc.compile(net, ..., loss=nn.MSELoss())`` derives its spec."""

    def target_spec(self, prediction: TensorType) -> Spec:
        return same_spec(prediction)


class _Labels(_Loss):
    """A loss whose target is one label a row."""

    def target_spec(self, prediction: TensorType) -> Spec:
        return labels_spec(prediction, type(self).__name__)


def _buffer(weight: Any) -> Buffer | None:
    return None if weight is None else weight if isinstance(weight, Buffer) else Buffer(weight)


# -- real values -----------------------------------------------------------------------------------------------------------
class MSELoss(_Pointwise):
    """``(prediction - target)^2``."""

    def forward(self, prediction: Node, target: Node) -> Node:
        return ops.mse_loss(prediction, target, reduction=self.reduction)


class L1Loss(_Pointwise):
    """``|prediction - target|``."""

    def forward(self, prediction: Node, target: Node) -> Node:
        return ops.l1_loss(prediction, target, reduction=self.reduction)


class SmoothL1Loss(_Pointwise):
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta/2``: :class:`HuberLoss` divided by its delta."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction, beta=beta)

    def forward(self, prediction: Node, target: Node) -> Node:
        return ops.smooth_l1_loss(prediction, target, reduction=self.reduction, **self.settings)


class HuberLoss(_Pointwise):
    """``d^2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta/2)``."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction, delta=delta)

    def forward(self, prediction: Node, target: Node) -> Node:
        return ops.huber_loss(prediction, target, reduction=self.reduction, **self.settings)


class PoissonNLLLoss(_Pointwise):
    """The negative log likelihood of counts; see :func:`graphc.ops.poisson_nll_loss`."""

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"):
        super().__init__(reduction, log_input=log_input, full=full, eps=eps)

    def forward(self, prediction: Node, target: Node) -> Node:
        return ops.poisson_nll_loss(prediction, target, reduction=self.reduction, **self.settings)


class GaussianNLLLoss(_Loss):
    """The negative log likelihood of normal targets of given variance; see :func:`graphc.ops.gaussian_nll_loss`."""

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction, full=full, eps=eps)

    def forward(self, prediction: Node, target: Node, var: Node) -> Node:
        return ops.gaussian_nll_loss(prediction, target, var, reduction=self.reduction, **self.settings)


# -- classes ---------------------------------------------------------------------------------------------------------------
class CrossEntropyLoss(_Labels):
    """Logits (N, C, ...) against labels (N, ...) or probabilities; ``weight`` (C,) is a buffer. See :func:`graphc.ops.cross_entropy`."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0):
        super().__init__(reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)
        self.weight = _buffer(weight)

    def forward(self, logits: Node, target: Node) -> Node:
        return ops.cross_entropy(logits, target, self.weight, reduction=self.reduction, **self.settings)


class NLLLoss(_Labels):
    """Log-probabilities (N, C, ...) against labels (N, ...); ``weight`` (C,) is a buffer."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction, ignore_index=ignore_index)
        self.weight = _buffer(weight)

    def forward(self, log_probabilities: Node, target: Node) -> Node:
        return ops.nll_loss(log_probabilities, target, self.weight, reduction=self.reduction, **self.settings)


class BCELoss(_Pointwise):
    """The binary cross entropy of probabilities; ``weight`` broadcasts against them."""

    def __init__(self, weight: Any = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = _buffer(weight)

    def forward(self, probabilities: Node, target: Node) -> Node:
        return ops.binary_cross_entropy(probabilities, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Pointwise):
    """The binary cross entropy of logits; ``pos_weight`` multiplies the terms of positives."""

    threshold = 0.0

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None):
        super().__init__(reduction)
        self.weight, self.pos_weight = _buffer(weight), _buffer(pos_weight)

    def forward(self, logits: Node, target: Node) -> Node:
        return ops.binary_cross_entropy_with_logits(logits, target, self.weight, self.pos_weight, reduction=self.reduction)


class KLDivLoss(_Pointwise):
    """The Kullback-Leibler divergence of log-probabilities from a target; ``reduction="batchmean"`` is its mean over rows."""

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction, log_target=log_target)

    def forward(self, log_probabilities: Node, target: Node) -> Node:
        return ops.kl_div(log_probabilities, target, reduction=self.reduction, **self.settings)


# -- margins ---------------------------------------------------------------------------------------------------------------
class SoftMarginLoss(_Pointwise):
    """``log(1 + exp(-t x))``, targets -1 and 1."""

    threshold = 0.0

    def forward(self, prediction: Node, target: Node) -> Node:
        return ops.soft_margin_loss(prediction, target, reduction=self.reduction)


class HingeEmbeddingLoss(_Pointwise):
    """A distance ``x`` costs ``x`` where the target is 1, ``max(0, margin - x)`` where it is -1."""

    def __init__(self, margin: float = 1.0, reduction: str = "mean"):
        super().__init__(reduction, margin=margin)

    def forward(self, prediction: Node, target: Node) -> Node:
        return ops.hinge_embedding_loss(prediction, target, reduction=self.reduction, **self.settings)


class MarginRankingLoss(_Loss):
    """``max(0, margin - t (x1 - x2))``."""

    def __init__(self, margin: float = 0.0, reduction: str = "mean"):
        super().__init__(reduction, margin=margin)

    def forward(self, x1: Node, x2: Node, target: Node) -> Node:
        return ops.margin_ranking_loss(x1, x2, target, reduction=self.reduction, **self.settings)


class MultiMarginLoss(_Labels):
    """``sum_{i != y} max(0, margin - x_y + x_i)^p / C``; ``weight`` (C,) is a buffer."""

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"):
        super().__init__(reduction, p=p, margin=margin)
        self.weight = _buffer(weight)

    def forward(self, scores: Node, target: Node) -> Node:
        return ops.multi_margin_loss(scores, target, self.weight, reduction=self.reduction, **self.settings)


class MultiLabelMarginLoss(_Loss):
    """Every label of a row above every other class by 1; targets list labels, then -1."""

    def forward(self, scores: Node, target: Node) -> Node:
        return ops.multilabel_margin_loss(scores, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(_Pointwise):
    """The mean over classes of each one's binary cross entropy with logits; ``weight`` (C,) is a buffer."""

    threshold = 0.0

    def __init__(self, weight: Any = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = _buffer(weight)

    def forward(self, logits: Node, target: Node) -> Node:
        return ops.multilabel_soft_margin_loss(logits, target, self.weight, reduction=self.reduction)


# -- distances -------------------------------------------------------------------------------------------------------------
class CosineEmbeddingLoss(_Loss):
    """``1 - cos`` of pairs alike (target 1), ``max(0, cos - margin)`` of others (-1)."""

    def __init__(self, margin: float = 0.0, reduction: str = "mean"):
        super().__init__(reduction, margin=margin)

    def forward(self, x1: Node, x2: Node, target: Node) -> Node:
        return ops.cosine_embedding_loss(x1, x2, target, reduction=self.reduction, **self.settings)


class TripletMarginLoss(_Loss):
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` with the ``p``-norm's distance."""

    def __init__(self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"):
        super().__init__(reduction, margin=margin, p=p, eps=eps, swap=swap)

    def forward(self, anchor: Node, positive: Node, negative: Node) -> Node:
        return ops.triplet_margin_loss(anchor, positive, negative, reduction=self.reduction, **self.settings)


def _together(x1: Node, x2: Node) -> tuple[Node, Node]:
    shape = broadcast_shapes([x1.shape, x2.shape])
    return ops.broadcast_to(x1, shape), ops.broadcast_to(x2, shape)


class CosineSimilarity(Module):
    """The cosine of the angle between vectors along ``dim``; operands broadcast."""

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        self.dim, self.eps = dim, eps

    def forward(self, x1: Node, x2: Node) -> Node:
        return ops.cosine_similarity(*_together(x1, x2), axis=self.dim, eps=self.eps)

    def describe(self) -> dict[str, Any]:
        return {"dim": self.dim, "eps": self.eps}


class PairwiseDistance(Module):
    """The ``p``-norm of ``x1 - x2 + eps`` over the last axis; operands broadcast."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False):
        self.p, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Node, x2: Node) -> Node:
        return ops.pairwise_distance(*_together(x1, x2), p=self.p, eps=self.eps, keepdims=self.keepdim)

    def describe(self) -> dict[str, Any]:
        return {"p": self.p, "eps": self.eps, "keepdim": self.keepdim}
