"""The process of one peer: reads commands from stdin, one JSON object a line, and answers each with one."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from typing import Any

from benchmarks.peers import PEERS, REFERENCE, NotAvailable, Prepared
from benchmarks.workload import digest
from benchmarks.workloads import WORKLOADS


def time_calls(call, seconds: float) -> list[float]:
    """Seconds per call of many samples; short calls are timed several at once."""
    call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    inner = max(1, int(50e-6 / max(once, 1e-9)))
    samples = []
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(samples) < 3:
            start = time.perf_counter()
            for _ in range(inner):
                call()
            samples.append((time.perf_counter() - start) / inner)
    finally:
        gc.enable()
    return samples


class Worker:
    """What one process holds: a peer's module and its prepared cases."""

    def __init__(self, peer: str, threads: int) -> None:
        self.threads = threads
        self.ready: dict[str, Any] = {}
        self.module: Any = importlib.import_module(f"benchmarks.peers.{PEERS[peer][0]}") if peer in PEERS else None

    def versions(self) -> dict[str, str]:
        return self.module.versions()

    def prepare(self, name: str, sizes: dict[str, int], case: str) -> dict[str, Any]:
        task = WORKLOADS[name].with_sizes(sizes).task()
        start = time.perf_counter()
        prepared: Prepared = self.module.prepare(task, case, self.threads)
        seen = digest(prepared.check())
        self.ready[f"{name}/{case}"] = prepared.call
        return {"seen": seen, "setting": prepared.setting, "seconds": time.perf_counter() - start}

    def measure(self, key: str, seconds: float) -> list[float]:
        return time_calls(self.ready[key], seconds)

    def release(self) -> None:
        """Forgets what was prepared."""
        self.ready.clear()
        gc.collect()

    # -- the process that measures the machine and computes the reference -----------------------------------------------
    def expected(self, name: str, sizes: dict[str, int], case: str) -> list[list[float]]:
        from benchmarks.peers.reference import expected

        return digest(expected(WORKLOADS[name].with_sizes(sizes).task(), case))

    def peak(self, seconds: float) -> float:
        """Flops a second."""
        from benchmarks.peak import Peak

        if "peak" not in self.ready:
            self.ready["peak"] = Peak(self.threads)
        return self.ready["peak"].measure(seconds)

    def copy(self, size: int, seconds: float) -> float:
        """Seconds of a copy that reads and writes ``size`` bytes together."""
        from benchmarks.peak import Copy

        if f"copy {size}" not in self.ready:
            self.ready[f"copy {size}"] = Copy(size, self.threads)
        return self.ready[f"copy {size}"].measure(seconds)


def main(peer: str, threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):  # before any thread pool is made
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if peer == REFERENCE:  # computes between the turns, never during one
        os.environ["JAX_ENABLE_X64"] = "1"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    worker: Worker | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            worker = worker or Worker(peer, threads)
            result = {"ok": getattr(worker, command.pop("do"))(**command)}
        except NotAvailable as error:
            result = {"error": str(error)}
        except Exception as error:  # the table says what a peer could not do
            result = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
