"""``gc.profile``: where the time of compiled programs goes, launch by launch.

A backend measures (:class:`Measurement`: when every launch began and ended, on each thread); this makes sense of it: times, shares,
the work of :mod:`.cost` against the machine's limits, the user's lines, and the record that reports take (:mod:`.profile`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from ..ir.dims import evaluate
from ..locate import public
from .chrome import chrome_events
from .cost import cost_of, flops, show_amount

if TYPE_CHECKING:
    from ..schedule.launches import Schedule

__all__ = ["LaunchTime", "Measurement", "Profile", "ProgramProfile", "Runs", "profile"]

TIMELINE = 4000
"""Launches of one run that a report's timeline has at most."""
SHOWN = 24
"""Launches of a program that are printed."""


# -- what a backend measures -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Runs:
    """The runs of a launch list that were kept, in nanoseconds of ``time.monotonic_ns``."""

    count: int
    """Runs in all; the kept ones are the last of them."""
    spans: np.ndarray
    """(threads, runs, 2): when each thread began and ended its part."""
    times: np.ndarray
    """(threads, runs, calls, 2): when each call of a kernel began and ended."""
    launches: np.ndarray
    """(calls,): the launch of each call, by its place in the schedule."""
    met: np.ndarray
    """(calls + 1,): whether the threads met before the call; the last one: before the end."""

    @cached_property
    def whole(self) -> np.ndarray:
        """Nanoseconds of each run, from the first thread's beginning to the last one's end."""
        return np.asarray(self.spans[:, :, 1].max(0) - self.spans[:, :, 0].min(0))

    @cached_property
    def usual(self) -> int:
        """The run whose time is the median."""
        return int(np.argsort(self.whole, kind="stable")[len(self.whole) // 2])

    def seconds(self, launch: int) -> tuple[float, list[float]] | None:
        """Median seconds of a launch in a run, all trips together: of the slowest thread, and of each; None if it did not run."""
        calls = self.launches == launch
        if not calls.any():
            return None
        spent = self.times[:, :, calls, 1] - self.times[:, :, calls, 0]
        slowest = float(np.median(spent.max(0).sum(1))) / 1e9
        return slowest, [float(m) / 1e9 for m in np.median(spent.sum(2), axis=1)]

    def waits(self) -> np.ndarray:
        """(threads, runs): nanoseconds that each thread waited for others."""
        edges = self._edges()
        gaps = edges[:, :, 1:, 0] - edges[:, :, :-1, 1]
        return np.asarray(gaps[:, :, self.met].sum(2))

    def busy(self) -> np.ndarray:
        """(threads, runs): nanoseconds in kernels."""
        return np.asarray((self.times[..., 1] - self.times[..., 0]).sum(2))

    def waiting(self, run: int) -> list[tuple[int, int, int]]:
        """(thread, from, to) of every wait of one run."""
        edges = self._edges()[:, run]
        at = np.flatnonzero(self.met)
        return [(t, int(edges[t, i, 1]), int(edges[t, i + 1, 0])) for t in range(len(edges)) for i in at]

    def _edges(self) -> np.ndarray:
        """The calls, with the beginning and the end of a thread's part around them."""
        first, last = self.spans[:, :, None, :1], self.spans[:, :, None, 1:]
        return np.concatenate([first.repeat(2, -1), self.times, last.repeat(2, -1)], axis=2)


@dataclass(frozen=True)
class Measurement:
    """What a backend measured of one program, for one value of every named dim."""

    schedule: Schedule
    kernels: Sequence[str]
    """The name of each launch's kernel."""
    dims: Mapping[str, int]
    threads: int
    footprint: int
    """Bytes of all that a run touches."""
    main: Runs | None
    prepare: Runs | None
    """Launches that run again only when parameters change."""


# -- what it says ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LaunchTime:
    """One launch of a program. Times are medians over the runs, of the slowest thread, all trips of a loop together."""

    launch: int
    """Its place in the schedule."""
    name: str
    kernel: str
    kind: str
    seconds: float
    share: float
    """Of the time in all launches of the program."""
    runs: int
    """Runs inside of the block that had it: all of the program's, unless it runs only when parameters change."""
    calls: int
    """How often it was called inside of the block, trips of loops counted."""
    flops: int
    """Operations of a run."""
    bytes: int
    """Bytes that a run reads and writes."""
    least: float
    """Seconds that the machine's limits allow: the larger of those for the operations and for the bytes."""
    bound: str
    """Which of the two it is: "compute" or "memory"."""
    lines: tuple[str, ...]
    """The user's lines, ``file:line  text``, first those of its largest operator."""
    threads: tuple[float, ...]
    """Seconds of each thread."""

    @property
    def flops_per_second(self) -> float:
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def limit(self) -> float:
        """The least time over the time: 1 is the roofline."""
        return self.least / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        fields = ("launch", "name", "kernel", "kind", "seconds", "share", "runs", "calls", "flops", "bytes", "flops_per_second", "bytes_per_second", "limit", "bound")
        return {name: getattr(self, name) for name in fields} | {"lines": list(self.lines), "threads": list(self.threads)}


class ProgramProfile:
    """One program of a profile, at one value of every named dim."""

    def __init__(self, measured: Measurement, limits: Any):
        self.measured = measured
        self.schedule = measured.schedule
        self.name: str = measured.schedule.graph.name
        self.dims, self.threads = dict(measured.dims), measured.threads
        self.machine: dict[str, float] = limits.of(measured.footprint)
        """The limits that its launches are held against: ``flops_per_second`` (float32) and ``bytes_per_second``."""
        self.level: str = limits.level(measured.footprint).name
        """Where the bytes come from: the smallest cache that holds all that a run touches, or memory."""

    @property
    def runs(self) -> int:
        """How often it ran inside of the block."""
        return self.measured.main.count if self.measured.main is not None else 0

    @cached_property
    def seconds(self) -> float:
        """Median seconds of a run."""
        return float(np.median(self.measured.main.whole)) / 1e9 if self.measured.main is not None else 0.0

    @property
    def total(self) -> float:
        """Seconds of all runs (as far as they were kept, the others as the mean of those)."""
        main = self.measured.main
        return float(main.whole.mean()) * main.count / 1e9 if main is not None else 0.0

    @cached_property
    def busy(self) -> float:
        """The part of the threads' time that is spent in kernels; median over the runs."""
        return self._part("busy")

    @cached_property
    def waiting(self) -> float:
        """The part of the threads' time that is spent waiting for each other; median over the runs."""
        return self._part("waits")

    def _part(self, what: str) -> float:
        main = self.measured.main
        return float(np.median(getattr(main, what)().sum(0) / (np.maximum(main.whole, 1) * self.threads))) if main is not None else 0.0

    @cached_property
    def launches(self) -> list[LaunchTime]:
        """What was measured, most time first. Launches that run only when parameters change are there if they ran."""
        costs = cost_of(self.schedule, self.dims).kernels
        found = []
        for i, (launch, cost) in enumerate(zip(self.schedule.launches(), costs, strict=True)):
            for runs in (self.measured.main, self.measured.prepare):
                spent = runs.seconds(i) if runs is not None else None
                if runs is not None and spent is not None:
                    found.append((i, launch, cost, spent, runs.count))
        whole = sum(spent[0] * count for *_, spent, count in found) or 1.0
        out = []
        for i, launch, cost, (seconds, threads), count in found:
            work, moved = cost.flops * cost.times, cost.bytes * cost.times
            by_work, by_bytes = work / self.machine["flops_per_second"] * _slower(launch), moved / self.machine["bytes_per_second"]
            out.append(LaunchTime(
                i, cost.name, self.measured.kernels[i], cost.kind, seconds, seconds * count / whole, count, count * cost.times, work, moved,
                max(by_work, by_bytes), "compute" if by_work > by_bytes else "memory", self._lines(launch), tuple(threads),
            ))  # fmt: skip
        return sorted(out, key=lambda t: -t.share)

    def _lines(self, launch: Any) -> tuple[str, ...]:
        provenance = self.schedule.graph.provenance
        most = sorted(launch.nest.nodes, key=lambda n: -evaluate(flops(n), self.dims))
        found = dict.fromkeys(loc for n in most for loc in sorted(provenance.locs(n)))
        return tuple(f"{loc}  {loc.text.strip()}" for loc in found)

    def record(self) -> dict[str, Any]:
        """The record that reports and summaries take (see :mod:`graphc.inspect.profile`); of a program that ran."""
        seconds: list[float | None] = [None] * len(self.measured.kernels)
        for t in self.launches:
            seconds[t.launch] = t.seconds * t.runs / self.runs  # what is prepared for several runs: a run's part of it
        out = {"launches": seconds, "runs": self.runs, "threads": self.threads, "dims": self.dims, "machine": dict(self.machine)}
        main = self.measured.main
        if main is not None:
            run = main.usual
            start, calls = int(main.spans[:, run, 0].min()), main.times[:, run, : TIMELINE // self.threads]
            end = int(calls[..., 1].max(initial=start))
            out["timeline"] = [
                {"launch": int(launch), "thread": t, "start": (int(a) - start) / 1e9, "end": (int(b) - start) / 1e9}
                for t in range(self.threads)
                for launch, (a, b) in zip(main.launches, calls[t], strict=False)
            ]
            out["barriers"] = [
                {"thread": t, "start": (a - start) / 1e9, "end": (b - start) / 1e9} for t, a, b in main.waiting(run) if b > a and a <= end
            ]
        return out

    def as_dict(self) -> dict[str, Any]:
        """Everything as numbers, texts, lists and dicts."""
        return {
            "name": self.name, "dims": self.dims, "threads": self.threads, "runs": self.runs, "seconds": self.seconds, "total": self.total,
            "busy": self.busy, "waiting": self.waiting, "machine": dict(self.machine), "launches": [t.as_dict() for t in self.launches],
        }  # fmt: skip

    def title(self) -> str:
        sizes = "".join(f", {d} = {n}" for d, n in self.dims.items())
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        waiting = f", {100 * self.waiting:.0f} % waiting for each other" if self.threads > 1 else ""
        runs = f"{self.runs} run{'s' * (self.runs != 1)} of {show_seconds(self.seconds)}" if self.runs else "not run, only prepared"
        return f"{self.name}{sizes}: {runs} on {threads}; {100 * self.busy:.0f} % in kernels{waiting}"

    def limits(self) -> str:
        """The limits in words."""
        return (
            f"limits: {self.machine['flops_per_second'] / 1e9:.0f} GFLOP/s, {self.machine['bytes_per_second'] / 1e9:.0f} GB/s from {self.level} "
            f"(a run touches {_megabytes(self.measured.footprint)} MB)"
        )

    def rows(self, most: int | None = None) -> list[list[str]]:
        """The launches as cells of a table: see :data:`COLUMNS`."""
        out = []
        for t in self.launches[:most]:
            rates = [f"{t.flops_per_second / 1e9:.1f}" if t.flops else "", f"{t.bytes_per_second / 1e9:.1f}", f"{100 * t.limit:.0f} %"]
            where = t.lines[0] + (f"  (+{len(t.lines) - 1})" if len(t.lines) > 1 else "") if t.lines else ""
            out.append([
                f"{100 * t.share:.1f} %", show_seconds(t.seconds), f"{t.calls}", show_amount(t.flops), _megabytes(t.bytes), *rates,
                t.bound, t.kernel, t.kind, t.name, where,
            ])  # fmt: skip
        return out

    def __str__(self) -> str:
        rows = self.rows(SHOWN)
        lines = [self.title(), self.limits(), *_aligned([list(COLUMNS), *([c if len(c) <= 60 else c[:59] + "…" for c in row] for row in rows)])]
        rest = self.launches[SHOWN:]
        if rest:
            lines.append(f"  and {len(rest)} more launches, {100 * sum(t.share for t in rest):.1f} % of the time")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<profile of {self.title()}>"

    def _repr_html_(self) -> str:
        return f"<div><b>{escape(self.title())}</b><div>{escape(self.limits())}</div>{_html_table(COLUMNS, self.rows())}</div>"


COLUMNS = ("share", "time", "calls", "operations", "MB", "GFLOP/s", "GB/s", "of limit", "bound", "kernel", "kind", "computes", "line")
TEXTS = 5
"""Columns at the end that hold words."""


class Profile:
    """What ``gc.profile()`` gives: measures inside of its ``with`` block, and can be read behind it.

    ``programs`` are the measured ones, most time first; ``seconds`` is how long the block took. ``print(p)`` is a table,
    :meth:`as_dict` the same as data, :meth:`chrome_trace` a file for Perfetto; ``model.report("x.html", profile=p)`` and
    ``model.summary(profile=p)`` show the times where they belong.
    """

    def __init__(self, backend: Any):
        self._backend = backend
        self._profiler: Any = None
        self._measured: list[Measurement] | None = None
        self._began = 0.0
        self.seconds = 0.0

    def __enter__(self) -> Profile:
        if self._profiler is not None:
            raise ArgumentError("a profile measures one block", hint="with gc.profile() as p: makes a new one")
        profiler = self._backend.profiler()
        profiler.start()
        self._profiler, self._began = profiler, time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.seconds = time.perf_counter() - self._began
        try:
            self._profiler.stop()
        finally:  # Ctrl-C waits for the end of stop(), and comes out of it
            self._measured = self._profiler.measured

    @cached_property
    def programs(self) -> list[ProgramProfile]:
        """The programs that ran, most time first. The machine's limits are measured when they are first asked for (a second)."""
        if self._profiler is None:
            raise ArgumentError("the profile has measured nothing yet", hint="with gc.profile() as p: ..., then print(p)")
        if self._measured is None:
            raise ArgumentError("the profile is still measuring", hint="read it behind its with block")
        made = [ProgramProfile(m, self._backend.limits(m.threads)) for m in self._measured]
        return sorted(made, key=lambda p: -p.total)

    def of(self, program: Any) -> ProgramProfile | None:
        """The measurement of a compiled program (``model.executables["train_step"]``, ``function.executable``), of the sizes that took
        most time; None where it did not run."""
        return next((p for p in self.programs if p.runs and p.schedule is getattr(program, "schedule", None)), None)

    def as_dict(self) -> dict[str, Any]:
        """Everything as numbers, texts, lists and dicts: ``json.dumps`` takes it."""
        return {"seconds": self.seconds, "programs": [p.as_dict() for p in self.programs]}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes :meth:`as_dict` to a file."""
        Path(path).write_text(json.dumps(self.as_dict(), ensure_ascii=False, indent=1), encoding="utf-8", errors="backslashreplace")

    def chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes the last runs in Chrome's trace format, which https://ui.perfetto.dev opens: a row a thread, with programs, kernels
        and the waiting at barriers."""
        Path(path).write_text(json.dumps(chrome_events(self.programs), ensure_ascii=False), encoding="utf-8", errors="backslashreplace")

    def __str__(self) -> str:
        return "\n\n".join([self._head(), *map(str, self.programs)])

    def _head(self) -> str:
        if not self.programs:
            return f"nothing was measured: no program compiled for {self._backend.name} ran inside of the block"
        inside = sum(p.total for p in self.programs)
        return f"{show_seconds(self.seconds)} in the block, {show_seconds(inside)} ({100 * inside / self.seconds:.0f} %) in compiled programs"

    def __repr__(self) -> str:
        if self._measured is None:
            return f"<profile, {'measuring' if self._profiler is not None else 'not begun'}>"
        return f"<profile of {len(self._measured)} programs, {show_seconds(self.seconds)}>"

    def _repr_html_(self) -> str:
        return f"<div><div>{escape(self._head())}</div>{''.join(p._repr_html_() for p in self.programs)}</div>"


def profile(target: str = "cpu") -> Profile:
    """Measures every program of a target that runs inside of a ``with`` block, launch by launch and thread by thread.

    Programs that are compiled already take part, and so do those that are compiled inside; outside of the block nothing is
    measured, and costs nothing. Programs of the reference are not measured: NumPy runs them operator by operator.

    >>> import graphc as gc
    >>> f = gc.compile(lambda a, b: (a @ b).exp(), gc.spec("N", 8), gc.spec(8, 8))
    >>> with gc.profile() as p:
    ...     for _ in range(3):
    ...         _ = f([[0.5] * 8] * 4, [[0.25] * 8] * 8)
    >>> program = p.programs[0]
    >>> program.dims, program.runs, [t.kind for t in program.launches]
    ({'N': 4}, 3, ['contract'])
    """
    from ..compiler import find_backend

    backend = find_backend(target, {})
    if not hasattr(backend, "profiler"):
        raise ArgumentError(f"programs of {target} cannot be measured launch by launch", hint='target="cpu"')
    return Profile(backend)


# -- forms -----------------------------------------------------------------------------------------------------------------
def show_seconds(s: float) -> str:
    """Seconds in the unit that suits: ``12.3 us``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if s >= size:
            return f"{s / size:.3g} {unit}" if s / size < 1000 else f"{s / size:.0f} {unit}"
    return f"{s / 1e-9:.0f} ns"


def _megabytes(n: int) -> str:
    return f"{n / 1e6:.3g}" if n >= 1000 else "0"


def _slower(launch: Any) -> int:
    """How many float32 operations take the time of one of this launch's: vectors hold half as many float64."""
    return max([1, *(int(b.type.dtype.itemsize) // 4 for b in launch.writes if b.type.dtype.numpy.kind == "f")])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = len(widths) - TEXTS
    return ["  " + "  ".join(c.ljust(w) if i >= words else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    words = len(head) - TEXTS

    def line(tag: str, row: Sequence[str]) -> str:
        return "<tr>" + "".join(f'<{tag} style="text-align:{"left" if i >= words else "right"}">{escape(c)}</{tag}>' for i, c in enumerate(row)) + "</tr>"

    return f"<table><thead>{line('th', head)}</thead><tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"


public(globals())
