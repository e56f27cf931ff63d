"""Reports of whatever a script compiles: ``GRAPHC_VIZ=folder python script.py``, and ``graphc viz script.py``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

__all__ = ["collected", "collecting", "record"]

_open: ContextVar[dict[str, Any] | None] = ContextVar("programs", default=None)
_written: dict[str, int] = {}


@contextmanager
def collecting() -> Iterator[dict[str, Any]]:
    """Every program compiled inside, by the name of its graph."""
    programs: dict[str, Any] = {}
    token = _open.set(programs)
    try:
        yield programs
    finally:
        _open.reset(token)


def collected() -> bool:
    """Whether somebody collects programs."""
    return _open.get() is not None


def record(program: Any) -> None:
    """Called for every compiled program: keeps it for :func:`collecting`, and writes its report where GRAPHC_VIZ names a folder.

    Each program has a file of its own, written when it is compiled, so that a script that crashes leaves them too. A report that
    cannot be written is told on stderr and stops nothing.
    """
    name = program.graph.name
    programs = _open.get()
    if programs is not None:
        programs[_free(name, programs)] = program
    folder = os.environ.get("GRAPHC_VIZ")
    if folder:
        from .html import write_report

        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            number = _written[name] = _written.get(name, 0) + 1
            file = re.sub(r"[^\w.-]+", "_", name)[:100] + (f"-{number}" if number > 1 else "") + ".html"
            write_report(Path(folder) / file, {name: program}, name)
        except Exception as e:
            print(f"graphc: GRAPHC_VIZ={folder}: no report of {name}: {type(e).__name__}: {e}", file=sys.stderr)


def _free(name: str, taken: dict[str, Any]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
