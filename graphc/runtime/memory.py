"""Memory for parameters and arenas: aligned, with readable bytes behind every array, on huge pages where the system has them.

Kernels walk several arrays at once in tiles; with pages of 4 KB the address translation alone can cost them a quarter of
their time. So larger arrays are cut from slabs that ask for huge pages (Linux: ``madvise(MADV_HUGEPAGE)``). A slab is
returned to the system when the last array in it is gone.
"""

from __future__ import annotations

import mmap
import threading
from typing import Any

import numpy as np

__all__ = ["SLACK", "aligned_empty"]

ALIGNMENT = 64
SLACK = 256
"""Readable bytes behind every array: a vector load of a kernel may reach past the last element."""
HUGE = 2 << 20
FROM_SLABS = 64 << 10
SLAB = 8 << 20

_lock = threading.Lock()
_open: tuple[np.ndarray, int] | None = None
"""The slab with room left, as bytes, and how much of it is taken."""


def aligned_empty(count: int, dtype: Any) -> np.ndarray:
    """An uninitialised 1-D array whose data starts on a cache line."""
    dt = np.dtype(dtype)
    nbytes = count * dt.itemsize
    raw = _from_slab(nbytes + SLACK) if nbytes >= FROM_SLABS and hasattr(mmap, "MADV_HUGEPAGE") else np.empty(nbytes + ALIGNMENT + SLACK, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(dt)


def _from_slab(nbytes: int) -> np.ndarray:
    global _open
    nbytes = -(-nbytes // ALIGNMENT) * ALIGNMENT
    with _lock:
        if _open is None or _open[1] + nbytes > _open[0].size:
            _open = (_new_slab(nbytes), 0)
        slab, used = _open
        _open = (slab, used + nbytes)
        return slab[used : used + nbytes]


def _new_slab(nbytes: int) -> np.ndarray:
    size = max(SLAB, -(-nbytes // HUGE) * HUGE)
    block = mmap.mmap(-1, size + HUGE)
    block.madvise(mmap.MADV_HUGEPAGE)
    view = np.frombuffer(block, np.uint8)
    start = -view.ctypes.data % HUGE
    return view[start : start + size]
