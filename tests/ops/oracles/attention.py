"""Attention and its parts: ONNX's reference implementation and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from tests.ops.lazy_torch import F, torch


def _run(op, inputs, outputs=1, used=0, **attrs):
    """One output of one ONNX operator by ONNX's own interpreter."""
    given = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    node = onnx.helper.make_node(op, given, [f"y{i}" for i in range(outputs)], **{k: v for k, v in attrs.items() if v is not None})
    return ReferenceEvaluator(node).run(None, {n: x for n, x in zip(given, inputs, strict=True) if n})[used]


def _batched(x, rank):
    return x.reshape(int(np.prod(x.shape[:-rank], dtype=int)), *x.shape[-rank:])


def _attention(query, key, value, attn_mask=None, is_causal=False, scale=None, enable_gqa=False, weights=False):
    q, k, v = (_batched(x if x.ndim > 2 else x[None], 3) for x in (query, key, value))
    extra = {"outputs": 4, "used": 3, "qk_matmul_output_mode": 3} if weights else {}
    out = _run("Attention", [q, k, v, attn_mask], is_causal=int(is_causal), scale=scale, **extra)
    lead = query.shape[:-2] if enable_gqa else np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    return out.reshape(*lead, query.shape[-2], key.shape[-2] if weights else value.shape[-1])


def _weights(query, key, *args, **kwargs):
    return _attention(query, key, key, *args, weights=True, **kwargs)


def _heads(query, key, value, attn_mask=None, num_heads=1, kv_heads=None, is_causal=False, scale=None):
    q, k, v = (_batched(x, 2) for x in (query, key, value))
    groups = kv_heads or num_heads
    if not query.size:  # ONNX's interpreter cannot reshape nothing
        return np.zeros((*query.shape[:-1], num_heads * (value.shape[-1] // groups)))
    out = _run("Attention", [q, k, v, attn_mask], q_num_heads=num_heads, kv_num_heads=groups, is_causal=int(is_causal), scale=scale)
    return out.reshape(*query.shape[:-1], num_heads * (value.shape[-1] // groups))


def _rotary(x, positions=None, base=10000.0, interleaved=False):
    positions = np.arange(x.shape[-2]) if positions is None else positions
    angles = np.broadcast_to(positions, x.shape[:-1])[..., None] / base ** (np.arange(0, x.shape[-1], 2) / x.shape[-1])
    rows = x.reshape(-1, 1, 1, x.shape[-1]).swapaxes(1, 2)  # (batch, heads, length, features) with a cache a row
    tables = (f(angles).reshape(-1, 1, x.shape[-1] // 2) for f in (np.cos, np.sin))
    return _run("RotaryEmbedding", [rows, *tables], interleaved=int(interleaved)).reshape(x.shape) if x.size else x


JAX: dict[str, Callable[..., Any]] = {
    "attention_weights": _weights,
    "multi_head_attention": _heads,
    "rotary_embedding": _rotary,
    "scaled_dot_product_attention": _attention,
}

TORCH: dict[str, Callable[..., Any]] = {
    "masked_softmax": lambda x, axis=-1: torch.ops.aten._safe_softmax(x, axis),
    "scaled_dot_product_attention": lambda q, k, v, m=None, **a: F.scaled_dot_product_attention(q, k, v, m, **a),
}
