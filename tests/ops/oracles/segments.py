"""Segments, counts, histograms: JAX and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _segments(name: str) -> Callable[..., Any]:
    return lambda x, ids, n: getattr(jax.ops, name)(jnp.asarray(x), jnp.asarray(ids), n)


def _segment_mean(x, ids, n):
    rows = [x[ids == s] for s in range(n)]
    return np.stack([r.mean(0) if len(r) else np.zeros(x.shape[1:]) for r in rows])


JAX: dict[str, Callable[..., Any]] = {
    "bincount": lambda x, n: np.bincount(x.reshape(-1), minlength=n), "histogram": lambda x, bins, range=None: np.histogram(x, bins, range),
    "segment_max": _segments("segment_max"), "segment_mean": _segment_mean, "segment_min": _segments("segment_min"), "segment_prod": _segments("segment_prod"),
    "segment_sum": _segments("segment_sum"),
}  # fmt: skip
