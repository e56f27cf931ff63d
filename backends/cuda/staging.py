"""Copies between arrays of the host and the GPU, which go on while kernels run.

Data goes through pinned memory, which the GPU reads by itself, and to the GPU through a second buffer there: addresses of arguments never change,
so a copy to them must wait for the kernels that still read the last values, while a copy to that buffer need not. Buffers are kept, two of each
size, and used in turns; what is larger goes in pieces, and one piece is put into pinned memory while the last one travels.

    host      fill pinned                        fill pinned (other)
    copies        ------> buffer on the GPU                ------> other buffer
    compute   kernels of the last step   -> argument, kernels of this step    -> argument, ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .driver import Pinned, Runtime

__all__ = ["PIECE", "Staging"]

PIECE = 16 << 20
SMALLEST = 64 << 10
ALIGN = 256

T = TypeVar("T")
Piece = tuple[np.ndarray, int, int]
"""Bytes of an array, their address on the GPU, and their place in a buffer."""


@dataclass
class Slot:
    """A pair of buffers. ``over`` is recorded when the copy from or to ``pinned`` has ended, ``taken`` when kernels have what came to ``address``."""

    pinned: Pinned
    address: int
    keep: Any
    over: Any
    taken: Any


class Staging:
    """The buffers of one GPU. Not for several threads at once."""

    def __init__(self, driver: Runtime, allocate: Any):
        self.driver, self._allocate = driver, allocate
        self._slots: dict[int, list[Slot]] = {}
        self._ready = driver.event()

    def _slot(self, nbytes: int) -> Slot:
        """A slot whose pinned memory is free: the older one of its size."""
        size = max(SMALLEST, 1 << (nbytes - 1).bit_length())
        pair = self._slots.setdefault(size, [])
        if len(pair) < 2:
            address, keep = self._allocate(size, "a buffer for copies")
            pair.append(Slot(self.driver.pin(size), address, keep, self.driver.event(), self.driver.event()))
        else:
            pair.append(pair.pop(0))
        self.driver.finish(pair[-1].over)
        return pair[-1]

    def send(self, items: Iterable[tuple[int, np.ndarray]]) -> None:
        """Arrays to addresses: kernels that are started from now on see them, those before do not. The arrays may change at once."""
        driver = self.driver
        flat = ((np.ascontiguousarray(a).reshape(-1).view(np.uint8), address) for address, a in items)
        for pieces, total in _batches(flat):
            slot = self._slot(total)
            for data, _, at in pieces:
                driver.fill(slot.pinned, at, data)
            driver.wait(driver.copies, slot.taken)
            driver.copy_in(slot.address, slot.pinned, 0, total)
            driver.record(slot.over, driver.copies)
            driver.wait(driver.compute, slot.over)
            for data, address, at in pieces:
                driver.copy(address, slot.address + at, data.nbytes)
            driver.record(slot.taken, driver.compute)

    def fetch(self, items: Sequence[tuple[np.ndarray, int]]) -> None:
        """Fills contiguous arrays from addresses, with what the kernels that were started so far leave there."""
        driver = self.driver
        if any(a.nbytes for a, _ in items):  # else later copies would wait for kernels that they have nothing to do with
            driver.record(self._ready, driver.compute)
            driver.wait(driver.copies, self._ready)
        last: tuple[Slot, list[Piece]] | None = None
        for pieces, total in _batches((a.reshape(-1).view(np.uint8), address) for a, address in items):
            slot = self._slot(total)
            for data, address, at in pieces:
                driver.copy_out(slot.pinned, at, address, data.nbytes)
            driver.record(slot.over, driver.copies)
            if last is not None:
                self._drain(*last)
            last = slot, pieces
        if last is not None:
            self._drain(*last)

    def _drain(self, slot: Slot, pieces: list[Piece]) -> None:
        self.driver.finish(slot.over)
        for data, _, at in pieces:
            self.driver.drain(data, slot.pinned, at)


def _batches(arrays: Iterable[tuple[np.ndarray, int]]) -> Iterator[tuple[list[Piece], int]]:
    """Bytes and addresses cut to pieces that share buffers of :data:`PIECE` bytes at most, with the bytes that each buffer needs."""
    pieces: list[Piece] = []
    used = end = 0
    for data, address in arrays:
        done = 0
        while done < data.nbytes:
            if used >= PIECE:
                yield pieces, end
                pieces, used = [], 0
            part = data[done : done + PIECE - used]
            pieces.append((part, address + done, used))
            done += part.nbytes
            end = used + part.nbytes
            used = -(-end // ALIGN) * ALIGN
    if pieces:
        yield pieces, end
