"""Losses and metrics: torch and SciPy for losses, scikit-learn for metrics."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
import sklearn.metrics as sk

from tests.ops.lazy_torch import F, torch

EXEMPT = {"accuracy": "scikit-learn: test_losses.py"}


def _reduced(rows, reduction="mean"):
    return rows.mean() if reduction == "mean" else rows.sum() if reduction == "sum" else rows


def _quiet(fn: Callable[..., Any]) -> Callable[..., Any]:
    """scikit-learn warns where a quotient is 0 / 0."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(fn(*args, **kwargs))

    return run


def _averaged(score: Callable[..., Any], **more: Any) -> Callable[..., Any]:
    """A score of scikit-learn by classes; macro and weighted means are over the classes that occur, None gives all."""

    def run(p, y, classes, average="macro", **extra):
        every = {"labels": range(classes)} if average is None else {}
        return score(np.ravel(y), np.ravel(p), average=average, zero_division=0, **every, **more, **extra)

    return _quiet(run)


def _specificity(p, y, classes, average="macro"):
    """Recall of each class's complement."""
    p, y = np.ravel(p), np.ravel(y)
    every = np.arange(classes)
    if average == "micro":
        return sk.recall_score(np.ravel(y[:, None] != every), np.ravel(p[:, None] != every))
    each = np.array([sk.recall_score(y != c, p != c, zero_division=0) for c in every])
    if average == "binary":
        return each[1]
    count = np.array([(y == c).sum() for c in every])
    seen = np.array([c in y or c in p for c in every], float)
    return each if average is None else np.average(each, weights=count if average == "weighted" else seen)


def _class_counts(p, y, classes):
    m = sk.multilabel_confusion_matrix(np.ravel(y), np.ravel(p), labels=range(classes)) if p.size else np.zeros((classes, 2, 2), int)
    return np.stack([m[:, 1, 1], m[:, 0, 1], m[:, 1, 0], m[:, 0, 0]])


def _roc_at(scores, y, thresholds):
    """Rates at given thresholds, read off scikit-learn's curve."""
    fpr, tpr, at = sk.roc_curve(np.ravel(y), np.ravel(scores), drop_intermediate=False)
    place = [np.nonzero(at >= t)[0].max() for t in thresholds]
    return fpr[place], tpr[place]


def _top_k(x, y, k=5):
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    if k >= x.shape[1]:
        return 1.0
    return sk.top_k_accuracy_score(np.ravel(y), rows, k=k, labels=range(x.shape[1]))


def _torch_iou(a, b):
    """The areas by torch's pairwise comparisons."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = lambda t: (t[:, 2:] - t[:, :2]).prod(-1)
    return both / (area(a)[:, None] + area(b)[None] - both)


JAX: dict[str, Callable[..., Any]] = {
    "log_cosh_loss": lambda x, y, reduction="mean": _reduced(np.log(np.cosh(x - y)), reduction),
    "mape_loss": lambda x, y, reduction="mean": _reduced(100 * np.abs((y - x) / y), reduction),
    "msle_loss": lambda x, y, reduction="mean": _reduced((scipy.special.log1p(y) - scipy.special.log1p(x)) ** 2, reduction),
    "quantile_loss": lambda x, y, quantile=0.5, reduction="mean": _reduced(np.vectorize(
        lambda a, b: sk.mean_pinball_loss([b], [a], alpha=quantile), otypes=[float])(x, y), reduction),
    "huber_loss": lambda x, y, reduction="mean", delta=1.0: _reduced(scipy.special.huber(delta, x - y), reduction),
    "kl_div": lambda x, y, reduction="mean", log_target=False: (lambda t: t.sum() / len(t) if reduction == "batchmean" else _reduced(t, reduction))(
        scipy.special.rel_entr(np.exp(y), np.exp(x)) if log_target else scipy.special.rel_entr(y, np.exp(x))),
    "average_precision": lambda s, y: sk.average_precision_score(np.ravel(y), np.ravel(s)),
    "binary_accuracy": lambda p, y, threshold=0.5: sk.accuracy_score(np.ravel(y), np.ravel(p) > threshold),
    "class_counts": _class_counts,
    "cohen_kappa": lambda p, y, classes: sk.cohen_kappa_score(np.ravel(y), np.ravel(p)),
    "confusion_matrix": lambda p, y, classes: sk.confusion_matrix(np.ravel(y), np.ravel(p), labels=range(classes)) if p.size else np.zeros((classes, classes), int),
    "f_score": _averaged(lambda *a, beta=1.0, **k: sk.fbeta_score(*a, beta=beta, **k)),
    "jaccard": _averaged(sk.jaccard_score),
    "matthews_corrcoef": lambda p, y, classes: sk.matthews_corrcoef(np.ravel(y), np.ravel(p)),
    "precision": _averaged(sk.precision_score),
    "r2_score": lambda x, y: sk.r2_score(y, x),
    "recall": _averaged(sk.recall_score),
    "roc_auc": lambda s, y: sk.roc_auc_score(np.ravel(y), np.ravel(s)),
    "roc_curve": _roc_at,
    "specificity": _quiet(_specificity),
    "top_k_accuracy": _top_k,
}  # fmt: skip


def _gaussian(x, t, v, **k):
    return F.gaussian_nll_loss(x, t, v, **k)


def _cosine_embedding(a, b, y, reduction="mean", **k):
    """torch's takes one axis of pairs."""
    rows = F.cosine_embedding_loss(a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1]), y.reshape(-1), reduction="none", **k)
    return _reduced(rows.reshape(y.shape), reduction)


def _squared_hinge(x, t, reduction="mean"):
    return _reduced(F.hinge_embedding_loss(t * x, -torch.ones_like(x), reduction="none") ** 2, reduction)


def _dice(p, t, smooth=1.0, reduction="mean"):
    p, t = p.reshape(len(p), -1), t.reshape(len(t), -1)
    return _reduced(1 - (2 * torch.einsum("ni,ni->n", p, t) + smooth) / (p.sum(1) + t.sum(1) + smooth), reduction)


def _focal(x, t, alpha=0.25, gamma=2.0, reduction="mean"):
    p = torch.sigmoid(x)
    terms = F.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - p * t - (1 - p) * (1 - t)) ** gamma
    return _reduced(terms * (alpha * t + (1 - alpha) * (1 - t) if alpha >= 0 else 1), reduction)


def _contrastive(a, b, y, margin=1.0, reduction="mean"):
    d = F.pairwise_distance(a, b, eps=0)
    return _reduced((1 - y) * d**2 / 2 + y * torch.relu(margin - d) ** 2 / 2, reduction)


def _info_nce(q, k, temperature=0.1, reduction="mean"):
    return F.cross_entropy(F.cosine_similarity(q[:, None], k[None], dim=-1) / temperature, torch.arange(len(q)), reduction=reduction)


def _negative_sampling(v, u, noise, reduction="mean"):
    true, false = torch.einsum("...d,...d->...", v, u), torch.einsum("...d,...kd->...k", v, noise)
    return _reduced(-F.logsigmoid(true) - F.logsigmoid(-false).sum(-1), reduction)


def _glove(w, c, bw, bc, x, x_max=100.0, alpha=0.75, reduction="sum"):
    weight = torch.where(x > 0, (x / x_max).clamp(max=1) ** alpha, 0)
    return _reduced(weight * (torch.einsum("...d,...d->...", w, c) + bw + bc - torch.where(x > 0, x, 1).log()) ** 2, reduction)


TORCH: dict[str, Callable[..., Any]] = {
    "binary_cross_entropy": lambda x, y, w=None, **k: F.binary_cross_entropy(x, y, w, **k),
    "binary_cross_entropy_with_logits": lambda x, y, w=None, pos=None, **k: F.binary_cross_entropy_with_logits(x, y, w, pos_weight=pos, **k),
    "box_iou": _torch_iou, "contrastive_loss": _contrastive, "cosine_embedding_loss": _cosine_embedding,
    "cosine_similarity": lambda a, b, axis=1: F.cosine_similarity(a, b, axis), "cross_entropy": lambda x, y, w=None, **k: F.cross_entropy(x, y, w, **k),
    "dice_loss": _dice, "focal_loss": _focal, "gaussian_nll_loss": _gaussian, "glove_loss": _glove,
    "hinge_loss": lambda x, t, **k: F.hinge_embedding_loss(t * x, -torch.ones_like(x), **k), "squared_hinge_loss": _squared_hinge,
    "hinge_embedding_loss": lambda *a, **k: F.hinge_embedding_loss(*a, **k), "huber_loss": lambda *a, **k: F.huber_loss(*a, **k), "info_nce_loss": _info_nce,
    "kl_div": lambda *a, **k: F.kl_div(*a, **k), "l1_loss": lambda *a, **k: F.l1_loss(*a, **k), "margin_ranking_loss": lambda *a, **k: F.margin_ranking_loss(*a, **k),
    "mse_loss": lambda x, y, **k: F.mse_loss(x, y, **k), "multi_margin_loss": lambda x, y, w=None, **k: F.multi_margin_loss(x, y, weight=w, **k),
    "multilabel_margin_loss": lambda *a, **k: F.multilabel_margin_loss(*a, **k), "negative_sampling_loss": _negative_sampling,
    "multilabel_soft_margin_loss": lambda x, y, w=None, **k: F.multilabel_soft_margin_loss(x, y, w, **k), "nll_loss": lambda x, y, w=None, **k: F.nll_loss(x, y, w, **k),
    "pairwise_distance": lambda a, b, keepdims=False, **k: F.pairwise_distance(a, b, keepdim=keepdims, **k),
    "poisson_nll_loss": lambda *a, **k: F.poisson_nll_loss(*a, **k), "smooth_l1_loss": lambda *a, **k: F.smooth_l1_loss(*a, **k),
    "soft_margin_loss": lambda *a, **k: F.soft_margin_loss(*a, **k), "triplet_margin_loss": lambda *a, **k: F.triplet_margin_loss(*a, **k),
}  # fmt: skip
