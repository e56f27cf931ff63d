"""Storage layouts for the right operands of contractions.

A contraction walks its right operand along N with unit stride. Parameters get panels that suit their first use (in the
graph's order: the forward one) if the graph may choose; every other use, and every computed value, goes through an
explicit ``relayout`` node. For a computed value that is a second store in the kernel that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..ir.dims import Expr, Sym, coefficient, sym
from ..ir.graph import Graph
from ..ir.layout import Layout
from ..ir.node import Node
from ..ir.op import lookup
from ..loops.build import PointBuilder

__all__ = ["LayoutChoice", "choose_layouts"]


@dataclass
class LayoutChoice:
    """The result: the graph with relayouts, and the layouts of params and state by name."""

    graph: Graph
    slots: dict[str, Layout] = field(default_factory=dict)


def choose_layouts(graph: Graph, slots: Mapping[str, Layout], *, width: int, may_choose: bool) -> LayoutChoice:
    """``slots`` are layouts that are fixed already; ``width`` is the vector width in float32 lanes (0: this
    target reads its operands as they are)."""
    chosen = dict(slots)
    if not width:
        return LayoutChoice(graph, chosen)
    by_node = {i.node: i for i in graph.inputs if i.role != "arg"}
    partners = _partners(graph)

    def rule(node: Node, ins: tuple[Node, ...]) -> Node | None:
        if node.op.name != "dot_general":
            return None
        a, b = ins
        found = _base(b)
        if found is None and _contiguous(b, by_node):
            return None
        base, (k_axis, n_axis) = found or (b, (b.ndim - 2, b.ndim - 1))
        lanes = max(width * 4 // base.dtype.itemsize, 1)
        n = b.shape[-1]
        panel = lanes if isinstance(n, int) and n <= lanes else 2 * lanes
        wanted = Layout((*[i for i in range(base.ndim) if i not in (k_axis, n_axis)], k_axis, n_axis), panel)
        slot = by_node.get(base)
        if slot is not None and slot.role == "param" and base.ndim == 2:
            if slot.name not in chosen and may_choose:
                for name in (slot.name, *partners.get(slot.name, ())):
                    chosen[name] = wanted
            if chosen.get(slot.name) == wanted:
                return None
        elif found and n_axis == base.ndim - 1 and (base.op.kind == "input" or (isinstance(a.shape[-2], int) and a.shape[-2] <= 8)):
            return None  # contiguous along N as it is, and not read often enough to pay for a copy
        moved = Node.make(lookup("relayout"), (base,), layout=wanted)
        return Node.make(node.op, (a, _rebase(b, base, moved)), **node.attrs)

    return LayoutChoice(graph.transform(rule), chosen)


def _base(b: Node) -> tuple[Node, tuple[int, int]] | None:
    """The stored value under an operand's views and its (K, N) axes; None where the views mix axes."""
    base = b
    while base.op.kind in ("view", "identity") and len(base.inputs) == 1 and base.op.name != "relayout":
        base = base.inputs[0]
    if base.op.kind == "const" or base.ndim < 2:
        return None
    names = [f"q{i}" for i in range(b.ndim)]
    builder = PointBuilder(dict(zip(names, b.shape, strict=True)), lambda n: n is not base and n.op.kind in ("view", "identity"))
    s = builder.value(b, tuple(sym(n) for n in names))
    if s.op != "load" or s.args:
        return None
    where: dict[str, int] = {}
    for axis, e in enumerate(s.attr[1]):
        if isinstance(e, int) and e == 0:
            continue
        if not (
            isinstance(e, Expr)
            and len(e.terms) == 1
            and e.terms[0][1] == 1
            and len(e.terms[0][0]) == 1
            and isinstance(e.terms[0][0][0][0], Sym)
        ):
            return None
        where[e.terms[0][0][0][0].name] = axis
    k, n = where.get(names[-2]), where.get(names[-1])
    if n is None or k is None:
        return None
    return base, (k, n)


def _contiguous(b: Node, slots: Mapping[Node, object]) -> bool:
    """Whether neighbours along N lie side by side, or will: what no single load gives is stored as it is."""
    names = [f"q{i}" for i in range(b.ndim)]
    builder = PointBuilder(dict(zip(names, b.shape, strict=True)), lambda n: n.op.kind in ("view", "identity") and n.op.name != "relayout")
    s = builder.value(b, tuple(sym(n) for n in names))
    if s.op != "load" or s.args or b.shape[-1] == 1:
        return True
    base, index = s.attr
    return base not in slots and coefficient(builder.flat(index, base.shape), names[-1]) == 1


def _rebase(node: Node, old: Node, new: Node) -> Node:
    if node is old:
        return new
    return Node.make(node.op, (_rebase(node.inputs[0], old, new),), **node.attrs)


def _partners(graph: Graph) -> dict[str, list[str]]:
    """State of a parameter's shape that is updated beside it (its moments): it shares the parameter's layout."""
    out: dict[str, list[str]] = {}
    params = [i for i in graph.inputs if i.role == "param"]
    for i in graph.inputs:
        if i.role == "state":
            for p in params:
                if i.name.endswith("." + p.name) and i.node.type == p.node.type:
                    out.setdefault(p.name, []).append(i.name)
    return out
