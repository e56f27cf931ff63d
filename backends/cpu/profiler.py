"""Measures what runs, kernel by kernel and thread by thread: the backend's half of ``gc.profile``.

A measured program runs another launch list, in which every kernel is called through ``machine/timed_code.py``. It hangs in the same
descriptor, so every way into the program (also the compiled entry of small ones) takes it, and nothing of it is left afterwards:
a program that is not measured has no branch for it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.dims import evaluate
from graphc.ir.living import Living
from graphc.runtime.interrupts import no_interrupts
from graphc.runtime.memory import aligned_empty
from graphc.schedule.launches import Launch

from .machine import driver_words as w
from .machine.cache import default_cache
from .machine.pool import LaunchList
from .packing import LoadedProgram

if TYPE_CHECKING:
    from graphc.inspect.measured import Measurement, Runs

    from .binding import Binding
    from .executable import CpuExecutable

__all__ = ["EXECUTABLES", "Profiler", "Recorder", "measure_too", "measuring"]

EXECUTABLES: Living[CpuExecutable] = Living()
"""All executables that are alive."""
NEXT, RUN, RUNS, FIRST, BYTES, PLACES = range(6)
"""Words of a thread's block, as in timed_code.py."""
BEGIN, END = 0, 1
BLOCK = 128
"""Bytes of a block: processors fetch two cache lines at a time."""
KEPT_BYTES = 8 << 20
"""Memory for the times of one thread of one program: the last runs that fit are kept."""
KEPT_RUNS = 4096

_one = threading.Lock()
_running: Profiler | None = None


@cache
def _timed() -> int:
    """The address of the measuring kernel."""
    return default_cache().get([(Path(__file__).parent / "machine" / "timed_code.py").read_text()])[0].address


def measuring() -> bool:
    """Whether programs are measured now."""
    return _running is not None


def measure_too(binding: Binding, lock: Any) -> None:
    """Called for each new binding, with its executable's lock."""
    running = _running
    if running is not None:
        running.attach(binding, lock)


def _calls(rows: list[list[int]]) -> Iterator[tuple[int, bool]]:
    """The calls of one run, as driver_code walks the list: (the number of the call's row among the calls, whether all threads met
    since the last one). A last pair, with -1, stands for the end."""
    numbers: dict[int, int] = {}
    for i, row in enumerate(rows):
        if row[0] == w.CALL:
            numbers[i] = len(numbers)
    stack: list[list[int]] = []
    i, met = 0, False
    while i < len(rows):
        row = rows[i]
        if row[0] == w.CALL:
            yield numbers[i], met
            met = False
        elif row[0] == w.LOOP:
            trips = ctypes.c_int64.from_address(row[1]).value
            if trips <= 0:
                i = row[2]
            else:
                stack.append([i, trips])
        elif row[0] == w.ENDLOOP:
            stack[-1][1] -= 1
            if stack[-1][1] > 0:
                i = stack[-1][0]
            else:
                stack.pop()
        else:
            met = True  # a barrier, or a check, where threads meet too
        i += 1
    yield -1, met


class Recorder:
    """The measured form of one launch list, and the times that its runs write."""

    def __init__(self, program: LaunchList, launches: list[int]):
        self.program = program
        walked = list(_calls(program.rows))
        self.launches = np.array([launches[number] for number, _ in walked[:-1]], np.int64)
        self.met = np.array([met for _, met in walked]) & (program.nthreads > 1)
        run = 16 * len(walked)  # two times for each call, and two for the run
        self.places = 1 + max(1, min(KEPT_RUNS, KEPT_BYTES // run))  # one more: the place of the run that goes on, or was broken off
        self.times = np.empty((program.nthreads, self.places, len(walked), 2), np.int64)
        self.threads = aligned_empty(program.nthreads * BLOCK // 8, np.int64).reshape(program.nthreads, -1)
        self.threads.fill(0)
        first = [int(self.times[t].ctypes.data) for t in range(program.nthreads)]
        self.threads[:, [RUN, FIRST]] = np.array([first, first]).T
        self.threads[:, BYTES], self.threads[:, PLACES] = run, self.places
        self.keep: list[np.ndarray] = []
        rows = [self._row(0, BEGIN)]
        for row in program.rows:
            rows.append(self._row(*row[1:4]) if row[0] == w.CALL else [row[0], row[1], row[2] + 1] if row[0] == w.LOOP else row)
        rows.append(self._row(0, END))
        self.table = np.zeros((len(rows), 8), np.int64)
        for i, row in enumerate(rows):
            self.table[i, : len(row)] = row
        self.plain = program.descriptor[[w.ROWS, w.NROWS]].copy()

    def _row(self, kernel: int, args: int, turn: int = 0) -> list[int]:
        block = np.array([kernel, args, self.threads.ctypes.data, turn], np.int64)
        self.keep.append(block)
        return [w.CALL, _timed(), block.ctypes.data]

    def attach(self) -> None:
        self.program.descriptor[[w.ROWS, w.NROWS]] = self.table.ctypes.data, len(self.table)

    def detach(self) -> None:
        self.program.descriptor[[w.ROWS, w.NROWS]] = self.plain

    def runs(self) -> Runs | None:
        """The whole runs that are kept, oldest first; None where there was none."""
        from graphc.inspect.measured import Runs

        count = int(self.threads[:, RUNS].min())
        kept = min(count, self.places - 1)
        if not kept:
            return None
        times = self.times[:, [i % self.places for i in range(count - kept, count)]]
        return Runs(count, times[:, :, 0], times[:, :, 1:], self.launches, self.met)


class Profiler:
    """Measures all programs of this process between :meth:`start` and :meth:`stop`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.mine = self.ended = False
        self.found: dict[int, tuple[Binding, Any, list[Recorder | None]]] = {}
        self.measured: list[Measurement] = []

    def start(self) -> None:
        """Raises ArgumentError where another one measures."""
        global _running
        try:
            with no_interrupts():
                self.mine = _one.acquire(blocking=False)
                if not self.mine:
                    raise ArgumentError("a profile inside of another one, or beside another thread's", hint="one gc.profile() at a time: it measures the whole process")
                _timed()
                _running = self
                for executable in EXECUTABLES:
                    with executable.lock:
                        for binding in executable.bindings():
                            self.attach(binding, executable.lock)
        except BaseException:
            self.stop()
            raise

    def attach(self, binding: Binding, lock: Any) -> None:
        """Measures a binding from its next run on; called with its executable's lock."""
        with self.lock:
            if self.ended or id(binding) in self.found or isinstance(binding.program, LoadedProgram):  # the last began when this one did
                return
            launches = binding.program.schedule.launches()
            once = {i for i in binding.program.schedule.items if isinstance(i, Launch) and i.static}
            made: list[Recorder | None] = []
            for program, static in ((binding.main, False), (binding.prepare, True)):
                made.append(None if program is None else Recorder(program, [i for i, launch in enumerate(launches) if (launch in once) == static]))
            self.found[id(binding)] = binding, lock, made
            for recorder in made:
                if recorder is not None:
                    recorder.attach()

    def stop(self) -> None:
        """Every program runs as before; ``measured`` has what was measured."""
        global _running
        with no_interrupts():
            if not self.mine:
                return
            _running = None
            with self.lock:
                self.ended = True
            for _, lock, made in self.found.values():
                with lock:
                    for recorder in made:
                        if recorder is not None:
                            recorder.detach()
            self.measured = [m for binding, _, made in self.found.values() if (m := self._measured(binding, made)) is not None]
            self.found.clear()
            self.mine = False
            _one.release()

    def _measured(self, binding: Binding, made: list[Recorder | None]) -> Measurement | None:
        main, prepare = (None if r is None else r.runs() for r in made)
        if main is None and prepare is None:
            return None
        from graphc.inspect.measured import Measurement

        program = binding.program
        names = [program.kernels[launch].kernel.name for launch in program.schedule.launches()]
        touched = {(b.space, b.name, b.node): b for launch in program.schedule.launches() for b in (*launch.reads, *launch.writes) if b.space != "temp"}
        footprint = binding.plan.arena_bytes + sum(evaluate(b.nbytes, binding.dims) for b in touched.values())
        return Measurement(program.schedule, names, dict(binding.dims), binding.nthreads, footprint, main, prepare)
