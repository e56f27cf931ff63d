"""From fusion groups to nests: scalars are inlined inside a group, sorted into stages, and addresses made flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..ir.dims import Size, coefficient, substitute, symbols
from ..ir.layout import Layout, row_major
from ..ir.node import Node
from ..ir.types import Shape
from ..loops import scalar as s
from ..loops.nest import Acc, Axis, Nest, Stage, Write
from ..loops.scalar import Scalar, postorder
from .group import Group

__all__ = ["Place", "build_nest", "collapse", "resolve"]


def build_nest(group: Group, stored: set[Node]) -> Nest:
    """The nest of a group; ``stored`` are the members that other kernels or the user read."""
    if group.scatter is not None:
        return Nest("scatter", group.scatter.out.op.name, (), (), (), scatter=group.scatter, nodes=(group.scatter.out,))
    ready: dict[Node, Scalar] = {}
    avail: dict[int, int] = {}
    memo: dict[Scalar, int] = {}

    def inlined(root: Scalar) -> Scalar:
        return s.replace(root, lambda t: ready[t.attr[0]] if t.op == "load" and t.attr[0] in ready else None)

    def stage_of(value: Scalar) -> int:
        for t in postorder([value], memo):
            here = avail[t.attr] if t.op == "acc" else 0
            memo[t] = max([here, *(memo[a] for a in s.operands(t))])
        return memo[value]

    accs: list[tuple[int, Acc]] = []
    writes: list[tuple[int, bool, Write]] = []
    inner = {a.name for a in group.inner}
    if group.contract is not None:
        avail[0] = 0
    for node, idx in group.index.items():
        if node in group.folds:
            f = group.folds[node]
            value = inlined(f.value)
            stage = stage_of(value)
            accs.append((stage, Acc(f.number, f.combine, f.neutral, value)))
            avail[f.number] = stage + 1
            ready[node] = Scalar.make("acc", (), node.dtype, f.number)
        elif node in group.body:
            ready[node] = inlined(group.body[node])
        else:
            ready[node] = Scalar.make("acc", (), node.dtype, 0)
        if node in stored:
            value = ready[node]
            at = set().union(*(symbols(e) for e in idx)) if idx else set()
            writes.append((stage_of(value), bool(at & inner), Write(node, idx, value)))
    last = max([st for st, *_ in writes] + [st for st, _ in accs], default=0)
    stages = tuple(
        Stage(
            tuple(w for st, loop, w in writes if st == k and not loop),
            tuple(a for st, a in accs if st == k),
            tuple(w for st, loop, w in writes if st == k and loop),
        )
        for k in range(last + 1)
    )
    nodes = tuple(group.index)
    name = f"{_name(group.prologue)}_into_{_name(nodes)}" if group.prologue else _name(nodes)
    nodes = (*group.prologue, *nodes)
    return Nest(group.kind, name, tuple(group.outer), tuple(group.inner), stages, group.contract, nodes=nodes, values=tuple(ready.items()))


def _name(nodes: tuple[Node, ...]) -> str:
    words: list[str] = []
    for n in nodes:
        if n.op.name not in words:
            words.append(n.op.name)
    return "_".join(words[:4]) + (f"_{len(words) - 4}more" if len(words) > 4 else "")


@dataclass(frozen=True)
class Place:
    """Where a value lies: a layout of ``shape``, of which the value is the part at index ``prefix``."""

    layout: Layout
    shape: Shape
    prefix: tuple[Size, ...] = ()


def resolve(nest: Nest, places: Mapping[Node, Place]) -> Nest:
    """The nest with every load and write at one flat address of its buffer's layout, and axes collapsed where possible."""
    ranges = nest.ranges

    def address(node: Node, idx: tuple[Size, ...]) -> tuple[Size]:
        place = places.get(node) or Place(row_major(node.ndim), node.shape)
        return (place.layout.address((*place.prefix, *idx), place.shape, ranges),)

    shared: dict[Scalar, Scalar] = {}

    def flat(root: Scalar) -> Scalar:
        def swap(t: Scalar) -> Scalar | None:
            if t.op == "load":
                return Scalar.make("load", t.args, t.dtype, (t.attr[0], address(*t.attr)))
            return None

        return s.replace(root, swap, image=shared)

    stages = tuple(
        Stage(
            tuple(Write(w.node, address(w.node, w.index), flat(w.value)) for w in st.points),
            tuple(replace(a, value=flat(a.value)) for a in st.accs),
            tuple(Write(w.node, address(w.node, w.index), flat(w.value)) for w in st.writes),
        )
        for st in nest.stages
    )
    contract = nest.contract and replace(nest.contract, a=flat(nest.contract.a), b=flat(nest.contract.b))
    values = tuple((n, flat(v)) for n, v in nest.values)
    return collapse(replace(nest, stages=stages, contract=contract, values=values))


def collapse(nest: Nest) -> Nest:
    """Neighbouring axes that every address walks as one become one: longer vector loops, fewer divisions."""
    if nest.contract is not None:
        return nest
    outer, inner = _without_ones(nest.outer), _without_ones(nest.inner)
    nest = replace(nest, outer=outer, inner=inner)
    for parallel in (True, False):
        i = 0
        while i + 1 < len(axes := nest.outer if parallel else nest.inner):
            merged = _merge(nest, axes[i], axes[i + 1])
            if merged is None:
                i += 1
                continue
            left = (*axes[:i], Axis(axes[i + 1].name, axes[i].size * axes[i + 1].size), *axes[i + 2 :])
            nest = replace(merged, outer=left) if parallel else replace(merged, inner=left)
            i = max(i - 1, 0)
    return nest


def _without_ones(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return tuple(a for a in axes if a.size != 1)


def _merge(nest: Nest, a: Axis, b: Axis) -> Nest | None:
    """``a`` and ``b`` as one axis named like ``b``, or None where an index expression tells them apart."""
    expressions = [w.index[0] for w in nest.writes()]
    for t in postorder(nest.roots()):
        if t.op == "load":
            expressions += t.attr[1]
        elif t.op == "index":
            expressions.append(t.attr)
    for e in expressions:
        ca, cb = coefficient(e, a.name), coefficient(e, b.name)
        if ca is None or cb is None or ca != cb * b.size:
            return None
    values: dict[str, Size] = {a.name: 0}
    shared: dict[Scalar, Scalar] = {}

    def sub(root: Scalar) -> Scalar:
        return s.substitute_scalar(root, values, image=shared)

    def move(w: Write) -> Write:
        return Write(w.node, tuple(substitute(e, values) for e in w.index), sub(w.value))

    stages = tuple(
        Stage(tuple(move(w) for w in st.points), tuple(replace(x, value=sub(x.value)) for x in st.accs), tuple(move(w) for w in st.writes))
        for st in nest.stages
    )
    return replace(nest, stages=stages, values=tuple((n, sub(v)) for n, v in nest.values))
