"""Losses of real-valued predictions. Prediction and target have one shape: a (N, 1) against a (N,) would broadcast by mistake."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ShapeError
from ..ir.node import Node
from ..ir.op import Sample, sugar
from .base import stop_gradient
from .define import composite, rand, show
from .elementwise import absolute, exp, log, lt, maximum, minimum, tanh, where
from .loss_terms import check_pair, check_reduction, number_in, per_term, prediction_and_target, reduce_terms
from .transcendental import expm1, log1p
from .views import broadcast_to, expand_dims

__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "l1_loss",
    "log_cosh_loss",
    "mape_loss",
    "mse_loss",
    "msle_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "smooth_l1_loss",
    "sse_loss",
]

LOOSE = {"float32": 5e-6, "float64": 1e-12}
_shapes: list[tuple[tuple[int, ...], str]] = [((5, 7), "mean"), ((130,), "sum"), ((2, 3, 19), "none"), ((), "mean"), ((4, 1), "mean"), ((0, 3), "sum")]


def _samples(low: float = -2.0, high: float = 2.0, smooth: bool = True, **attrs: Any) -> list[Sample]:
    return [
        Sample((rand(*s, low=low, high=high), rand(*s, seed=1, low=low, high=high)), {"reduction": r, **attrs}, smooth=smooth)
        for s, r in _shapes
    ]


def _errors() -> list[Sample]:
    return [Sample((rand(5, 1), rand(5)), error="differ"), Sample((rand(5), rand(5)), {"reduction": "avg"}, error="reduction")]


# -- squares ---------------------------------------------------------------------------------------------------------------
def _mse_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, y = n.inputs
    dx = (x - y) * per_term(g * 2.0, x.shape, n.attrs["reduction"])
    return dx, -dx


@composite("mse_loss", prepare=prediction_and_target, grad=_mse_grad, samples=_samples, errors=_errors, tolerance=LOOSE)
def mse_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean((prediction - target)^2)`` over all elements (or their "sum", or "none"). Shapes must be equal: no broadcasting."""
    d = prediction - target
    return reduce_terms(d * d, reduction)


@sugar
def sse_loss(prediction: Node, target: Node) -> Node:
    """The sum of squared errors, ``sum((prediction - target)^2)``: ``mse_loss`` with ``reduction="sum"``."""
    return mse_loss(prediction, target, reduction="sum")


@composite(
    "msle_loss",
    prepare=prediction_and_target,
    samples=lambda: _samples(-0.5, 3.0),
    errors=_errors,
    tolerance=LOOSE,
)
def msle_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean((log(1 + target) - log(1 + prediction))^2)``. Both must be above -1: below it is NaN, so that training stops."""
    d = log1p(prediction) - log1p(target)
    return reduce_terms(d * d, reduction)


# -- absolute values -------------------------------------------------------------------------------------------------------
@composite("l1_loss", prepare=prediction_and_target, samples=lambda: _samples(smooth=False), errors=_errors, tolerance=LOOSE)
def l1_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean(|prediction - target|)``, the mean absolute error; its gradient is the sign, 0 at 0."""
    return reduce_terms(absolute(prediction - target), reduction)


@composite(
    "mape_loss",
    prepare=prediction_and_target,
    samples=lambda: _samples(0.5, 3.0, smooth=False),
    errors=_errors,
    tolerance=LOOSE,
)
def mape_loss(prediction: Node, target: Node, reduction: str = "mean", eps: float = 1e-7) -> Node:
    """``100 mean(|prediction - target| / max(|target|, eps))``, the mean absolute percentage error, in percent.

    It does not depend on the scale of the data, but a target of 0 has no percentage: ``eps`` (Keras' 1e-7) keeps it finite, and huge.
    """
    return reduce_terms(absolute(prediction - target) / maximum(absolute(target), eps) * 100.0, reduction)


# -- between the two -------------------------------------------------------------------------------------------------------
def _huber_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    prediction_and_target(ins, attrs)
    number_in("delta", attrs["delta"], 1e-30, math.inf, "a positive number")


def _huber_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, y = n.inputs
    delta = float(n.attrs["delta"])
    dx = maximum(minimum(x - y, delta), -delta) * per_term(g, x.shape, n.attrs["reduction"])
    return dx, -dx


@composite(
    "huber_loss",
    prepare=_huber_prepare,
    grad=_huber_grad,
    samples=lambda: _samples(smooth=False) + _samples(smooth=False, delta=0.3)[:2],
    errors=lambda: [*_errors(), Sample((rand(5), rand(5)), {"delta": 0.0}, error="delta")],
    tolerance=LOOSE,
)
def huber_loss(prediction: Node, target: Node, reduction: str = "mean", delta: float = 1.0) -> Node:
    """Huber 1964, torch's ``huber_loss``: with ``d = prediction - target``, ``d^2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta/2)``.

    The gradient is ``d`` cut to ``-delta..delta``. :func:`smooth_l1_loss` is this divided by delta.
    """
    a = absolute(prediction - target)
    c = minimum(a, float(delta))
    return reduce_terms(c * (a - c * 0.5), reduction)


def _smooth_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    prediction_and_target(ins, attrs)
    number_in("beta", attrs["beta"], 0.0, math.inf, "0 or a positive number")


@composite(
    "smooth_l1_loss",
    prepare=_smooth_prepare,
    samples=lambda: _samples(smooth=False) + _samples(smooth=False, beta=0.3)[:2] + _samples(smooth=False, beta=0.0)[:1],
    errors=lambda: [*_errors(), Sample((rand(5), rand(5)), {"beta": -1.0}, error="beta")],
    tolerance=LOOSE,
)
def smooth_l1_loss(prediction: Node, target: Node, reduction: str = "mean", beta: float = 1.0) -> Node:
    """Girshick 2015, torch's ``smooth_l1_loss``: ``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta/2``; ``beta=0`` is ``l1_loss``.

    It is ``huber_loss(delta=beta) / beta``: the two agree at 1 only. Its slope far out is 1 whatever ``beta`` is.
    """
    if beta == 0:
        return l1_loss(prediction, target, reduction)
    return huber_loss(prediction, target, reduction, beta) * (1.0 / beta)


def _log_cosh_grad(n: Node, g: Node) -> tuple[Node, Node]:
    x, y = n.inputs
    dx = tanh(x - y) * per_term(g, x.shape, n.attrs["reduction"])
    return dx, -dx


@composite("log_cosh_loss", prepare=prediction_and_target, grad=_log_cosh_grad, samples=_samples, errors=_errors, tolerance=LOOSE)
def log_cosh_loss(prediction: Node, target: Node, reduction: str = "mean") -> Node:
    """``mean(log(cosh(d)))`` with ``d = prediction - target``: ``d^2 / 2`` for small and ``|d| - log 2`` for large ones; the gradient is ``tanh(d)``.

    ``|d| + log1p(exp(-2|d|)) - log 2`` does not overflow, but cancels near 0: there it is ``log1p(e^2 / (2 + 2e))`` with ``e = expm1(-|d|)``.
    """
    a = absolute(prediction - target)
    e = expm1(-minimum(a, 1.0))
    near = log1p(e * e / (e * 2.0 + 2.0))
    return reduce_terms(where(lt(a, 1.0), near, a + (log1p(exp(a * -2.0)) - math.log(2.0))), reduction)


def _quantile_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    prediction_and_target(ins, attrs)
    number_in("quantile", attrs["quantile"], 0.0, 1.0, "a number from 0 to 1")


@composite(
    "quantile_loss",
    prepare=_quantile_prepare,
    samples=lambda: _samples(smooth=False) + _samples(smooth=False, quantile=0.9)[:2],
    errors=lambda: [*_errors(), Sample((rand(5), rand(5)), {"quantile": 1.5}, error="quantile")],
    tolerance=LOOSE,
)
def quantile_loss(prediction: Node, target: Node, quantile: float = 0.5, reduction: str = "mean") -> Node:
    """The pinball loss (Koenker & Bassett 1978): with ``e = target - prediction``, ``q e`` where ``e >= 0``, else ``(q - 1) e``.

    Its minimum is the ``quantile`` of the target's distribution; 0.5 gives half the absolute error.
    """
    e = target - prediction
    return reduce_terms(maximum(e * float(quantile), e * (float(quantile) - 1.0)), reduction)


# -- likelihoods -----------------------------------------------------------------------------------------------------------
def _poisson_samples() -> list[Sample]:
    counts = [(rand(*s, low=0.2, high=3.0), rand(*s, seed=1, low=1.5, high=6.0), r) for s, r in _shapes]
    full = [Sample((x, y), {"reduction": r, "full": f}) for x, y, r in counts[:3] for f in (False, True)]
    return full + [Sample((x, y), {"reduction": r, "log_input": False, "full": True}) for x, y, r in counts]


@composite("poisson_nll_loss", prepare=prediction_and_target, samples=_poisson_samples, errors=_errors, tolerance=LOOSE)
def poisson_nll_loss(
    prediction: Node, target: Node, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Node:
    """The negative log likelihood of counts, as torch: ``exp(x) - t x`` where the prediction ``x`` is the log of the rate (``log_input``),
    else ``x - t log(x + eps)``. ``full`` adds Stirling's ``t log t - t + log(2 pi t)/2`` where ``t > 1``, which depends on the target alone.
    """
    x, t = prediction, target
    terms = exp(x) - t * x if log_input else x - t * log(x + eps)
    if full:
        many = lt(1.0, t)
        u = where(many, t, 1.0)
        terms = terms + where(many, u * log(u) - u + log(u * (2.0 * math.pi)) * 0.5, 0.0)
    return reduce_terms(terms, reduction)


def _gaussian_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, y, var = ins
    assert x is not None and y is not None and var is not None
    pair = check_pair(x, y, "prediction", "target")
    check_reduction(attrs)
    if var.shape == x.shape[:-1] and var.shape != x.shape:
        var = expand_dims(var, -1)
    if var.ndim != x.ndim or any(a not in (b, 1) for a, b in zip(var.shape, x.shape, strict=True)):
        raise ShapeError(f"a variance {show(var.shape)} for predictions {show(x.shape)}")
    ins[:] = [*pair, broadcast_to(var.cast(x.dtype), x.shape)]


def _gaussian_samples() -> list[Sample]:
    def var(*s: int) -> Any:
        return rand(*s, seed=2, low=0.3, high=2.0)

    return [Sample((rand(*s), rand(*s, seed=1), var(*s)), {"reduction": r, "full": r == "mean"}) for s, r in _shapes] + [
        Sample((rand(5, 7), rand(5, 7, seed=1), var(5))),
        Sample((rand(5, 7), rand(5, 7, seed=1), var(5, 1)), {"reduction": "none"}),
    ]


@composite(
    "gaussian_nll_loss",
    prepare=_gaussian_prepare,
    samples=_gaussian_samples,
    errors=lambda: [Sample((rand(5), rand(4), rand(5)), error="differ"), Sample((rand(5, 7), rand(5, 7), rand(7)), error="variance")],
    tolerance=LOOSE,
)
def gaussian_nll_loss(prediction: Node, target: Node, var: Node, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Node:
    """The negative log likelihood of normal targets (Nix & Weigend 1994), as torch: ``(log v + (prediction - target)^2 / v) / 2``.

    ``v = max(var, eps)``, but the gradient passes to ``var`` as if it were not cut. ``var`` has the prediction's shape, or is 1 along axes,
    or lacks the last axis; a negative one gives NaN. ``full`` adds ``log(2 pi) / 2``.
    """
    v = var + stop_gradient(where(lt(var, 0.0), math.nan, maximum(var, eps)) - var)
    d = prediction - target
    terms = (log(v) + d * d / v) * 0.5
    return reduce_terms(terms + 0.5 * math.log(2.0 * math.pi) if full else terms, reduction)
