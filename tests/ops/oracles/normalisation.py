"""Normalisations: PyTorch's for nearly every one, JAX's and NumPy's for those that are written there in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tests.ops.lazy_torch import F, torch

EXEMPT = {"at_least": "the identity, with a claim about a size: test_guards.py"}


def _layer_norm(x, w=None, b=None, eps=1e-5, axes=None):
    k = w.ndim if w is not None else b.ndim if b is not None else axes or 1
    y = jax.nn.standardize(jnp.asarray(x), axis=tuple(range(x.ndim - k, x.ndim)), epsilon=eps)
    return y * (1 if w is None else w) + (0 if b is None else b)


def _standardize(x, axis=-1, eps=1e-5):
    return jax.nn.standardize(jnp.asarray(x), tuple(range(x.ndim)) if axis is None else axis, epsilon=eps)


JAX: dict[str, Callable[..., Any]] = {"layer_norm": _layer_norm, "standardize": _standardize}


def _shape(x, *given, axes=1):
    k = next((p.ndim for p in given if p is not None), axes)
    return x.shape[x.ndim - k :]


def _batch_norm_train(x, w=None, b=None, eps=1e-5):
    y, mean, scale = torch.native_batch_norm(x, w, b, None, None, True, 0.1, eps)
    return y, mean, scale**-2 - eps


TORCH: dict[str, Callable[..., Any]] = {
    "batch_norm": lambda x, m, v, w=None, b=None, eps=1e-5: F.batch_norm(x, m, v, w, b, False, 0.1, eps),
    "batch_norm_train": _batch_norm_train,
    "group_norm": lambda x, w=None, b=None, num_groups=1, eps=1e-5: F.group_norm(x, num_groups, w, b, eps),
    "instance_norm": lambda x, w=None, b=None, eps=1e-5: F.instance_norm(x, None, None, w, b, True, 0.1, eps),
    "layer_norm": lambda x, w=None, b=None, eps=1e-5, axes=1: F.layer_norm(x, _shape(x, w, b, axes=axes), w, b, eps),
    "local_response_norm": lambda x, *a, **k: F.local_response_norm(x, *a, **k),
    "normalize": lambda x, p=2.0, axis=1, eps=1e-12: F.normalize(x, p, axis, eps),
    "rms_norm": lambda x, w=None, eps=None, axes=1: F.rms_norm(x, _shape(x, w, axes=axes), w, eps),
}  # fmt: skip
