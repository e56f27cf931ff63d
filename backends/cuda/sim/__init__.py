"""The simulator of CUDA kernels: :mod:`.interpret` runs their text, :mod:`.tensor` what tensor cores need, :mod:`.memory` watches what
they touch, :mod:`.report` takes notes; :mod:`.translate` runs again what has been checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from graphc.errors import SettingError

from . import tensor as tensor  # adds its functions to the interpreter's
from .interpret import launch
from .memory import Memory
from .report import Report
from .translate import translated

__all__ = ["Memory", "Report", "launch", "relaunch", "run"]

_checked: set[Any] = set()


def run(text: str, blocks: int, threads: int, args: Mapping[str, Any], name: str = "kernel") -> None:
    """Runs a kernel: checked in full the first time that it meets this grid, these numbers, and buffers of these sizes of which this much
    is written; :func:`relaunch` from then on. GRAPHC_SIM=full checks every launch in full."""
    asked = os.environ.get("GRAPHC_SIM", "first")
    if asked not in ("first", "full"):
        raise SettingError(f"GRAPHC_SIM={asked!r} is not known", hint="first or full")
    buffers: dict[int, int] = {}  # one buffer may be two parameters
    seen = tuple((buffers.setdefault(id(m), len(buffers)), m.state) if isinstance(m, Memory) else m for m in args.values())
    key = (text, blocks, threads, seen)
    if asked == "first" and key in _checked:
        relaunch(text, blocks, threads, args, name)
    else:
        launch(text, blocks, threads, args, name)
        _checked.add(key)


def relaunch(text: str, blocks: int, threads: int, args: Mapping[str, Any], name: str = "kernel") -> None:
    """Runs a kernel that ``launch`` has checked for the same sizes: the same bits, many times faster, with fewer checks."""
    quick = translated(text, args)
    if quick is None:
        launch(text, blocks, threads, args, name)
    else:
        quick.launch(blocks, threads, args, name)
