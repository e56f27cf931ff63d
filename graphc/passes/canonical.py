"""Contractions in one form: batch axes first, then one free axis and one contracted axis an operand.

A function and no rewrite rule: there is one case, its pattern would be the bare operator, and all of it is arithmetic on axes.
"""

from __future__ import annotations

from ..ir.dims import prod
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.op import lookup
from ..ops.contract import free_axes
from ..ops.views import reshape, transpose

__all__ = ["canonical_contractions"]


def canonical_contractions(graph: Graph) -> Graph:
    """Every ``dot_general`` as (batch..., M, K) x (batch..., K, N) with views around it."""

    def rule(node: Node, ins: tuple[Node, ...]) -> Node | None:
        if node.op.name != "dot_general":
            return None
        a, b = ins
        (ca, cb), (ba, bb) = node.attrs["contract"], node.attrs["batch"]
        rank = len(ba)
        fa, fb = free_axes(a.ndim, ca, ba), free_axes(b.ndim, cb, bb)
        lead = tuple(a.shape[i] for i in ba)
        k = prod(a.shape[i] for i in ca)
        m, n = prod(a.shape[i] for i in fa), prod(b.shape[i] for i in fb)
        x = reshape(transpose(a, (*ba, *fa, *ca)) if a.ndim else a, (*lead, m, k))
        y = reshape(transpose(b, (*bb, *cb, *fb)) if b.ndim else b, (*lead, k, n))
        axes = tuple(range(rank))
        out = Node.make(lookup("dot_general"), (x, y), contract=((rank + 1,), (rank,)), batch=(axes, axes))
        return reshape(out, node.shape)

    return graph.transform(rule)
