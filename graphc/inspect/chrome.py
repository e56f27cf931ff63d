"""Profiles in Chrome's trace format, which https://ui.perfetto.dev and chrome://tracing open."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .measured import ProgramProfile

__all__ = ["chrome_events"]

MOST = 100_000
"""Launches of each program that a trace has at most: those of the last runs."""


def chrome_events(programs: Sequence[ProgramProfile]) -> dict[str, Any]:
    """A trace, times in microseconds: a row a thread, and on it programs, their kernels, and the waiting at barriers.

    Programs share the rows of the threads, unless several callers ran at once: then each has rows of its own.
    """
    lists = [(p, runs) for p in programs for runs in (p.measured.main, p.measured.prepare) if runs is not None]
    begin = min((int(runs.spans[..., 0].min()) for _, runs in lists), default=0)
    spans = sorted((int(a), int(b)) for _, runs in lists for a, b in runs.spans[0])
    apart = any(later < end for (_, end), (later, _) in pairwise(spans))
    events: list[dict[str, Any]] = []
    rows: dict[tuple[int, int], str] = {}

    def add(name: str, kind: str, row: tuple[int, int], start: int, end: int, **args: Any) -> None:
        pid, tid = row
        events.append({"name": name, "ph": "X", "cat": kind, "pid": pid, "tid": tid, "ts": (start - begin) / 1e3, "dur": (end - start) / 1e3, "args": args})

    for number, (p, runs) in enumerate(lists):
        pid = number if apart else 0
        rows |= {(pid, thread): p.name if apart else "graphc" for thread in range(p.threads)}
        about = {t.launch: t for t in p.launches}
        kept = len(runs.whole)
        for run in range(max(0, kept - max(1, MOST // (len(runs.launches) * p.threads + 1))), kept):
            for thread in range(p.threads):
                add(p.name, "program", (pid, thread), *map(int, runs.spans[thread, run]), **p.dims)
                for launch, (a, b) in zip(runs.launches, runs.times[thread, run], strict=True):
                    t = about[int(launch)]
                    add(t.name, t.kind, (pid, thread), int(a), int(b), kernel=t.kernel, operations=t.flops, bytes=t.bytes, lines=list(t.lines[:4]))
            for thread, a, b in runs.waiting(run):
                add("barrier", "barrier", (pid, thread), a, b)
    for (pid, tid), name in rows.items():
        caller = " (the caller's)" if not tid else ""
        events.append({"name": "process_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}})
        events.append({"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": f"thread {tid}{caller}"}})
    return {"traceEvents": events, "displayTimeUnit": "ns"}
