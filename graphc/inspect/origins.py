"""Which line of a kernel's text computes which node of the graph."""

from __future__ import annotations

import re
from typing import Any

from ..ir.node import Node
from ..loops.nest import Nest
from ..loops.scalar import Scalar, postorder

__all__ = ["kernel_lines"]

_ASSIGNED = re.compile(r"\s*(\w+) = ")


def kernel_lines(printed: Any, nest: Nest) -> list[tuple[int, Node]]:
    """(line number, node) for the lines of a printed kernel that compute or store something, from 1.

    A line that several nodes share belongs to the first of them; loads belong to whoever reads them first.
    """
    owner: dict[Scalar, Node] = {}
    folds: dict[int, Node] = {}
    stored: dict[Scalar, Node] = {}
    for node, value in nest.values:
        if value.op == "acc":
            folds.setdefault(value.attr, node)
        for t in postorder([value]):
            owner.setdefault(t, node)
    for stage in nest.stages:
        for a in stage.accs:
            for t in postorder([a.value]):
                owner.setdefault(t, folds.get(a.number, nest.nodes[-1]))
        for w in (*stage.points, *stage.writes):
            stored[w.value] = w.node
    if nest.contract is not None and 0 in folds:
        for t in postorder([nest.contract.a, nest.contract.b]):
            owner.setdefault(t, folds[0])
    variables = {name: owner[s] for name, s in printed.names.items() if s in owner}
    writes = {name: stored[s] for name, s in printed.names.items() if s in stored}
    out = []
    for i, line in enumerate(printed.text.splitlines(), 1):
        found = _ASSIGNED.match(line)
        name = found[1] if found else ""
        if name in variables:
            out.append((i, variables[name]))
        elif name == "acc" and 0 in folds:
            out.append((i, folds[0]))
        elif re.fullmatch(r"[ar]\d+", name) and int(name[1:]) in folds and not line.lstrip().startswith(f"{name} = args"):
            out.append((i, folds[int(name[1:])]))
        elif not name and "stor" in line:
            words = re.findall(r"\b[a-z]\w*\b", line.partition("(")[2])
            found_in = next((table for table in (writes, variables) if any(w in table for w in words)), {})
            out += [(i, found_in[w]) for w in words if w in found_in][:1]
    return out
