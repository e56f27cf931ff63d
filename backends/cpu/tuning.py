"""Measuring the walks of contractions, for ``gc.tune``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from graphc.inspect.measured import show_seconds
from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore
from graphc.schedule.program import Schedule

from . import measured_walks
from .binding import Binding
from .executable import CpuExecutable
from .machine_facts import Facts
from .printers.walks import WALKS, digest, legal, modelled, signature
from .program import Program

__all__ = ["GAIN", "Tuning", "WalkTimes", "tune"]

GAIN = 0.05
"""The part of a run's time that a walk must save to be kept."""
SAMPLE = 2e-3
"""Seconds of one sample at least: short runs are repeated."""
BUDGET = 0.5
"""Seconds of one race, about."""
ROUNDS = (7, 31)
"""Rounds of a race, at least and at most."""


@dataclass(frozen=True)
class WalkTimes:
    """One contraction, by its signature: median seconds of the whole program with each walk, and the one that is taken from now on."""

    digest: str
    signature: str
    lines: tuple[str, ...]
    """The user's lines that it comes from."""
    seconds: Mapping[str, float]
    default: str
    chosen: str


@dataclass(frozen=True)
class Tuning:
    """What ``gc.tune`` found; prints as a table. ``before`` and ``after`` are seconds of a run with the cost model's walks and the kept ones."""

    name: str
    threads: int
    rows: tuple[WalkTimes, ...]
    before: float
    after: float
    path: Path
    """The file that keeps the choices."""
    changed: bool
    """Whether programs that are compiled from now on get other walks than before."""

    def __str__(self) -> str:
        head = f"{self.name}, {self.threads} thread{'s' * (self.threads != 1)}: {show_seconds(self.before)} a run"
        kept = sum(r.chosen != r.default for r in self.rows)
        out = [f"{head}, {show_seconds(self.after)} with {kept} of {len(self.rows)} walks changed" if kept else f"{head}, no walk changed"]
        table: list[tuple[str, ...]] = [("contraction", *WALKS, "chosen", "lines")]
        for r in self.rows:
            times = (show_seconds(r.seconds[w]) if w in r.seconds else "-" for w in WALKS)
            was = f"{r.chosen} (not {r.default})" if r.chosen != r.default else r.chosen
            table.append((r.signature.partition(";")[0], *times, was, ", ".join(r.lines)))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        out += ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table if self.rows]
        return "\n".join(out)


def tune(graph: Graph, store: ParameterStore | None, inputs: Mapping[str, np.ndarray], **options: Any) -> Tuning:
    """Races every legal walk of each contraction against the cost model's, in whole runs on a copy of the store, and keeps those that
    save :data:`GAIN` of the time, one by one and together, in the table of this machine."""
    executable = CpuExecutable(graph, None if store is None else store.copy(), **options, walks={})
    executable(inputs)  # raises what a run raises
    base = executable.bindings()[-1]

    def run_of(walks: Mapping[str, str]) -> Callable[[], object]:
        binding = Binding(Program(executable.schedule, replace(executable.facts, walks=walks), executable.progress), base.dims, base.store, base.nthreads)
        return lambda: _run(binding, inputs, bool(graph.updates))

    usual = run_of({})
    rows = []
    for found in _contractions(executable.schedule, executable.facts):
        others = [w for w in legal(found.nest) if w != found.walk]
        seconds = race([usual, *(run_of({found.digest: w}) for w in others)])
        times = dict(zip([found.walk, *others], seconds, strict=True))
        best = min(times, key=lambda w: times[w].median)
        chosen = best if times[best].gains(times[found.walk], GAIN) else found.walk
        medians = {w: t.median for w, t in times.items()}
        rows.append(WalkTimes(found.digest, found.signature, found.lines, medians, found.walk, chosen))
    kept = {r.digest: r.chosen for r in rows if r.chosen != r.default}
    before, after = race([usual, run_of(kept)]) if kept else race([usual]) * 2
    if kept and not after.gains(before, GAIN):  # walks that gain one by one need not gain together
        rows, kept, after = [replace(r, chosen=r.default) for r in rows], {}, before
    table, threads = measured_walks.default_table(), executable.threads
    known = table.walks(threads)
    changed = any(known.get(r.digest) != kept.get(r.digest) for r in rows)
    if changed:
        table.keep(threads, {r.digest: (r.signature, kept.get(r.digest)) for r in rows})
    return Tuning(graph.name, threads, tuple(rows), before.median, after.median, table.path, changed)


@dataclass(frozen=True)
class _Contraction:
    digest: str
    signature: str
    nest: Any
    walk: str
    lines: tuple[str, ...]


def _contractions(schedule: Schedule, facts: Facts) -> list[_Contraction]:
    """The distinct contractions of a program that every run computes."""
    lines: dict[str, dict[str, None]] = {}
    nests: dict[str, Any] = {}
    for launch in schedule.launches():
        if launch.nest.contract is not None and not launch.static:
            text = signature(launch.nest, schedule.buffers, facts)
            nests.setdefault(text, launch.nest)
            here = {f"{Path(loc.file).name}:{loc.line}": None for n in launch.nest.nodes for loc in schedule.graph.provenance.locs(n)}
            lines.setdefault(text, {}).update(here)
    return [_Contraction(digest(text), text, nest, modelled(nest), tuple(lines[text])) for text, nest in nests.items()]


def _run(binding: Binding, inputs: Mapping[str, np.ndarray], trains: bool) -> None:
    if trains and binding.store is not None:
        binding.store.version += 1  # as a step of training does: what depends on parameters is made again
    binding.run(inputs)


@dataclass(frozen=True)
class Times:
    """Seconds of a run: of the usual one and of the best one."""

    median: float
    best: float

    def gains(self, other: Times, part: float) -> bool:
        """Whether the usual run and the best one both save so large a part: what disturbs a machine hardly ever disturbs both."""
        return self.median <= (1 - part) * other.median and self.best <= (1 - part) * other.best


def race(runs: Sequence[Callable[[], object]]) -> list[Times]:
    """The times of each, measured in turn in every round, so that what disturbs the machine disturbs all of them."""
    for run in runs:
        run()
    one = max(max(_timed(run, 1) for run in runs), 1e-7)
    repeats = ceil(SAMPLE / one)
    rounds = min(max(int(BUDGET / (one * repeats * len(runs))), ROUNDS[0]), ROUNDS[1])
    times: list[list[float]] = [[] for _ in runs]
    for i in range(rounds):
        for j in range(len(runs)):
            which = (i + j) % len(runs)
            times[which].append(_timed(runs[which], repeats))
    return [Times(median(t), min(t)) for t in times]


def _timed(run: Callable[[], object], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begin) / repeats
