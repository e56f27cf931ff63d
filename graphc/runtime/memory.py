"""Memory for parameters and arenas: aligned, with readable bytes behind every array, on huge pages where the system has them.

Kernels walk several arrays at once in tiles; with pages of 4 KB the address translation alone can cost them a quarter of
their time. So larger arrays are cut from slabs that ask for huge pages (Linux: ``madvise(MADV_HUGEPAGE)``). A slab is
returned to the system when the last array in it is gone. After a fork each process has its own copy, as of all other memory.
"""

from __future__ import annotations

import mmap
import threading
from typing import Any

import numpy as np

from ..errors import OutOfMemoryError
from .limits import memory_limit
from .locks import MEMORY, held_for_forks

__all__ = ["SLACK", "aligned_empty", "check_size", "said_bytes"]

ALIGNMENT = 64
SLACK = 256
"""Readable bytes behind every array: a vector load of a kernel may reach past the last element."""
HUGE = 2 << 20
FROM_SLABS = 64 << 10
SLAB = 8 << 20
CHECKED_FROM = 64 << 20
"""Sizes from which on the machine is asked whether it has so much at all."""

_lock = held_for_forks(threading.Lock(), MEMORY)
_open: tuple[np.ndarray, int] | None = None
"""The slab with room left, as bytes, and how much of it is taken."""


def aligned_empty(count: int, dtype: Any, what: str = "an array") -> np.ndarray:
    """An uninitialised 1-D array whose data starts on a cache line. Raises :class:`OutOfMemoryError`, which says for ``what``."""
    dt = np.dtype(dtype)
    nbytes = count * dt.itemsize
    check_size(nbytes, what)
    try:
        raw = _raw(nbytes)
    except (MemoryError, OSError, OverflowError, ValueError):  # mmap and NumPy have two words each for too much
        raise OutOfMemoryError(_refused(nbytes, what)) from None
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(dt)


def check_size(nbytes: int, what: str) -> None:
    """Raises :class:`OutOfMemoryError` for what this machine or container could never hold.

    Linux promises memory that it does not have, and ends the process when it is used: such a size is refused before.
    """
    if nbytes >= CHECKED_FROM:
        limit = memory_limit()
        if limit is not None and nbytes > limit:
            raise OutOfMemoryError(_refused(nbytes, what), notes=f"this process can have {said_bytes(limit)} at most")


def said_bytes(nbytes: int) -> str:
    """A size for messages.

    >>> said_bytes(3 << 30)
    '3.00 GiB (3221225472 bytes)'
    """
    return f"{nbytes / 2**30:.2f} GiB ({nbytes} bytes)" if nbytes >= 1 << 30 else f"{nbytes / 2**20:.1f} MiB ({nbytes} bytes)"


def _refused(nbytes: int, what: str) -> str:
    return f"out of memory: {what} needs {said_bytes(nbytes)}"


def _raw(nbytes: int) -> np.ndarray:
    if nbytes >= FROM_SLABS and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            return _from_slab(nbytes + SLACK)
        except OSError:  # no room for a whole slab
            pass
    return np.empty(nbytes + ALIGNMENT + SLACK, np.uint8)


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
    block = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # Python's default is shared with forked processes
    block.madvise(mmap.MADV_HUGEPAGE)
    view = np.frombuffer(block, np.uint8)
    start = -view.ctypes.data % HUGE
    return view[start : start + size]
