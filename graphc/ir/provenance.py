"""Where nodes come from: user lines and module scopes, kept beside the graph and never inside a node's identity.

A node is hash-consed, so one node may come from several lines: both facts are sets. Recording is central: ``Node.make``
reports every node it hands out to the current recorder, and a pass that replaces a node runs the replacement's
construction inside :meth:`Provenance.inherit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .living import Living

if TYPE_CHECKING:
    from .node import Node

__all__ = ["Loc", "Provenance", "active", "every_table", "note", "watching"]


@dataclass(frozen=True, slots=True, order=True)
class Loc:
    """A line of the user's program."""

    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line}"


Locate = Callable[[], tuple[Iterable[Loc], Iterable[str]]]
"""Gives the lines and scopes of the node that is being made now."""


@dataclass
class Origin:
    """Lines and module scopes one node comes from, and the rewrite rules that made it, in order."""

    locs: set[Loc] = field(default_factory=set)
    scopes: set[str] = field(default_factory=set)
    rules: tuple[str, ...] = ()


_tables: Living[Provenance] = Living()


def every_table() -> list[Provenance]:
    """The side tables of all graphs that are alive: for questions about a node alone."""
    return list(_tables)


class Provenance:
    """The side table of one graph or trace."""

    def __init__(self) -> None:
        self.table: dict[Node, Origin] = {}
        _tables.add(self)

    def add(self, node: Node, locs: Iterable[Loc] = (), scopes: Iterable[str] = (), rules: Iterable[str] = ()) -> None:
        origin = self.table.get(node)
        if origin is None:
            origin = self.table[node] = Origin()
        origin.locs.update(locs)
        origin.scopes.update(scopes)
        if rules:
            origin.rules = tuple(dict.fromkeys((*origin.rules, *rules)))

    def of(self, node: Node) -> Origin:
        return self.table.get(node) or Origin()

    def locs(self, node: Node) -> list[Loc]:
        return sorted(self.of(node).locs)

    def scopes(self, node: Node) -> list[str]:
        return sorted(self.of(node).scopes)

    def rules(self, node: Node) -> list[str]:
        """The rewrite rules that made a node, or made what it replaces, in the order in which they fired."""
        return list(self.of(node).rules)

    def merge(self, other: Provenance) -> None:
        for node, origin in other.table.items():
            self.add(node, origin.locs, origin.scopes, origin.rules)

    @contextmanager
    def recording(self, locs: Iterable[Loc] = (), scopes: Iterable[str] = (), locate: Locate | None = None) -> Iterator[Provenance]:
        """Every node made inside gets these lines and scopes, or those that ``locate()`` gives at that moment."""
        token = _current.set((self, tuple(locs), tuple(scopes), locate))
        try:
            yield self
        finally:
            _current.reset(token)

    @contextmanager
    def inherit(self, *nodes: Node, scope: str = "") -> Iterator[Provenance]:
        """Every node made inside comes from where ``nodes`` come from (``scope`` is put before their scopes)."""
        locs: set[Loc] = set()
        scopes: set[str] = set()
        for n in nodes:
            origin = self.of(n)
            locs |= origin.locs
            scopes |= {f"{scope}{s}" for s in origin.scopes or ("",)} if scope else origin.scopes
        with self.recording(locs, scopes) as p:
            yield p

    def inner_scopes(self, node: Node) -> set[str]:
        """The scopes of what a composite decomposes into: its own, with its name as the innermost."""
        return {f"{s}/{node.op.name}" if s else node.op.name for s in self.of(node).scopes or ("",)}


_Recording = tuple[Provenance, tuple[Loc, ...], tuple[str, ...], Locate | None]
_current: ContextVar[_Recording | None] = ContextVar("provenance", default=None)


_watched: ContextVar[set[Node] | None] = ContextVar("watched", default=None)


@contextmanager
def watching() -> Iterator[set[Node]]:
    """Collects every node that ``Node.make`` hands out inside, also one that existed before.

    A node has no birthday that its identity could show: whoever must know what a function made (a scan its body) asks here.
    """
    outer: set[Node] | None = _watched.get()
    seen: set[Node] = set()
    token = _watched.set(seen)
    try:
        yield seen
    finally:
        _watched.reset(token)
        if outer is not None:
            outer |= seen


def note(node: Node) -> None:
    """Called by ``Node.make`` for each node it hands out."""
    seen = _watched.get()
    if seen is not None:
        seen.add(node)
    now = _current.get()
    if now is not None:
        locs, scopes = (now[1], now[2]) if now[3] is None else now[3]()
        now[0].add(node, locs, scopes)


def active() -> Provenance | None:
    """The side table that records now, if any."""
    now = _current.get()
    return None if now is None else now[0]
