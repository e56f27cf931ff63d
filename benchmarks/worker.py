"""The process of one peer: reads commands from stdin, one JSON object a line, and answers each with one."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from typing import Any

from benchmarks.peers import PEERS, NotAvailable, Prepared
from benchmarks.workloads import MLP


def time_calls(call, seconds: float) -> list[float]:
    """Seconds per call of many samples; short calls are timed several at once."""
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    inner = max(1, int(50e-6 / max(once, 1e-9)))
    samples = []
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(samples) < 5:
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
        self.module = None if peer == "peak" else importlib.import_module(f"benchmarks.peers.{PEERS[peer][0]}")

    def versions(self) -> dict[str, str]:
        return {} if self.module is None else self.module.versions()

    def prepare(self, key: str, workload: dict[str, Any], case: str) -> dict[str, Any]:
        spec = MLP(**{k: tuple(v) if isinstance(v, list) else v for k, v in workload.items()})
        assert self.module is not None
        start = time.perf_counter()
        prepared: Prepared = self.module.prepare(spec, case, self.threads)
        seen = prepared.check()
        self.ready[key] = prepared.call
        return {"seen": seen, "setting": prepared.setting, "seconds": time.perf_counter() - start}

    def measure(self, key: str, seconds: float) -> list[float]:
        return time_calls(self.ready[key], seconds)

    def peak(self, seconds: float) -> float:
        from benchmarks.peak import Peak

        if "peak" not in self.ready:
            self.ready["peak"] = Peak(self.threads)
        return self.ready["peak"].measure(seconds)


def main(peer: str, threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):  # before any thread pool is made
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
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
