"""Tables of vectors: PyTorch, and JAX's ``take``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from tests.ops.lazy_torch import F

JAX: dict[str, Callable[..., Any]] = {"embedding": lambda i, w, padding_idx=None: jnp.take(jnp.asarray(w), i, 0)}

TORCH: dict[str, Callable[..., Any]] = {
    "bilinear": lambda *a: F.bilinear(*a),
    "embedding": lambda i, w, padding_idx=None: F.embedding(i, w, padding_idx),
    "embedding_bag": lambda i, w, offsets=None, scale=None, **k: F.embedding_bag(i, w, offsets, per_sample_weights=scale, **k),
}
