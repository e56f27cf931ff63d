"""Arrays whose rows are samples: in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from graphc.errors import ArgumentError
from graphc.locate import public

__all__ = ["batches"]


def batches(
    arrays: Mapping[str, np.ndarray], batch_size: int, order: np.ndarray | None = None, skip: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Consecutive batches of equally long arrays; the last one may be smaller. ``order`` gives the rows' order; the first
    ``skip`` batches are left out.

    >>> [b["x"].tolist() for b in batches({"x": np.arange(5)}, 2)]
    [[0, 1], [2, 3], [4]]
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size = {batch_size!r} is not a whole number of 1 or more", hint="batch_size=32")
    count = len(next(iter(arrays.values())))
    for start in range(skip * batch_size, count, batch_size):
        if order is None:
            yield {k: a[start : start + batch_size] for k, a in arrays.items()}
        else:
            rows = order[start : start + batch_size]
            yield {k: a.take(rows, axis=0) for k, a in arrays.items()}


public(globals())
