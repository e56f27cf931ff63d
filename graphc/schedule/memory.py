"""The memory plan: every temporary of a program in one arena, from liveness intervals.

Launches between two barriers run at the same time on different threads, so a buffer lives from the phase that writes it
to the last phase that reads it, and two buffers share memory only if no phase needs both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..ir.dims import Size, evaluate
from ..runtime.memory import SLACK
from .launches import Buffer, Check, Launch, Repeat, Schedule

__all__ = ["MemoryPlan", "Placement", "plan_memory"]

ALIGNMENT = 64


@dataclass(frozen=True)
class Placement:
    """One temporary: where it lies and from which phase to which."""

    buffer: Buffer
    offset: int
    nbytes: int
    born: int
    dies: int


@dataclass(frozen=True)
class MemoryPlan:
    """The arena for one value of every named dim."""

    placements: tuple[Placement, ...]
    arena_bytes: int
    unplanned_bytes: int
    """What the temporaries would take side by side."""
    slot_bytes: int
    peak_phase: int
    working_bytes: int = 0
    """What kernels keep for themselves while they run, on all threads."""
    unplanned: Size = 0
    """Temporaries side by side as a polynomial of the named dims (without alignment), for any value of them."""

    def __str__(self) -> str:
        def mb(n: int) -> str:
            return f"{n / 2**20:.2f} MB" if n >= 2**20 else f"{n / 1024:.1f} KB"

        return (
            f"arena {mb(self.arena_bytes)} for {len(self.placements)} temporaries (unplanned {mb(self.unplanned_bytes)}), "
            f"kernels' own {mb(self.working_bytes)}, parameters and state {mb(self.slot_bytes)}, peak in phase {self.peak_phase}; unplanned for any size: {self.unplanned} bytes"
        )


def lifetimes(schedule: Schedule) -> dict[Buffer, tuple[int, int]]:
    """First and last phase of every temporary. Inside a repeat a buffer lives through all of it: the next trip needs it."""
    span: dict[Buffer, tuple[int, int]] = {}

    def touch(b: Buffer, low: int, high: int) -> None:
        if b.space == "temp":
            old = span.get(b, (low, high))
            span[b] = (min(low, old[0]), max(high, old[1]))

    def walk(items: list[Launch | Check | Repeat], whole: tuple[int, int] | None) -> None:
        for item in items:
            low, high = whole or (item.phase, item.phase)
            if isinstance(item, Launch):
                for b in (*item.reads, *item.writes):
                    touch(b, low, high)
            elif isinstance(item, Check):
                touch(item.buffer, low, high)
            else:
                walk(item.body, whole or (_first_phase(item), item.phase))

    walk(schedule.items, None)
    return span


def _first_phase(item: Launch | Check | Repeat) -> int:
    return min([item.phase, *map(_first_phase, item.body)]) if isinstance(item, Repeat) else item.phase


def plan_memory(schedule: Schedule, dims: Mapping[str, int]) -> MemoryPlan:
    """Places the largest temporaries first, each at the lowest offset that no neighbour in time covers."""
    span = lifetimes(schedule)
    sized = [(b, _round(evaluate(b.nbytes, dims) + SLACK), *life) for b, life in span.items()]
    order = sorted(sized, key=lambda t: (-t[1], t[2], t[0].name, t[3]))
    placed: list[Placement] = []
    count = len(order)
    offsets, sizes, births, deaths = (np.zeros(count, np.int64) for _ in range(4))
    for k, (b, nbytes, born, dies) in enumerate(order):
        offset = 0
        near = np.flatnonzero((births[:k] <= dies) & (deaths[:k] >= born))
        for i in near[np.argsort(offsets[near], kind="stable")]:
            if offset + nbytes <= offsets[i]:
                break
            offset = max(offset, int(offsets[i] + sizes[i]))
        offsets[k], sizes[k], births[k], deaths[k] = offset, nbytes, born, dies
        placed.append(Placement(b, offset, nbytes, born, dies))
    change = np.zeros(int(deaths.max(initial=0)) + 2, np.int64)
    np.add.at(change, births, sizes)
    np.add.at(change, deaths + 1, -sizes)
    slots = {b.name: evaluate(b.nbytes, dims) for b in schedule.buffers.values() if b.space == "slot"}
    return MemoryPlan(
        tuple(placed),
        max((p.offset + p.nbytes for p in placed), default=0),
        sum(p.nbytes for p in placed),
        sum(slots.values()),
        int(np.argmax(np.cumsum(change))),
        unplanned=sum((b.nbytes for b in span), start=0),
    )


def _round(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT

