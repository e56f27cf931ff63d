"""Which part of memory each thread of a kernel touches.

A kernel's work is a run of units, of which thread t of n takes those from ``units * t // n`` to ``units * (t + 1) // n``. What they
read and write follows from the index expressions of the nest: an interval of addresses, perhaps wider than what is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from graphc.ir.dims import Size, evaluate, interval
from graphc.ir.node import Node
from graphc.loops.nest import Nest
from graphc.loops.scalar import postorder, values_in
from graphc.schedule.launches import Buffer, Launch

__all__ = ["Reach", "Share", "Touch", "reach_of"]


@dataclass(frozen=True)
class Share:
    """An axis of a kernel's units, in blocks of ``block`` points. An empty name stands for units that say nothing about addresses."""

    axis: str
    size: Size
    block: int = 1


@dataclass(frozen=True)
class Touch:
    """The elements of a buffer at ``at``, for every point of the axes; all of them where ``at`` is None."""

    buffer: Buffer
    at: Size | None
    writes: bool


@dataclass(frozen=True)
class Reach:
    """How a kernel's units are numbered (the slowest axis first), its other axes, and what it touches."""

    shares: tuple[Share, ...]
    axes: tuple[tuple[str, Size], ...]
    touches: tuple[Touch, ...]

    def units(self, dims: Mapping[str, int]) -> int:
        """Units for these sizes."""
        return prod(self._counts(dims))

    def _counts(self, dims: Mapping[str, int]) -> list[int]:
        return [-(-evaluate(s.size, dims) // s.block) for s in self.shares]

    def ranges(self, dims: Mapping[str, int], thread: int, nthreads: int) -> dict[str, tuple[int, int]] | None:
        """First and last value of every axis in a thread's units; None where it has none."""
        counts = self._counts(dims)
        rest = prod(counts)
        first, last = rest * thread // nthreads, rest * (thread + 1) // nthreads - 1
        found = {d: (n, n) for d, n in dims.items()}
        found |= {name: (0, evaluate(size, dims) - 1) for name, size in self.axes}
        if last < first or any(high < low for low, high in found.values()):
            return None
        found |= {s.axis: (0, evaluate(s.size, dims) - 1) for s in self.shares}
        for s, count in zip(self.shares, counts, strict=True):
            rest //= count
            low, high = first // rest, last // rest
            found[s.axis] = low * s.block, min((high + 1) * s.block - 1, found[s.axis][1])
            if low != high:
                break
            first, last = first - low * rest, last - high * rest
        return found

    def touched(self, dims: Mapping[str, int], thread: int, nthreads: int) -> Touched:
        """What a thread touches."""
        return Touched(self, dims, self.ranges(dims, thread, nthreads))


class Touched:
    """The bytes that one thread touches, found when they are asked for."""

    def __init__(self, reach: Reach, dims: Mapping[str, int], ranges: Mapping[str, tuple[int, int]] | None):
        self.reach, self.dims, self.ranges = reach, dims, ranges
        self._known: dict[Buffer, list[tuple[int, int, bool]]] = {}

    def of(self, b: Buffer) -> list[tuple[int, int, bool]]:
        """Of a buffer: the first byte and the one behind the last, and whether they are written."""
        if b not in self._known:
            self._known[b] = [self._bytes(t) for t in self.reach.touches if t.buffer is b] if self.ranges is not None else []
        return self._known[b]

    def _bytes(self, t: Touch) -> tuple[int, int, bool]:
        found = interval(t.at, self.ranges) if t.at is not None and self.ranges is not None else None
        size = t.buffer.type.dtype.itemsize
        return (found[0] * size, (found[1] + 1) * size, t.writes) if found else (0, evaluate(t.buffer.nbytes, self.dims), t.writes)


def reach_of(launch: Launch, shares: Sequence[Share] | None, buffers: Mapping[Node, Buffer]) -> Reach | None:
    """The reach of a kernel whose printer has told how it shares its units out; None where it has not."""
    if shares is None:
        return None
    nest: Nest = launch.nest

    def touch(node: Node, at: Size, writes: bool) -> Touch:
        return Touch(buffers[node], None if values_in(at) else at, writes)

    touches = [touch(w.node, w.index[0], True) for w in nest.writes()]
    touches += [touch(t.attr[0], t.attr[1][0], False) for t in postorder(nest.roots()) if t.op == "load"]
    mine = {s.axis for s in shares}
    return Reach(tuple(shares), tuple((name, size) for name, size in nest.ranges.items() if name not in mine), tuple(dict.fromkeys(touches)))
