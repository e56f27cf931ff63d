"""Multi-head attention with its projections."""

from __future__ import annotations

import math
from typing import Any

from graphc import ops
from graphc.errors import DTypeError, ShapeError
from graphc.ir.dtypes import bool_
from graphc.ir.node import Node
from graphc.ops.define import constant, show

from .. import init as initial
from ..module import Module
from ..parameter import Parameter, current_trace
from .linear import Linear

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of several heads between linear projections (Vaswani et al. 2017), with torch's arguments and state.

    query (L, N, E), key (S, N, kdim), value (S, N, vdim) -> (L, N, E) and the weights; with ``batch_first`` N comes first; without
    N it is one sample. ``in_proj_weight`` holds the projections of query, key and value one under another, or there are three
    (``q_proj_weight``, ...) where ``kdim`` or ``vdim`` differ from ``embed_dim``.

    Masks say what to leave out, the other way round than in ``scaled_dot_product_attention``: a bool ``key_padding_mask`` (N, S)
    is True at keys to ignore, a bool ``attn_mask`` (L, S) or (N*num_heads, L, S) at pairs that are not allowed; float masks are
    added. ``is_causal`` forbids keys behind the query's position, with or without a mask. The second result is the weights,
    (N, L, S) as mean over the heads or (N, num_heads, L, S), or None without ``need_weights``; nothing is computed for it unless
    it is used. A query that may see no key gets the projection of 0 (in torch only without ``need_weights``, else NaN).

    >>> MultiheadAttention(8, 2).in_proj_weight
    Parameter(float32(24, 8))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = "float32",
    ):
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ShapeError(
                f"MultiheadAttention: {embed_dim} features do not divide into {num_heads} heads",
                hint="embed_dim must be a multiple of num_heads",
            )
        if not 0.0 <= dropout <= 1.0:
            raise ShapeError(
                f"MultiheadAttention: dropout = {dropout} is not in [0, 1]", hint="the part of the weights that becomes 0, as 0.1"
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        e, xavier = embed_dim, initial.xavier_uniform()
        self.packed = self.kdim == self.vdim == e
        self.in_proj_weight: Any = None
        self.q_proj_weight: Any = None
        self.k_proj_weight: Any = None
        self.v_proj_weight: Any = None
        if self.packed:
            self.in_proj_weight = Parameter((3 * e, e), init=xavier, dtype=dtype)
        else:
            self.q_proj_weight = Parameter((e, e), init=xavier, dtype=dtype)
            self.k_proj_weight = Parameter((e, self.kdim), init=xavier, dtype=dtype)
            self.v_proj_weight = Parameter((e, self.vdim), init=xavier, dtype=dtype)
        self.in_proj_bias: Any = Parameter((3 * e,), init="zeros", dtype=dtype) if bias else None
        self.out_proj = Linear(e, e, bias=bias, dtype=dtype)
        if bias:
            self.out_proj.bias = Parameter((e,), init="zeros", dtype=dtype)
        xavier_normal = initial.xavier_normal()
        self.bias_k: Any = Parameter((1, 1, e), init=xavier_normal, dtype=dtype) if add_bias_kv else None
        self.bias_v: Any = Parameter((1, 1, e), init=xavier_normal, dtype=dtype) if add_bias_kv else None

    def forward(
        self,
        query: Node,
        key: Node,
        value: Node,
        key_padding_mask: Node | None = None,
        need_weights: bool = True,
        attn_mask: Node | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Node, Node | None]:
        given = (query, key, value)
        self._check(*given)
        alone, last = query.ndim == 2, 1 if self.batch_first else 0
        if alone:
            query, key, value = (ops.expand_dims(x, 0) for x in given)
            key_padding_mask = None if key_padding_mask is None else ops.expand_dims(key_padding_mask, 0)
        elif last == 0:
            query, key, value = (ops.swapaxes(x, 0, 1) for x in given)
        q, k, v = self._project(query, key, value)
        mask, causal = self._mask(attn_mask, key_padding_mask, query, key, is_causal)
        k, v, extra = self._extended(k, v)
        if extra and mask is not None:
            none = ops.broadcast_to(constant(0, mask.dtype), (*mask.shape[:-1], extra))
            mask = ops.concat([mask, none], -1)
        if mask is not None and mask.dtype == bool_:
            mask = ops.logical_not(mask)
        trace = current_trace()
        drop: dict[str, Any] = {}
        if self.dropout and trace is not None and trace.training:
            drop = dict(zip(("seed", "step", "stream"), trace.random(), strict=True))
        p = self.dropout if drop else 0.0
        out = ops.multi_head_attention(q, k, v, mask, num_heads=self.num_heads, is_causal=causal, dropout_p=p, **drop)
        out = self.out_proj(out)
        weights = None
        if need_weights:
            heads = (ops.split_heads(x, self.num_heads) for x in (q, k))
            weights = ops.attention_weights(*heads, mask, is_causal=causal)
            if drop:
                weights = ops.dropout(weights, p=p, **drop)
            if average_attn_weights:
                weights = ops.mean(weights, 1)
        if alone:
            return ops.squeeze(out, 0), None if weights is None else ops.squeeze(weights, 0)
        return out if last else ops.swapaxes(out, 0, 1), weights

    def _check(self, query: Node, key: Node, value: Node) -> None:
        wanted = (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim))
        for name, x, size in wanted:
            if x.ndim != query.ndim or x.ndim not in (2, 3) or x.shape[-1] != size:
                order = "N, L" if self.batch_first else "L, N"
                raise ShapeError(
                    f"MultiheadAttention: {name} {show(x.shape)} is not ({order}, {size}) or (L, {size})",
                    hint="batch_first=True puts the batch before the sequence; x.transpose(1, 0, 2) exchanges them",
                )

    def _project(self, query: Node, key: Node, value: Node) -> list[Node]:
        e, bias = self.embed_dim, self.in_proj_bias
        if not self.packed:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            biases = [None] * 3 if bias is None else [bias[i * e : (i + 1) * e] for i in range(3)]
            return [ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]
        # one product for operands that are the same
        operands, made, start = (query, key, value), [], 0
        while start < 3:
            end = start + 1
            while end < 3 and operands[end] is operands[start]:
                end += 1
            rows = slice(start * e, end * e)
            whole = start == 0 and end == 3
            weight = self.in_proj_weight if whole else self.in_proj_weight[rows]
            out = ops.linear(operands[start], weight, bias if whole or bias is None else bias[rows])
            made += [out[..., i * e : (i + 1) * e] for i in range(end - start)]
            start = end
        return made

    def _extended(self, k: Node, v: Node) -> tuple[Node, Node, int]:
        """Keys and values with the learned one and the zero one behind, and how many these are."""
        more: list[tuple[Node, Node]] = [(self.bias_k, self.bias_v)] if self.bias_k is not None else []
        if self.add_zero_attn:
            zero = constant(0.0, k.dtype)
            more.append((zero, zero))
        for own_k, own_v in more:
            lead = (k.shape[0], 1, self.embed_dim)
            k = ops.concat([k, ops.broadcast_to(own_k, lead)], 1)
            v = ops.concat([v, ops.broadcast_to(own_v, lead)], 1)
        return k, v, len(more)

    def _mask(self, attn_mask: Node | None, padding: Node | None, query: Node, key: Node, causal: bool) -> tuple[Node | None, bool]:
        """The masks as one, which broadcasts to (N, num_heads, L, S), True or a number = leave out; and what is left of ``causal``."""
        n, length, size = query.shape[0], query.shape[1], key.shape[1]
        masks: list[Node] = []
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                attn_mask = ops.reshape(attn_mask, (n, self.num_heads, length, size))
            masks.append(attn_mask)
        if padding is not None:
            if padding.ndim != 2:
                raise ShapeError(
                    f"MultiheadAttention: key_padding_mask {show(padding.shape)} is not (N, S)",
                    hint="one row a sample, True where a key is padding",
                )
            masks.append(ops.reshape(padding, (padding.shape[0], 1, 1, padding.shape[1])))
        if causal and (self.bias_k is not None or self.add_zero_attn):  # the keys added behind are seen by all
            masks.append(ops.logical_not(ops.causal_mask(length, size)))
            causal = False
        merged: Node | None = None
        for mask in masks:
            if mask.dtype != bool_ and not mask.dtype.is_float:
                raise DTypeError(
                    f"MultiheadAttention: a mask must be bool or float, not {mask.type}",
                    hint="bool (True is left out), or float that is added to the scores",
                )
            if merged is None:
                merged = mask
            elif merged.dtype == mask.dtype == bool_:
                merged = ops.logical_or(merged, mask)
            else:
                merged = _added(merged, query) + _added(mask, query)
        return merged, causal

    def describe(self) -> dict[str, Any]:
        own = {"embed_dim": self.embed_dim, "num_heads": self.num_heads, "dropout": self.dropout}
        return own | {"batch_first": self.batch_first}


def _added(mask: Node, like: Node) -> Node:
    """A mask as what is added to the scores."""
    if mask.dtype != bool_:
        return mask.cast(like.dtype)
    return ops.where(mask, constant(-math.inf, like.dtype), constant(0.0, like.dtype))
