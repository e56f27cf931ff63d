"""Reading and writing at indices that are data: NumPy, JAX and PyTorch. Indices out of range are no part of these tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ops.lazy_torch import torch


def _rows(how: str) -> Callable[..., Any]:
    return lambda x, i, u: getattr(jnp.asarray(x).at[jnp.asarray(i)], how)(u)


def _last_stays(x, i, u):
    """One by one: JAX does not say in which order it writes."""
    i, out = np.asarray(i), jnp.asarray(x)
    for k in np.ndindex(i.shape):
        out = out.at[i[k]].set(u[k])
    return out


def _put(x, i, u, axis=0, combine="set"):
    axis %= x.ndim
    at = list(np.indices(i.shape))
    at[axis] = i
    ref = jnp.asarray(x).at[tuple(at)]
    if combine == "set":
        out = jnp.asarray(x)
        for k in np.ndindex(i.shape):
            out = out.at[tuple(a[k] for a in at)].set(u[k])
        return out
    return getattr(ref, {"add": "add", "mul": "multiply", "max": "max", "min": "min"}[combine])(u[tuple(map(slice, i.shape))])


def _put_nd(x, i, u, combine="set"):
    ref = jnp.asarray(x).at[tuple(np.moveaxis(i, -1, 0))]
    if combine == "set":
        out = jnp.asarray(x)
        for k in np.ndindex(i.shape[:-1]):
            out = out.at[tuple(i[k])].set(u[k])
        return out
    return getattr(ref, {"add": "add", "mul": "multiply", "max": "max", "min": "min"}[combine])(u)


JAX: dict[str, Callable[..., Any]] = {
    "dynamic_slice": lambda x, starts, sizes: lax.dynamic_slice(jnp.asarray(x), starts, sizes),
    "dynamic_update_slice": lambda x, u, starts: lax.dynamic_update_slice(jnp.asarray(x), jnp.asarray(u), starts),
    "gather_nd": lambda x, i: jnp.asarray(x)[tuple(np.moveaxis(i, -1, 0))], "scatter_elements": _put, "scatter_nd": _put_nd, "scatter_max": _rows("max"), "scatter_min": _rows("min"), "scatter_mul": _rows("multiply"), "scatter_set": _last_stays,
    "take_points": lambda x, *i: jnp.asarray(x)[i], "take_along_axis": lambda x, i, axis=-1: jnp.take_along_axis(jnp.asarray(x), jnp.asarray(i), axis),
}  # fmt: skip


def _torch_elements(x, i, u, axis=0, combine="set"):
    i = i.long()
    if combine == "set":
        return x.scatter(axis, i, u)
    if combine == "add":
        return x.scatter_add(axis, i, u)
    return x.scatter_reduce(axis, i, u, {"mul": "prod", "max": "amax", "min": "amin"}[combine])


def _torch_rows(reduce: str) -> Callable[..., Any]:
    def run(x, i, u):
        u = u.reshape(-1, *x.shape[1:])
        at = torch.as_tensor(i).long().reshape(-1, *(1 for _ in x.shape[1:])).expand(u.shape)
        return x.scatter_reduce(0, at, u, reduce)

    return run


TORCH: dict[str, Callable[..., Any]] = {
    "scatter_elements": _torch_elements, "scatter_max": _torch_rows("amax"), "scatter_min": _torch_rows("amin"), "scatter_mul": _torch_rows("prod"),
    "take_along_axis": lambda x, i, axis=-1: torch.take_along_dim(x, i.long(), axis),
}  # fmt: skip

