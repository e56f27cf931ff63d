"""``gc.diff``: what one graph has that another has not."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from ..ir.attrs import attr_key
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.text import node_names, node_text
from ..locate import public
from .find import graph_of

__all__ = ["Difference", "diff"]


@dataclass(frozen=True)
class Difference:
    """Two graphs compared: ``removed`` nodes are only in the first, ``added`` only in the second; ``rewired`` are pairs of nodes that do
    the same on other operands. False where both compute the same."""

    first: Graph
    second: Graph
    removed: tuple[Node, ...]
    added: tuple[Node, ...]
    rewired: tuple[tuple[Node, Node], ...]
    ends: tuple[str, ...]
    """Changes of inputs, outputs and updates, as lines."""

    def __bool__(self) -> bool:
        return bool(self.removed or self.added or self.rewired or self.ends)

    def rows(self) -> list[tuple[str, str]]:
        """("-" or "+" or "~", line) in the order of the second graph."""
        old, new = node_names(self.first), node_names(self.second)
        where = {n: i for i, n in enumerate(self.second.nodes)}
        at_end = len(where)
        rows: list[tuple[int, int, str, str]] = []
        before = 0
        places: dict[Node, int] = {}
        pairs = dict(self.rewired)
        for n in self.first.nodes:  # a removed node stands behind what stood before it
            before = where.get(pairs.get(n, n), before)
            places[n] = before
        rows += [(places.get(n, at_end), 0, "-", node_text(n, old)) for n in self.removed]
        rows += [(where[n], 1, "+", node_text(n, new)) for n in self.added]
        return [(mark, text) for _, _, mark, text in sorted(rows, key=lambda r: (r[0], r[1]))]

    def __str__(self) -> str:
        if not self:
            return "the graphs compute the same"
        head = f"{len(self.removed)} removed, {len(self.added)} added"
        if self.rewired:
            head += f", {len(self.rewired)} the same on other operands"
        return "\n".join([head, *self.ends, *(f"{mark} {text}" for mark, text in self.rows())])

    def _repr_html_(self) -> str:
        colours = {"-": "#d1483c", "+": "#1a9c55"}
        lines = [escape(str(self).partition("\n")[0]), *map(escape, self.ends)]
        lines += [f'<span style="color:{colours[m]}">{m} {escape(t)}</span>' for m, t in self.rows()]
        return "<pre>" + "\n".join(lines) + "</pre>"


def diff(first: Any, second: Any) -> Difference:
    """Compares two graphs (or compiled models and functions, by their graphs): what the second has that the first has not.

    Equal computations are one object, so what did not change is found at once. A node is its operands too: where one changes, all
    behind it are other nodes; those that do the same are paired, in order, and only counted.

    >>> import graphc as gc
    >>> g = gc.trace(lambda x: (x.exp() + 1.0).sum(), gc.spec("N"))
    >>> h = gc.trace(lambda x: (x.tanh() + 1.0).sum(), gc.spec("N"))
    >>> print(gc.diff(g, h))
    1 removed, 1 added, 2 the same on other operands
    - %0 = exp(%x) : f32[N]
    + %0 = tanh(%x) : f32[N]
    """
    a, b = graph_of(first), graph_of(second)
    mine, theirs = set(a.nodes), set(b.nodes)
    left: dict[Any, list[Node]] = {}
    for n in a.nodes:
        if n not in theirs:
            left.setdefault(_local(n), []).append(n)
    added, rewired = [], []
    for n in b.nodes:
        if n not in mine:
            same = left.get(_local(n))
            if same:
                rewired.append((same.pop(0), n))
            else:
                added.append(n)
    unmatched = {n for rest in left.values() for n in rest}
    removed = tuple(n for n in a.nodes if n in unmatched)
    pairs = dict(rewired)
    return Difference(a, b, removed, tuple(added), tuple(rewired), tuple(_ends(a, b, pairs)))


def _local(n: Node) -> Any:
    return (n.op, n.type, tuple((k, attr_key(v)) for k, v in sorted(n.attrs.items())))


def _ends(a: Graph, b: Graph, pairs: dict[Node, Node]) -> list[str]:
    out = []
    for word, old, new in (
        ("input", [(i.name, i.node) for i in a.inputs], [(i.name, i.node) for i in b.inputs]),
        ("output", a.outputs, b.outputs),
        ("update", a.updates, b.updates),
    ):
        had, has = dict(old), dict(new)
        out += [f"- {word} {k} : {n.type}" for k, n in had.items() if k not in has]
        out += [f"+ {word} {k} : {n.type}" for k, n in has.items() if k not in had]
        if word != "input":
            out += [f"~ {word} {k} : another node" for k, n in has.items() if k in had and n is not had[k] and pairs.get(had[k]) is not n]
    return out


public(globals())
