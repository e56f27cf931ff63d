"""Where a graph is in what a user has at hand, and where a node comes from."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.provenance import Provenance, every_table

__all__ = ["graph_of", "provenance_of"]


def graph_of(x: Any) -> Graph:
    """The graph of a graph, a compiled model or function, or a lowered graph."""
    if isinstance(x, Graph):
        return x
    graph = getattr(x, "graph", None)
    if not isinstance(graph, Graph):
        raise ArgumentError(f"{type(x).__name__} has no graph", hint="gc.trace(fn, *specs), or what gc.compile gives")
    return graph


def provenance_of(node: Node) -> Provenance:
    """The side table that knows most lines of a node, among those of all graphs that are still alive."""
    best = Provenance()
    for table in every_table():
        if node in table.table and len(table.of(node).locs) + len(table.of(node).rules) >= len(best.of(node).locs) + len(best.of(node).rules):
            best = table
    return best
