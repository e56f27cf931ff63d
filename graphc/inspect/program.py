"""What an executable shows of itself, in one form for every backend: passes, stages and kernels as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["KernelView", "PassView", "kernels", "passes", "stages"]


@dataclass(frozen=True)
class PassView:
    """One pass that ran: its name, time, and the graph's size before and after."""

    name: str
    seconds: float
    before: int
    after: int


@dataclass(frozen=True)
class KernelView:
    """One distinct kernel: its name, what it does in a line, and its source."""

    name: str
    about: str
    source: str


def passes(executable: Any) -> list[PassView]:
    """The passes in order (none for a backend that runs graphs as they are)."""
    out: list[PassView] = []
    for p in getattr(executable, "passes", None) or ():
        if isinstance(p, (tuple, list)):
            out.append(PassView(str(p[0]), float(p[1]), int(p[2]), int(p[3])))
        else:
            out.append(PassView(str(p.name), float(p.seconds), int(p.before), int(p.after)))
    return out


def stages(executable: Any) -> dict[str, str]:
    """Stage name -> text, in order; at least the traced graph."""
    found = getattr(executable, "stages", None)
    if isinstance(found, Mapping) and found:
        return {str(k): str(v) for k, v in found.items()}
    return {"traced": str(executable.graph)}


def kernels(executable: Any) -> list[KernelView]:
    """The distinct kernels (none for the reference)."""
    found = getattr(executable, "kernels", None) or ()
    pairs = found.items() if isinstance(found, Mapping) else [(None, k) for k in found]
    out: list[KernelView] = []
    for key, k in pairs:
        if isinstance(k, str):
            out.append(KernelView(str(key or f"kernel_{len(out)}"), "", k))
            continue
        name = str(getattr(k, "name", None) or key or f"kernel_{len(out)}")
        about = str(getattr(k, "about", "") or getattr(k, "title", "") or getattr(k, "kind", ""))
        out.append(KernelView(name, about, str(getattr(k, "source", "") or getattr(k, "text", "") or k)))
    return out
