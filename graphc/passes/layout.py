"""Storage layouts for the right operands of contractions.

A contraction walks its right operand along N with unit stride. Parameters get panels that suit their first use (in the
graph's order: the forward one) if the graph may choose; every other use, and every computed value, goes through an
explicit ``relayout`` node. For a computed value that is a second store in the kernel that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..ir.dims import Expr, Size, Sym, coefficient, floordiv, sym, symbols
from ..ir.graph import Graph, Input
from ..ir.layout import Layout, channels_last, row_major
from ..ir.node import Node
from ..ir.op import lookup
from ..loops.build import PointBuilder
from ..loops.channels import channels_last_values
from ..loops.nest import Axis, Contract
from ..loops.products import contraction_of

__all__ = ["LayoutChoice", "choose_layouts"]


WIDE = 8
"""Channels from which on a copy of an argument that has them side by side pays."""


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
    graph = _copied_results(graph)
    channels = channels_last_values(graph)

    def panels(base: Node, size: Size) -> int:
        lanes = max(width * 4 // base.dtype.itemsize, 1)
        return lanes if isinstance(size, int) and size <= lanes else 2 * lanes

    def own(slot: Input | None, wanted: Layout) -> bool:
        """Whether a parameter lies in the wanted layout, if need be from now on."""
        if slot is None or slot.role != "param":
            return False
        if slot.name not in chosen and may_choose:
            for name in (slot.name, *partners.get(slot.name, ())):
                chosen[name] = wanted
        return chosen.get(slot.name) == wanted

    def convolution(node: Node, ins: tuple[Node, ...]) -> Node | None:
        """x with its channels side by side; the kernel with the axes of K in the order of the loops and N in panels."""
        x, kernel = ins
        as_read, as_given = _product(node, _views), _product(node, lambda n: n is not node.inputs[1] and _views(n))
        if as_read is None or as_given is None:
            return None
        base = as_read.a.attr[0]
        if base.op.kind == "input" and base.ndim > 2 and not (isinstance(base.shape[1], int) and base.shape[1] < WIDE):
            x = _rebase(x, base, Node.make(lookup("relayout"), (base,), layout=channels_last(base.ndim)))
        right, index = as_read.b.attr
        if not (right in channels and symbols(index[1]) == {as_read.n.name}):
            place = {name: i for i, e in enumerate(as_given.b.attr[1]) for name in symbols(e)}
            order = list(dict.fromkeys(place[a.name] for a in (*as_given.k, as_given.n) if a.name in place))
            rest = [i for i in range(kernel.ndim) if i not in order]
            lanes = panels(kernel, as_given.n.size)
            whole = as_given.n.size == kernel.shape[order[-1]] or floordiv(as_given.n.size, lanes) * lanes == as_given.n.size
            wanted = Layout((*rest, *order), lanes if whole else 0)  # no panel is of two groups
            if not own(by_node.get(kernel), wanted):
                kernel = Node.make(lookup("relayout"), (kernel,), layout=wanted)
        return None if (x, kernel) == ins else Node.make(node.op, (x, kernel), **node.attrs)

    def rule(node: Node, ins: tuple[Node, ...]) -> Node | None:
        if node.op.kind == "contract" and node.op.nest is not None:
            return convolution(node, ins)
        if node.op.name != "dot_general":
            return None
        a, b = ins
        found = _base(b)
        if found is None and _contiguous(b, by_node):
            return None
        base, (k_axis, n_axis) = found or (b, (b.ndim - 2, b.ndim - 1))
        wanted = Layout((*[i for i in range(base.ndim) if i not in (k_axis, n_axis)], k_axis, n_axis), panels(base, b.shape[-1]))
        slot = by_node.get(base)
        if slot is not None and slot.role == "param" and base.ndim == 2:
            if own(slot, wanted):
                return None
        elif found and n_axis == base.ndim - 1 and (base.op.kind == "input" or (isinstance(a.shape[-2], int) and a.shape[-2] <= 8)):
            return None  # contiguous along N as it is, and not read often enough to pay for a copy
        if isinstance(a.shape[-2], int) and a.shape[-2] <= 8 and _widens_alone(graph, b, base):
            # the product widens what it reads once: half the bytes of panels in float32
            moved = Node.make(base.op, (Node.make(lookup("relayout"), base.inputs, layout=wanted),), **base.attrs)
        else:
            moved = Node.make(lookup("relayout"), (base,), layout=wanted)
        return Node.make(node.op, (a, _rebase(b, base, moved)), **node.attrs)

    return LayoutChoice(graph.transform(rule), chosen)


def _copied_results(graph: Graph) -> Graph:
    """Results that their kernels would write channel by channel lie channels-last, and are copied: a kernel that has channels in its lanes
    would write them one by one."""
    ends = channels_last_values(graph, results=True)
    updated = {n for _, n in graph.updates}
    copies = {
        n: Node.make(lookup("relayout"), (n,), layout=row_major(n.ndim))
        for _, n in graph.outputs
        if n in ends and n not in updated and any(s != 1 for s in n.shape[2:]) and not (isinstance(n.shape[1], int) and n.shape[1] < WIDE)
    }
    return graph.with_roots(lambda n: copies.get(n, n)) if copies else graph


def _views(node: Node) -> bool:
    return node.op.kind in ("view", "identity") and node.op.name != "relayout"


def _product(node: Node, inline: Callable[[Node], bool]) -> Contract | None:
    """The contraction that a convolution is, with ``inline`` operands written out."""
    fold = node.op.nest(None, node)  # type: ignore[misc]
    axes = [Axis(f"q{i}", size) for i, size in enumerate((*fold.outer, *fold.inner))]
    at = tuple(0 if a.size == 1 else sym(a.name) for a in axes)
    rank = len(fold.outer)
    value = fold.value(PointBuilder({a.name: a.size for a in axes}, inline), at[:rank], at[rank:])
    live = [a for a in axes if a.size != 1]
    return contraction_of(value, [a for a in live if a in axes[:rank]], [a for a in live if a in axes[rank:]])


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


def _widens_alone(graph: Graph, b: Node, base: Node) -> bool:
    """Whether ``base`` is an input of a storage type in float32 that only the operand ``b`` needs."""
    while True:
        if len(graph.users.get(b, ())) != 1 or b in graph.roots:
            return False
        if b is base:
            return b.op.kind == "elementwise" and b.inputs[0].dtype.is_storage and b.inputs[0].op.kind == "input"
        b = b.inputs[0]


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
