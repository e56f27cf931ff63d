"""Every operator as a function, under torch's usual name: ``nn.functional.relu(x)`` is ``graphc.ops.relu(x)``.

Where an operator says ``axis`` and ``keepdims``, torch's ``dim`` and ``keepdim`` are understood too.
Where they differ in more than a name (``pad``, ``sort``, ``one_hot``, ``scatter_add``) the functions here are torch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from graphc import ops
from graphc.errors import ShapeError, TraceError
from graphc.ir.node import Node
from graphc.ir.op import numpy_names
from graphc.ops.define import show

from ..parameter import current_trace
from .indexing import one_hot as one_hot
from .indexing import scatter_add as scatter_add
from .indexing import sort as sort
from .indexing import take_along_dim as take_along_dim
from .padding import pad as pad


def _as_torch(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **numpy_names(fn, kwargs))

    return call


# -- torch's order of arguments ----------------------------------------------------------------------------------------
def _last_axes(x: Node, shape: int | Sequence[int]) -> int:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if x.shape[x.ndim - len(sizes) :] != sizes or len(sizes) > x.ndim:
        raise ShapeError(f"normalized_shape {show(sizes)} is not that of the last axes of {show(x.shape)}")
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


def __getattr__(name: str) -> Any:
    value = getattr(ops, name)
    return _as_torch(value) if callable(value) else value


def __dir__() -> list[str]:
    return dir(ops)
