"""Attention: composites on contractions and softmax, with masks, grouped heads and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Size
from ..ir.dtypes import bool_
from ..ir.node import Node
from ..ir.op import Sample, sugar
from .activations import softmax
from .contract import matmul
from .define import as_node, composite, normal_axis, rand, show
from .elementwise import exp, le, lt, maximum, where
from .generate import iota
from .layers import dropout
from .reductions import max as reduce_max
from .reductions import sum as reduce_sum
from .views import reshape, swapaxes

__all__ = [
    "attention_weights",
    "causal_mask",
    "masked_softmax",
    "merge_heads",
    "multi_head_attention",
    "padding_mask",
    "scaled_dot_product_attention",
    "split_heads",
]

_tolerance = {"float32": 1e-5, "float64": 1e-12}
_low = np.tril(np.ones((5, 5), bool))
_holes = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]], bool)


# -- softmax that may see nothing ------------------------------------------------------------------------------------------
def _masked_softmax_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    if not x.dtype.is_float:
        raise DTypeError(f"x must be float, not {x.type}")
    attrs["axis"] = normal_axis(attrs["axis"], x.ndim)


def _masked_softmax_grad(n: Node, g: Node) -> tuple[Node]:
    return (n * (g - reduce_sum(g * n, n.attrs["axis"], keepdims=True)),)


@composite(
    "masked_softmax",
    prepare=_masked_softmax_prepare,
    grad=_masked_softmax_grad,
    inputs=1,
    samples=lambda: [
        Sample((rand(5, 7),)), Sample((np.where(_holes, rand(5, 5), -np.inf),)), Sample((rand(2, 3, 19),), {"axis": 1}), Sample((rand(0, 3),)),
        Sample((np.full((2, 33), -np.inf),)),
    ],
)  # fmt: skip
def masked_softmax(x: Node, axis: int = -1) -> Node:
    """Softmax along ``axis`` in which a row of -inf gives 0 everywhere, where plain ``softmax`` gives NaN (torch's ``_safe_softmax``)."""
    m = reduce_max(x, axis, keepdims=True)
    e = exp(x - where(lt(-math.inf, m), m, 0.0))  # -inf - -inf would be NaN
    # a row's largest term is 1, so its sum is 1 or more, or else 0
    return e * (1.0 / maximum(reduce_sum(e, axis, keepdims=True), 1.0))


# -- scaled dot products -----------------------------------------------------------------------------------------------------
def _check(q: Node, k: Node, mask: Node | None, attrs: dict[str, Any]) -> None:
    if q.ndim < 2 or k.ndim < 2:
        raise ShapeError(f"query (..., L, E) and key (..., S, E) expected, not {show(q.shape)} and {show(k.shape)}")
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(f"features differ: query {show(q.shape)} and key {show(k.shape)}")
    if not (q.dtype.is_float and k.dtype.is_float):
        raise DTypeError(f"query and key must be float, not {q.type} and {k.type}")
    if attrs["enable_gqa"]:
        heads, groups = (q.shape[-3], k.shape[-3]) if q.ndim > 2 < k.ndim else (0, 0)
        if not (isinstance(heads, int) and isinstance(groups, int) and groups and heads % groups == 0):
            raise ShapeError(f"the heads of query {show(q.shape)} are no multiple of those of key {show(k.shape)}", hint="(..., heads, L, E)")
    if mask is not None and mask.dtype != bool_ and not mask.dtype.is_float:
        raise DTypeError(f"attn_mask must be bool or float, not {mask.type}", hint="attn_mask.cast('bool')")
    if attrs["scale"] is None:
        if not isinstance(q.shape[-1], int):
            raise ShapeError(f"the feature size {q.shape[-1]} is named", hint="pass scale=")
        attrs["scale"] = 1.0 / math.sqrt(max(q.shape[-1], 1))
    attrs["scale"] = float(attrs["scale"])


def _weights_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    q, k, mask = ins
    assert q is not None and k is not None
    _check(q, k, mask, attrs)


def _grouped(x: Node, groups: Size) -> Node:
    """(..., heads, L, E) as (..., groups, heads/groups * L, E): heads that share a key and a value become rows of one product."""
    *lead, heads, length, size = x.shape
    return reshape(x, (*lead, groups, heads // groups * length, size))


@composite(
    "attention_weights",
    inputs=3,
    prepare=_weights_prepare,
    samples=lambda: [
        Sample((rand(2, 3, 5, 4), rand(2, 3, 7, 4, seed=1))), Sample((rand(5, 4), rand(5, 4, seed=1)), {"is_causal": True}), Sample((rand(2, 5, 4), rand(2, 5, 4, seed=1), _holes)),
        Sample((rand(2, 4, 3, 4), rand(2, 2, 7, 4, seed=1)), {"enable_gqa": True}), Sample((rand(2, 3, 4), rand(2, 5, 4, seed=1), rand(3, 5, seed=3)), {"scale": 0.25}),
    ],
    errors=lambda: [
        Sample((rand(5, 4), rand(5, 3)), error="features differ"), Sample((rand(4), rand(4)), error="(..., L, E)"), Sample((rand(5, 4), rand(5, 4), rand(3, 5)), error="attn_mask"),
        Sample((rand(5, 4), rand(5, 4), rand(2, 5, 5)), error="attn_mask"), Sample((rand(5, 4), rand(5, 4), np.ones((5, 5), np.int32)), error="bool or float"),
        Sample((rand(1, 3, 5, 4), rand(1, 2, 5, 4)), {"enable_gqa": True}, error="no multiple"),
    ],
    tolerance=_tolerance,
)  # fmt: skip
def attention_weights(
    query: Node, key: Node, attn_mask: Node | None = None, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False
) -> Node:
    """``softmax(query key^T * scale + attn_mask)``: how much each query takes from each key, (..., L, S).

    The arguments are those of ``scaled_dot_product_attention``. A query that may see no key has weights 0.
    """
    assert scale is not None
    if enable_gqa:
        lead = query.shape[:-1]
        products = reshape(matmul(_grouped(query, key.shape[-3]), swapaxes(key, -1, -2)), (*lead, key.shape[-2]))
    else:
        products = matmul(query, swapaxes(key, -1, -2))
    scores = products * scale
    if is_causal:
        scores = where(causal_mask(*scores.shape[-2:]), scores, -math.inf)
    if attn_mask is None:
        return softmax(scores, -1)  # the causal mask leaves every query its first key
    try:
        masked = where(attn_mask, scores, -math.inf) if attn_mask.dtype == bool_ else scores + attn_mask.cast(scores.dtype)
    except ShapeError:
        masked = None
    if masked is None or masked.shape != scores.shape:
        raise ShapeError(f"attn_mask {show(attn_mask.shape)} does not broadcast to {show(scores.shape)}")
    return masked_softmax(masked, -1)


def _attention_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    q, k, v, mask, *_ = ins
    assert q is not None and k is not None and v is not None
    _check(q, k, mask, attrs)
    if v.ndim < 2 or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"lengths differ: key {show(k.shape)} and value {show(v.shape)}")
    _dropout_prepare(ins, attrs, 4)


def _dropout_prepare(ins: list[Node | None], attrs: dict[str, Any], at: int) -> None:
    p = attrs["dropout_p"] = float(attrs["dropout_p"])
    if not 0.0 <= p <= 1.0:
        raise TraceError(f"dropout_p = {p} is no probability")
    if p == 0.0:
        if ins[at] is not None or ins[at + 1] is not None:
            raise TraceError("seed and step without dropout_p", hint="torch's order of arguments is that of nn.functional")
    elif ins[at] is None or ins[at + 1] is None:
        raise TraceError("dropout_p without seed and step", hint="nn.MultiheadAttention(..., dropout=p) gives them in training")
    attrs["stream"] = int(attrs["stream"]) & 0xFFFFFFFF


_seed = np.array([1, 2], np.uint32)


@composite(
    "scaled_dot_product_attention",
    inputs=6,
    prepare=_attention_prepare,
    samples=lambda: [
        Sample((rand(2, 3, 5, 4), rand(2, 3, 7, 4, seed=1), rand(2, 3, 7, 6, seed=2))), Sample((rand(5, 4), rand(5, 4, seed=1), rand(5, 4, seed=2)), {"is_causal": True}),
        Sample((rand(2, 5, 4), rand(2, 5, 4, seed=1), rand(2, 5, 4, seed=2), _low)), Sample((rand(2, 5, 4), rand(2, 5, 4, seed=1), rand(2, 5, 4, seed=2), rand(5, 5, seed=3))),
        Sample((rand(2, 3, 4), rand(2, 3, 4, seed=1), rand(2, 3, 3, seed=2)), {"scale": 0.25}), Sample((rand(2, 5, 4), rand(2, 5, 4, seed=1), rand(2, 5, 4, seed=2), _holes)),
        Sample((rand(2, 6, 3, 4), rand(2, 2, 5, 4, seed=1), rand(2, 2, 5, 3, seed=2)), {"enable_gqa": True}), Sample((rand(2, 3, 5, 4), rand(2, 1, 5, 4, seed=1), rand(2, 1, 5, 4, seed=2))),
        Sample((rand(0, 3, 4), rand(0, 5, 4), rand(0, 5, 4))), Sample((rand(1, 1, 4), rand(1, 1, 4), rand(1, 1, 4, seed=1))), Sample((rand(2, 2, 4), rand(2, 5, 4), rand(2, 5, 4)), {"is_causal": True}),
        Sample((rand(3, 2, 4), rand(2, 3, 5, 4), rand(2, 3, 5, 4))),
    ],
    errors=lambda: [
        Sample((rand(5, 4), rand(5, 3), rand(5, 4)), error="features differ"), Sample((rand(5, 4), rand(6, 4), rand(5, 4)), error="lengths differ"),
        Sample((rand(5, 4), rand(5, 4), rand(5, 4)), {"dropout_p": 0.5}, error="without seed"), Sample((rand(5, 4), rand(5, 4), rand(5, 4)), {"dropout_p": 1.5}, error="probability"),
        Sample((rand(5, 4), rand(5, 4), rand(5, 4), None, 0.0, True), error="nn.functional"),
    ],
    tolerance=_tolerance,
    onnx="Attention",
)  # fmt: skip
def scaled_dot_product_attention(
    query: Node,
    key: Node,
    value: Node,
    attn_mask: Node | None = None,
    seed: Node | None = None,
    step: Node | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    stream: int = 0,
) -> Node:
    """``softmax(query key^T * scale + attn_mask) value`` (Vaswani et al. 2017), as torch's ``scaled_dot_product_attention``.

    query (..., L, E), key (..., S, E), value (..., S, D) -> (..., L, D); leading axes broadcast. ``scale`` is 1/sqrt(E) unless
    given. A bool ``attn_mask`` says which pairs take part, a float one is added; it broadcasts to (..., L, S). ``is_causal``
    lets query i see keys up to i, besides what the mask says. A query that sees nothing gives 0, as in torch since 2.5.

    With ``enable_gqa`` the query has a multiple of the key's heads (axis -3), and neighbouring heads share a key and a value.
    ``dropout_p`` drops weights by the random numbers that ``seed``, ``step`` and ``stream`` name (see ``dropout``).
    """
    weights = attention_weights(query, key, attn_mask, is_causal, scale, enable_gqa)
    if seed is not None and step is not None:
        weights = dropout(weights, seed, step, dropout_p, stream)
    if not enable_gqa:
        return matmul(weights, value)
    out = matmul(_grouped(weights, value.shape[-3]), value)
    return reshape(out, (*weights.shape[:-1], value.shape[-1]))


# -- several heads -----------------------------------------------------------------------------------------------------------
@sugar
def split_heads(x: Node, heads: int) -> Node:
    """(..., L, heads * E) as (..., heads, L, E): the features of each head stand side by side."""
    *lead, length, size = x.shape
    if not isinstance(size, int) or heads < 1 or size % heads:
        raise ShapeError(f"split_heads: {size} features of {show(x.shape)} do not divide into {heads} heads")
    return swapaxes(reshape(x, (*lead, length, heads, size // heads)), -2, -3)


@sugar
def merge_heads(x: Node) -> Node:
    """(..., heads, L, E) as (..., L, heads * E): the reverse of ``split_heads``."""
    if x.ndim < 3:
        raise ShapeError(f"merge_heads: (..., heads, L, E) expected, not {show(x.shape)}")
    *lead, heads, length, size = x.shape
    return reshape(swapaxes(x, -2, -3), (*lead, length, heads * size))


def _heads_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    q, k, v = ins[:3]
    assert q is not None and k is not None and v is not None
    if q.ndim < 2 or not q.ndim == k.ndim == v.ndim:
        raise ShapeError(f"query (..., L, E), key (..., S, E), value (..., S, D) expected, not {show(q.shape)}, {show(k.shape)}, {show(v.shape)}")
    attrs["kv_heads"] = attrs["kv_heads"] or attrs["num_heads"]
    _dropout_prepare(ins, attrs, 4)


_no_key = np.array([[[[True, True, False]]], [[[True, False, False]]]])


@composite(
    "multi_head_attention",
    inputs=6,
    prepare=_heads_prepare,
    samples=lambda: [
        Sample((rand(2, 5, 6), rand(2, 7, 6, seed=1), rand(2, 7, 8, seed=2)), {"num_heads": 2}), Sample((rand(4, 6), rand(4, 6, seed=1), rand(4, 6, seed=2)), {"num_heads": 3, "is_causal": True}),
        Sample((rand(2, 3, 8), rand(2, 3, 4, seed=1), rand(2, 3, 6, seed=2), _no_key), {"num_heads": 4, "kv_heads": 2}), Sample((rand(0, 3, 4), rand(0, 3, 4), rand(0, 3, 4)), {"num_heads": 2}),
        Sample((rand(1, 1, 4), rand(1, 1, 4), rand(1, 1, 4, seed=1)), {"num_heads": 4, "scale": 2.0}),
    ],
    errors=lambda: [
        Sample((rand(5, 6), rand(5, 6), rand(5, 6)), {"num_heads": 4}, error="do not divide into 4 heads"), Sample((rand(6), rand(6), rand(6)), {"num_heads": 2}, error="(..., L, E)"),
    ],
    tolerance=_tolerance,
    onnx="Attention",
)  # fmt: skip
def multi_head_attention(
    query: Node,
    key: Node,
    value: Node,
    attn_mask: Node | None = None,
    seed: Node | None = None,
    step: Node | None = None,
    num_heads: int = 1,
    kv_heads: int | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    stream: int = 0,
) -> Node:
    """Attention in ``num_heads`` slices of the features, joined again (Vaswani et al. 2017, section 3.2.2), as ONNX's ``Attention``.

    query (..., L, H E), key (..., S, G E), value (..., S, G D) -> (..., L, H D), all after their projections; G = ``kv_heads``
    is H unless given. ``attn_mask`` broadcasts to (..., H, L, S); the rest is as in ``scaled_dot_product_attention``.
    """
    assert kv_heads is not None
    q, k, v = split_heads(query, num_heads), split_heads(key, kv_heads), split_heads(value, kv_heads)
    grouped = kv_heads != num_heads
    return merge_heads(scaled_dot_product_attention(q, k, v, attn_mask, seed, step, dropout_p, is_causal, scale, grouped, stream))


# -- masks -----------------------------------------------------------------------------------------------------------------
@sugar
def causal_mask(length: Size, size: Size | None = None) -> Node:
    """A bool (length, size) that lets position i see positions up to i: True = take part. ``size`` is ``length`` unless given."""
    shape = (length, length if size is None else size)
    return le(iota(shape, 1), iota(shape, 0))


@sugar
def padding_mask(lengths: Node, size: Size) -> Node:
    """A bool (..., size) that is True behind each length, where nothing stands: ``key_padding_mask`` of nn.MultiheadAttention."""
    lengths = as_node(lengths)
    if not lengths.dtype.is_int:
        raise DTypeError(f"padding_mask: lengths must be integers, not {lengths.type}", hint="lengths.cast('int32')")
    return le(reshape(lengths, (*lengths.shape, 1)), iota((size,), 0, lengths.dtype))
