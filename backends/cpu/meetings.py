"""Where threads must meet, and who does what is too small to be shared: decided when sizes and addresses are known.

The schedule puts a barrier before every kernel that touches what another one has written since the last barrier. Most of these are
needed. One is not where every thread touches only what it has written itself, or what nobody writes: by the intervals of
:mod:`.shares`, and by where the buffers lie, so that memory that two temporaries share is seen too.

A kernel with fewer units than there are threads leaves some of them idle. Its units go to the threads that have had least to do
since the last barrier: so small kernels that do not depend on each other run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.ir.dims import evaluate
from graphc.schedule.launches import Buffer, Check, Launch, Repeat, memory_key
from graphc.schedule.memory import MemoryPlan, plan_memory

from .shares import Reach, Touched

__all__ = ["Meetings", "Places", "places_of"]

Item = Launch | Check | Repeat


@dataclass(frozen=True)
class Places:
    """All that is decided when sizes are known: where temporaries lie, before what all threads meet, and by how much each launch's
    threads are moved on."""

    plan: MemoryPlan
    barriers: set[Item]
    turns: dict[Launch, int]


def places_of(program: Any, dims: Mapping[str, int], nthreads: int) -> Places:
    """Decides it."""
    plan = plan_memory(program.schedule, dims)
    kernels = program.kernels
    found = Meetings(
        [i for i in program.schedule.items if not (isinstance(i, Launch) and i.static)],
        {i: k.reach for i, k in kernels.items()},
        lambda i: not any(s.kind == "scratch" for s in kernels[i].printed.slots),  # each thread has a part of its own of that memory
        dims,
        nthreads,
        {p.buffer: p.offset for p in plan.placements},
    )
    return Places(plan, found.barriers, found.turns)


@dataclass(frozen=True)
class _Whole:
    """A buffer that a kernel touches: the piece of memory it lies in, its first byte there and the one behind its last."""

    buffer: Buffer
    memory: object
    first: int
    last: int
    writes: bool


class Meetings:
    """The barriers of a list of items, and by how much each launch's threads are moved on.

    ``offsets`` are those of temporaries in the arena; ``free`` says whether any thread may do any share of a kernel. ``turns`` has the
    launches whose thread t does the share of thread ``(t + turn) % nthreads``.
    """

    def __init__(
        self,
        items: Sequence[Item],
        reaches: Mapping[Launch, Reach | None],
        free: Callable[[Launch], bool],
        dims: Mapping[str, int],
        nthreads: int,
        offsets: Mapping[Buffer, int],
    ):
        self.reaches, self.free = reaches, free
        self.dims, self.nthreads, self.offsets = dims, nthreads, offsets
        self.turns: dict[Launch, int] = {}
        self._nbytes: dict[Buffer, int] = {}
        self._wholes: dict[Launch, list[_Whole]] = {}
        self._touched: dict[tuple[Launch, int], Touched] = {}
        self.barriers: set[Item] = set()
        self._walk(items)

    def _walk(self, items: Sequence[Item]) -> None:
        since: list[Launch] = []
        busy = [0] * self.nthreads
        dropped = False
        for item in items:
            if not isinstance(item, Launch):
                # checks and repeats begin with a barrier, and all threads meet at their end
                if item.barrier:
                    self.barriers.add(item)
                if isinstance(item, Repeat):
                    self._walk(item.body)
                since, busy, dropped = [], [0] * self.nthreads, False
                continue
            self._turn(item, busy)
            if item.barrier or dropped:
                if self.nthreads > 1 and not any(self._clash(item, other) for other in since):
                    dropped = True
                else:
                    self.barriers.add(item)
                    since, busy, dropped = [], [0] * self.nthreads, False
                    self._turn(item, busy)
            since.append(item)
            self._count(item, busy)

    # -- who does what -----------------------------------------------------------------------------------------------------
    def _parts(self, item: Launch) -> list[int]:
        """The threads that have units of a kernel, before it is turned; all of them where that is not known."""
        reach, n = self.reaches.get(item), self.nthreads
        units = n if reach is None else reach.units(self.dims)
        return [t for t in range(n) if units * t // n < units * (t + 1) // n]

    def _turn(self, item: Launch, busy: Sequence[int]) -> None:
        parts, n = self._parts(item), self.nthreads
        if 0 < len(parts) < n and self.free(item):
            self.turns[item] = min(range(n), key=lambda turn: max(busy[(t - turn) % n] for t in parts))

    def _count(self, item: Launch, busy: list[int]) -> None:
        parts = self._parts(item)
        nbytes = sum(w.last - w.first for w in self._whole(item))
        for t in parts:
            busy[(t - self.turns.get(item, 0)) % self.nthreads] += nbytes // len(parts)

    # -- who touches what --------------------------------------------------------------------------------------------------
    def _clash(self, a: Launch, b: Launch) -> bool:
        """Whether a thread of one kernel may touch what another thread of the other one writes."""
        return any(
            self._meet(a, x.buffer, b, y.buffer)
            for x in self._whole(a)
            for y in self._whole(b)
            if (x.writes or y.writes) and x.memory == y.memory and x.first < y.last and y.first < x.last
        )

    def _meet(self, a: Launch, x: Buffer, b: Launch, y: Buffer) -> bool:
        """The same, of two buffers that share memory."""
        at_x, at_y = self.offsets.get(x, 0), self.offsets.get(y, 0)
        return any(
            (p[2] or q[2]) and at_x + p[0] < at_y + q[1] and at_y + q[0] < at_x + p[1]
            for t in range(self.nthreads)
            for s in range(self.nthreads)
            if s != t
            for p in self._bytes(a, t, x)
            for q in self._bytes(b, s, y)
        )

    def _bytes(self, item: Launch, thread: int, b: Buffer) -> list[tuple[int, int, bool]]:
        reach = self.reaches.get(item)
        if reach is None:
            return [(w.first - self.offsets.get(b, 0), w.last - self.offsets.get(b, 0), w.writes) for w in self._whole(item) if w.buffer is b]
        share = (thread + self.turns.get(item, 0)) % self.nthreads
        if (item, share) not in self._touched:
            self._touched[item, share] = reach.touched(self.dims, share, self.nthreads)
        return self._touched[item, share].of(b)

    def _whole(self, item: Launch) -> list[_Whole]:
        """All that a kernel touches, buffer by buffer."""
        if item not in self._wholes:
            found = [*((b, False) for b in item.reads), *((b, True) for b in item.writes)]
            self._wholes[item] = [self._place(b, writes) for b, writes in found]
        return self._wholes[item]

    def _place(self, b: Buffer, writes: bool) -> _Whole:
        if b not in self._nbytes:
            self._nbytes[b] = evaluate(b.nbytes, self.dims)
        first = self.offsets.get(b, 0)
        return _Whole(b, "arena" if b.space == "temp" else memory_key(b), first, first + self._nbytes[b], writes)
