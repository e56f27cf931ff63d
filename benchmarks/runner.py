"""Starts a process for each peer and measures them in turns, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.workloads import MLP

DROPPED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # settings that hold NumPy's matrix products back


def environment(threads: int) -> dict[str, str]:
    """The environment of every process, ours and the peers' alike."""
    env = {k: v for k, v in os.environ.items() if k not in DROPPED}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GRAPHC_THREADS"):
        env[name] = str(threads)
    # no return of freed memory to the system between calls
    env.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
    env.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    return env


class Process:
    """One peer's process."""

    def __init__(self, peer: str, threads: int) -> None:
        # a file and not a pipe: a full pipe would stop the process
        self.messages = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.pipe = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, str(threads)],
            cwd=Path(__file__).resolve().parent.parent,
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        assert self.pipe.stdin and self.pipe.stdout
        try:
            self.pipe.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.pipe.stdin.flush()
            line = self.pipe.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.pipe.wait()
            self.messages.seek(0)
            last = self.messages.read().strip().splitlines()[-1:]
            raise RuntimeError(f"the process ended with status {status}: {''.join(last)}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        assert self.pipe.stdin
        self.pipe.stdin.close()
        try:
            self.pipe.wait(10)
        except subprocess.TimeoutExpired:
            self.pipe.kill()
        self.messages.close()


@dataclass
class Entry:
    """One peer on one case of one workload."""

    workload: MLP
    case: str
    peer: str
    samples: list[float] = field(default_factory=list)
    setting: str = ""
    prepare_seconds: float = 0.0
    problem: str = ""

    @property
    def key(self) -> str:
        return f"{self.workload.name}/{self.case}"

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def quantile(self, q: float) -> float:
        ordered = sorted(self.samples)
        return ordered[round(q * (len(ordered) - 1))]


@dataclass
class Result:
    """All entries of a run, with what it ran on."""

    entries: list[Entry]
    peak: float
    versions: dict[str, str]
    others: float | None  # processors that programs outside the benchmark kept busy, on average; None where unknown


class Disturbance:
    """How busy programs outside the benchmark are: times of a shared machine say little."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), self._busy(), self._own()

    @staticmethod
    def _busy() -> float:
        """Seconds that all processors together have worked, those taken by other guests of the host included."""
        try:
            with open("/proc/stat", encoding="ascii") as file:
                user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
        except (OSError, ValueError):
            return float("nan")
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own() -> float:
        """Seconds that this process and its ended children have worked."""
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def average(self) -> float | None:
        """Call it when the children have ended."""
        start, busy, own = self.start
        passed = time.perf_counter() - start
        others = (self._busy() - busy - (self._own() - own)) / passed
        return None if others != others else max(0.0, others)


def wrong(seen: list[float], expected: list[float]) -> str:
    """A sentence when a peer's figures are not those of the workload."""
    if len(seen) == len(expected) and all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(seen, expected)):
        return ""
    return f"computes something else: {seen} instead of {expected}"


def run(
    workloads: list[MLP], peers: list[str], rounds: int, seconds: float, threads: int, say=lambda text: None
) -> Result:
    """Measures every case on every peer, in turns within each round, starting with another peer each time."""
    disturbance = Disturbance()
    processes = {peer: Process(peer, threads) for peer in [*peers, "peak"]}
    entries, versions, peak = [], {}, []
    try:
        for workload in workloads:
            for case in workload.cases:
                expected = workload.expected(case)
                for peer in peers:
                    if case not in PEERS[peer][1]:
                        continue
                    entry = Entry(workload, case, peer)
                    entries.append(entry)
                    try:
                        versions.update(processes[peer].ask("versions"))
                        made = processes[peer].ask(
                            "prepare", key=entry.key, workload=dataclasses.asdict(workload), case=case
                        )
                        entry.setting, entry.prepare_seconds = made["setting"], made["seconds"]
                        entry.problem = wrong(made["seen"], expected)
                    except RuntimeError as error:
                        entry.problem = str(error)
                    say(f"{entry.key:16} {peer:14} " + (entry.problem or f"ready in {entry.prepare_seconds:.1f} s"))
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for key in dict.fromkeys(entry.key for entry in entries):
                peak.append(processes["peak"].ask("peak", seconds=0.05))
                turn = [e for e in entries if e.key == key and not e.problem]
                first = number % max(1, len(turn))
                for entry in turn[first:] + turn[:first]:
                    try:
                        entry.samples += processes[entry.peer].ask("measure", key=key, seconds=seconds)
                    except RuntimeError as error:
                        entry.problem = str(error)
    finally:
        for process in processes.values():
            process.close()
    return Result(entries, max(peak), versions, disturbance.average())
