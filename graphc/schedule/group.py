"""A fusion group: the nodes that one kernel computes, and where each stands in the kernel's axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..ir.dims import Expr, Size, Sym
from ..ir.node import Node
from ..loops.nest import Axis, Contract, Scatter
from ..loops.scalar import Scalar, loads

__all__ = ["Decision", "FoldMember", "Group", "axis_name", "canonical", "maker"]


@dataclass(frozen=True)
class Decision:
    """Why two nodes ended up in one kernel, or did not."""

    producer: Node
    consumer: Node
    fused: bool
    reason: str


@dataclass
class FoldMember:
    """A fold inside a group: its scalar, combining instruction and accumulator number."""

    value: Scalar
    combine: str
    neutral: float
    number: int


@dataclass(eq=False)
class Group:
    """Nodes of one kernel. ``index`` is where each member stands in the group's axes, ``body`` its scalar."""

    number: int
    kind: str
    outer: list[Axis] = field(default_factory=list)
    inner: list[Axis] = field(default_factory=list)
    index: dict[Node, tuple[Size, ...]] = field(default_factory=dict)
    body: dict[Node, Scalar] = field(default_factory=dict)
    folds: dict[Node, FoldMember] = field(default_factory=dict)
    full: tuple[Axis, ...] = ()
    """All axes in the order in which full-size members have them."""
    contract: Contract | None = None
    prologue: tuple[Node, ...] = ()
    """What a contraction computes of its operands, on the way."""
    anchor: Node | None = None
    scatter: Scatter | None = None

    @property
    def ranges(self) -> dict[str, Size]:
        return {a.name: a.size for a in (*self.outer, *self.inner)}

    def loads(self) -> Iterable[Scalar]:
        """Every load of every member, operands of the contraction included."""
        roots = [*self.body.values(), *(f.value for f in self.folds.values())]
        if self.contract is not None:
            roots += [self.contract.a, self.contract.b]
        return dict.fromkeys(t for r in roots for t in loads(r))

    def read(self) -> Iterator[Node]:
        """What it reads, by the nodes that make it; a node may come more than once."""
        if self.scatter is not None:
            yield from map(maker, self.scatter.reads)
        elif self.kind == "scan" and self.anchor is not None:
            yield from map(maker, self.anchor.inputs)
        else:
            yield from (maker(t.attr[0]) for t in self.loads())

    def spaces(self) -> list[tuple[Axis, ...]]:
        """The iteration spaces in which a further member may stand: full, or one value an outer point."""
        out = [self.full]
        if self.inner:
            out.append(tuple(a for a in self.full if a in self.outer) if self.full else tuple(self.outer))
        return out


def maker(node: Node) -> Node:
    """The node that computes a value: results of a tuple come from the node behind them."""
    return node.inputs[0] if node.op.kind == "tuple" else node


def canonical(node: Node, idx: tuple[Size, ...]) -> tuple[Size, ...]:
    """An index of a node, with 0 along axes of size 1."""
    return tuple(0 if d == 1 else i for i, d in zip(idx, node.shape, strict=True))


def axis_name(e: Size) -> str | None:
    """The axis that an index is, if it is one and nothing more."""
    if isinstance(e, Expr) and len(e.terms) == 1:
        ((mono, coef),) = e.terms
        if coef == 1 and len(mono) == 1 and mono[0][1] == 1 and isinstance(mono[0][0], Sym):
            return mono[0][0].name
    return None
