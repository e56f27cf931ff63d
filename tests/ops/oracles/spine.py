"""The operators of the spine: JAX and SciPy stand in for every one, PyTorch for most composites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import lax

from tests.ops.lazy_torch import F, torch

EXEMPT = {
    "assume": "the identity, with a claim about its operand",
    "const": "a value",
    "dim": "a size",
    "input": "no meaning of its own",
    "item": "takes a result out",
    "relayout": "the identity",
    "rounded": "casts: tests/ops/test_storage.py",
    "random_bits": "published test vectors: test_random.py",
    "dropout": "its own random numbers: test_random.py",
}


def _slice(x, starts, sizes, steps=None):
    steps = steps or (1,) * x.ndim
    return jnp.asarray(x)[jnp.ix_(*(np.arange(n) * s + a for a, n, s in zip(starts, sizes, steps, strict=True)))]


def _pad(x, low, high, inner=None, value=0.0):
    return lax.pad(jnp.asarray(x), jnp.asarray(value, x.dtype), list(zip(low, high, inner or (0,) * x.ndim, strict=True)))


def _scatter_add(x, indices, updates):
    return jnp.asarray(x).at[jnp.asarray(indices)].add(updates)


def _pads(padding, rank):
    each = (padding,) * rank if isinstance(padding, int) else padding or (0,) * rank
    return [(p, p) if isinstance(p, int) else p for p in each]


def _tuple(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _reduce_window(x, combine, window, strides=None, padding=None, dilation=None):
    one = (1,) * x.ndim
    start, fold = (0.0, lax.add) if combine == "add" else (-np.inf, lax.max)
    return lax.reduce_window(jnp.asarray(x), start, fold, window, strides or one, _pads(padding, x.ndim), window_dilation=dilation or one)


def _conv(x, w, stride=1, padding=0, dilation=1, input_dilation=1, groups=1):
    n = x.ndim - 2
    reach = [(k - 1) * d for k, d in zip(w.shape[2:], _tuple(dilation, n), strict=True)]
    padding = {"causal": [(r, 0) for r in reach], "same": [(r // 2, r - r // 2) for r in reach]}.get(padding, padding) if isinstance(padding, str) else padding
    return lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(w), _tuple(stride, n), _pads(padding, n), _tuple(input_dilation, n), _tuple(dilation, n),
        dimension_numbers=("NCHWD"[: n + 2], "OIHWD"[: n + 2], "NCHWD"[: n + 2]), feature_group_count=groups,
    )  # fmt: skip


def _dot(a, b, contract, batch=((), ())):
    return lax.dot_general(jnp.asarray(a), jnp.asarray(b), (contract, batch))


def _linear(x, w, b=None):
    return jnp.matmul(x, w.T) + (0 if b is None else b)


def _scan(fn, init, xs, length=None, reverse=False):
    """The sample bodies again, as JAX sees them."""
    if xs is None:
        return lax.scan(lambda c, _: (c * c * 0.5, None), jnp.asarray(init), None, length)[0]
    if np.ndim(xs) == 2 and init.shape != xs.shape[1:]:
        return lax.scan(lambda c, x: (c, x * 2.0), jnp.asarray(init), jnp.asarray(xs))

    def cell(c, x):
        h = jnp.tanh(c * 0.5 + x)
        return h, h * c

    return lax.scan(cell, jnp.asarray(init), jnp.asarray(xs), reverse=reverse)


JAX: dict[str, Callable[..., Any]] = {
    "absolute": jnp.abs, "add": jnp.add, "argmax": jnp.argmax, "broadcast_to": jnp.broadcast_to, "cast": lambda x, dtype: jnp.asarray(x).astype(dtype),
    "concat": lambda xs, axis: jnp.concatenate(xs, axis), "conv": _conv, "div": jnp.divide, "dot_general": _dot,
    "eq": jnp.equal, "erf": jax.scipy.special.erf, "exp": jnp.exp,
    "gelu": lambda x, approximate="none": jax.nn.gelu(x, approximate=approximate == "tanh"), "iota": lambda shape, axis, dtype="int32": lax.broadcasted_iota(dtype, shape, axis),
    "le": jnp.less_equal, "linear": _linear, "log": jnp.log, "log_softmax": scipy.special.log_softmax, "logical_and": jnp.logical_and,
    "logical_not": jnp.logical_not, "logical_or": jnp.logical_or, "logsumexp": scipy.special.logsumexp, "lt": jnp.less, "max": jnp.max,
    "maximum": jnp.maximum, "minimum": jnp.minimum, "mul": jnp.multiply, "ne": jnp.not_equal,
    "neg": jnp.negative, "pad": _pad, "pow": jnp.power, "reduce_window": _reduce_window, "relu": jax.nn.relu, "reshape": jnp.reshape, "scan": _scan,
    "scatter_add": _scatter_add, "shift_right": jnp.right_shift, "sigmoid": scipy.special.expit, "silu": jax.nn.silu, "slice": _slice,
    "softmax": scipy.special.softmax, "sqrt": jnp.sqrt, "stop_gradient": lax.stop_gradient, "sub": jnp.subtract, "sum": jnp.sum,
    "take": lambda x, i, axis=0: jnp.take(x, i, axis), "tanh": jnp.tanh, "transpose": jnp.transpose, "where": jnp.where,
}  # fmt: skip


TORCH: dict[str, Callable[..., Any]] = {
    "relu": lambda x: F.relu(x), "sigmoid": lambda x: torch.sigmoid(x), "silu": lambda x: F.silu(x), "gelu": lambda x, **k: F.gelu(x, **k),
    "softmax": lambda x, axis: F.softmax(x, axis), "log_softmax": lambda x, axis: F.log_softmax(x, axis),
    "logsumexp": lambda x, axis, keepdims: torch.logsumexp(x, axis, keepdims), "linear": lambda *a: F.linear(*a),
}  # fmt: skip
