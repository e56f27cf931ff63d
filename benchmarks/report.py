"""Makes the tables of a result, as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.peers import OURS
from benchmarks.runner import Entry, Result


def cpu_name() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(result: Result, threads: int) -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "peak_gflops": result.peak / 1e9,
        "busy_with_others": result.others,
        "versions": dict(sorted(result.versions.items())),
    }


def duration(seconds: float) -> str:
    """A time with three digits in the unit that suits it."""
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def best_peer(entries: list[Entry]) -> Entry | None:
    """The fastest of the others on one case."""
    others = [e for e in entries if e.peer != OURS and not e.problem]
    return min(others, key=lambda e: e.median, default=None)


def record(entry: Entry, result: Result) -> dict[str, Any]:
    """One entry as plain data."""
    data: dict[str, Any] = {"workload": entry.workload.name, "case": entry.case, "peer": entry.peer}
    data |= {"dims": entry.workload.dims, "batch": entry.workload.batch, "setting": entry.setting}
    if entry.problem:
        return data | {"problem": entry.problem}
    data |= {"median": entry.median, "p10": entry.quantile(0.1), "p90": entry.quantile(0.9)}
    data |= {"samples": len(entry.samples), "prepare_seconds": entry.prepare_seconds}
    return data | {"of_peak": entry.workload.flops(entry.case) / entry.median / result.peak}


def as_data(result: Result, threads: int) -> dict[str, Any]:
    return {"machine": machine(result, threads), "results": [record(e, result) for e in result.entries]}


def as_markdown(result: Result, threads: int) -> str:
    facts = machine(result, threads)
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    lines = [
        f"{facts['cpu']}, {threads} threads, peak {facts['peak_gflops']:.0f} GFLOP/s "
        f"(float32 FMA, measured in this run). Python {facts['python']}, {versions}.",
    ]
    if result.others is not None and result.others > 0.1:
        busy = f"other programs kept {result.others:.1f} of {facts['cpus']} processors busy meanwhile"
        lines += ["", f"**Disturbed: {busy}.** Measure again on a quiet machine."]
    for key in dict.fromkeys(e.key for e in result.entries):
        entries = [e for e in result.entries if e.key == key]
        best = best_peer(entries)
        lines += ["", f"**{entries[0].workload.describe()}: {entries[0].case}**", ""]
        lines += ["| | median | p10 - p90 | ours / it | of peak | setting |", "|---|---|---|---|---|---|"]
        ours = next((e for e in entries if e.peer == OURS and not e.problem), None)
        for entry in sorted(entries, key=lambda e: e.median if not e.problem else float("inf")):
            if entry.problem:
                lines.append(f"| {entry.peer} | not measured | | | | {entry.problem} |")
                continue
            ratio = "" if ours is None or entry is ours else f"{ours.median / entry.median:.2f}"
            share = entry.workload.flops(entry.case) / entry.median / result.peak
            spread = f"{duration(entry.quantile(0.1))} - {duration(entry.quantile(0.9))}"
            name = f"**{entry.peer}**" if entry is best or entry.peer == OURS else entry.peer
            lines.append(f"| {name} | {duration(entry.median)} | {spread} | {ratio} | {share:.0%} | {entry.setting} |")
    return "\n".join(lines)
