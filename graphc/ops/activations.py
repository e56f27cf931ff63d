"""Activations and softmax: composites whose gradients use the output wherever that saves keeping the input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import TraceError
from ..ir.dtypes import float32
from ..ir.node import Node
from ..ir.op import Sample
from .define import composite, normal_axes, normal_axis, rand, unary_samples
from .elementwise import absolute, erf, exp, log, lt, maximum, where
from .reductions import keep, spread
from .reductions import max as reduce_max
from .reductions import sum as reduce_sum

__all__ = ["gelu", "log_softmax", "logsumexp", "relu", "sigmoid", "silu", "softmax"]


def _float(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    if x is not None and not x.dtype.is_float:
        ins[0] = x.cast(float32)


def _axis(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _float(ins, attrs)
    x = ins[0]
    assert x is not None
    attrs["axis"] = normal_axis(attrs["axis"], x.ndim)


def _away_from_zero(*shape: int) -> np.ndarray:
    x = rand(*shape)
    return np.asarray(x + 0.1 * np.sign(x))


@composite(
    "relu",
    grad=lambda n, g: (where(lt(0.0, n), g, 0.0),),
    samples=lambda: [Sample((_away_from_zero(*s),), smooth=False) for s in ((), (0,), (5, 7), (2, 3, 19), (130,))],
    flops=lambda n: n.size,
    onnx="Relu",
)
def relu(x: Node) -> Node:
    """``max(x, 0)``. The gradient is ``g`` where the output is positive, else 0 (so 0 at 0), and needs only the output."""
    return maximum(x, 0.0 if x.dtype.is_float else 0)


@composite("sigmoid", grad=lambda n, g: (g * (n * (1.0 - n)),), samples=unary_samples(-6, 6), prepare=_float, onnx="Sigmoid")
def sigmoid(x: Node) -> Node:
    """``1 / (1 + exp(-x))``, torch's ``sigmoid``.

    Accurate in the relative sense on both tails: where ``exp(-x)`` overflows, the quotient is the right 0. The gradient
    ``n (1 - n) g`` needs only the output ``n``.
    """
    return 1.0 / (exp(-x) + 1.0)


@composite("silu", samples=unary_samples(-6, 6), prepare=_float)
def silu(x: Node) -> Node:
    """``x * sigmoid(x)``, also called swish (torch's ``silu``)."""
    return x * sigmoid(x)


def _gelu_samples() -> list[Sample]:
    return [Sample((rand(*s, low=-4, high=4),), {"approximate": a}) for a in ("none", "tanh") for s in ((), (0,), (5, 7), (130,))]


@composite("gelu", samples=_gelu_samples, prepare=_float)
def gelu(x: Node, approximate: str = "none") -> Node:
    """``x * P(Z <= x)`` for a standard normal ``Z`` (Hendrycks & Gimpel 2016), as torch's ``gelu``.

    "none": ``x/2 (1 + erf(x / sqrt 2))``; "tanh": ``x/2 (1 + tanh u)`` with ``u = sqrt(2/pi) (x + 0.044715 x^3)``, written as
    ``x sigmoid(2 u)``, which is the same number, keeps its relative accuracy on the negative side and costs half of it.
    """
    if approximate == "none":
        return x * 0.5 * (erf(x * math.sqrt(0.5)) + 1.0)
    if approximate != "tanh":
        raise TraceError(f"approximate={approximate!r}", hint="'none' or 'tanh'")
    slope = 2.0 * math.sqrt(2.0 / math.pi)
    return x * sigmoid((x * x * (0.044715 * slope) + slope) * x)


# -- softmax and its relatives -------------------------------------------------------------------------------------------
_rows: list[tuple[tuple[int, ...], int]] = [
    ((5, 7), -1),
    ((5, 7), 0),
    ((2, 3, 19), 1),
    ((1, 130), -1),
    ((4, 1), -1),
    ((33,), 0),
    ((0, 3), -1),
]


def _softmax_grad(n: Node, g: Node) -> tuple[Node]:
    axis = n.attrs["axis"]
    return (n * (g - reduce_sum(g * n, axis, keepdims=True)),)


@composite(
    "softmax", grad=_softmax_grad, prepare=_axis, samples=lambda: [Sample((rand(*s),), {"axis": a}) for s, a in _rows], onnx="Softmax"
)
def softmax(x: Node, axis: int = -1) -> Node:
    """``exp(x - m) / sum(exp(x - m))`` along ``axis`` with ``m`` the row's maximum, so that nothing overflows.

    The gradient is ``n * (g - sum(g n))``: the Jacobian is ``diag(n) - n n^T``. A row of -inf gives NaN, as in torch.
    """
    e = exp(x - reduce_max(x, axis, keepdims=True))
    # one reciprocal a row instead of a division an element; the sum is at least 1, so it is safe
    return e * (1.0 / reduce_sum(e, axis, keepdims=True))


def _log_softmax_grad(n: Node, g: Node) -> tuple[Node]:
    return (g - exp(n) * reduce_sum(g, n.attrs["axis"], keepdims=True),)


@composite(
    "log_softmax",
    grad=_log_softmax_grad,
    prepare=_axis,
    samples=lambda: [Sample((rand(*s),), {"axis": a}) for s, a in _rows],
    onnx="LogSoftmax",
)
def log_softmax(x: Node, axis: int = -1) -> Node:
    """``x - m - log(sum(exp(x - m)))`` along ``axis``, ``m`` the row's maximum: torch's ``log_softmax``."""
    shifted = x - reduce_max(x, axis, keepdims=True)
    return shifted - log(reduce_sum(exp(shifted), axis, keepdims=True))


def _logsumexp_grad(n: Node, g: Node) -> tuple[Node]:
    x, axes = n.inputs[0], n.attrs["axis"]
    if n.attrs["keepdims"]:
        inner = tuple(s for i, s in enumerate(x.shape) if i not in axes)
        return (exp(x - spread(x, axes, n.reshape(inner))) * spread(x, axes, g.reshape(inner)),)
    return (exp(x - spread(x, axes, n)) * spread(x, axes, g),)


def _axes(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _float(ins, attrs)
    x = ins[0]
    assert x is not None
    attrs["axis"] = normal_axes(attrs["axis"], x.ndim)


@composite(
    "logsumexp",
    grad=_logsumexp_grad,
    prepare=_axes,
    samples=lambda: [Sample((rand(*s),), {"axis": a, "keepdims": k}) for s, a in _rows for k in (False, True)],
)
def logsumexp(x: Node, axis: Any = None, keepdims: bool = False) -> Node:
    """``log(sum(exp(x)))`` over ``axis`` (all axes if None), shifted by the maximum; a row of -inf gives -inf."""
    axes = normal_axes(axis, x.ndim)
    m = reduce_max(x, axes)
    out = log(reduce_sum(exp(x - spread(x, axes, m)), axes)) + m  # the exponentials are those of softmax, the gradient
    out = where(lt(absolute(m), math.inf), out, m)  # inf - inf would be NaN
    return keep(x, axes, out) if keepdims else out
