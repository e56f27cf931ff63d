"""Composites become primitives, except those that the target claims; the name stays as a scope."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.graph import Graph
from ..ir.node import Node, toposort
from ..ir.provenance import Provenance
from ..ir.types import TupleType

__all__ = ["decompose", "decomposition"]


def decompose(graph: Graph, claims: Callable[[Node], bool] = lambda node: False) -> Graph:
    """The graph without composites that ``claims`` does not keep. Decompositions may hold composites again, in bodies of scans too."""
    prov = graph.provenance
    image: dict[Node, Node | tuple[Node, ...]] = {}

    def done(n: Node) -> Node:
        out = image[n]
        assert isinstance(out, Node)
        return out

    def expand(roots: list[Node]) -> None:
        # an explicit stack: decompositions nest, graphs are deep, Python's stack is not
        stack = list(reversed(toposort(roots, image.keys())))  # type: ignore[arg-type]
        while stack:
            node = stack[-1]
            if node in image:
                stack.pop()
                continue
            missing = [i for i in node.inputs if i not in image]
            if missing:
                stack.extend(missing)
                continue
            if node.op.kind == "composite" and not claims(node):
                body = _body(node, prov)
                pending = [n for n in toposort(body, image.keys()) if n not in image]  # type: ignore[arg-type]
                if pending:
                    stack.extend(reversed(pending))
                    continue
                images = tuple(done(b) for b in body)
                image[node] = images if isinstance(node.type, TupleType) else images[0]
            elif node.op.kind == "tuple" and isinstance(image[node.inputs[0]], tuple):
                image[node] = image[node.inputs[0]][node.attrs["index"]]
                prov.add(done(node), prov.of(node).locs, prov.of(node).scopes)
            else:
                ins = tuple(done(i) for i in node.inputs)
                attrs = {**node.attrs, "body": decompose(node.attrs["body"], claims)} if node.op.kind == "scan" else node.attrs
                with prov.inherit(node):
                    image[node] = node if ins == node.inputs and attrs is node.attrs else Node.make(node.op, ins, **attrs)
            stack.pop()

    for node in graph.nodes:
        expand([node])
    return graph.with_roots(done)


def _body(node: Node, prov: Provenance) -> list[Node]:
    """The decomposition of a composite; its nodes come from the composite's lines, with its name as innermost scope."""
    origin = prov.of(node)
    scopes = prov.inner_scopes(node)
    if node._decomposed is None:
        with prov.recording(origin.locs, scopes):
            decomposition(node)
    else:  # made for another graph, which recorded it in its own table
        for n in toposort(node._decomposed, set(node.inputs)):
            if n not in node.inputs:
                prov.add(n, origin.locs, scopes)
    return decomposition(node)


def decomposition(node: Node) -> list[Node]:
    """What a composite is made of: one node a result. Made once."""
    if node._decomposed is None:
        assert node.op.decompose is not None
        out = node.op.decompose(*node.inputs, **node.attrs)
        node._decomposed = list(out) if isinstance(out, (tuple, list)) else [out]
    return node._decomposed
