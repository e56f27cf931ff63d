"""Composites that layers are made of: linear, layer_norm, dropout, scaled_dot_product_attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Size
from ..ir.dtypes import DType, as_dtype, bool_, float32, promote
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from .activations import softmax
from .contract import dot_general, matmul
from .define import composite, constant, operands, rand, show
from .elementwise import le, sqrt, where
from .generate import iota, random_bits
from .reductions import mean
from .reductions import sum as reduce_sum
from .views import broadcast_to, swapaxes

__all__ = ["dropout", "layer_norm", "linear", "scaled_dot_product_attention", "uniform"]


# -- linear --------------------------------------------------------------------------------------------------------------
def _linear_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, weight = ins[0], ins[1]
    assert x is not None and weight is not None
    if not x.dtype.is_float:
        ins[0] = x.cast(promote(x.dtype, weight.dtype))


@composite(
    "linear",
    inputs=3,
    prepare=_linear_prepare,
    samples=lambda: [
        Sample((rand(5, 7), rand(3, 7, seed=1), rand(3, seed=2))), Sample((rand(2, 5, 7), rand(33, 7, seed=1))), Sample((rand(0, 7), rand(3, 7), rand(3))),
        Sample((rand(7), rand(3, 7), rand(3))), Sample((rand(1, 64), rand(70, 64, seed=1), rand(70, seed=2))),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(3, 8)), error="inner dimensions differ"), Sample((rand(5, 7), rand(3, 7), rand(4)), error="bias")],
    tolerance={"float32": 1e-5, "float64": 1e-12},
    onnx="Gemm",
)  # fmt: skip
def linear(x: Node, weight: Node, bias: Node | None = None) -> Node:
    """``x @ weight.T + bias``: x (..., in), weight (out, in), bias (out,) -> (..., out). As torch's ``linear``."""
    if weight.ndim != 2 or x.ndim < 1:
        raise ShapeError(f"x (..., in) and weight (out, in) expected, not {show(x.shape)} and {show(weight.shape)}")
    if x.shape[-1] != weight.shape[1]:
        raise ShapeError(f"inner dimensions differ: x {show(x.shape)} and weight {show(weight.shape)} (out, in)")
    out = dot_general(x, weight, ((x.ndim - 1,), (1,)))
    if bias is None:
        return out
    if bias.shape != weight.shape[:1]:
        raise ShapeError(f"bias {show(bias.shape)} does not fit weight {show(weight.shape)}: it must be {show(weight.shape[:1])}")
    return out + bias


# -- layer norm ----------------------------------------------------------------------------------------------------------
def _norm_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, weight, bias = ins
    assert x is not None
    if not x.dtype.is_float:
        raise DTypeError(f"x must be float, not {x.type}", hint="x.cast('float32')")
    for what, p in (("weight", weight), ("bias", bias)):
        if p is not None:
            attrs["axes"] = p.ndim
            if not 0 < p.ndim <= x.ndim or p.shape != x.shape[x.ndim - p.ndim :]:
                raise ShapeError(f"{what} {show(p.shape)} is not the shape of the last axes of x {show(x.shape)}")
    if weight is not None and bias is not None and weight.shape != bias.shape:
        raise ShapeError(f"weight {show(weight.shape)} and bias {show(bias.shape)} differ")
    if not 0 < attrs["axes"] <= x.ndim:
        raise ShapeError(f"axes={attrs['axes']} for x {show(x.shape)}")
    attrs["eps"] = float(attrs["eps"])


def _standard(x: Node, axes: Sequence[int], eps: float) -> tuple[Node, Node]:
    """(x - mean) * r and r = 1 / sqrt(var + eps), by two passes: the mean first, then the squares of differences."""
    d = x - mean(x, axes, keepdims=True)
    r = 1.0 / sqrt(mean(d * d, axes, keepdims=True) + eps)
    return d * r, r


def _norm_grad(n: Node, g: Node) -> tuple[Node | None, ...]:
    x, weight, bias = operands(n)
    k = n.attrs["axes"]
    axes, lead = tuple(range(x.ndim - k, x.ndim)), tuple(range(x.ndim - k))
    y, r = _standard(x, axes, n.attrs["eps"])
    h = g if weight is None else g * weight
    dx = (h - mean(h, axes, keepdims=True) - y * mean(h * y, axes, keepdims=True)) * r
    return dx, None if weight is None else reduce_sum(g * y, lead), None if bias is None else reduce_sum(g, lead)


@composite(
    "layer_norm",
    inputs=3,
    prepare=_norm_prepare,
    grad=_norm_grad,
    samples=lambda: [
        Sample((rand(5, 7), rand(7, seed=1), rand(7, seed=2))), Sample((rand(2, 3, 19),)), Sample((rand(2, 3, 4), rand(3, 4, seed=1), rand(3, 4, seed=2))),
        Sample((rand(4, 33), rand(33, seed=1))), Sample((rand(4, 9), None, rand(9, seed=1))), Sample((rand(0, 7), rand(7), rand(7))), Sample((rand(3, 5, 2),), {"axes": 2}),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(5)), error="last axes")],
    tolerance={"float32": 5e-6, "float64": 1e-12},
    onnx="LayerNormalization",
)  # fmt: skip
def layer_norm(x: Node, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5, axes: int = 1) -> Node:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last ``axes`` axes (Ba et al. 2016), as torch's ``layer_norm``.

    ``weight`` and ``bias`` have the shape of those axes, which then says how many they are; ``var`` is without correction.
    With ``y`` the normalised values and ``h = g * weight``, the gradient is ``(h - mean(h) - y mean(h y)) / sqrt(var + eps)``.
    """
    y, _ = _standard(x, tuple(range(x.ndim - axes, x.ndim)), eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


# -- randomness ----------------------------------------------------------------------------------------------------------
@sugar
def uniform(seed: Node, step: Node, shape: Sequence[Size], stream: int, dtype: DType | str = float32) -> Node:
    """Uniform numbers in [0, 1): the high 24 of 32 random bits times 2^-24, so they are the same in every dtype."""
    bits = random_bits(seed, step, shape, stream)
    out: Node = bits.shift_right(np.uint32(8)).cast(as_dtype(dtype)) * 2.0**-24
    return out


def _dropout_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    p = attrs["p"] = float(attrs["p"])
    attrs["stream"] = int(attrs["stream"]) & 0xFFFFFFFF
    if not 0.0 <= p <= 1.0:
        raise TraceError(f"p = {p} is no probability")
    x = ins[0]
    if x is not None and not x.dtype.is_float:
        raise DTypeError(f"x must be float, not {x.type}")


_seed = np.array([1, 2], np.uint32)


@composite(
    "dropout",
    prepare=_dropout_prepare,
    # linear in x: the cotangent goes through the same mask
    grad=lambda n, g: (lookup("dropout").call(g, *n.inputs[1:], **n.attrs), None, None),
    samples=lambda: [Sample((rand(*s), _seed, np.int64(7)), {"p": p, "stream": 9}) for s, p in (((5, 7), 0.5), ((130,), 0.1), ((3,), 0.0), ((4,), 1.0), ((0, 3), 0.5))],
    errors=lambda: [Sample((rand(3), _seed, np.int64(7)), {"p": 1.5}, error="probability")],
    onnx="Dropout",
)  # fmt: skip
def dropout(x: Node, seed: Node, step: Node, p: float = 0.5, stream: int = 0) -> Node:
    """0 with probability ``p``, else ``x / (1 - p)`` (Srivastava et al. 2014, scaled so that the mean stays).

    ``seed`` (uint32[2]), ``step`` and ``stream`` name the random numbers: the same three give the same mask, on every target.
    """
    if p == 0.0:
        return x
    if p == 1.0:
        return broadcast_to(constant(0.0, x.dtype), x.shape)
    kept = le(p, uniform(seed, step, x.shape, stream, x.dtype))
    return where(kept, x * (1.0 / (1.0 - p)), 0.0)


# -- attention -----------------------------------------------------------------------------------------------------------
def _attention_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    q, k, v = ins[:3]
    assert q is not None and k is not None and v is not None
    if q.ndim < 2 or not q.ndim == k.ndim == v.ndim:
        raise ShapeError(f"q (..., L, E), k (..., S, E), v (..., S, D) expected, not {show(q.shape)}, {show(k.shape)}, {show(v.shape)}")
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(f"features differ: q {show(q.shape)} and k {show(k.shape)}")
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"lengths differ: k {show(k.shape)} and v {show(v.shape)}")
    if attrs["scale"] is None:
        if not isinstance(q.shape[-1], int):
            raise ShapeError(f"the feature size {q.shape[-1]} is named", hint="pass scale=")
        attrs["scale"] = 1.0 / math.sqrt(max(q.shape[-1], 1))
    attrs["scale"] = float(attrs["scale"])


_low = np.tril(np.ones((5, 5), bool))


@composite(
    "scaled_dot_product_attention",
    inputs=4,
    prepare=_attention_prepare,
    samples=lambda: [
        Sample((rand(2, 3, 5, 4), rand(2, 3, 7, 4, seed=1), rand(2, 3, 7, 6, seed=2))), Sample((rand(5, 4), rand(5, 4, seed=1), rand(5, 4, seed=2)), {"causal": True}),
        Sample((rand(2, 5, 4), rand(2, 5, 4, seed=1), rand(2, 5, 4, seed=2), _low)), Sample((rand(2, 5, 4), rand(2, 5, 4, seed=1), rand(2, 5, 4, seed=2), rand(5, 5, seed=3))),
        Sample((rand(2, 3, 4), rand(2, 3, 4, seed=1), rand(2, 3, 3, seed=2)), {"scale": 0.3}),
    ],
    errors=lambda: [Sample((rand(5, 4), rand(5, 3), rand(5, 4)), error="features differ"), Sample((rand(5, 4), rand(6, 4), rand(5, 4)), error="lengths differ")],
    tolerance={"float32": 1e-5, "float64": 1e-12},
)  # fmt: skip
def scaled_dot_product_attention(
    q: Node, k: Node, v: Node, mask: Node | None = None, causal: bool = False, scale: float | None = None
) -> Node:
    """``softmax(q k^T * scale + mask) v`` (Vaswani et al. 2017): q (..., L, E), k (..., S, E), v (..., S, D) -> (..., L, D).

    ``scale`` is 1/sqrt(E) unless given. A bool ``mask`` says which pairs take part, a float mask is added; it broadcasts to
    (..., L, S). ``causal`` lets position i see positions up to i. A row that sees nothing is NaN, as in torch.
    """
    assert scale is not None
    scores = matmul(q, swapaxes(k, -1, -2)) * scale
    if causal:
        shape = scores.shape[-2:]
        scores = where(le(iota(shape, 1), iota(shape, 0)), scores, -math.inf)
    if mask is not None:
        scores = where(mask, scores, -math.inf) if mask.dtype == bool_ else scores + mask
    return matmul(softmax(scores, -1), v)
