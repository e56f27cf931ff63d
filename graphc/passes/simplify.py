"""The rewrite driver: applies rules bottom-up, to a fixpoint at every node, in one walk over the graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import VerifyError
from ..ir.graph import Graph
from ..ir.node import Node
from .rules import RULES, Rule

__all__ = ["simplify"]

LIMIT = 100
"""Rewrites of one node before the rules must be running in circles."""


def simplify(graph: Graph, rules: Sequence[Rule] = RULES) -> Graph:
    """The graph with every rule applied wherever it matches; raises VerifyError naming rules that undo each other."""
    table: dict[str, list[Rule]] = {}
    for r in rules:
        table.setdefault(r.op, []).append(r)

    def rewrite(node: Node, ins: tuple[Node, ...]) -> Node:
        here = node if ins == node.inputs else Node.make(node.op, ins, **node.attrs)
        fired: list[str] = []
        while True:
            for r in table.get(here.op.name, ()):
                new = r.apply(here)
                if new is not None and new is not here:
                    here = new
                    fired.append(r.name)
                    break
            else:
                return here
            if len(fired) > LIMIT:
                raise VerifyError(f"rewrite rules run in circles: {', '.join(dict.fromkeys(fired[-10:]))}")

    return graph.transform(rewrite)
