"""The driver and its pool: loops, barriers, checks, patches, and everything that may happen to a process."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from graphc.backends.cpu.machine import driver_words
from graphc.backends.cpu.machine.cache import default_cache
from graphc.backends.cpu.machine.pool import LaunchList, default_threads, get_pool
from graphc.errors import CompileError, SettingError

HEAD = "from graphc.backends.cpu.machine.tiles import ptr_i64\n\n\ndef kernel(tid, nthreads, args, trip):\n"
MARK = "    out = ptr_i64(args[0])\n    out[tid] = out[tid] + 1\n"
# phase one: say how far this thread is; phase two, behind a barrier: look whether the others are as far
SAY = "    ptr_i64(args[0])[8 * tid] = trip + 1\n"
LOOK = """    said, wrong = ptr_i64(args[0]), ptr_i64(args[1])
    for t in range(nthreads):
        if said[8 * t] != trip + 1:
            wrong[tid] = wrong[tid] + 1
"""
TRACE = """    log = ptr_i64(args[0])
    if tid == 0:
        log[0] = log[0] + 1
        log[log[0]] = args[1] * 1000 + trip
"""
RAISE = "    if args[0] > 0:\n        raise ValueError('no')\n"
SPIN = "    out = ptr_i64(args[0])\n    for i in range(args[1]):\n        out[8 * tid] = out[8 * tid] * 3 + i\n"
THREADS = [1, 2, 3, 4, 8]


def address(body: str) -> int:
    return default_cache().get([HEAD + body])[0].address


def block(*words: np.ndarray | int) -> np.ndarray:
    return np.array([w.ctypes.data if isinstance(w, np.ndarray) else w for w in words], np.int64)


def marking(nthreads: int) -> tuple[LaunchList, np.ndarray]:
    out = np.zeros(nthreads, np.int64)
    program = LaunchList()
    program.add_call(address(MARK), block(out))
    program.finish([], 0, nthreads)
    return program, out


@pytest.mark.parametrize("nthreads", THREADS)
def test_every_thread_runs_every_call(nthreads: int) -> None:
    program, out = marking(nthreads)
    for _ in range(20):
        assert program.run() == 0
    assert out.tolist() == [20] * nthreads


def test_one_thread_may_keep_the_interpreter_lock() -> None:
    program, out = marking(1)
    assert program.run(short=True) == 0 and out[0] == 1


@pytest.mark.parametrize("nthreads", THREADS)
def test_barriers_order_the_threads(nthreads: int) -> None:
    said, wrong, trips = np.zeros(8 * nthreads, np.int64), np.zeros(nthreads, np.int64), np.array([500], np.int64)
    program = LaunchList()
    program.add_loop(trips)
    program.add_call(address(SAY), block(said))
    program.add_barrier()
    program.add_call(address(LOOK), block(said, wrong))
    program.add_barrier()
    program.end_loop()
    program.finish([], 0, nthreads)
    for _ in range(3):
        said[:] = 0
        program.run()
        assert not wrong.any() and (said[::8] == 500).all()


@pytest.mark.parametrize("nthreads", [1, 2])
def test_loops_nest_and_flatten_their_trips(nthreads: int) -> None:
    log = np.zeros(64, np.int64)
    outer, inner = np.array([3], np.int64), np.array([2], np.int64)
    program = LaunchList()
    call = lambda label: program.add_call(address(TRACE), block(log, label))
    program.add_loop(outer)
    call(1)
    program.add_loop(inner)
    call(2)
    program.end_loop()
    call(3)
    program.end_loop()
    call(4)
    program.finish([], 0, nthreads)

    def expected(n: int, m: int) -> list[int]:
        rows = [[1000 + i, *(2000 + i * m + j for j in range(m)), 3000 + i] for i in range(n)]
        return [*itertools.chain(*rows), 4000]

    for n, m in ((3, 2), (1, 1), (2, 0), (0, 5)):  # the counts are read at every run
        outer[0], inner[0] = n, m
        log[:] = 0
        program.run()
        assert log[1 : 1 + log[0]].tolist() == expected(n, m)


@pytest.mark.parametrize("nthreads", [1, 2, 4])
@pytest.mark.parametrize(("dtype", "bad"), [(np.float32, np.nan), (np.float32, -np.inf), (np.float64, np.inf)])
def test_a_value_that_is_not_finite_ends_the_run(nthreads: int, dtype: type, bad: float) -> None:
    loss, after = np.array([1.5], dtype), np.zeros(nthreads, np.int64)
    program = LaunchList()
    program.add_call(address(MARK), block(np.zeros(nthreads, np.int64)))
    program.rows.pop()  # a program may begin with its check
    program.add_check(block(loss), loss.itemsize)
    program.add_call(address(MARK), block(after))
    program.finish([], 0, nthreads)
    assert program.run() == 0 and (after == 1).all()
    loss[0] = bad
    assert program.run() == 1 and (after == 1).all()
    loss[0] = np.finfo(dtype).max
    assert program.run() == 0 and (after == 2).all()


@pytest.mark.parametrize("nthreads", [1, 2])
def test_patches_fill_in_the_users_addresses(nthreads: int) -> None:
    args = block(0)
    program = LaunchList()
    program.add_call(address(MARK), args)
    program.finish([(args.ctypes.data, 1, 16)], 2, nthreads)
    for _ in range(3):
        mine = np.zeros(8 + nthreads, np.int64)
        program.io[1] = mine.ctypes.data
        program.run()
        assert mine.tolist() == [0, 0] + [1] * nthreads + [0] * 6


def test_loops_must_match() -> None:
    program = LaunchList()
    with pytest.raises(ValueError, match="without a loop"):
        program.end_loop()
    trips = np.ones(1, np.int64)
    program.add_loop(trips)
    with pytest.raises(ValueError, match="no end"):
        program.finish([], 0, 1)
    with pytest.raises(ValueError, match="deeper"):
        for _ in range(20):
            program.add_loop(trips)


@pytest.mark.parametrize("nthreads", [1, 2])
def test_an_exception_in_a_kernel_is_not_swallowed(nthreads: int) -> None:
    args = block(1)
    program = LaunchList()
    program.add_barrier()
    program.add_call(address(RAISE), args)
    program.add_barrier()
    program.finish([], 0, nthreads)
    with pytest.raises(CompileError, match="row 1"):
        program.run()
    args[0] = 0
    assert program.run() == 0


def test_callers_in_several_threads_take_turns() -> None:
    programs = [marking(2) for _ in range(3)]

    def many(program: LaunchList) -> None:
        for _ in range(200):
            program.run()

    threads = [threading.Thread(target=many, args=(p,)) for p, _ in programs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert [out.tolist() for _, out in programs] == [[200, 200]] * 3


def test_an_idle_pool_costs_nothing_and_wakes() -> None:
    program, out = marking(2)
    program.run()
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.05
    assert get_pool(2).parked[1]
    program.run()
    assert out.tolist() == [2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_starts_its_own_threads() -> None:
    program, out = marking(2)
    program.run()
    pid = os.fork()
    if pid == 0:
        program.run()
        os._exit(0 if out.tolist() == [2, 2] else 1)
    for _ in range(600):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pytest.fail("the child hangs")
    assert status == 0
    program.run()
    assert out.tolist() == [2, 2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timer signals")
def test_interrupts_leave_the_pool_usable() -> None:
    out = np.zeros(16, np.int64)
    program = LaunchList()
    program.add_call(address(SPIN), block(out, 20000))
    program.finish([], 0, 2)
    program.run()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    interrupts = 0
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0007)
                while True:
                    program.run()
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert interrupts > 20
    check, marks = marking(2)
    check.run()
    assert marks.tolist() == [1, 1]


def test_two_threads_on_one_core_do_not_wait_for_the_scheduler() -> None:
    """A barrier that only spins would take a scheduler's tick (4 ms) here."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs affinity")
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        trips = np.array([500], np.int64)
        program = LaunchList()
        program.add_loop(trips)
        program.add_barrier()
        program.end_loop()
        program.finish([], 0, 5)  # a count of its own: its threads start under this affinity
        program.run()
        took = []
        while len(took) < 10 and min(took, default=9.0) >= 1.0:  # others may have the machine meanwhile
            begin = time.perf_counter()
            program.run()
            took.append(time.perf_counter() - begin)
        assert min(took) < 1.0
    finally:
        os.sched_setaffinity(0, cpus)


def test_default_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    count = default_threads
    monkeypatch.delenv("GRAPHC_THREADS", raising=False)
    most = count()
    assert 1 <= most <= (os.cpu_count() or 1)
    monkeypatch.setenv("GRAPHC_THREADS", "1")
    assert count() == 1
    monkeypatch.setenv("GRAPHC_THREADS", "100000")
    assert count() == most
    for wrong in ("0", "many", "-1"):
        monkeypatch.setenv("GRAPHC_THREADS", wrong)
        with pytest.raises(SettingError, match="GRAPHC_THREADS"):
            count()


def test_the_driver_and_its_callers_agree_on_the_words() -> None:
    pytest.importorskip("numba")
    from graphc.backends.cpu.machine import driver_code

    names = [n for n in vars(driver_words) if n.isupper() and n != "LAYOUT"]
    assert {n: getattr(driver_words, n) for n in names} == {n: getattr(driver_code, n) for n in names}
    assert Path(driver_code.__file__).parent == Path(driver_words.__file__).parent
