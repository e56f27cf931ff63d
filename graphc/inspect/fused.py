"""Nodes by the kernel that computes them: the text of the stage "fused"."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.text import node_names, node_text
from ..schedule.program import Check, Launch, Repeat, Schedule

__all__ = ["fused_text"]


def fused_text(schedule: Schedule) -> str:
    """One block a kernel: its axes, and its nodes as the text form shows them."""
    names = node_names(schedule.graph)
    prov = schedule.graph.provenance
    lines: list[str] = []
    number = 0

    def walk(items: Sequence[Launch | Check | Repeat], indent: str) -> None:
        nonlocal number
        for item in items:
            if item.barrier:
                lines.append(f"{indent}-- barrier --")
            if isinstance(item, Launch):
                axes = " x ".join(str(a.size) for a in item.nest.outer) or "1"
                inner = " x ".join(str(a.size) for a in item.nest.inner)
                lines.append(f"{indent}kernel {number}: {item.nest.kind} [{axes}]" + (f" over [{inner}]" if inner else ""))
                number += 1
                for n in item.nest.nodes:
                    outer, stands_for = schedule.origins.get(n, (None, n))
                    shown = node_text(stands_for, names) if outer is None else f"{stands_for.op.name} : {stands_for.type}"
                    where = " ".join(map(str, prov.locs(n)))
                    lines.append(f"{indent}    {shown}" + (f"  # {where}" if where else ""))
            elif isinstance(item, Check):
                lines.append(f"{indent}check that {item.buffer.name or item.buffer.node.op.name} is finite, or stop")
            else:
                lines.append(f"{indent}repeat {item.count} times")
                walk(item.body, indent + "    ")

    walk(schedule.items, "")
    return "\n".join(lines)
