"""Similarity of vectors, and the losses that shape it: pairs, triplets, contrast, word vectors. Vectors lie on the last axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.node import Node
from ..ir.op import Sample
from .define import broadcast_shapes, composite, normal_axis, rand, settle, show
from .elementwise import absolute, eq, log, lt, maximum, minimum, sqrt, where
from .generate import iota
from .loss_classification import cross_entropy
from .loss_terms import check_pair, check_reduction, number_in, reduce_terms, same_shapes, signs, softplus
from .reductions import max as reduce_max
from .reductions import sum as reduce_sum
from .views import broadcast_to

__all__ = [
    "contrastive_loss",
    "cosine_embedding_loss",
    "cosine_similarity",
    "glove_loss",
    "info_nce_loss",
    "negative_sampling_loss",
    "pairwise_distance",
    "triplet_margin_loss",
]

LOOSE = {"float32": 5e-6, "float64": 1e-12}
_vectors: list[tuple[tuple[int, ...], str]] = [((5, 7), "mean"), ((33, 4), "sum"), ((2, 3, 19), "none"), ((4, 1), "mean"), ((0, 3), "sum")]


def _root(squares: Node) -> Node:
    """The square root, whose gradient at 0 is 0."""
    there = lt(0.0, squares)
    return where(there, sqrt(where(there, squares, 1.0)), squares)


def _broadcast(ins: list[Node | None]) -> None:
    """Operands of one shape and the first one's dtype, by NumPy's rule."""
    nodes = settle([i for i in ins if i is not None])
    if not nodes[0].dtype.is_float:
        raise DTypeError(f"vectors must be float, not {nodes[0].type}", hint="x.cast('float32')")
    shape = broadcast_shapes([n.shape for n in nodes])
    ins[:] = [broadcast_to(n.cast(nodes[0].dtype), shape) for n in nodes]


# -- similarity ------------------------------------------------------------------------------------------------------------
def _cosine_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _broadcast(ins)
    assert ins[0] is not None
    attrs["axis"] = normal_axis(attrs["axis"], ins[0].ndim)


@composite(
    "cosine_similarity",
    prepare=_cosine_prepare,
    samples=lambda: [
        Sample((rand(*s), rand(*s, seed=1)), {"axis": a}) for s, a in (((5, 7), 1), ((5, 7), 0), ((2, 3, 19), -1), ((33,), 0), ((0, 3), 1))
    ] + [Sample((np.zeros((3, 4)), rand(3, 4)), grad=(1,)), Sample((rand(5, 1, 7), rand(3, 7)), {"axis": -1})],
    errors=lambda: [Sample((rand(5, 6), rand(5, 7)), error="broadcast"), Sample((rand(5), rand(5)), error="axis 1")],
    tolerance=LOOSE,
)  # fmt: skip
def cosine_similarity(x1: Node, x2: Node, axis: int = 1, eps: float = 1e-8) -> Node:
    """``x1 . x2 / (max(|x1|, eps) max(|x2|, eps))`` along ``axis``, torch's ``cosine_similarity``: 1 where they point the same way.
    The two broadcast.

    It grows with similarity: as a loss take ``1 - cosine_similarity``. A vector of zeros gives 0, and a finite gradient.
    """
    n1, n2 = (sqrt(maximum(reduce_sum(x * x, axis), eps * eps)) for x in (x1, x2))
    return reduce_sum(x1 * x2, axis) / (n1 * n2)


def _distance_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    if "reduction" in attrs:
        check_reduction(attrs)
    _broadcast(ins)
    assert ins[0] is not None
    if ins[0].ndim < 1:
        raise ShapeError("a scalar has no features")
    number_in("p", attrs["p"], 0.0, math.inf, "0, a positive number or math.inf")


_norms: list[tuple[tuple[int, ...], float]] = [((5, 7), 2.0), ((5, 7), 1.0), ((2, 3, 19), 3.0), ((33,), 2.0), ((4, 1), math.inf), ((0, 3), 2.0), ((5, 7), math.inf)]


@composite(
    "pairwise_distance",
    prepare=_distance_prepare,
    samples=lambda: [
        Sample((rand(*s), rand(*s, seed=1)), {"p": p, "keepdims": k}, smooth=p == 2) for k, (s, p) in zip((False, True) * 4, _norms, strict=False)
    ],
    errors=lambda: [Sample((rand(5, 4), rand(5)), error="broadcast"), Sample((rand(5), rand(5)), {"p": -1.0}, error="p=")],
    tolerance={"float32": 2e-5, "float64": 1e-11},
)  # fmt: skip
def pairwise_distance(x1: Node, x2: Node, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False) -> Node:
    """``(sum |x1 - x2 + eps|^p)^(1/p)`` over the last axis, torch's ``pairwise_distance``; ``p=inf`` is the largest difference.

    The two broadcast.
    """
    d = x1 - x2 + eps
    if p == 2:
        return _root(reduce_sum(d * d, -1, keepdims))
    a = absolute(d)
    if p == 1:
        return reduce_sum(a, -1, keepdims)
    if p == math.inf:
        return reduce_max(a, -1, keepdims)
    if p == 0:
        return reduce_sum(where(eq(a, 0.0), 0.0, 1.0).cast(d.dtype), -1, keepdims)
    return reduce_sum(a ** float(p), -1, keepdims) ** (1.0 / p)


# -- pairs and triplets ----------------------------------------------------------------------------------------------------
def _pair_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x1, x2, t = ins
    assert x1 is not None and x2 is not None and t is not None
    pair = check_pair(x1, x2, "vectors", "others")
    check_reduction(attrs)
    if x1.ndim < 1 or t.shape != x1.shape[:-1]:
        raise ShapeError(f"vectors {show(x1.shape)} need targets {show(x1.shape[:-1])}, not {show(t.shape)}")
    ins[:] = [*pair, t.cast(x1.dtype)]


def _pair_samples(targets: Any, **attrs: Any) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], str]] = [*_vectors, ((6,), "mean")]
    return [Sample((rand(*s), rand(*s, seed=1), targets(*s[:-1])), {"reduction": r, **attrs}, grad=(0, 1), smooth=False) for s, r in cases]


def _pair_errors() -> list[Sample]:
    return [Sample((rand(5, 7), rand(5, 7), rand(4)), error="targets"), Sample((rand(5, 7), rand(5, 6), rand(5)), error="differ")]


@composite(
    "cosine_embedding_loss",
    prepare=_pair_prepare,
    samples=lambda: _pair_samples(signs) + _pair_samples(signs, margin=-0.3)[:2],
    errors=_pair_errors,
    tolerance=LOOSE,
)
def cosine_embedding_loss(x1: Node, x2: Node, target: Node, margin: float = 0.0, reduction: str = "mean") -> Node:
    """``1 - cos(x1, x2)`` for pairs alike (target 1), ``max(0, cos(x1, x2) - margin)`` for others (-1), torch's ``cosine_embedding_loss``.

    Vectors (..., D), targets (...). As in torch, 1e-12 is added to each sum of squares.
    """
    n1, n2 = (reduce_sum(x * x, -1) + 1e-12 for x in (x1, x2))
    cos = reduce_sum(x1 * x2, -1) / sqrt(n1 * n2)
    apart = where(eq(target, -1.0), maximum(cos - margin, 0.0), 0.0)
    return reduce_terms(where(eq(target, 1.0), 1.0 - cos, apart), reduction)


def _kinds(*shape: int) -> np.ndarray:
    return np.asarray(rand(*shape, seed=9) > 0, np.float64)


@composite(
    "contrastive_loss",
    prepare=_pair_prepare,
    samples=lambda: _pair_samples(_kinds, margin=3.0),
    errors=_pair_errors,
    tolerance=LOOSE,
)
def contrastive_loss(x1: Node, x2: Node, target: Node, margin: float = 1.0, reduction: str = "mean") -> Node:
    """``(1 - y) D^2 / 2 + y max(0, margin - D)^2 / 2`` with ``D = |x1 - x2|`` (Hadsell, Chopra & LeCun 2006, equation 4).

    As in the paper, the target ``y`` is 0 for a pair alike and 1 for a pair unlike. Vectors (..., D), targets (...).
    """
    d = x1 - x2
    squares = reduce_sum(d * d, -1)
    apart = maximum(margin - _root(squares), 0.0)
    return reduce_terms(((1.0 - target) * squares + target * (apart * apart)) * 0.5, reduction)


@composite(
    "triplet_margin_loss",
    prepare=_distance_prepare,
    samples=lambda: [
        Sample((rand(*s), rand(*s, seed=1), rand(*s, seed=2)), {"reduction": r, "p": p, "swap": w, "margin": m}, smooth=False)
        for (s, r), p, w, m in zip([*_vectors, ((6,), "mean")], (2.0, 2.0, 2.0, 1.0, 2.0, 3.0), (False, True) * 3, (1.0, 2.0) * 3, strict=True)
    ],
    errors=lambda: [Sample((rand(5, 7), rand(5, 7), rand(4, 7)), error="broadcast")],
    tolerance={"float32": 2e-5, "float64": 1e-11},
)  # fmt: skip
def triplet_margin_loss(
    anchor: Node, positive: Node, negative: Node, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
) -> Node:  # fmt: skip
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` (Balntas et al. 2016), torch's ``triplet_margin_loss``.

    ``d`` is :func:`pairwise_distance` over the last axis. With ``swap`` the negative's distance to the positive counts where it is smaller.
    """
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduce_terms(maximum(near - far + margin, 0.0), reduction)


def _contrast_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    same_shapes("queries", "keys")(ins, attrs)
    assert ins[0] is not None
    if ins[0].ndim != 2:
        raise ShapeError(f"queries must be (N, D), not {show(ins[0].shape)}")
    number_in("temperature", attrs["temperature"], 1e-30, math.inf, "a positive number")


@composite(
    "info_nce_loss",
    prepare=_contrast_prepare,
    samples=lambda: [Sample((rand(*s), rand(*s, seed=1)), {"reduction": r, "temperature": 0.5}) for s, r in (((5, 7), "mean"), ((33, 4), "sum"), ((6, 3), "none"), ((1, 3), "mean"))],
    errors=lambda: [Sample((rand(5, 7), rand(4, 7)), error="differ"), Sample((rand(5), rand(5)), error="queries must be")],
    tolerance={"float32": 2e-5, "float64": 1e-11},
)  # fmt: skip
def info_nce_loss(queries: Node, keys: Node, temperature: float = 0.1, reduction: str = "mean") -> Node:
    """``-log softmax_j(cos(q_i, k_j) / temperature)[i]``: each query shall find its own key among all (van den Oord et al. 2018).

    Queries and keys (N, D); row i of one belongs to row i of the other, all other rows are negatives.
    """
    q, k = (x / sqrt(maximum(reduce_sum(x * x, -1, keepdims=True), 1e-16)) for x in (queries, keys))
    return cross_entropy(q @ k.transpose(1, 0) * (1.0 / temperature), iota(queries.shape[:1], 0), reduction=reduction)


# -- word vectors ----------------------------------------------------------------------------------------------------------
def _negative_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    v, u, noise = ins
    assert v is not None and u is not None and noise is not None
    pair = check_pair(v, u, "centres", "contexts")
    check_reduction(attrs)
    if v.ndim < 1 or noise.ndim != v.ndim + 1 or (*noise.shape[:-2], noise.shape[-1]) != v.shape:
        raise ShapeError(f"centres {show(v.shape)} need noise vectors (..., K, D), not {show(noise.shape)}")
    ins[:] = [*pair, noise.cast(v.dtype)]


@composite(
    "negative_sampling_loss",
    prepare=_negative_prepare,
    samples=lambda: [
        Sample((rand(*s), rand(*s, seed=1), rand(*s[:-1], k, s[-1], seed=2)), {"reduction": r})
        for s, k, r in (((5, 7), 3, "mean"), ((33, 4), 5, "sum"), ((6, 3), 1, "none"), ((8,), 2, "mean"), ((0, 3), 2, "sum"))
    ],
    errors=lambda: [Sample((rand(5, 7), rand(5, 7), rand(5, 7)), error="noise")],
    tolerance=LOOSE,
)
def negative_sampling_loss(centre: Node, context: Node, noise: Node, reduction: str = "mean") -> Node:
    """``-log s(u_o . v_c) - sum_k log s(-u_k . v_c)`` a pair, ``s`` the sigmoid (Mikolov et al. 2013, equation 4, as a loss).

    ``centre`` v_c and ``context`` u_o are (..., D), ``noise`` u_k (..., K, D). For all words instead of K samples, the loss of a pair is
    ``cross_entropy(v_c @ u.T, o)``.
    """
    true = softplus(-reduce_sum(centre * context, -1))
    false = reduce_sum(softplus(reduce_sum(centre.expand_dims(-2) * noise, -1)), -1)
    return reduce_terms(true + false, reduction)


def _glove_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    w, v, b, c, counts = (i for i in ins if i is not None)
    pair = check_pair(w, v, "words", "contexts")
    check_reduction(attrs)
    for name, t in (("word biases", b), ("context biases", c), ("counts", counts)):
        if w.ndim < 1 or t.shape != w.shape[:-1]:
            raise ShapeError(f"words {show(w.shape)} need {name} {show(w.shape[:-1])}, not {show(t.shape)}")
    ins[:] = [*pair, b.cast(w.dtype), c.cast(w.dtype), counts.cast(w.dtype)]


def _glove_samples() -> list[Sample]:
    out = []
    for s, r in _vectors:
        counts = rand(*s[:-1], seed=4, low=0.5, high=200.0)
        if counts.size > 1:
            counts.reshape(-1)[0] = 0.0
        args = (rand(*s), rand(*s, seed=1), rand(*s[:-1], seed=2), rand(*s[:-1], seed=3), counts)
        out.append(Sample(args, {"reduction": r}, grad=(0, 1, 2, 3)))
    return out


@composite(
    "glove_loss",
    prepare=_glove_prepare,
    samples=_glove_samples,
    errors=lambda: [Sample((rand(5, 7), rand(5, 7), rand(5), rand(5), rand(4)), error="counts")],
    tolerance={"float32": 2e-5, "float64": 1e-11},
)
def glove_loss(
    word: Node, context: Node, word_bias: Node, context_bias: Node, counts: Node, x_max: float = 100.0, alpha: float = 0.75, reduction: str = "sum"
) -> Node:  # fmt: skip
    """``f(X) (w . c + b_w + b_c - log X)^2`` for co-occurrence counts ``X`` (Pennington, Socher & Manning 2014, equation 8), summed.

    ``f(X) = (X / x_max)^alpha`` up to ``x_max``, then 1 (equation 9); pairs that never occur count nothing. Vectors (..., D), the rest (...).
    """
    there = lt(0.0, counts)
    x = where(there, counts, 1.0)
    weight = where(there, minimum(x * (1.0 / x_max), 1.0) ** float(alpha), 0.0)
    d = reduce_sum(word * context, -1) + word_bias + context_bias - log(x)
    return reduce_terms(weight * (d * d), reduction)
