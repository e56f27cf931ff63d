"""Work and memory of nodes, from the records: multiply-adds and operations, through composites and bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ..ir.dims import Size, evaluate, floordiv
from ..ir.graph import Graph
from ..ir.node import Node, toposort
from ..ir.types import TensorType, TupleType
from ..passes.decompose import decomposition

if TYPE_CHECKING:
    from ..schedule.program import Schedule

__all__ = ["Cost", "KernelCost", "bodies", "cost_of", "flops", "macs", "macs_by_scope", "nbytes", "show_amount", "show_bytes"]

FREE = ("input", "const", "view", "identity", "tuple", "gather")


def bodies(node: Node) -> list[tuple[str, Graph]]:
    """The graphs that a node holds: a scan's body, by the names of the attributes."""
    return [(k, v) for k, v in sorted(node.attrs.items()) if isinstance(v, Graph)]


def _inner(node: Node) -> Iterator[Node]:
    """The nodes of a composite's decomposition."""
    operands = set(node.inputs)
    return (n for n in toposort(decomposition(node), operands) if n not in operands)


def macs(node: Node, memo: dict[Node, Size] | None = None) -> Size:
    """Multiply-adds of one node: of its contractions, for a composite those of its decomposition."""
    memo = {} if memo is None else memo
    if node in memo:
        return memo[node]
    total: Size = 0
    if node.op.kind == "contract" and node.op.flops is not None:
        total = floordiv(node.op.flops(node), 2)
    elif node.op.kind == "composite" and node.op.decompose is not None:
        for inner in _inner(node):
            total = total + macs(inner, memo)
    for _, body in bodies(node):
        for inner in body.nodes:
            total = total + macs(inner, memo) * node.attrs.get("length", 1)
    memo[node] = total
    return total


def flops(node: Node, memo: dict[Node, Size] | None = None) -> Size:
    """Operations of one node: two for each product of a contraction, the record's instructions an element for what is computed
    element by element, one an element for a fold; views and copies have none. Composites and scans have those inside them."""
    memo = {} if memo is None else memo
    if node in memo:
        return memo[node]
    total: Size = 0
    if node.op.kind == "composite":
        for inner in _inner(node):
            total = total + flops(inner, memo)
    elif node.op.kind == "scan" or bodies(node):
        for _, body in bodies(node):
            for inner in body.nodes:
                total = total + flops(inner, memo) * node.attrs.get("length", 1)
    elif node.op.flops is not None:
        total = node.op.flops(node)
    elif node.op.kind == "reduce":
        total = node.inputs[0].size
    elif node.op.kind not in FREE and isinstance(node.type, TensorType):
        total = node.size * max(node.op.cost, 1)
    memo[node] = total
    return total


def nbytes(node: Node) -> Size:
    """Bytes of a node's value or values."""
    if not isinstance(node.type, TupleType):
        return node.type.nbytes
    total: Size = 0
    for t in node.type.items:
        total = total + t.nbytes
    return total


def macs_by_scope(graph: Graph) -> dict[str, Size]:
    """Multiply-adds of each module path; a node that comes from several modules counts for each."""
    return _by_scope(graph, macs)


def _by_scope(graph: Graph, count: Any) -> dict[str, Size]:
    memo: dict[Node, Size] = {}
    found: dict[str, Size] = {}
    for node in graph.nodes:
        work = count(node, memo)
        if isinstance(work, int) and work == 0:
            continue
        for scope in graph.provenance.scopes(node) or [""]:
            found[scope] = found.get(scope, 0) + work
    return found


# -- of a whole program ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class KernelCost:
    """One launch: its nest's name and kind, operations, bytes read and written, and how often it runs."""

    name: str
    kind: str
    flops: int
    bytes: int
    times: int

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Cost:
    """Work and traffic of one run for one value of every named dim."""

    dims: Mapping[str, int]
    kernels: tuple[KernelCost, ...]
    scopes: Mapping[str, int]
    """Operations of each module path."""

    @property
    def flops(self) -> int:
        return sum(k.flops * k.times for k in self.kernels)

    @property
    def bytes(self) -> int:
        return sum(k.bytes * k.times for k in self.kernels)

    def rows(self) -> list[KernelCost]:
        """The launches, most work first."""
        return sorted(self.kernels, key=lambda k: -k.flops * k.times)

    def __str__(self) -> str:
        sizes = ", ".join(f"{k} = {v}" for k, v in self.dims.items())
        head = f"{show_amount(self.flops)} operations, {show_bytes(self.bytes)} moved, {len(self.kernels)} kernel launches"
        lines = [head + (f"  ({sizes})" if sizes else "")]
        width = max((len(k.name) for k in self.kernels), default=0)
        for k in self.rows()[:12]:
            often = f"  x{k.times}" if k.times > 1 else ""
            lines.append(
                f"  {k.name:<{width}}  {k.kind:<8}  {show_amount(k.flops):>8} operations  {show_bytes(k.bytes):>9}  {k.intensity:7.1f} a byte{often}"
            )
        if len(self.kernels) > 12:
            lines.append(f"  and {len(self.kernels) - 12} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{escape(k.name)}</td><td>{k.kind}</td><td>{show_amount(k.flops)}</td><td>{show_bytes(k.bytes)}</td>"
            f"<td>{k.intensity:.1f}</td><td>{k.times}</td></tr>"
            for k in self.rows()
        )
        head = "".join(f"<th>{h}</th>" for h in ("kernel", "kind", "operations", "bytes", "operations a byte", "times"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cost_of(schedule: Schedule, dims: Mapping[str, int]) -> Cost:
    """The cost of a schedule, launch by launch."""
    from ..schedule.program import Check, Launch

    memo: dict[Node, Size] = {}
    rows: list[KernelCost] = []

    def walk(items: Any, times: int) -> None:
        for i in items:
            if isinstance(i, Launch):
                work = sum(evaluate(flops(n, memo), dims) for n in i.nest.nodes)
                moved = sum(evaluate(b.nbytes, dims) for b in (*i.reads, *i.writes))
                rows.append(KernelCost(i.nest.name, i.nest.kind, work, moved, times))
            elif not isinstance(i, Check):
                walk(i.body, times * evaluate(i.count, dims))

    walk(schedule.items, 1)
    scopes = {k: evaluate(v, dims) for k, v in _by_scope(schedule.graph, flops).items()}
    return Cost(dict(dims), tuple(rows), scopes)


def show_amount(n: float) -> str:
    """A count in thousands, millions and so on: ``1.23 M``."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(n) < 1000:
            return f"{n:.0f}" if not unit else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} P"


def show_bytes(n: float) -> str:
    """Bytes in KiB, MiB and so on."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
