"""Work and memory of nodes, from the records: multiply-adds of contractions, through composites."""

from __future__ import annotations

from ..ir.dims import Size, floordiv
from ..ir.graph import Graph
from ..ir.node import Node, toposort

__all__ = ["macs", "macs_by_scope"]


def macs(node: Node, memo: dict[Node, Size] | None = None) -> Size:
    """Multiply-adds of one node: of its contractions, for a composite those of its decomposition."""
    memo = {} if memo is None else memo
    if node in memo:
        return memo[node]
    total: Size = 0
    if node.op.kind == "contract" and node.op.flops is not None:
        total = floordiv(node.op.flops(node), 2)
    elif node.op.kind == "composite" and node.op.decompose is not None:
        out = node.op.decompose(*node.inputs, **node.attrs)
        roots = list(out) if isinstance(out, (tuple, list)) else [out]
        for inner in toposort(roots, set(node.inputs)):
            if inner not in node.inputs:
                total = total + macs(inner, memo)
    memo[node] = total
    return total


def macs_by_scope(graph: Graph) -> dict[str, Size]:
    """Multiply-adds of each module path; a node that comes from several modules counts for each."""
    memo: dict[Node, Size] = {}
    found: dict[str, Size] = {}
    for node in graph.nodes:
        work = macs(node, memo)
        if isinstance(work, int) and work == 0:
            continue
        for scope in graph.provenance.scopes(node) or [""]:
            found[scope] = found.get(scope, 0) + work
    return found
