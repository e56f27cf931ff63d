"""The CPU backend's part of ``graphc doctor``: the processor and its measured limits, threads, and the cache of kernels."""

from __future__ import annotations

import os
import shutil

from graphc.runtime.limits import cpu_quota, memory_limit

from .machine.cache import default_cache
from .machine.loader import host_cpu
from .machine.pool import default_threads
from .machine_facts import host_facts
from .peaks import cache_sizes, measured_peaks

__all__ = ["examine"]

SETS = {16: "AVX-512", 8: "AVX2", 4: "128-bit vectors"}


def examine() -> list[tuple[str, str]]:
    """(name, what is found) of everything that decides how fast kernels are; a second for each number of threads that is measured."""
    width = host_facts().width
    sizes = cache_sizes()
    rows = [
        ("processor", f"{host_cpu()[0]}, {SETS[width]} ({width} float32 at once)"),
        ("caches", f"L2 {_size(sizes[2])} a core" + (f", L3 {_size(sizes[3])} shared" if sizes[3] else "")),
        ("threads", _threads()),
        ("memory", _size(limit) if (limit := memory_limit()) else "unknown"),
    ]
    for threads in dict.fromkeys((1, default_threads())):
        found = measured_peaks(threads)
        rows.append((f"{threads} thread{'s' * (threads > 1)}", f"{found.flops_per_second / 1e9:.0f} GFLOP/s (float32 multiply-adds)"))
        rows += [("", f"{x.name:<6} copy {x.copy / 1e9:.0f} GB/s, triad {x.triad / 1e9:.0f} GB/s (read and written)") for x in found.levels]
    return [*rows, ("cache", _cache())]


def _threads() -> str:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, asked = cpu_quota(), os.environ.get("GRAPHC_THREADS")
    reasons = [f"{os.cpu_count()} CPUs", f"{allowed} allowed to this process", "no quota of a container" if quota is None else f"a quota of {quota:g} CPUs"]
    return f"{default_threads()} ({', '.join(reasons)}{f', GRAPHC_THREADS={asked}' if asked else ''})"


def _cache() -> str:
    cache = default_cache()
    files = cache.files() if cache.writable else []
    used = sum(f.stat().st_size for f in files)
    if not cache.writable:
        return f"{cache.folder} cannot be written: every process compiles its kernels"
    named = "  (GRAPHC_CACHE)" if os.environ.get("GRAPHC_CACHE") else ""
    kernels, programs = (sum(f.suffix == suffix for f in files) for suffix in (".o", ".program"))
    return f"{cache.folder}: {kernels} kernels, {programs} programs, {used / 2**20:.1f} MB, {shutil.disk_usage(cache.folder).free / 2**30:.1f} GB free{named}"


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GB" if n >= 2**30 else f"{n / 2**20:.3g} MB" if n >= 2**20 else f"{n / 2**10:.0f} KB"
