"""Arrays whose rows are samples: batches and splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from graphc.errors import ArgumentError

from ..random import Random

__all__ = ["batches", "split"]


def batches(
    arrays: Mapping[str, np.ndarray], batch_size: int, order: np.ndarray | None = None, skip: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Consecutive batches of equally long arrays; the last one may be smaller. ``order`` gives the rows' order; the first
    ``skip`` batches are left out.

    >>> [b["x"].tolist() for b in batches({"x": np.arange(5)}, 2)]
    [[0, 1], [2, 3], [4]]
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size = {batch_size!r}")
    count = len(next(iter(arrays.values())))
    for start in range(skip * batch_size, count, batch_size):
        if order is None:
            yield {k: a[start : start + batch_size] for k, a in arrays.items()}
        else:
            rows = order[start : start + batch_size]
            yield {k: a.take(rows, axis=0) for k, a in arrays.items()}


def split(*arrays: Any, fraction: float = 0.2, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Each array as (train, test), rows shuffled alike: ``x, xt, y, yt = split(x, y)``."""
    first = np.asarray(arrays[0])
    order = Random(seed, "split").permutation(len(first))
    cut = len(first) - round(len(first) * fraction)
    out: list[np.ndarray] = []
    for a in arrays:
        array = np.asarray(a)
        if len(array) != len(first):
            raise ArgumentError(f"arrays of {len(first)} and {len(array)} rows")
        out += [array[order[:cut]], array[order[cut:]]]
    return tuple(out)
