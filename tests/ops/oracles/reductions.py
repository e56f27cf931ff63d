"""Reductions and running reductions: JAX, and PyTorch where JAX has no such function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ops.lazy_torch import torch


def _moment(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis=None, keepdims=False, correction=0: fn(x, axis=axis, keepdims=keepdims, ddof=correction)


def _running(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis, reverse: fn(jnp.asarray(x), axis % x.ndim, reverse)


JAX: dict[str, Callable[..., Any]] = {
    "all": jnp.all, "any": jnp.any, "argmin": jnp.argmin, "count_nonzero": lambda x, axis=None: jnp.count_nonzero(jnp.asarray(x), axis).astype(np.int32),
    "cummax": _running(lax.cummax), "cummin": _running(lax.cummin), "cumprod": _running(lax.cumprod), "cumsum": _running(lax.cumsum),
    "logcumsumexp": _running(lax.cumlogsumexp), "min": jnp.min, "prod": jnp.prod, "std": _moment(np.std), "var": _moment(np.var),
    "norm": lambda x, ord=2, axis=None, keepdims=False: jnp.linalg.vector_norm(x, ord=ord, axis=axis, keepdims=keepdims),
}  # fmt: skip


def _cumulative(name: str) -> Callable[..., Any]:
    def run(x: Any, axis: int, reverse: bool) -> Any:
        out = getattr(torch, name)(x.flip(axis) if reverse else x, axis)
        out = out if isinstance(out, torch.Tensor) else out.values
        return out.flip(axis) if reverse else out

    return run


TORCH: dict[str, Callable[..., Any]] = {name: _cumulative(name) for name in ("cummax", "cummin", "cumprod", "cumsum", "logcumsumexp")} | {
    "std": lambda x, axis, keepdims=False, correction=0: torch.std(x, axis, correction=correction, keepdim=keepdims),
    "var": lambda x, axis, keepdims=False, correction=0: torch.var(x, axis, correction=correction, keepdim=keepdims),
}
