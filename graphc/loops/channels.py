"""Which values of a graph lie channels-last in memory: those that convolutions read and write, and what lies between them.

The axes of a value keep their order (N, C, *spatial) in the graph; only its addresses change. A convolution then reads the
channels of a place, and writes those of the next, side by side.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..ir.dims import Expr, Sym, sym
from ..ir.graph import Graph
from ..ir.layout import Layout, channels_last
from ..ir.node import Node
from .build import PointBuilder

__all__ = ["channels_last_values"]

SOURCES = ("input", "const", "tuple", "generate")
"""Kinds of values that lie as somebody else says, or nowhere."""


def channels_last_values(graph: Graph, results: bool = False) -> dict[Node, Layout]:
    """The layout of each value that is to lie channels-last; all others, results and operands of scatters and scans among them, lie row
    by row.

    From what convolutions read and write the choice spreads along operators that keep batch and channels apart (elementwise
    ones, normalisations, poolings), so that no kernel reads one order and writes another. With ``results`` as if results might, too.
    """
    found: set[Node] = set()
    roots = [n for _, n in graph.updates] if results else graph.roots
    fixed = {*roots, *(i for node in graph.nodes if node.op.kind in ("scatter", "scan") for i in (node, *node.inputs))}
    stack = [n for node in graph.nodes if node.op.kind == "contract" and node.op.nest is not None for n in _ends(node)]
    while stack:
        node = stack.pop()
        if node in found or node in fixed or node.ndim < 3 or node.op.kind in SOURCES or node.op.name == "relayout":
            continue
        found.add(node)
        stack += [i for i in node.inputs if _alike(node, i) and not _mixes(node)]
        stack += [u for u in graph.users[node] if _alike(u, node) and not _mixes(u)]
    return {n: channels_last(n.ndim) for n in found}


def _mixes(node: Node) -> bool:
    """Whether a node's axes are others than those of its operands, whatever their sizes."""
    return node.op.kind in ("contract", "scatter", "scan") or node.op.name in ("transpose", "reshape", "gather")


def _alike(a: Node, b: Node) -> bool:
    return b.ndim == a.ndim and b.op.kind != "tuple" and a.shape[:2] == b.shape[:2]


def _ends(node: Node) -> Iterator[Node]:
    """The values at both ends of a convolution. One whose batch is summed over is the gradient of a kernel: its result is none."""
    x, kernel = node.inputs
    base, batch = _source(x, 0)
    if batch == 0:
        yield base
        yield node
    elif batch == 1:
        yield base
        base, channels = _source(kernel, 0)
        if channels == 1:
            yield base


def _source(node: Node, axis: int) -> tuple[Node, int | None]:
    """The stored value under views, and which of its axes is this one (None where several have become one)."""
    names = [f"q{i}" for i in range(node.ndim)]
    builder = PointBuilder(dict(zip(names, node.shape, strict=True)), lambda n: n.op.kind in ("view", "identity") and n.op.name != "relayout")
    s = builder.value(node, tuple(sym(n) for n in names))
    if s.op != "load":
        return node, None
    base, index = s.attr
    for i, e in enumerate(index):
        if isinstance(e, Expr) and any(isinstance(b, Sym) and b.name == names[axis] for mono, _ in e.terms for b, _p in mono):
            return base, i
    # an axis of one element leaves no trace: views keep the order of batch and channels unless they exchange them
    return base, axis if node.ndim == base.ndim and node.shape[axis] == base.shape[axis] and node.shape[1 - axis] == base.shape[1 - axis] else None
