"""Prologues: operands of contractions that are computed where they are read, instead of being stored first.

A contraction reads its left operand once for every tile of columns of the result, its right one once for every tile of
rows. An operand that is computed from others is computed that often if it is not stored. So it pays where there are few
tiles (a narrow last layer, a product with one row) or little to do (a cast of bytes); elsewhere storing is cheaper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ir.dims import Size, coefficient, sym
from ..ir.node import Node
from ..loops.nest import Axis
from ..loops.scalar import Scalar, loads, postorder

if TYPE_CHECKING:
    from .groups import Grouping

__all__ = ["find_prologues"]

LOADS = 4
"""Buffers that one computed operand may read: more streams than that are better read once."""


def find_prologues(g: Grouping, order: list[Node]) -> set[Node]:
    """The elementwise nodes that may be computed inside the one contraction that reads them.

    They still become the epilogue of the kernel that makes what they read, where there is one: that computes them once.
    """
    rows, columns = g.limits.tile
    kept = {*g.forced, *g.graph.roots}
    found: set[Node] = set()
    for node in order:
        if node.op.name == "dot_general" and node.dtype.is_float:
            a, b = node.inputs
            for operand, side, tile in ((a, b.shape[-1], columns), (b, a.shape[-2], rows)):
                if isinstance(side, int):
                    found |= _cone(g, node, operand, kept, -(-side // tile), right=operand is b)
    return found


def _cone(g: Grouping, contraction: Node, operand: Node, kept: set[Node], tiles: int, right: bool) -> set[Node]:
    """The elementwise nodes between stored values and ``operand`` that nobody else reads, if it pays to compute them there.

    Nodes in ``kept`` are stored in any case.
    """
    cone: set[Node] = set()
    inside = {contraction}
    stack = [operand]
    while stack:
        n = stack.pop()
        if n in inside or not all(u in inside for u in g.graph.users[n]) or n in kept:
            continue
        if n.op.kind == "elementwise":
            cone.add(n)
        elif not (g.inline(n) and n.op.kind in ("view", "identity")):
            continue
        inside.add(n)
        stack += n.inputs
    if not cone:
        return cone
    axes = [Axis(f"q{i}", s) for i, s in enumerate(operand.shape)]
    builder = g.builder({x.name: x.size for x in axes}, also=cone)
    value = builder.value(operand, tuple(sym(x.name) for x in axes))
    read = loads(value)
    if len({t.attr[0] for t in read}) > LOADS or not all(_walks(g, t, axes, right) for t in read):
        return set()
    work = sum(t.op not in ("load", "const", "arg") and not (g.limits.free_halves and _widens(t)) for t in postorder([value]))
    return cone if work * (tiles - 1) <= g.limits.prologue else set()


def _widens(t: Scalar) -> bool:
    """Whether a value is a 16-bit float as it was loaded."""
    return t.op == "cast" and t.args[0].op == "load" and t.args[0].dtype.is_storage


def _walks(g: Grouping, t: Scalar, axes: list[Axis], right: bool) -> bool:
    """Whether a tile of the operand reads memory by constant strides, with neighbours side by side along one axis."""
    if t.args:
        return False  # conditions: padding
    if g.limits.any_folds:
        return True
    steps: dict[str, Size] = {}
    for e in t.attr[1]:
        for a in axes:
            step = coefficient(e, a.name)
            if step is None:
                return False
            if step != 0:
                steps[a.name] = step
    node, at = t.attr
    index = [at[i] for i in g.layout(node).perm]  # as it lies in memory
    last = coefficient(index[-1], axes[-1].name) if index else 0
    side = coefficient(index[-1], axes[-2].name) if index else 0
    near = last in (0, 1) and (last == 1 or axes[-1].name not in steps)
    return near if right else near or (side == 1 and axes[-1].name in steps)
