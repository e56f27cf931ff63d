"""Threads that run launch lists: Python threads parked inside compiled code.

A worker spins for some 20 us after a run, then yields its core between looks, then parks on a Python lock and costs
nothing. One program runs at a time; a fork starts with fresh threads.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from graphc.errors import CompileError, DeviceUnavailableError, SettingError
from graphc.runtime.limits import cpu_quota
from graphc.runtime.locks import RUNNING, held_for_forks

from . import driver_words as w
from .cache import default_cache
from .elf import keep_for_good

__all__ = ["LaunchList", "Pool", "default_threads", "driver_entry", "driver_text", "get_pool", "small_work", "use_driver"]

PATIENCE = 3000
MAX_DEPTH = 16
"""Nested loops that a thread's scratch (64 words, 4 a loop) has room for."""


def default_threads() -> int:
    """Threads of a program that is compiled now: the least of CPU affinity, the container's quota and GRAPHC_THREADS."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    if quota is not None:
        count = min(count, int(quota))
    asked = os.environ.get("GRAPHC_THREADS", "")
    if asked:
        if not asked.isdigit() or int(asked) < 1:
            raise SettingError(f"GRAPHC_THREADS={asked!r} is not a number of threads", hint="GRAPHC_THREADS=2, or nothing for all that there are")
        count = min(count, int(asked))
    return max(count, 1)


def small_work() -> int:
    """Scalar operations of a run up to which a second thread does not pay: GRAPHC_SMALL_WORK, else 200,000 (0: it always does)."""
    asked = os.environ.get("GRAPHC_SMALL_WORK", "")
    if asked and not asked.isdigit():
        raise SettingError(f"GRAPHC_SMALL_WORK={asked!r} is not a number of operations", hint="GRAPHC_SMALL_WORK=0 runs the smallest programs on all threads too")
    return int(asked) if asked else 200_000


@cache
def driver_text() -> str:
    """The kernel text of the driver."""
    return (Path(__file__).parent / "driver_code.py").read_text()


def driver_entry() -> int:
    """The address of the driver."""
    global _driver
    if not _driver:
        _driver = default_cache().get([driver_text()])[0].address
    return _driver


def use_driver(address: int, memory: Any) -> None:
    """Takes a driver that came with a bundle, and keeps the memory that it lies in, unless there is one."""
    global _driver
    if not _driver:
        keep_for_good(memory)
        _driver = address


_driver = 0


class LaunchList:
    """A program for the driver. Build it with the ``add_*`` methods, then :meth:`finish`."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.keep: list[np.ndarray] = []
        self._open: list[int] = []

    def add_call(self, address: int, args: np.ndarray, turn: int = 0) -> None:
        """A kernel of which thread t does the share of thread ``(t + turn) % nthreads``."""
        self.keep.append(args)
        self.rows.append([w.CALL, address, args.ctypes.data, turn])

    def add_barrier(self) -> None:
        self.rows.append([w.BARRIER])

    def add_loop(self, trips: np.ndarray) -> None:
        """Repeats the rows up to the matching :meth:`end_loop`; ``trips`` is an int64 word read at every run."""
        self.keep.append(trips)
        self._open.append(len(self.rows))
        self.rows.append([w.LOOP, trips.ctypes.data, 0])
        if len(self._open) > MAX_DEPTH:
            raise ValueError(f"loops of a program nest deeper than {MAX_DEPTH}")

    def end_loop(self) -> None:
        if not self._open:
            raise ValueError("end_loop without a loop")
        self.rows[self._open.pop()][2] = len(self.rows)
        self.rows.append([w.ENDLOOP])

    def add_check(self, where: np.ndarray, itemsize: int) -> None:
        """Ends the run where a float is not finite; ``where`` is a block whose first word is the float's address."""
        self.keep.append(where)
        self.rows.append([w.CHECK_F32 if itemsize == 4 else w.CHECK_F64, where.ctypes.data])

    def finish(self, patches: list[tuple[int, int, int]], io_count: int, nthreads: int) -> None:
        """``patches``: (address of a word, io number, byte offset); before each run the word becomes io + offset."""
        if self._open:
            raise ValueError("a loop of the program has no end")
        self.nthreads = nthreads
        self.table = np.zeros((max(len(self.rows), 1), 8), np.int64)
        for i, row in enumerate(self.rows):
            self.table[i, : len(row)] = row
        self.patch_table = np.array(patches or [(0, 0, 0)], np.int64)
        self.io = (ctypes.c_int64 * max(io_count, 1))()
        self.scratch = np.zeros(64 * nthreads, np.int64)
        self.descriptor = np.zeros(8, np.int64)
        self.descriptor[:7] = (
            self.table.ctypes.data,
            len(self.rows),
            self.patch_table.ctypes.data,
            len(patches),
            ctypes.addressof(self.io),
            0,
            self.scratch.ctypes.data,
        )
        self.address = self.descriptor.ctypes.data
        self.word = ctypes.c_int64(self.address)
        self._status = (ctypes.c_int64 * 8).from_address(self.address)
        self._calls: dict[bool, Callable[[], int]] = {}

    @property
    def barriers(self) -> int:
        return sum(r[0] == w.BARRIER for r in self.rows)

    def run(self, *, short: bool = False) -> int:
        """Runs the program; 0, or 1 + the row of the check that ended it. ``short`` keeps the GIL (one thread only)."""
        if self.nthreads == 1:
            call = self._calls.get(short)
            if call is None:
                kind = ctypes.PYFUNCTYPE if short else ctypes.CFUNCTYPE
                call = self._calls[short] = partial(
                    kind(ctypes.c_int32)(driver_entry()), *_leading(0, 1, _NOWHERE), self.word
                )
            call()
        else:
            get_pool(self.nthreads).run(self)
        status = self._status[_STATUS]
        if status < 0:
            raise CompileError(f"the kernel of row {-status - 1} of the launch list raised an exception")
        return status


_STATUS = w.STATUS
_nothing = (ctypes.c_int64 * 4)()
_NOWHERE = ctypes.addressof(_nothing)
"""Where calls leave a result and an exception that nobody reads."""


def _leading(tid: int, nthreads: int, control: int) -> tuple[Any, ...]:
    """All but the last argument of a driver entry, converted once: ctypes would take 0.3 us for it at every call."""
    nowhere = ctypes.c_void_p(_NOWHERE)
    return (nowhere, nowhere, ctypes.c_int64(tid), ctypes.c_int64(nthreads), ctypes.c_void_p(control))


class Pool:
    """``n`` threads, this one included."""

    def __init__(self, n: int):
        self.n = n
        self._drive = ctypes.CFUNCTYPE(ctypes.c_int32)(driver_entry())
        words = w.SEEN + 8 * (n + 1)
        self._memory = np.zeros(words + 8, np.int64)
        skip = (-self._memory.ctypes.data % 64) // 8
        self.control = (ctypes.c_int64 * words).from_address(self._memory.ctypes.data + 8 * skip)
        self._control_address = ctypes.addressof(self.control)
        self.lock = threading.Lock()
        self.ended = False
        self._start = partial(self._drive, *_leading(0, n, self._control_address))
        self.parked = [False] * n
        self.wake = [threading.Lock() for _ in range(n)]  # a plain lock wakes faster than a semaphore
        for lock in self.wake:
            lock.acquire()
        self.threads = [
            threading.Thread(target=self._live, args=(t,), daemon=True, name=f"graphc-{t}") for t in range(1, n)
        ]
        try:
            for t in self.threads:
                t.start()
        except BaseException as e:
            self.stop()
            if isinstance(e, (RuntimeError, MemoryError)):  # what Python says where the system gives no more threads
                raise DeviceUnavailableError(f"{n - 1} worker threads cannot be started: {e}", hint="GRAPHC_THREADS=1") from None
            raise
        self.cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.taken: dict[int, int] = {}
        if len(self.cpus) >= n:
            for tid in range(1, n):
                self._bind(tid, self.cpus[tid])

    def _live(self, tid: int) -> None:
        c = self.control
        work = partial(self._drive, *_leading(tid, self.n, self._control_address), ctypes.c_int64(PATIENCE))
        while not c[w.STOP]:
            work()
            # between this line and the look at CALLING the interpreter lock orders us with run(): no wake-up is lost
            self.parked[tid] = True
            if c[w.GO] == c[w.SEEN + 8 * tid] and not c[w.STOP] and not c[w.CALLING]:
                self.wake[tid].acquire()
            self.parked[tid] = False

    def run(self, program: LaunchList) -> None:
        with self.lock:
            if self.ended:
                raise SystemExit  # in a daemon thread of an interpreter that ends: the thread ends too, quietly and without locks
            c = self.control
            try:
                c[w.CALLING] = 1  # from here on nobody parks; an interrupt before the start leaves no run half begun
                for tid in range(1, self.n):
                    if self.parked[tid] and self.wake[tid].locked():
                        self.wake[tid].release()
                self._start(program.word)
            finally:
                c[w.CALLING] = 0
            if c[w.CPU] in self.taken and len(self.cpus) >= self.n:
                self._move_away(c[w.CPU])

    def _move_away(self, cpu: int) -> None:
        """A worker sits on the caller's CPU (schedulers may leave two spinning threads on one for seconds): it moves.

        Workers are bound to one CPU each, and the caller stays free: wherever it goes, the worker there makes room.
        """
        free = [x for x in self.cpus if x != cpu and x not in self.taken]
        tid = self.taken.pop(cpu, 0)
        if tid and free:
            self._bind(tid, free[0])

    def _bind(self, tid: int, cpu: int) -> None:
        try:
            os.sched_setaffinity(self.threads[tid - 1].native_id or 0, {cpu})
            self.taken[cpu] = tid
        except (OSError, AttributeError):
            self.cpus = []  # not allowed here: leave placement to the system

    def stop(self) -> None:
        """Ends the threads."""
        self.control[w.STOP] = 1
        for lock in self.wake:
            with suppress(RuntimeError):  # not locked: its thread is up
                lock.release()


_pools: dict[int, Pool] = {}
_pools_lock = held_for_forks(threading.RLock(), RUNNING)
_ended = threading.Event()


def get_pool(n: int) -> Pool:
    """The process's pool of ``n`` threads."""
    pool = _pools.get(n)
    if pool is None:
        if _ended.is_set() and threading.current_thread() is not threading.main_thread():
            raise SystemExit
        with _pools_lock:
            pool = _pools.get(n)
            if pool is None:
                pool = _pools[n] = Pool(n)
    return pool


@atexit.register
def _stop_all() -> None:
    """Ends the worker threads. A daemon thread's run ends first, and the thread with its next one.

    Whoever predicts in an exit handler of its own, in the main thread, gets a new pool.
    """
    _ended.set()
    pools = list(_pools.values())
    _pools.clear()
    for p in pools:
        free = p.lock.acquire(timeout=1.0)
        p.ended = True
        p.stop()
        if free:
            p.lock.release()
    for p in pools:
        for t in p.threads:
            t.join(1.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # the child has no worker threads: it starts its own when it needs them
