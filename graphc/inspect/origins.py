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
        elif _fold(name) in folds and not line.lstrip().startswith(f"{name} = args"):
            out.append((i, folds[_fold(name)]))
        elif not name and "stor" in line:
            words = re.findall(r"\b[a-z]\w*\b", line.partition("(")[2])
            sums = {w: folds[number] for w in words if (number := _fold(w)) in folds}
            found_in = next((table for table in (writes, variables, sums) if any(w in table for w in words)), {})
            known = [found_in[w] for w in words if w in found_in]
            # what is stored without a name of its own is a scatter's, or an operand that a contraction packs
            out += [(i, n) for n in (known or ([nest.nodes[0]] if nest.scatter is not None else [folds[0]] if 0 in folds else []))[:1]]
    return out


def _fold(name: str) -> int:
    """The number of the accumulator that a variable holds, -1 for any other."""
    return 0 if name == "acc" else int(name[1:]) if re.fullmatch(r"[ar]\d+", name) else -1
