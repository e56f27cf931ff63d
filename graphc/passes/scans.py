"""Dead results of scans: what nobody reads is not computed, carried or stored.

``scan`` always saves the carries that enter each iteration, because a gradient taken later needs them. In a graph without
that gradient they are dropped here, with every carry, element and captured value that only they needed.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir.graph import Graph
from ..ir.node import Node, toposort

__all__ = ["prune_scans"]


def prune_scans(graph: Graph) -> Graph:
    """The graph with the unused results of its scans dropped, in bodies too."""
    graph, again = _once(graph), graph
    while graph.structural_key != again.structural_key:  # a dropped operand may have been the last reader of another scan
        graph, again = _once(graph), graph
    return graph


def _once(graph: Graph) -> Graph:
    users = graph.users
    roots = set(graph.roots)
    places: dict[Node, dict[int, int]] = {}

    def rule(node: Node, ins: tuple[Node, ...]) -> Node | None:
        if node.op.kind == "tuple" and node.inputs[0] in places:
            return Node.make(node.op, ins, index=places[node.inputs[0]][node.attrs["index"]])
        if node.op.kind != "scan" or node in roots:
            return None
        used = {u.attrs["index"] for u in users[node] if u.op.kind == "tuple"}
        new, places[node] = _prune(node, ins, used)
        return new

    return graph.transform(rule)


def _prune(node: Node, ins: tuple[Node, ...], used: set[int]) -> tuple[Node, dict[int, int]]:
    """The scan with the results in ``used`` only, and where each of them stands now."""
    body: Graph = node.attrs["body"]
    n_carry, n_xs = node.attrs["n_carry"], node.attrs["n_xs"]
    outputs = [n for _, n in body.outputs]
    args = [i.node for i in body.inputs]
    live = set(used)
    while True:  # a carry lives when a living result reads it
        reached = set(toposort(outputs[i] for i in live))
        grown = live | {i for i in range(n_carry) if args[i] in reached}
        if grown == live:
            break
        live = grown
    keep_out = sorted(live)
    keep_in = [i for i, a in enumerate(args) if (i in live if i < n_carry else a in reached)]
    places = {old: new for new, old in enumerate(keep_out)}
    inner = replace(
        body, inputs=tuple(body.inputs[i] for i in keep_in), outputs=tuple((f"r{k}", outputs[i]) for k, i in enumerate(keep_out))
    )
    attrs = {
        **node.attrs,
        "body": prune_scans(inner),
        "n_carry": sum(i < n_carry for i in keep_out),
        "n_xs": sum(n_carry <= i < n_carry + n_xs for i in keep_in),
    }
    return Node.make(node.op, [ins[i] for i in keep_in], **attrs), places
