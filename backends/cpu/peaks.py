"""The machine's limits as kernels meet them: multiply-adds a second, and bytes a second from each cache and from memory.

Measured by three small kernels in the tile language, on as many threads as the programs have that are held against them. Profiles
and ``graphc doctor`` share them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from graphc.inspect.measured import Runs
from graphc.runtime.memory import aligned_empty

from .machine.cache import default_cache
from .machine.pool import LaunchList
from .machine_facts import host_facts
from .profiler import Recorder

__all__ = ["Level", "Peaks", "cache_sizes", "measured_peaks"]

CPU = Path("/sys/devices/system/cpu/cpu0/cache")
L2, L3 = 1 << 20, 32 << 20
"""Sizes where the system does not say."""
LARGEST = 256 << 20
CHAINS = 12
"""Independent sums: enough to hide the latency of two units, few enough for sixteen registers."""
APART = 1024 + 16
"""Numbers between arrays: rows a power of two apart would share the sets of a cache."""
SECONDS = 0.1
"""For each number."""

FMA = """from graphc.backends.cpu.machine.tiles import fma, loader_full, ptr_f32, storer_full

load_all, load_one, store_all = loader_full("f32", CHAINS, LANES), loader_full("f32", 1, LANES), storer_full("f32", CHAINS, LANES)


def kernel(tid, nthreads, args, trip):
    p = ptr_f32(args[0] + tid * args[2])
    x, y = load_all(p, 0, LANES), load_one(p, 0, LANES)
    for i in range(args[1]):
        x = fma(x, y, y)
    store_all(p, 0, LANES, x)
"""
COPY = """from graphc.backends.cpu.machine.tiles import loader_full, ptr_f32, storer_full

load, store = loader_full("f32", 4, LANES), storer_full("f32", 4, LANES)


def kernel(tid, nthreads, args, trip):
    part = args[3]
    a, b = ptr_f32(args[0] + tid * part * 4), ptr_f32(args[1] + tid * part * 4)
    for turn in range(args[4]):
        for i in range(0, part, 4 * LANES):
            store(a, i, LANES, load(b, i, LANES))
"""
TRIAD = """from graphc.backends.cpu.machine.tiles import fma, loader_full, ptr_f32, splat, storer_full

load, store, factor = loader_full("f32", 4, LANES), storer_full("f32", 4, LANES), splat("f32", 4, LANES)


def kernel(tid, nthreads, args, trip):
    part = args[3]
    a, b, c = ptr_f32(args[0] + tid * part * 4), ptr_f32(args[1] + tid * part * 4), ptr_f32(args[2] + tid * part * 4)
    for turn in range(args[4]):
        for i in range(0, part, 4 * LANES):
            store(a, i, LANES, fma(load(c, i, LANES), factor(3.0), load(b, i, LANES)))
"""


@dataclass(frozen=True)
class Level:
    """A cache, or memory: what fits it, and how fast kernels read and write it (bytes read and written, together)."""

    name: str
    capacity: int
    """Bytes of all threads together; 0 for memory."""
    copy: float
    triad: float


@dataclass(frozen=True)
class Peaks:
    """The limits of so many threads. ``flops_per_second`` is of float32; float64 has half."""

    threads: int
    flops_per_second: float
    levels: tuple[Level, ...]

    def level(self, footprint: int) -> Level:
        """Where a program that touches so many bytes in a run finds them in the next: the smallest level that holds them all."""
        return next((x for x in self.levels if footprint <= x.capacity), self.levels[-1])

    def bytes_per_second(self, footprint: int) -> float:
        """Of such a program."""
        level = self.level(footprint)
        return max(level.copy, level.triad)

    def of(self, footprint: int) -> dict[str, float]:
        """The two limits of such a program, as records of profiles have them."""
        return {"flops_per_second": self.flops_per_second, "bytes_per_second": self.bytes_per_second(footprint)}


def cache_sizes() -> dict[int, int]:
    """Bytes of the second and third cache of a core; usual ones where the system does not say."""
    found = {}
    for folder in sorted(CPU.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[int(level)] = int(size.rstrip("K")) * 1024
        except (OSError, ValueError):
            continue
    return {2: found.get(2, L2), 3: found.get(3, 0) if found else L3}


@cache
def measured_peaks(threads: int) -> Peaks:
    """The limits of so many threads, measured once in a process, in about a second.

    Others that work at the same time make them lower than they are: the best of several tries counts.
    """
    widths = [w for w in (16, 8, 4) if w <= host_facts().width][:2]  # the widest vectors are not the fastest on every processor
    sizes = cache_sizes()
    levels = [("L2", sizes[2] * threads, sizes[2] * threads // 2)]
    if sizes[3] > 2 * sizes[2] * threads:
        levels.append(("L3", sizes[3], max(sizes[3] // 2, levels[0][1])))
    levels.append(("memory", 0, min(max(4 * sizes[3], 64 << 20), LARGEST)))
    memory = aligned_empty(levels[-1][2] // 4 + 3 * APART, np.float32, "measuring the machine")
    memory.fill(0.5)
    made = [Level(name, capacity, *(_rate(text, count, footprint, threads, memory) for text, count in ((COPY, 2), (TRIAD, 3)))) for name, capacity, footprint in levels]
    return Peaks(threads, max(_flops(w, threads) for w in widths), tuple(made))


def _flops(lanes: int, threads: int) -> float:
    data = np.full((threads, CHAINS * lanes + 64), 0.5, np.float32)
    args = np.array([data.ctypes.data, 0, data.strides[0]], np.int64)
    turns, runs = _tried(FMA, lanes, args, 1, threads)
    # each thread's best: cores multiply independently, and others' work may take one of them at a time
    best = np.ptp(runs.times[:, :, 0], axis=-1).min(1)
    return float((2e9 * CHAINS * lanes * turns / best).sum())


def _rate(text: str, arrays: int, footprint: int, threads: int, memory: np.ndarray) -> float:
    """Bytes a second of a kernel that walks ``arrays`` arrays, ``footprint`` bytes together, with all threads at once."""
    lanes = host_facts().width
    part = footprint // 4 // arrays // threads // (4 * lanes) * 4 * lanes
    apart = part * threads + APART
    args = np.array([*(memory.ctypes.data + 4 * min(i, arrays - 1) * apart for i in range(3)), part, 0], np.int64)
    turns, runs = _tried(text, lanes, args, 4, threads)
    return 4e9 * arrays * part * threads * turns / float(runs.whole.min())


def _tried(text: str, lanes: int, args: np.ndarray, word: int, threads: int) -> tuple[int, Runs]:
    """The times of a kernel on every thread, tried for :data:`SECONDS`, with its turns a try, which are put into a word of ``args``."""
    program = LaunchList()
    program.add_call(default_cache().get([text.replace("LANES", str(lanes)).replace("CHAINS", str(CHAINS))])[0].address, args)
    program.finish([], 0, threads)

    def runs(turns: int, least: int, seconds: float) -> Runs:
        args[word] = turns
        recorder = Recorder(program, [0])
        recorder.attach()
        end = time.perf_counter() + seconds
        while least > 0 or time.perf_counter() < end:
            program.run()
            least -= 1
        recorder.detach()
        found = recorder.runs()
        assert found is not None
        return found

    turns = 1
    # the shortest of three: a thread that had to wait for its CPU would say that one turn is enough
    while (spent := int(np.ptp(runs(turns, 3, 0.0).times[:, :, 0], axis=-1).min())) < SECONDS * 1e9 / 100:
        turns = max(2 * turns, int(turns * SECONDS * 1e9 / 50 / max(spent, 100)))
    return turns, runs(turns, 10, SECONDS)
