"""Functions of layers whose torch form differs from the operator's: part of :mod:`graphc.nn.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc import ops
from graphc.errors import ShapeError, TraceError
from graphc.ir.node import Node
from graphc.ops.define import show

from ..parameter import current_trace

__all__ = [
    "batch_norm",
    "dropout",
    "embedding_bag",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
    "scaled_dot_product_attention",
]


def _last_axes(x: Node, shape: int | Sequence[int]) -> int:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if x.shape[x.ndim - len(sizes) :] != sizes or len(sizes) > x.ndim:
        raise ShapeError(
            f"normalized_shape {show(sizes)} is not that of the last axes of {show(x.shape)}", hint="the sizes of the last axes of x"
        )
    return len(sizes)


def layer_norm(input: Node, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Node:
    """``ops.layer_norm`` with torch's arguments."""
    return ops.layer_norm(input, weight, bias, eps=eps, axes=_last_axes(input, normalized_shape))


def rms_norm(input: Node, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Node:
    """``ops.rms_norm`` with torch's arguments."""
    return ops.rms_norm(input, weight, eps=eps, axes=_last_axes(input, normalized_shape))


def group_norm(input: Node, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Node:
    """``ops.group_norm`` with torch's arguments."""
    return ops.group_norm(input, weight, bias, num_groups=num_groups, eps=eps)


def batch_norm(
    input: Node,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Node:
    """``ops.batch_norm`` with torch's arguments; with ``training``, the batch's own statistics.

    A function cannot write running statistics: with ``training`` they must be None, and nn.BatchNorm1d to 3d keep them.
    """
    if not training:
        return ops.batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    _no_statistics("batch_norm", running_mean, running_var)
    return ops.batch_norm_train(input, weight, bias, eps=eps)[0]


def instance_norm(
    input: Node,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Node:
    """``ops.instance_norm`` with torch's arguments; without ``use_input_stats``, the running statistics are used."""
    if not use_input_stats:
        return ops.batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    _no_statistics("instance_norm", running_mean, running_var)
    return ops.instance_norm(input, weight, bias, eps=eps)


def _no_statistics(name: str, *running: Any) -> None:
    if any(r is not None for r in running):
        raise TraceError(f"{name}: a function cannot write running statistics", hint="pass None, or use the layer of nn")


def embedding_bag(
    input: Node,
    weight: Node,
    offsets: Any = None,
    mode: str = "mean",
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Node:
    """``ops.embedding_bag`` with torch's arguments (without those on norms and sparse gradients)."""
    return ops.embedding_bag(
        input, weight, offsets, per_sample_weights, mode=mode, include_last_offset=include_last_offset, padding_idx=padding_idx
    )


def dropout(input: Node, p: float = 0.5, training: bool | None = None) -> Node:
    """Dropout with random numbers of its own for each use; ``training`` is whether a training step is traced, unless given."""
    trace = current_trace()
    if trace is None:
        raise TraceError("dropout was called outside of a trace", hint="ops.dropout(x, seed, step, p) names its random numbers")
    if not (trace.training if training is None else training):
        return input
    seed, step, stream = trace.random()
    return ops.dropout(input, seed, step, p=p, stream=stream)


def scaled_dot_product_attention(
    query: Node,
    key: Node,
    value: Node,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Node:
    """``ops.scaled_dot_product_attention`` with torch's arguments; as there, ``dropout_p`` acts also outside of training."""
    options: dict[str, Any] = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    trace = current_trace()
    if dropout_p and trace is not None:
        options |= dict(zip(("seed", "step", "stream"), trace.random(), strict=True))
    return ops.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p=dropout_p, **options)
