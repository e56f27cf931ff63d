"""Plain text about compiled programs: tables of passes and kernels, and files with every stage."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..passes.pipeline import fired_text
from .program import kernels, passes, stages

__all__ = ["dump_stages", "kernel_table", "pass_table"]


def pass_table(executable: Any) -> str:
    """One line a pass: name, milliseconds, nodes before and after, and the rewrite rules that fired (how often, where more than once)."""
    rows = passes(executable)
    if not rows:
        return "  (no passes: the graph runs as it was traced)"
    width = max(len(p.name) for p in rows)
    lines = []
    for p in rows:
        lines.append(f"  {p.name:<{width}}  {p.seconds * 1e3:8.2f} ms  {p.before:>6} -> {f'{p.after} nodes':<12} {fired_text(p.rules)}".rstrip())
    return "\n".join(lines)


def kernel_table(executable: Any) -> str:
    """One line a kernel: name and what it does."""
    rows = kernels(executable)
    if not rows:
        return "  (no kernels: NumPy interprets the graph)"
    width = max(len(k.name) for k in rows)
    return "\n".join(f"  {k.name:<{width}}  {k.source.count(chr(10)):>4} lines  {k.about}".rstrip() for k in rows)


def dump_stages(folder: str | os.PathLike[str], name: str, executable: Any) -> list[Path]:
    """Writes ``<name>.<number>-<stage>.txt`` for every stage and ``<name>.kernels/<kernel>.py``; gives the paths."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    written = []
    for i, (stage, text) in enumerate(stages(executable).items()):
        path = root / f"{name}.{i:02d}-{_file(stage)}.txt"
        path.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    listed = kernels(executable)
    if listed:
        sub = root / f"{name}.kernels"
        sub.mkdir(exist_ok=True)
        for k in listed:
            path = sub / f"{_file(k.name)}.py"
            path.write_text(k.source, encoding="utf-8")
            written.append(path)
    return written


def _file(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("_") or "stage"
