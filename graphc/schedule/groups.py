"""Fusion groups: which nodes one kernel computes, decided on index maps, with a sentence for every decision.

Nodes are placed one by one, in order of depth. A node may join only the *latest* group among its producers' groups: then
every other producer stands in an earlier group, so the order of groups is always an order of execution and a cycle cannot
arise. Whether it may join is a question of index maps: every value it reads inside the group must be read at the very
index at which the group computes it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..errors import CompileError
from ..ir.dims import Expr, FloorDiv, Size, Sym, atom, coefficient, floordiv, prod, substitute, sym, symbols
from ..ir.graph import Graph
from ..ir.layout import Layout, row_major
from ..ir.node import Node, toposort
from ..loops.build import PointBuilder
from ..loops.nest import Axis, Contract, Scatter
from ..loops.products import any_contraction_of, contraction_of
from ..loops.scalar import Scalar, loads, postorder, scalar_symbols, substitute_scalar
from .group import Decision, FoldMember, Group, axis_name, canonical, maker
from .limits import Limits
from .merging import merge_groups
from .prologues import find_prologues
from .updates import UpdatePaths

SIBLINGS = 8
"""How many of the last groups are looked at for one that reads the same values."""

__all__ = ["Grouping", "group_graph"]


class Grouping:
    """The result: groups in a valid order of execution, who is where, and why."""

    def __init__(self, graph: Graph, trip: Size = 0, limits: Limits | None = None, layouts: Mapping[Node, Layout] | None = None):
        self.graph = graph
        self.trip = trip
        self.limits = limits or Limits()
        self.layouts = layouts or {}
        self.paths = UpdatePaths(graph)
        self.groups: list[Group] = []
        self.home: dict[Node, Group] = {}
        self.decisions: list[Decision] = []
        self.counter = 0
        self.forced: set[Node] = set()
        """Views that must be real buffers: outputs, and operands whose index map no stride describes."""
        self.sunk: set[Node] = set()
        """Nodes that are computed wherever they are read: cheap ones, and prologues of contractions."""
        self.prologues: set[Node] = set()
        """Nodes that may be computed inside the contraction that reads them, unless a kernel before it takes them."""

    # -- helpers -----------------------------------------------------------------------------------------------------
    def inline(self, node: Node) -> bool:
        if node in self.forced:
            return False
        kind = node.op.kind
        if kind in ("view", "identity"):
            return True
        if kind == "const":
            return node.ndim == 0
        if kind == "generate":
            return node.op.cost <= self.limits.cheap
        return node in self.sunk

    def layout(self, node: Node) -> Layout:
        """How a value will lie in memory."""
        if node.op.name == "relayout":
            return node.attrs["layout"]  # type: ignore[no-any-return]
        return self.layouts.get(node) or row_major(node.ndim)

    def builder(self, ranges: dict[str, Size], also: Container[Node] = ()) -> PointBuilder:
        """A builder that writes out inline nodes, and those in ``also``."""
        return PointBuilder(ranges, lambda n: n in also or self.inline(n), self.trip)

    def axes(self, sizes: Iterable[Size]) -> list[Axis]:
        out = []
        for s in sizes:
            out.append(Axis(f"i{self.counter}", s))
            self.counter += 1
        return out

    def new_group(self, kind: str) -> Group:
        g = Group(len(self.groups), kind)
        self.groups.append(g)
        return g

    def note(self, producer: Node, consumer: Node, fused: bool, reason: str) -> None:
        self.decisions.append(Decision(producer, consumer, fused, reason))

    def targets(self, s: Scalar | Iterable[Scalar]) -> list[Node]:
        """The nodes that a scalar loads, each once."""
        roots = [s] if isinstance(s, Scalar) else list(s)
        return list(dict.fromkeys(t.attr[0] for r in roots for t in loads(r)))

    def latest(self, nodes: Iterable[Node]) -> Group | None:
        homes = [self.home[m] for m in map(maker, nodes) if m in self.home]
        return max(homes, key=lambda g: g.number, default=None)


def index_of(shape: tuple[Size, ...], space: tuple[Axis, ...]) -> tuple[Size, ...] | None:
    """The index of a node of ``shape`` in a space: axes are matched in order, sizes of 1 stand at 0."""
    real = [a for a in space if a.size != 1]
    out: list[Size] = []
    for d in shape:
        if d == 1:
            out.append(0)
        elif real and real[0].size == d:
            out.append(sym(real.pop(0).name))
        else:
            return None
    return tuple(out) if not real else None


def group_graph(graph: Graph, trip: Size = 0, limits: Limits | None = None, layouts: Mapping[Node, Layout] | None = None) -> Grouping:
    """Places every node of a decomposed graph. ``layouts`` are those of values that do not lie row by row."""
    g = Grouping(graph, trip, limits, layouts)
    order = _by_depth(graph)
    _force_views(g, order)
    _sink_cheap(g, order)
    g.prologues = find_prologues(g, order)
    for node in order:
        kind = node.op.kind
        if kind in ("input", "tuple") or g.inline(node) or (kind == "const" and node not in g.forced):
            continue
        if node.op.name == "dot_general":
            _place_contract(g, node)
        elif kind == "reduce" or (kind == "contract" and node.op.nest is not None):
            _place_fold(g, node)
        elif kind == "scatter":
            _place_scatter(g, node)
        elif kind == "scan":
            group = g.new_group("scan")
            group.anchor = node
            g.home[node] = group
        elif node.op.lower is not None:
            _place_point(g, node)
        else:
            raise CompileError(
                f"{node.op.name} cannot be compiled: its record has neither lower= nor nest=", hint='target="reference" runs it'
            )
    merge_groups(g)
    return g


def _by_depth(graph: Graph) -> list[Node]:
    depth: dict[Node, int] = {}
    for n in graph.nodes:
        depth[n] = 1 + max((depth[i] for i in n.inputs), default=0)
    place = {n: i for i, n in enumerate(graph.nodes)}
    return sorted(graph.nodes, key=lambda n: (depth[n], place[n]))


def _force_views(g: Grouping, order: list[Node]) -> None:
    leaves = {i.node for i in g.graph.inputs}
    for root in g.graph.roots:
        if root in leaves or g.inline(root) or root.op.kind in ("const", "tuple"):
            g.forced.add(root)
    for node in order:
        if node.op.name == "dot_general":
            for operand in node.inputs:
                if not _strided(g, operand):
                    g.forced.add(operand)
        elif node.op.kind in ("scatter", "scan"):
            g.forced.update(i for i in node.inputs[node.op.kind == "scatter" :] if g.inline(i))
        elif node.op.name == "relayout":
            g.forced.add(node)
    for node in order:  # when it is known what else is stored: a number that a scan starts from is no part of a text
        if node.op.kind == "scatter" and g.inline(node.inputs[0]) and _number(g, node.inputs[0]) is None:
            g.forced.add(node.inputs[0])


def _strided(g: Grouping, operand: Node) -> bool:
    """Whether an operand is a bare load with an affine address, so that strides describe it.

    Axes that a reshape has merged are no affine index, but may well be an affine address of what lies row by row.
    """
    if not g.inline(operand):
        return True
    axes = [Axis(f"q{i}", s) for i, s in enumerate(operand.shape)]
    b = g.builder({a.name: a.size for a in axes})
    s = b.value(operand, tuple(sym(a.name) for a in axes))
    names = {a.name for a in axes}
    if s.op != "load" or s.args:
        return False
    node, index = s.attr
    if all(_affine(e, names) for e in index):
        return True
    rows = {i.node for i in g.graph.inputs if i.role != "arg"}  # what has a storage layout of its own does not lie row by row
    if node in rows or node.op.name == "relayout":
        return False
    plain = row_major(node.ndim)
    return all(_affine(lay.address(index, node.shape, b.ranges), names) for lay in (plain, replace(plain, pad=g.limits.line)))


def _affine(e: Size, axes: set[str]) -> bool:
    """Whether no axis hides in a floor division or a loaded value."""
    return isinstance(e, int) or all(
        isinstance(b, Sym) or not (symbols(atom(b)) & axes or isinstance(b, Scalar)) for mono, _ in e.terms for b, _p in mono
    )


def _base(g: Grouping, node: Node) -> Node:
    while g.inline(node) and node.op.kind in ("view", "identity") and len(node.inputs) == 1:
        node = node.inputs[0]
    return node


def _sink_cheap(g: Grouping, order: list[Node]) -> None:
    """Elementwise nodes of one stored value are cheaper to compute again than to store: ``h > 0`` beside h."""
    stored = {i.node for i in g.graph.inputs} | {n for n in order if n.op.kind in ("const", "tuple")}
    for node in order:
        if node.op.kind in ("contract", "scatter", "scan"):
            stored |= {_base(g, i) for i in node.inputs}
    roots = set(g.graph.roots)
    for node in order:
        if node.op.kind != "elementwise" or node.op.cost > g.limits.cheap or node in roots or node in stored or node in g.forced:
            continue
        if node.inputs[0].dtype.is_storage:  # widened where it is read: what lies in memory has half the bytes
            g.sunk.add(node)
            continue
        axes = [Axis(f"q{i}", s) for i, s in enumerate(node.shape)]
        s = g.builder({a.name: a.size for a in axes}).define(node, tuple(sym(a.name) for a in axes))
        read = loads(s)
        big = [t for t in read if any(isinstance(e, Expr) for e in t.attr[1])]
        if len(big) > 1 or any(t.attr[0] not in stored for t in read):
            continue
        body = postorder([s])
        work = (
            sum(t.op not in ("load", "const", "index", "arg") and bool(scalar_symbols(t)) for t in body)
            if len(body) <= 10 * g.limits.cheap
            else len(body)
        )
        if work <= g.limits.cheap:
            g.sunk.add(node)
            for t in read:
                g.note(t.attr[0], node, True, f"{work} instructions on a value that is stored anyway: computed where it is read")


# -- placing ------------------------------------------------------------------------------------------------------------
def _place_point(g: Grouping, node: Node) -> None:
    probe = g.axes(node.shape)
    at = tuple(sym(a.name) for a in probe)
    body = g.builder({a.name: a.size for a in probe}).define(node, at)
    producers = g.targets(body)
    home = g.latest(producers)
    copied = node in g.prologues and all(p.op.name == "relayout" for p in producers)  # the layout is for what lies there as it is
    copied |= node.op.name == "relayout" and node in g.graph.roots and any(p in g.layouts for p in producers)  # in blocks, of which both sides are rows
    if home is not None and not copied:
        reason = _join_point(g, home, node, probe, body)
        for p in producers:
            if g.home.get(p) is home:
                g.note(p, node, not reason, reason or f"read at the index where it is made: same {home.kind} kernel")
        if not reason:
            return
    if node in g.prologues:
        g.sunk.add(node)
        return
    if _join_sibling(g, home, node, probe, body):
        return
    group = g.new_group("map")
    parts = [_divided(g, body, a) if node in g.forced and g.layout(node).is_row_major else [a] for a in probe]
    group.outer = [a for part in parts for a in part if a.size != 1]
    group.full = tuple(group.outer)
    idx = tuple(_position_in(part) for part in parts)
    group.index[node] = idx
    group.body[node] = g.builder(group.ranges).define(node, idx)
    group.anchor = node
    g.home[node] = group


def _divided(g: Grouping, body: Scalar, a: Axis) -> list[Axis]:
    """An axis of a copy as several, where what is read divides its index: a reshape of what does not lie row by row. Runs as long as a
    tile's rows stay one axis: lanes do not reach over their ends."""
    sizes = sorted(d for d in _divisors(body, a.name) if isinstance(a.size, int) and a.size % d == 0)
    if all(d % g.limits.tile[1] == 0 for d in sizes) or any(y % x for x, y in pairwise(sizes)):
        return [a]
    bounds = [1, *sizes, a.size]
    return g.axes(floordiv(high, low) for low, high in reversed(list(pairwise(bounds))))


def _divisors(body: Scalar, name: str) -> set[int]:
    """The numbers by which loads divide an axis."""
    atoms = [b for t in loads(body) for e in t.attr[1] if isinstance(e, Expr) for mono, _ in e.terms for b, _p in mono]
    found: set[int] = set()
    for b in atoms:
        if isinstance(b, FloorDiv):
            if isinstance(b.num, Expr):
                atoms += [c for mono, _ in b.num.terms for c, _p in mono]
            if isinstance(b.den, int) and name in symbols(b.num):
                found.add(b.den)
    return found


def _position_in(axes: list[Axis]) -> Size:
    at: Size = 0
    for a in axes:
        at = at * a.size + (0 if a.size == 1 else sym(a.name))
    return at


def _join_sibling(g: Grouping, home: Group | None, node: Node, probe: list[Axis], body: Scalar) -> bool:
    """Puts a node beside others that read what it reads, in step with them: one pass over memory for all of them.

    Groups run in the order of their numbers, so any map behind the node's producers will do, if none of its members needs
    the old value of a parameter that another one updates in place.
    """
    names = {a.name for a in probe if a.size != 1}
    for t in loads(body):
        value = t.attr[0]
        if t.args or not names or set().union(*map(symbols, t.attr[1])) != names:
            continue
        for group in reversed(g.groups[home.number + 1 if home else 0 :][-SIBLINGS:]):
            if group.kind != "map" or len(group.full) != len(names):
                continue
            read = set(group.loads())
            before = {x for x in read if x.attr[0] is value}
            old = {x.attr[0] for x in loads(body)}
            if before and not g.paths.clash(old, {x.attr[0] for x in read}, node, group.index):
                if not _join_point(g, group, node, probe, body):
                    if any(_side_by_side(a, b) for a in before for b in loads(group.body[node])):
                        g.note(value, node, True, f"{value.op.name} is read by a {group.kind} kernel at the same index: one pass for both")
                        return True
                    del group.index[node], group.body[node], g.home[node]
    return False


def _side_by_side(a: Scalar, b: Scalar) -> bool:
    """Whether two loads walk one value in step: at the same index, or a constant distance apart (the gates of a cell)."""
    return a.attr[0] is b.attr[0] and all(isinstance(x - y, int) for x, y in zip(a.attr[1], b.attr[1], strict=True))


def _join_point(g: Grouping, home: Group, node: Node, probe: list[Axis], body: Scalar) -> str:
    """Puts a node into a group; returns "" or the reason why it cannot stand there."""
    if home.kind not in ("map", "row", "contract"):
        return f"a {home.kind} has no epilogue"
    if len(home.index) >= g.limits.nodes:
        return f"the kernel has {g.limits.nodes} nodes already"
    reason = "their shapes are no common iteration space"
    for idx in _candidates(home, node, probe, body):
        here = g.builder(home.ranges).define(node, idx)
        clash = _misread(home, [here])
        if clash is None:
            read = {t.attr[0] for b in (here, *home.body.values()) for t in loads(b)}
            if len(read - home.index.keys()) > g.limits.loads:
                return f"the kernel would read more than {g.limits.loads} buffers"
            if home.kind == "contract" and not all(
                g.paths.alone(t.attr[0], node, g.inline) for t in loads(here) if t.attr[0] in home.index
            ):
                return "the gradient is read by others than the update (returned or accumulated): it is stored, and the update is a kernel of its own"
            home.index[node] = idx
            home.body[node] = here
            g.home[node] = home
            return ""
        reason = f"{clash.op.name} is read at another index than the one where it is made"
    return reason


def _candidates(home: Group, node: Node, probe: list[Axis], body: Scalar) -> Iterable[tuple[Size, ...]]:
    """Indices at which a node could stand in a group: first the one that its reads ask for, then by matching shapes.

    A read of a member at (j, i) where the group has it at (a, b) says j = a and i = b: so a transposed reader stands
    transposed. A read at (j * J + i, k) says that a reshaped reader stands at (a // J, a % J, b): row-major addresses make
    one walk of that. Axes that no read settles (broadcast operands) take the remaining axes of the group in order.
    """
    names = {a.name: a for a in probe if a.size != 1}
    sizes = {a.name: a.size for a in home.full}
    mapping: dict[str, Size] = {}
    for t in loads(body):
        if t.attr[0] in home.index:
            for mine, theirs in zip(t.attr[1], canonical(t.attr[0], home.index[t.attr[0]]), strict=True):
                here, there = axis_name(mine), axis_name(theirs)
                if here in names:
                    mapping.setdefault(here, theirs)
                elif here is None and there in sizes and not symbols(mine) & mapping.keys():
                    mapping |= _split(mine, names, there, sizes[there])
    taken = set().union(*map(symbols, mapping.values()))
    for space in home.spaces():
        left = [a for a in space if a.size != 1 and a.name not in taken]
        out: list[Size] = []
        for a in probe:
            at = mapping.get(a.name)
            if a.size == 1:
                out.append(0)
            elif at is not None and at not in out and sizes.get(axis_name(at) or "", a.size) == a.size:
                out.append(at)  # (two axes on one of the group would be the diagonal)
            elif at is None and left and left[0].size == a.size:
                out.append(sym(left.pop(0).name))
            else:
                break
        else:
            if not left:
                yield tuple(out)
        plain = index_of(node.shape, space)
        if plain is not None and plain != tuple(out):
            yield plain


def _split(e: Size, axes: dict[str, Axis], name: str, size: Size) -> dict[str, Size]:
    """Where axes stand that ``e`` walks in row-major order, when ``e`` is the axis ``name`` of a group; {} if it is no such walk."""
    left = {a: step for a in axes if (step := coefficient(e, a)) is not None and step != 0}
    rest: Size = e
    run: Size = 1
    at = sym(name)
    out: dict[str, Size] = {}
    while left:
        a = next((a for a, step in left.items() if step == run), None)
        if a is None:
            return {}
        wide = run * axes[a].size
        out[a] = floordiv(at, run, {name: size}) - axes[a].size * floordiv(at, wide, {name: size})
        rest, run = rest - sym(a) * left.pop(a), wide
    return out if len(out) > 1 and rest == 0 and run == size else {}


def _misread(home: Group, roots: Iterable[Scalar]) -> Node | None:
    """A member that is read at an index where the group does not have it, or before it is complete."""
    for t in (t for r in roots for t in loads(r)):
        if t.attr[0] in home.index and (t.args or t.attr[1] != canonical(t.attr[0], home.index[t.attr[0]])):
            return t.attr[0]  # type: ignore[no-any-return]
    return None


def _place_fold(g: Grouping, node: Node) -> None:
    fold = node.op.nest(None, node)  # type: ignore[misc]
    outer, inner = g.axes(fold.outer), g.axes(fold.inner)
    zero = {a.name for a in (*outer, *inner) if a.size == 1}

    def at(axes: list[Axis]) -> tuple[Size, ...]:
        return tuple(0 if a.name in zero else sym(a.name) for a in axes)

    builder = g.builder({a.name: a.size for a in (*outer, *inner)})
    value = fold.value(builder, at(outer), at(inner))
    place = fold.place(at(outer))
    live_outer = [a for a in outer if a.size != 1]
    live_inner = [a for a in inner if a.size != 1]
    if node.op.kind == "contract" and fold.combine == "add" and (g.limits.tiled_folds or g.limits.any_folds):
        find = any_contraction_of if g.limits.any_folds else contraction_of
        contract = find(value, live_outer, live_inner)
        if contract is not None and (g.limits.any_folds or _tiles(g, contract)):
            _open_contract(g, node, contract, live_outer, place)
            return
    producers = g.targets(value)
    home = g.latest(producers)
    if home is not None:
        reason = _join_fold(g, home, node, fold, value, live_outer, live_inner, place)
        for p in producers:
            if g.home.get(p) is home:
                g.note(p, node, not reason, reason or "folded where it is made: same row kernel")
        if not reason:
            return
    group = _open_fold(g, node, FoldMember(value, fold.combine, fold.neutral, 0), live_outer, live_inner, place)
    group.full = tuple(sorted(group.full, key=lambda a: _position(node, fold, outer, inner, a)))


def _open_fold(g: Grouping, node: Node, fold: FoldMember, outer: list[Axis], inner: list[Axis], at: tuple[Size, ...]) -> Group:
    """The group of a fold over ``inner``, where ``node`` stands at ``at`` in the axes ``outer``."""
    group = g.new_group("row")
    group.outer, group.inner = ([a for a in axes if a.size != 1] for axes in (outer, inner))
    group.full = (*group.outer, *group.inner)
    group.index[node] = at
    group.folds[node] = fold
    group.anchor = node
    g.home[node] = group
    return group


def _position(node: Node, fold: Any, outer: list[Axis], inner: list[Axis], axis: Axis) -> int:
    """Where an axis stands in the operand's order, for a plain reduction; folds of other kinds keep outer before inner."""
    axes = node.attrs.get("axes")
    if axes is None or len(outer) + len(inner) != node.inputs[0].ndim:
        return [*outer, *inner].index(axis)
    rest = [i for i in range(node.inputs[0].ndim) if i not in axes]
    return int(axes[inner.index(axis)]) if axis in inner else rest[outer.index(axis)]


def _join_fold(
    g: Grouping, home: Group, node: Node, fold: Any, value: Scalar, outer: list[Axis], inner: list[Axis], at: tuple[Size, ...]
) -> str:
    if home.kind not in ("map", "row"):
        return f"a {home.kind} kernel does not fold its results"
    if len(home.index) >= g.limits.nodes:
        return f"the kernel has {g.limits.nodes} nodes already"
    total = prod(a.size for a in inner)
    if home.kind == "map" and not outer and not (isinstance(total, int) and total <= g.limits.serial_fold):
        return f"a fold of {total} elements to one value is split over threads by itself"
    mapping: dict[str, Size] = {}
    for t in loads(value):
        if t.attr[0] not in home.index:
            continue
        for mine, theirs in zip(t.attr[1], canonical(t.attr[0], home.index[t.attr[0]]), strict=True):
            a, b = axis_name(mine), axis_name(theirs)
            if a is None or b is None:
                if mine != theirs:
                    return f"{t.attr[0].op.name} is read at a shifted index"
                continue
            if mapping.setdefault(a, sym(b)) != sym(b):
                return f"{t.attr[0].op.name} is read at two indices"
    names = {a.name for a in home.full}
    images = [axis_name(m) for m in mapping.values()]
    if len(set(images)) != len(images) or set(images) != names or set(mapping) != {a.name for a in (*outer, *inner)}:
        return "the fold runs over other axes than the kernel"
    sizes = {a.name: a.size for a in home.full}
    if any(sizes[axis_name(mapping[a.name]) or ""] != a.size for a in (*outer, *inner)):
        return "the fold runs over a part of what the kernel computes"
    folded = {axis_name(mapping[a.name]) for a in inner}
    if home.kind == "row" and folded != {a.name for a in home.inner}:
        return "the kernel folds other axes"
    value = substitute_scalar(value, mapping, home.ranges)
    if _misread(home, [value]) is not None:
        return "a value is read at another index than the one where it is made"
    if home.kind == "map":
        home.kind = "row"
        home.inner = [a for a in home.full if a.name in folded]
        home.outer = [a for a in home.full if a.name not in folded]
    home.index[node] = tuple(substitute(i, mapping) for i in at)
    home.folds[node] = FoldMember(value, fold.combine, fold.neutral, len(home.folds))
    g.home[node] = home
    return ""


def _place_contract(g: Grouping, node: Node) -> None:
    a, b = node.inputs
    (ca, cb), (ba, bb) = node.attrs["contract"], node.attrs["batch"]
    rank = len(ba)
    if not (ba == bb == tuple(range(rank)) and a.ndim == b.ndim == rank + 2 and ca == (rank + 1,) and cb == (rank,)):
        raise CompileError("dot_general is not in canonical form: the canonicalise pass has not run")
    batch = g.axes(a.shape[:rank])
    (m,), (n,), (k,) = g.axes([a.shape[-2]]), g.axes([b.shape[-1]]), g.axes([a.shape[-1]])
    at = tuple(0 if x.size == 1 else sym(x.name) for x in batch)
    builder = g.builder({x.name: x.size for x in (*batch, m, n, k)})
    index = {x: (0 if x.size == 1 else sym(x.name)) for x in (m, n, k)}
    left = builder.value(a, (*at, index[m], index[k]))
    right = builder.value(b, (*at, index[k], index[n]))
    if n.size == 1:  # a matrix times a vector: nothing is read twice that tiles would keep, and lanes lie along K or M
        _open_fold(g, node, FoldMember(left * right, "add", 0.0, 0), [*batch, m], [k], (*at, index[m], 0))
        return
    contract = Contract(tuple(batch), m, n, (k,), left, right)
    group = _open_contract(g, node, contract, [*batch, m, n], (*at, index[m], index[n]))
    group.prologue = tuple(n for n in toposort(node.inputs, g.home.keys()) if n in g.prologues and n in g.sunk)  # type: ignore[arg-type]


def _open_contract(g: Grouping, node: Node, contract: Contract, outer: list[Axis], at: tuple[Size, ...]) -> Group:
    """The group of a contraction, where ``node`` stands at ``at`` in the axes of the result, ``outer``."""
    group = g.new_group("contract")
    group.outer = [*contract.batch, contract.m, contract.n]
    group.full = tuple(x for x in outer if x.size != 1)
    group.contract = contract
    group.index[node] = at
    group.anchor = node
    g.home[node] = group
    for operand in node.inputs:
        base = _base(g, operand)
        if base in g.home:
            g.note(base, node, False, "an operand of a contraction is read many times, so it is stored")
        elif base in g.prologues:
            g.note(base, node, True, "few tiles of the result read it, so it is computed where it is read: a prologue")
    return group


def _tiles(g: Grouping, c: Contract) -> bool:
    """Whether the left operand's address is affine in the innermost axis of K, and the right one's is the last stored axis along N."""
    if any(coefficient(e, c.k[-1].name) is None for e in c.a.attr[1]):
        return False
    index = c.b.attr[1]
    if not index or any(coefficient(e, k.name) is None for e in index for k in c.k):
        return False
    return _in_lanes(g, c.b, c.n) and (not c.is_lanewise or _in_lanes(g, c.a, c.n))


def _in_lanes(g: Grouping, operand: Scalar, axis: Axis) -> bool:
    """Whether neighbours along an axis lie side by side in a stored operand."""
    base, index = operand.attr
    last = g.layout(base).perm[-1]
    return all(coefficient(e, axis.name) == (1 if i == last else 0) for i, e in enumerate(index))


def _place_scatter(g: Grouping, node: Node) -> None:
    base, index, update = node.inputs
    assert node.op.reduce is not None
    group = g.new_group("scatter")
    sizes = base.shape[0], prod(base.shape[1:]), index.shape[0]
    group.scatter = Scatter(node.op.reduce[0], *sizes, base, index, update, node, _number(g, base))
    group.anchor = node
    g.home[node] = group


def _number(g: Grouping, node: Node) -> float | None:
    """The number that all elements of a value are, if they are one and nobody needs the value itself in memory."""
    if not g.inline(node):
        return None
    value = g.builder({}).value(node, tuple(sym(f"q{i}") for i in range(node.ndim)))
    return float(value.attr) if value.op == "const" else None
