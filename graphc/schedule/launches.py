"""What a schedule consists of: buffers, launches with barriers between them, checks and repeats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..ir.dims import Size
from ..ir.graph import Graph
from ..ir.layout import Layout
from ..ir.node import Node
from ..ir.types import TensorType

if TYPE_CHECKING:
    from ..loops.nest import Nest
    from .group import Decision
    from .groups import Grouping

__all__ = ["Buffer", "Check", "Launch", "Repeat", "Schedule", "memory_key"]


@dataclass(eq=False)
class Buffer:
    """Memory of one value. ``space``: "arg" and "out" (the user's arrays), "slot" (parameter store), "const", "temp" (the
    arena), "static" (kept from call to call)."""

    node: Node
    type: TensorType
    layout: Layout
    space: str
    name: str = ""

    @property
    def elements(self) -> Size:
        return self.layout.stored_size(self.type.shape)

    @property
    def nbytes(self) -> Size:
        return self.elements * self.type.dtype.itemsize


@dataclass(eq=False)
class Launch:
    """One kernel launch. ``barrier`` says that all threads meet before it starts."""

    nest: Nest
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    barrier: bool = False
    phase: int = 0
    static: bool = False
    """Depends on parameters and constants alone: run again only when they change."""


@dataclass(eq=False)
class Check:
    """Ends the program before any state is written where a value is not finite."""

    buffer: Buffer
    barrier: bool = True
    phase: int = 0


@dataclass(eq=False)
class Repeat:
    """A list of launches repeated ``count`` times. The trip number reaches index expressions as ``trip``; in a repeat inside
    a repeat it is flattened: the outer trip times the inner count, plus the inner trip."""

    count: Size
    body: list[Launch | Check | Repeat]
    barrier: bool = True
    phase: int = 0


@dataclass(eq=False)
class Schedule:
    """Everything a backend needs to print and run a graph."""

    graph: Graph
    items: list[Launch | Check | Repeat]
    buffers: dict[Node, Buffer]
    outputs: list[tuple[str, Buffer]]
    decisions: list[Decision]
    grouping: Grouping
    copies: list[str] = field(default_factory=list)
    """Updates that could not be written in place, and why."""
    origins: dict[Node, tuple[Node, Node]] = field(default_factory=dict)
    """Nodes that were made to run a scan's body: the scan, and the body's node that they stand for."""

    def launches(self) -> list[Launch]:
        """All kernel launches, those inside repeats once."""
        return list(_launches(self.items))

    @property
    def barriers(self) -> int:
        return sum(bool(i.barrier) for i in _flat(self.items))


def _launches(items: Iterable[Launch | Check | Repeat]) -> Iterable[Launch]:
    for i in items:
        if isinstance(i, Launch):
            yield i
        elif isinstance(i, Repeat):
            yield from _launches(i.body)


def _flat(items: Iterable[Launch | Check | Repeat]) -> Iterable[Launch | Check | Repeat]:
    for i in items:
        yield i
        if isinstance(i, Repeat):
            yield from _flat(i.body)


def memory_key(buffer: Buffer) -> object:
    """Equal for two buffers that are the same memory."""
    return ("slot", buffer.name) if buffer.space == "slot" else buffer.node
