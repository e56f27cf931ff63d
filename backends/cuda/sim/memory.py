"""Memory of the simulator: global buffers, shared arrays of blocks, local arrays of threads, and who touched what when.

Two accesses to one element, at least one of them a store, must be ordered: by the thread itself, by a warp that met in between
(a shuffle, a vote, ``syncwarp``) or by a barrier of the block. ``Order`` holds, for the lanes of an access, who they are and how
often their warp and their block have met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["WARP", "Copy", "Local", "Memory", "Order", "Shared"]

WARP = 32
NEVER = -1


class Order(NamedTuple):
    """The lanes of an access: their numbers, blocks, and how often warp and block have met."""

    who: np.ndarray
    block: np.ndarray
    warp_met: np.ndarray
    block_met: np.ndarray


def first(bad: np.ndarray) -> int | None:
    """The position of the first True."""
    return int(np.argmax(bad)) if bad.any() else None


class Memory:
    """Global memory of one buffer; bools are bytes, floats of 16 bits are words. ``written`` says which elements hold a value: all, or none yet."""

    def __init__(self, name: str, data: np.ndarray, written: bool = True):
        self.name = name
        flat = data.reshape(-1)
        self.data = flat.view(np.uint8) if flat.dtype == bool else flat.view(np.uint16) if flat.itemsize == 2 and flat.dtype.kind not in "iu" else flat
        self.written = np.full(self.data.size, written)
        self.bits = self.data.view(f"u{self.data.itemsize}")
        self.full = bool(written)
        self._watch: dict[str, np.ndarray] | None = None

    def __repr__(self) -> str:
        return f"{self.name} ({self.data.dtype}[{self.data.size}])"

    @property
    def state(self) -> tuple[Any, ...]:
        """Type and size, and which elements hold a value."""
        self.full = self.full or bool(self.written.all())
        return self.data.dtype, self.data.size, self.full or hash(self.written.tobytes())

    @property
    def watched(self) -> bool:
        return self._watch is not None

    def watch(self, on: bool) -> None:
        """Begins a launch. Only memory that the kernel writes needs its accesses remembered."""
        n = self.data.size
        words = ("writer", "wrote", "wrote_block", "reader", "read", "read_block", "readers")
        self._watch = {k: np.full(n, NEVER, np.int64) for k in words} if on else None
        if not on:
            self.full = bool(self.written.all())

    def unwritten(self, at: np.ndarray) -> int | None:
        """The position of the first place that holds no value."""
        return None if self.full else first(~self.written[at])

    def reads(self, at: np.ndarray, o: Order, threads: int) -> int | None:
        """Notes loads; the position of the first one that races with an earlier store, or None."""
        w = self._watch
        if w is None:
            return None
        bad = _races(w["writer"][at], w["wrote"][at], w["wrote_block"][at], o, threads)
        old, level = w["reader"][at], w["readers"][at]
        # readers that this thread's warp or block has met since are forgotten, unless they were of several blocks
        met = _ordered(old, w["read"][at], w["read_block"][at], o, threads) & (level < 3)
        old, level = np.where(met, NEVER, old), np.where(met, 0, level)
        one = np.full(self.data.size, NEVER, np.int64)
        one[at] = o.who  # of several threads in this very load, one stays; the others see that it is not them
        for other in (old, one[at]):
            differ = (other >= 0) & (other != o.who)
            level = np.where(differ, np.maximum(level, 1), level)
            level = np.where(differ & (other // WARP != o.who // WARP), np.maximum(level, 2), level)
            level = np.where(differ & (other // threads != o.block), 3, level)
        w["readers"][at] = 0
        w["reader"][at], w["read"][at], w["read_block"][at] = o.who, o.warp_met, o.block_met
        np.maximum.at(w["readers"], at, level)
        return first(bad)

    def writes(self, at: np.ndarray, values: np.ndarray, o: Order, threads: int) -> int | None:
        """Stores; the position of the first store that races with another access, or None."""
        w = self._watch
        assert w is not None
        before = self.bits[at].copy()
        reader, level = w["reader"][at], w["readers"][at]
        ordered = _ordered(reader, w["read"][at], w["read_block"][at], o, threads, several=level)
        bad = (reader >= 0) & ~ordered & ~((reader == o.who) & (level < 1))
        new = np.ascontiguousarray(values).view(self.bits.dtype)
        bad |= _races(w["writer"][at], w["wrote"][at], w["wrote_block"][at], o, threads) & (before != new)
        self.bits[at] = new
        bad |= self.bits[at] != new  # two threads in this very store
        w["writer"][at], w["wrote"][at], w["wrote_block"][at] = o.who, o.warp_met, o.block_met
        self.written[at] = True
        return first(bad)


def _ordered(
    other: np.ndarray, warp_met: np.ndarray, block_met: np.ndarray, o: Order, threads: int, several: np.ndarray | None = None
) -> np.ndarray:
    """Where another thread's access comes before this one: its warp or its block has met in between."""
    warp = (other // WARP == o.who // WARP) & (warp_met != o.warp_met)
    block = (other // threads == o.block) & (block_met != o.block_met)
    if several is not None:
        warp, block = warp & (several < 2), block & (several < 3)
    return (other >= 0) & (warp | block)


def _races(other: np.ndarray, warp_met: np.ndarray, block_met: np.ndarray, o: Order, threads: int) -> np.ndarray:
    """Where another thread's access is not ordered before this one."""
    return (other >= 0) & (other != o.who) & ~_ordered(other, warp_met, block_met, o, threads)


class Shared:
    """An array of each block. Loads are only listed: what they touched is looked at when a store follows before the next barrier."""

    def __init__(self, name: str, size: int, dtype: np.dtype[Any], blocks: int):
        self.name, self.size = name, size
        self.data = np.zeros(blocks * size, dtype)
        self.bits = self.data.view(f"u{self.data.itemsize}")
        self.written = np.zeros(blocks * size, bool)
        self.writer = np.full(blocks * size, NEVER, np.int64)
        self.wrote = np.full(blocks * size, NEVER, np.int64)
        self.wrote_block = np.full(blocks * size, NEVER, np.int64)
        self.loads: list[tuple[np.ndarray, Order]] = []
        self.copying: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"{self.name} (shared {self.data.dtype}[{self.size}])"

    def expected(self, at: np.ndarray) -> int | None:
        """The position of the first place to which a copy is on its way."""
        return None if self.copying is None else first(self.copying[at])

    def unwritten(self, at: np.ndarray) -> int | None:
        return first(~self.written[at])

    def reads(self, at: np.ndarray, o: Order, threads: int) -> int | None:
        bad = None
        if (self.wrote_block[at] == o.block_met).any():
            bad = first(_races(self.writer[at], self.wrote[at], self.wrote_block[at], o, threads))
        self.loads.append((at, o))
        return bad

    def writes(self, at: np.ndarray, values: np.ndarray, o: Order, threads: int) -> int | None:
        bad = np.zeros(at.size, bool)
        for places, r in self.loads:
            bad |= self._read_by_others(places, r, at, o, threads)
        new = np.ascontiguousarray(values).view(self.bits.dtype)
        bad |= _races(self.writer[at], self.wrote[at], self.wrote_block[at], o, threads) & (self.bits[at] != new)
        self.bits[at] = new
        bad |= self.bits[at] != new
        self._note(at, o)
        return first(bad)

    def _note(self, at: np.ndarray, o: Order) -> None:
        self.writer[at], self.wrote[at], self.wrote_block[at] = o.who, o.warp_met, o.block_met
        self.written[at] = True

    def begins(self, at: np.ndarray, o: Order, threads: int) -> int | None:
        """A copy to these places sets out; the position of the first one that others may still be using, or None."""
        bad = _races(self.writer[at], self.wrote[at], self.wrote_block[at], o, threads)
        for places, r in self.loads:
            bad |= self._read_by_others(places, r, at, o, threads)
        if self.copying is None:
            self.copying = np.zeros(self.data.size, bool)
        self.copying[at] = True
        return first(bad)

    def lands(self, at: np.ndarray, values: np.ndarray, o: Order) -> None:
        """A copy is there for the threads that waited for it, as if they had stored it now."""
        assert self.copying is not None
        self.data[at] = values
        self.copying[at] = False
        self._note(at, o)

    def _read_by_others(self, places: np.ndarray, r: Order, at: np.ndarray, o: Order, threads: int) -> np.ndarray:
        """Which stores overwrite what another thread has read since they met. Two passes find the least and the greatest reader."""
        bad = np.zeros(at.size, bool)
        for order in (slice(None), slice(None, None, -1)):
            row = np.full(self.data.size, NEVER, np.int64)
            row[places[order]] = np.arange(places.size)[order]
            n = row[at]
            who, warp, block = (np.where(n >= 0, x[n], NEVER) for x in (r.who, r.warp_met, r.block_met))
            bad |= _races(who, warp, block, o, threads)
        return bad

    def barrier(self) -> None:
        """All blocks have met."""
        self.loads.clear()


@dataclass
class Copy:
    """Elements on their way to shared memory, the thread that sent each, and the group it committed them to (none yet: NEVER)."""

    target: Shared
    places: np.ndarray
    values: np.ndarray
    who: np.ndarray
    group: np.ndarray


class Local:
    """An array of each thread: one row an element, so that an index that is the same for all threads is one row."""

    def __init__(self, name: str, size: int, dtype: np.dtype[Any], lanes: int):
        self.name, self.size = name, size
        self.data = np.zeros((size, lanes), dtype)
        self.written = np.zeros((size, lanes), bool)
        self.full = False

    def __repr__(self) -> str:
        return f"{self.name} (local {self.data.dtype}[{self.size}])"
