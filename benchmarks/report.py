"""Makes the tables of a result, as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers import OURS
from benchmarks.runner import Entry, Result, duration


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


def amount(value: float, unit: str) -> str:
    """A value of a measurement in the unit that suits it."""
    if unit == "s":
        return duration(value)
    return f"{value / 2**20:.3g} MiB" if unit == "B" else f"{value:.3g}x"


def measured(entries: list[Entry]) -> list[Entry]:
    return [e for e in entries if not e.problem and e.samples]


def our(entries: list[Entry]) -> Entry | None:
    return next((e for e in measured(entries) if e.peer == OURS), None)


def best_peer(entries: list[Entry]) -> Entry | None:
    """The best of the others on one case."""
    others = [e for e in measured(entries) if e.peer != OURS]
    best = max if others and others[0].unit == "x" else min
    return best(others, key=lambda e: e.median, default=None)


def verdicts(entries: list[Entry], result: Result) -> list[tuple[str, bool]]:
    """What is aimed at for a case, each part with whether it is met; nothing where it was not measured."""
    ours = our(entries)
    if ours is None:
        return []
    goal, out = ours.goal, []
    best = best_peer([e for e in entries if goal.versus in ("", e.peer)])
    if goal.ratio is not None and best is not None:
        out.append((f"{goal.ratio:g} of {goal.versus or 'the best'}", ours.median <= goal.ratio * best.median))
    share = ours.share(result.peak, result.copies)
    if goal.share is not None and share is not None:
        out.append((f"{goal.share:.0%} of the limit", share >= goal.share))
    if goal.most is not None:
        out.append((f"at most {amount(goal.most, ours.unit)}", ours.median <= goal.most))
    if goal.least is not None:
        out.append((f"at least {amount(goal.least, ours.unit)}", ours.median >= goal.least))
    return out


def record(entry: Entry, result: Result) -> dict[str, Any]:
    """One entry as plain data."""
    w = entry.workload
    data: dict[str, Any] = {"workload": w.name, "case": entry.case, "peer": entry.peer, "title": w.describe(), "sizes": dict(w.sizes)}
    data |= {"measure": w.measure, "unit": entry.unit, "goal": str(entry.goal), "setting": entry.setting}
    if entry.problem or not entry.samples:
        return data | {"problem": entry.problem or "not measured"}
    data |= {"median": entry.median, "p10": entry.quantile(0.1), "p90": entry.quantile(0.9), "samples": len(entry.samples)}
    data |= {"prepare_seconds": entry.prepare_seconds, "flops": w.task().flops(entry.case), "bytes": w.task().bytes(entry.case)}
    data |= {"limit": w.limit, "of_limit": entry.share(result.peak, result.copies)}
    if entry.peer == OURS:
        entries = result.of(entry.key)
        best = best_peer(entries)
        data |= {"ratio": None if best is None else entry.median / best.median, "met": all(met for _, met in verdicts(entries, result))}
    return data


def as_data(result: Result, threads: int) -> dict[str, Any]:
    return {"machine": machine(result, threads), "results": [record(e, result) for e in result.entries]}


def old_medians(data: Mapping[str, Any]) -> dict[str, float]:
    """Our medians of an earlier :func:`as_data`, by workload and case."""
    return {f"{r['workload']}/{r['case']}": r["median"] for r in data["results"] if r["peer"] == OURS and "median" in r}


def summary(result: Result, old: Mapping[str, float] | None = None) -> list[str]:
    """One line a case: ours, the best peer, the ratio, the share of the limit, and what was aimed at."""
    more = "" if old is None else " before / now |"
    lines = [f"| workload | ours | best peer | ours / it | of the limit | goal | |{more}", "|---|---|---|---|---|---|---|" + ("---|" if more else "")]
    for key in result.cases():
        entries = result.of(key)
        ours, best = our(entries), best_peer(entries)
        time = amount(ours.median, ours.unit) if ours is not None else "not measured"
        peer = "" if best is None else f"{best.peer} {amount(best.median, best.unit)}"
        ratio = "" if ours is None or best is None else f"{ours.median / best.median:.2f}"
        share = None if ours is None else ours.share(result.peak, result.copies)
        judged = verdicts(entries, result)
        word = "" if not judged else "met" if all(met for _, met in judged) else "**missed**: " + ", ".join(t for t, met in judged if not met)
        cells = [key, time, peer, ratio, "" if share is None else f"{share:.0%}", str(entries[0].goal) if entries else "", word]
        if old is not None:
            cells.append(f"{old[key] / ours.median:.2f}" if key in old and ours is not None else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def details(key: str, result: Result) -> list[str]:
    """The table of one case with every peer, the best first."""
    entries = result.of(key)
    if not entries:
        return []
    ours, best = our(entries), best_peer(entries)
    limit = {"flops": "of peak", "bytes": "of a copy"}.get(entries[0].workload.limit, "")
    goal = f"; goal {entries[0].goal}" if str(entries[0].goal) else ""
    lines = ["", f"**{entries[0].workload.describe()}: {entries[0].case}**{goal}", ""]
    lines += [f"| | median | p10 - p90 | ours / it |{f' {limit} |' if limit else ''} setting |", "|---|---|---|---|---|" + ("---|" if limit else "")]
    able = measured(entries)
    for entry in sorted(able, key=lambda e: e.median, reverse=entries[0].unit == "x"):
        ratio = "" if ours is None or entry is ours else f"{ours.median / entry.median:.2f}"
        name = f"**{entry.peer}**" if entry is best or entry.peer == OURS else entry.peer
        cells = [name, amount(entry.median, entry.unit), f"{amount(entry.quantile(0.1), entry.unit)} - {amount(entry.quantile(0.9), entry.unit)}", ratio]
        if limit:
            share = entry.share(result.peak, result.copies)
            cells.append("" if share is None else f"{share:.0%}")
        lines.append("| " + " | ".join([*cells, entry.setting]) + " |")
    for entry in entries:
        if entry not in able:
            lines.append(f"| {entry.peer} | not measured | | |{' |' if limit else ''} {entry.problem or 'no samples'} |")
    return lines


def as_markdown(result: Result, threads: int, old: Mapping[str, float] | None = None) -> str:
    facts = machine(result, threads)
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    peak = f", peak {facts['peak_gflops']:.0f} GFLOP/s (float32 FMA, measured in this run)" if result.peak else ""
    lines = [f"{facts['cpu']}, {threads} threads{peak}. Python {facts['python']}, {versions}."]
    if result.others is not None and result.others > 0.1:
        busy = f"other programs kept {result.others:.1f} of {facts['cpus']} processors busy meanwhile"
        lines += ["", f"**Disturbed: {busy}.** Measure again on a quiet machine."]
    lines += ["", *summary(result, old)]
    for key in result.cases():
        lines += details(key, result)
    return "\n".join(lines)
