"""What placing nodes one by one cannot see: groups that a later node ties together, and values that are cheaper to compute again.

Placing puts a node into the latest of its producers' groups. When it reads two groups that walk the same space (the statistics of a
row, and the sums of its gradient), both have been opened by then: here they become one, so that what they share stays in the
nearest caches. And a value that a kernel stores only for one other kernel, which walks the same memory in another order (a sum
along the other axis), is computed there again, where that reads less than it would cost to write and read the value.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from ..ir.dims import Size, coefficient, substitute, sym, symbols
from ..ir.node import Node
from ..loops import scalar as s
from ..loops.scalar import Scalar, loads, postorder, scalar_symbols, substitute_scalar
from .group import Group, axis_name, canonical, maker

if TYPE_CHECKING:
    from .groups import Grouping

__all__ = ["merge_groups"]

NEAR = 16
"""How many groups back another one is looked for."""


def merge_groups(g: Grouping) -> None:
    """Joins row kernels that belong together, and replaces stored values by what they are computed from; kernels that read the
    same values only then are joined too."""
    _merge_all(g)
    again = [group for group in g.groups if group.kind in ("map", "row") and _compute_again(g, group)]
    if again:
        _drop_unread(g)
        _merge_all(g)


def _drop_unread(g: Grouping) -> None:
    """Takes out groups of which nobody reads anything any more."""
    while True:
        needed = set(g.graph.roots) | {n for group in g.groups for n in group.read() if g.home.get(n) is not group}
        left = [group for group in g.groups if group.kind not in ("map", "row") or not needed.isdisjoint(group.index)]
        if len(left) == len(g.groups):
            return
        for group in g.groups:
            if group not in left:
                for n in group.index:
                    del g.home[n]
        g.groups = left
        for i, group in enumerate(left):
            group.number = i


def _merge_all(g: Grouping) -> None:
    k = 0
    while k < len(g.groups):
        earlier = next((a for a in reversed(g.groups[max(k - NEAR, 0) : k]) if _merge(g, a, g.groups[k])), None)
        if earlier is None:
            k += 1
        else:
            k = max(k - NEAR, 0)


# -- groups that become one -------------------------------------------------------------------------------------------------
def _merge(g: Grouping, a: Group, b: Group) -> bool:
    """Makes ``a`` part of ``b``, or ``b`` of ``a``, if both walk one space and share what they read or compute."""
    if {a.kind, b.kind} not in ({"row"}, {"row", "map"}) or len(a.index) + len(b.index) > g.limits.nodes:
        return False
    axes = _common_axes(a, b)
    if axes is None:
        return False
    row = a if a.kind == "row" else b
    if not row.outer or (a.kind == b.kind and {axes[x.name] for x in b.inner} != {x.name for x in a.inner}):
        return False
    names: dict[str, Size] = {old: sym(new) for old, new in axes.items()}
    moved = {n: tuple(substitute(e, names) for e in idx) for n, idx in b.index.items()}
    body = {n: substitute_scalar(v, names, a.ranges) for n, v in b.body.items()}
    values = {n: substitute_scalar(f.value, names, a.ranges) for n, f in b.folds.items()}
    mine, theirs = set(a.loads()), [t for v in (*body.values(), *values.values()) for t in loads(v)]
    if any(t.attr[0] in a.index and (t.args or t.attr[1] != canonical(t.attr[0], a.index[t.attr[0]])) for t in theirs):
        return False
    read = {t.attr[0] for t in (*mine, *theirs)} - a.index.keys() - moved.keys()
    if len(read) > g.limits.loads or _clash(g, a, b):
        return False
    around = _around(g, a, b)
    if around is None:
        return False
    shared = next(t.attr[0] for t in theirs if t in mine or t.attr[0] in a.index)
    g.note(shared, next(iter(b.index)), True, "both kernels walk the same rows and read it: they are one")
    if a.kind == "map":
        back = {new: old for old, new in axes.items()}
        a.kind = "row"
        a.inner = [x for x in a.full if back[x.name] in {y.name for y in b.inner}]
        a.outer = [x for x in a.full if back[x.name] not in {y.name for y in b.inner}]
    for n, f in b.folds.items():
        f.value, f.number = values[n], len(a.folds)
        a.folds[n] = f
    a.index |= moved
    a.body |= body
    for n in moved:
        g.home[n] = a
    g.groups = [*around[0], a, *around[1]]
    for i, group in enumerate(g.groups):
        group.number = i
    return True


def _common_axes(a: Group, b: Group) -> dict[str, str] | None:
    """The axis of ``a`` that each axis of ``b`` is, by what ``b`` reads of ``a`` or both read at all places."""
    if sorted(str(x.size) for x in a.full) != sorted(str(x.size) for x in b.full) or not a.full:
        return None
    sizes = {x.name: x.size for x in (*a.full, *b.full)}
    mine = {x.name for x in a.full}
    by_node: dict[Node, list[tuple[Size, ...]]] = {}
    for t in a.loads():
        if not t.args and scalar_symbols(t) == mine:
            by_node.setdefault(t.attr[0], []).append(t.attr[1])
    for n, idx in a.index.items():
        by_node.setdefault(n, []).append(canonical(n, idx))
    for t in b.loads():
        for idx in by_node.get(t.attr[0], ()):
            axes = _matched(t.attr[1], idx, sizes)
            if axes is not None and len(axes) == len(b.full) and set(axes.values()) == mine:
                if all(sizes[x] == sizes[y] for x, y in axes.items()):
                    return axes
    return None


def _matched(theirs: tuple[Size, ...], mine: tuple[Size, ...], axes: Container[str]) -> dict[str, str] | None:
    """Which axis of one index is which of the other, if both are sums of axes that look the same."""
    out: dict[str, str] = {}
    for e, f in zip(theirs, mine, strict=True):
        x, y = _strides(e, axes), _strides(f, axes)
        if x is None or y is None or x.keys() != y.keys() or any(out.setdefault(x[k], y[k]) != y[k] for k in x):
            return None
        if substitute(e, {x[k]: 0 for k in x}) != substitute(f, {y[k]: 0 for k in y}):
            return None
    return out


def _strides(e: Size, axes: Container[str]) -> dict[Size, str] | None:
    """The axes of a sum by the factors in front of them, if these are all different."""
    names = {x for x in symbols(e) if x in axes}
    factors = {coefficient(e, x): x for x in sorted(names)}
    return None if None in factors or len(factors) != len(names) else factors  # type: ignore[return-value]


def _clash(g: Grouping, a: Group, b: Group) -> bool:
    """Whether one of them updates in place what the other still reads."""
    for x, y in ((a, b), (b, a)):
        old = {t.attr[0] for t in y.loads()}
        if any(g.paths.clash(old, old, n, x.index) for n in y.index) or any(g.paths.clash((), old, n, ()) for n in x.index):
            return True
    return False


def _around(g: Grouping, a: Group, b: Group) -> tuple[list[Group], list[Group]] | None:
    """What runs before and after the two as one: they stand at ``b``, and what lies between them and reads ``a`` comes behind; or at
    ``a``, if ``b`` reads nothing that is made between them."""
    late = [a]
    early: list[Group] = []
    for group in g.groups[a.number + 1 : b.number]:
        (late if any(g.home.get(maker(n)) in late for n in group.read()) else early).append(group)
    if not any(g.home.get(maker(n)) in late[1:] for n in b.read()):
        return g.groups[: a.number] + early, late[1:] + g.groups[b.number + 1 :]
    if all(g.home[maker(n)].number <= a.number for n in b.read() if maker(n) in g.home and g.home[maker(n)] is not b):
        return g.groups[: a.number], [x for x in g.groups[a.number + 1 :] if x is not b]
    return None


# -- values that are computed again -----------------------------------------------------------------------------------------
AGAIN = 12
"""Instructions an element that may be computed twice to save a store and a load of a value as large as the kernel's space."""
STREAMS = 2
"""Further values of that size which may be read for it: storing one costs a write, for which its lines are read first, and a read."""


def _compute_again(g: Grouping, group: Group) -> bool:
    """Replaces reads of values that their kernels would store for this group alone; whether there was one."""
    found = False
    roots = set(g.graph.roots)
    here = dict.fromkeys(t.attr[0] for t in group.loads())  # in the order of the loads, the same in every process
    for node in here:
        home = g.home.get(node)
        if home is None or home is group or node in roots or home.kind not in ("map", "row"):
            continue
        index = {t.attr[1] for t in group.loads() if t.attr[0] is node}
        if len(index) != 1 or node not in home.body or any(t.args for t in group.loads() if t.attr[0] is node):
            continue
        if any(other is not group and other is not home and node in set(other.read()) for other in g.groups):
            continue
        value = _expanded(g, home, node, next(iter(index)))
        if value is None:
            continue
        full = {x.name for x in group.full}
        fresh = {t.attr[0] for t in loads(value) if scalar_symbols(t) == full} - here.keys()
        if len(fresh) > STREAMS or sum(t.op not in ("load", "const", "index", "arg") for t in postorder([value])) > AGAIN:
            continue
        if scalar_symbols(value) != full or not _in_order(g, group, value):
            continue

        def swap(t: Scalar, node: Node = node, value: Scalar = value) -> Scalar | None:
            return value if t.op == "load" and t.attr[0] is node else None

        found = True
        for n, old in group.body.items():
            group.body[n] = s.replace(old, swap)
        for f in group.folds.values():
            f.value = s.replace(f.value, swap)
        g.note(node, next(iter(group.index)), True, "cheaper to compute again where it is read than to store")
    return found


def _expanded(g: Grouping, home: Group, node: Node, index: tuple[Size, ...]) -> Scalar | None:
    """A member's value at another index, written out down to what is stored anyway and to one value an outer point."""
    names: dict[str, Size] = {}
    for mine, theirs in zip(canonical(node, home.index[node]), index, strict=True):
        x = axis_name(mine)
        if (x is None and mine != theirs) or (x is not None and names.setdefault(x, theirs) != theirs):
            return None
        if x is None and mine == 0 and theirs != 0:
            return None
    inner = {x.name for x in home.inner}

    def out(n: Node) -> Scalar:
        def swap(t: Scalar) -> Scalar | None:
            if t.op != "load" or t.attr[0] not in home.body or t.args:
                return None
            m = t.attr[0]
            whole = any(axis_name(e) in inner for e in home.index[m]) if inner else True
            return out(m) if whole and t.attr[1] == canonical(m, home.index[m]) else None

        return s.replace(home.body[n], swap)

    value = out(node)
    if not scalar_symbols(value) <= names.keys():
        return None
    return substitute_scalar(value, names, home.ranges)


def _in_order(g: Grouping, group: Group, value: Scalar) -> bool:
    """Whether everything that a value reads is there before the group runs, and no parameter that is updated by then."""
    slots = {i.node for i in g.graph.inputs if i.role != "arg"} if g.graph.updates else set()
    return all(
        t.attr[0] not in slots and (maker(t.attr[0]) not in g.home or g.home[maker(t.attr[0])].number < group.number) for t in loads(value)
    )
