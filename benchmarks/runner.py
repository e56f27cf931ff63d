"""Starts a process for each peer and measures them in turns, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS, REFERENCE
from benchmarks.workload import MEASURES, Goal, Workload, wrong

ROOT = Path(__file__).resolve().parent.parent
Say = Callable[[str], None]
DROPPED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # settings that hold NumPy's matrix products back


def environment(threads: int) -> dict[str, str]:
    """The environment of every process, ours and the peers' alike."""
    env = {k: v for k, v in os.environ.items() if k not in DROPPED}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # ours takes its number from the CPUs that the worker is bound to
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
            cwd=ROOT,
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

    @property
    def alive(self) -> bool:
        return self.pipe.poll() is None

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
    """One peer on one case of one workload. ``runs`` has the samples of each set of processes; the best run counts."""

    workload: Workload
    case: str
    peer: str
    runs: list[list[float]] = field(default_factory=list)
    setting: str = ""
    prepare_seconds: float = 0.0
    problem: str = ""

    @property
    def key(self) -> str:
        return f"{self.workload.name}/{self.case}"

    @property
    def goal(self) -> Goal:
        return self.workload.cases[self.case]

    @property
    def unit(self) -> str:
        return MEASURES[self.workload.measure]

    @property
    def samples(self) -> list[float]:
        """Those of the best run: many programs share a machine, and a run can be unlucky as a whole."""
        best = max if self.unit == "x" else min
        return best((run for run in self.runs if run), key=statistics.median, default=[])

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def quantile(self, q: float) -> float:
        ordered = sorted(self.samples)
        return ordered[round(q * (len(ordered) - 1))]

    def share(self, peak: float, copies: dict[str, float]) -> float | None:
        """How near the limit that the workload names: the peak rate, or a copy of as many bytes."""
        if self.workload.limit == "flops":
            return self.workload.task().flops(self.case) / self.median / peak if peak else None
        return copies[self.key] / self.median if self.key in copies else None


@dataclass
class Result:
    """All entries of a run, with what it ran on."""

    entries: list[Entry]
    peak: float = 0.0
    copies: dict[str, float] = field(default_factory=dict)  # seconds of a copy of as many bytes, by workload and case
    versions: dict[str, str] = field(default_factory=dict)
    others: float | None = None  # processors that programs outside the benchmark kept busy, on average; None where unknown

    def cases(self) -> list[str]:
        return list(dict.fromkeys(e.key for e in self.entries))

    def of(self, key: str) -> list[Entry]:
        return [e for e in self.entries if e.key == key]


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


class Run:
    """Measures workloads on peers, one workload after another: all cases of one are prepared, measured in turns within each round
    (starting with another peer each time), and released."""

    def __init__(self, peers: list[str], rounds: int, seconds: float, threads: int, say: Say = lambda text: None) -> None:
        self.peers, self.rounds, self.seconds, self.threads, self.say = peers, rounds, seconds, threads, say
        self.result = Result([])
        self.processes: dict[str, Process] = {}

    def run(self, workloads: list[Workload], times: int = 1, after: Callable[[Result], None] = lambda result: None) -> Result:
        """``times`` sets of processes one after another; ``after`` is called with what there is after each workload."""
        disturbance = Disturbance()
        for number in range(times):
            self.processes = {peer: Process(peer, self.threads) for peer in [*self.peers, REFERENCE]}
            try:
                for workload in workloads:
                    for case in workload.cases:
                        measure = {"call": self._calls, "threads": self._threads}.get(workload.measure, self._starts)
                        entries = self._entries(workload, case, number)
                        measure(workload, case, entries)
                    for process in self.processes.values():
                        if process.alive:
                            process.ask("release")
                    after(self.result)
            finally:
                for process in self.processes.values():
                    process.close()
        self.result.others = disturbance.average()
        return self.result

    def _entries(self, workload: Workload, case: str, number: int) -> list[Entry]:
        """Those of one case, each with a new run."""
        found = [e for e in self.result.entries if e.workload is workload and e.case == case]
        if not found:
            able = [p for p in self.peers if case in PEERS[p][1] and (not workload.peers or p in workload.peers)]
            found = [Entry(workload, case, p) for p in able]
            self.result.entries += found
        for entry in found:
            entry.runs.append([])
        return [e for e in found if not e.problem]

    def _process(self, peer: str) -> Process:
        """The peer's process; a new one where it has died."""
        if not self.processes[peer].alive:
            self.processes[peer].close()
            self.processes[peer] = Process(peer, self.threads)
        return self.processes[peer]

    def _limits(self, workload: Workload, case: str) -> None:
        """Measures what the entries of a round are compared with."""
        machine = self._process(REFERENCE)
        if workload.limit == "flops":
            self.result.peak = max(self.result.peak, machine.ask("peak", seconds=0.05))
        elif workload.limit == "bytes":
            key, size = f"{workload.name}/{case}", workload.task().bytes(case)
            seconds = machine.ask("copy", size=size, seconds=0.1)
            self.result.copies[key] = min(self.result.copies.get(key, seconds), seconds)

    def _prepare(self, process: Process, entry: Entry, expected: Any) -> None:
        given = {"name": entry.workload.name, "sizes": dict(entry.workload.sizes), "case": entry.case}
        try:
            self.result.versions.update(process.ask("versions"))
            made = process.ask("prepare", **given)
            entry.setting, entry.prepare_seconds = made["setting"], made["seconds"]
            entry.problem = wrong(made["seen"], expected)
        except RuntimeError as error:
            entry.problem = str(error)
        self.say(f"{entry.key:28} {entry.peer:14} " + (entry.problem or f"ready in {entry.prepare_seconds:.1f} s"))

    def _expected(self, workload: Workload, case: str) -> Any:
        return self._process(REFERENCE).ask("expected", name=workload.name, sizes=dict(workload.sizes), case=case)

    def _calls(self, workload: Workload, case: str, entries: list[Entry]) -> None:
        """Seconds a call."""
        expected = self._expected(workload, case)
        for entry in entries:
            self._prepare(self._process(entry.peer), entry, expected)
        for number in range(self.rounds):
            self._limits(workload, case)
            for entry in _turn(entries, number):
                try:
                    entry.runs[-1] += self.processes[entry.peer].ask("measure", key=entry.key, seconds=self.seconds)
                except RuntimeError as error:
                    entry.problem = str(error)
        for entry in entries:
            if not entry.problem:
                self.say(f"{entry.key:28} {entry.peer:14} {duration(entry.median)}")

    def _threads(self, workload: Workload, case: str, entries: list[Entry]) -> None:
        """How many times faster all threads are than one."""
        expected = self._expected(workload, case)
        for entry in entries:
            pair = [Process(entry.peer, n) for n in (1, self.threads)]
            try:
                for process in pair:
                    if not entry.problem:
                        self._prepare(process, entry, expected)
                for _ in range(self.rounds):
                    if not entry.problem:
                        one, all_ = (statistics.median(p.ask("measure", key=entry.key, seconds=self.seconds)) for p in pair)
                        entry.runs[-1].append(one / all_)
            except RuntimeError as error:
                entry.problem = str(error)
            finally:
                for process in pair:
                    process.close()

    def _starts(self, workload: Workload, case: str, entries: list[Entry]) -> None:
        """Each sample from a process of its own; caches are new for every one ("cold") or filled by one that does not count ("warm")."""
        with tempfile.TemporaryDirectory() as folder:
            for number in range(1 if workload.measure == "memory" else min(self.rounds, 3)):
                for entry in _turn(entries, number):
                    fresh = Path(folder, f"{entry.peer}{number if workload.measure == 'cold' else ''}".replace(" ", "-"))
                    try:
                        if workload.measure == "warm" and number == 0:
                            once(entry, self.threads, fresh)
                        entry.runs[-1].append(once(entry, self.threads, None if workload.measure == "memory" else fresh))
                        self.say(f"{entry.key:28} {entry.peer:14} {entry.runs[-1][-1]:.4g} {entry.unit}")
                    except RuntimeError as error:
                        entry.problem = str(error)


def _turn(entries: list[Entry], number: int) -> list[Entry]:
    """Those that work, from another one each time."""
    able = [e for e in entries if not e.problem]
    first = number % max(1, len(able))
    return able[first:] + able[:first]


def once(entry: Entry, threads: int, caches: Path | None) -> float:
    """One value of a process of its own (see ``once.py``), with all its caches in one folder."""
    env = environment(threads)
    if caches is not None:
        env |= {"GRAPHC_CACHE": str(caches), "TORCHINDUCTOR_CACHE_DIR": str(caches), "JAX_COMPILATION_CACHE_DIR": str(caches)}
        env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
    workload = entry.workload
    given = [entry.peer, workload.name, json.dumps(dict(workload.sizes)), entry.case, workload.measure, str(threads)]
    command = [sys.executable, "-m", "benchmarks.once", *given, str(time.monotonic())]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("".join(done.stderr.strip().splitlines()[-1:]) or f"the process ended with status {done.returncode}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return float(answer["value"])


def duration(seconds: float) -> str:
    """A time with three digits in the unit that suits it."""
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
