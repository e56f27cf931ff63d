"""Order: NumPy, SciPy, JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import lax

from tests.ops.lazy_torch import torch


def _top_k(x, k, axis=-1, largest=True):
    y = jnp.moveaxis(jnp.asarray(x), axis, -1)
    if largest:
        values, indices = lax.top_k(y, k)
    else:  # NumPy's stable order, in which NaN is last
        indices = np.argsort(np.asarray(y), axis=-1, kind="stable")[..., :k]
        values = np.take_along_axis(np.asarray(y), indices, -1)
    return jnp.moveaxis(jnp.asarray(values), -1, axis), jnp.moveaxis(jnp.asarray(indices), -1, axis)


def _kth(x, k, axis=-1, keepdims=False):
    at = np.argsort(x, axis=axis, kind="stable").take(k - 1, axis)
    values = np.sort(x, axis=axis).take(k - 1, axis)
    return (np.expand_dims(values, axis), np.expand_dims(at, axis)) if keepdims else (values, at)


def _searchsorted(a, v, side="left"):
    if a.ndim == 1:
        return np.searchsorted(a, v, side)
    return np.stack([np.searchsorted(r, w, side) for r, w in zip(a, v, strict=True)])


def _count_before(x, among, ties="less", descending=False):
    if among.ndim > 1:
        rows = [_count_before(a, b, ties, descending) for a, b in zip(x, among, strict=True)]
        return np.stack(rows) if rows else np.zeros(x.shape, int)
    if ties == "earlier":
        return np.argsort(np.asarray(jnp.argsort(jnp.asarray(x), stable=True, descending=descending)))
    a, b = (x, among) if descending else (among, x)  # every pair, with NumPy's operators
    a, b = (a[..., None], b) if descending else (a, b[..., None])
    return ((a < b) if ties == "less" else (a <= b)).sum(-1)


JAX: dict[str, Callable[..., Any]] = {
    "count_before": _count_before, "argsort": lambda x, axis=-1, descending=False: jnp.argsort(jnp.asarray(x), axis=axis, stable=True, descending=descending), "kthvalue": _kth,
    "quantile": lambda x, q, axis=None, method="linear", keepdims=False: np.quantile(x, q, axis, method=method, keepdims=keepdims),
    "rankdata": lambda x, axis=-1, method="average": scipy.stats.rankdata(x, method, axis=axis), "searchsorted": _searchsorted,
    "sort": lambda x, axis=-1, descending=False: jnp.sort(jnp.asarray(x), axis=axis, descending=descending), "top_k": _top_k,
}  # fmt: skip

TORCH: dict[str, Callable[..., Any]] = {
    "argsort": lambda x, axis=-1, descending=False: torch.argsort(x, dim=axis, descending=descending, stable=True),
    "kthvalue": lambda x, k, axis=-1, keepdims=False: tuple(torch.kthvalue(x, k, axis, keepdims)),
    "sort": lambda x, axis=-1, descending=False: torch.sort(x, axis, descending)[0],
}  # fmt: skip
