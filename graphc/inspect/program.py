"""What an executable shows of itself, in one form for every backend: passes, stages and kernels as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["KernelView", "PassView", "kernels", "passes", "stages"]


@dataclass(frozen=True)
class PassView:
    """One pass that ran: its name, time, the graph's size before and after, and how often each rewrite rule fired."""

    name: str
    seconds: float
    before: int
    after: int
    rules: Mapping[str, int] = field(default_factory=dict)


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
            out.append(PassView(str(p.name), float(p.seconds), _count(p.before), _count(p.after), p.rules))
    return out


def stages(executable: Any) -> dict[str, str]:
    """Stage name -> text, in order; at least the traced graph."""
    found = getattr(executable, "stages", None)
    if isinstance(found, Mapping) and found:
        return {str(k): str(v) for k, v in found.items()}
    return {"traced": str(executable.graph)}


def _count(graph: Any) -> int:
    """Nodes of a graph, or the number itself."""
    return graph if isinstance(graph, int) else len(graph.nodes)


def kernels(executable: Any) -> list[KernelView]:
    """The distinct kernels in order of first use (none for the reference)."""
    found = getattr(executable, "kernels", None) or ()
    pairs = found.items() if isinstance(found, Mapping) else [("", k) for k in found]
    views: dict[str, KernelView] = {}
    uses: dict[str, int] = {}
    for key, k in pairs:
        view = KernelView(key, "", k) if isinstance(k, str) else _view(k)
        views.setdefault(view.name, view)
        uses[view.name] = uses.get(view.name, 0) + 1
    return [
        replace(v, about=f"{v.about}  ({uses[n]} launches)".strip()) if uses[n] > 1 else v for n, v in views.items()
    ]


def _view(launch: Any) -> KernelView:
    nest = launch.launch.nest
    about = f"{nest.kind}: " + " ".join(n.op.name for n in nest.nodes)
    return KernelView(launch.kernel.name, about, launch.printed.text)
