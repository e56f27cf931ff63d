"""The graph: named inputs, named outputs and state updates over hash-consed nodes, with provenance beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ..errors import VerifyError
from .dims import symbols
from .node import Node, toposort
from .provenance import Provenance
from .types import TensorType, TupleType, type_symbols

__all__ = ["Graph", "Input"]


@dataclass(frozen=True, slots=True)
class Input:
    """One input: ``role`` is "arg" (given at every call), "param" or "state" (owned by a ParameterStore)."""

    name: str
    node: Node
    role: str = "arg"


@dataclass(frozen=True, eq=False)
class Graph:
    """An immutable computation: ``outputs`` are returned, ``updates`` are written to params and state after the outputs.

    ``finite`` names an output that must be finite, or nothing is written.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, Node], ...]
    updates: tuple[tuple[str, Node], ...] = ()
    finite: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [i.name for i in self.inputs]
        if len(set(names)) != len(names):
            raise VerifyError(f"graph {self.name}: input names are not unique: {names}")

    @property
    def roots(self) -> list[Node]:
        """Everything the graph exists for: outputs, then updates."""
        return [n for _, n in self.outputs] + [n for _, n in self.updates]

    @cached_property
    def nodes(self) -> list[Node]:
        """All nodes, operands first. Inputs come first in their declared order, used or not."""
        return toposort([i.node for i in self.inputs] + self.roots)

    @cached_property
    def users(self) -> dict[Node, list[Node]]:
        """Who reads each node (a node that reads it twice is listed twice)."""
        table: dict[Node, list[Node]] = {n: [] for n in self.nodes}
        for n in self.nodes:
            for i in n.inputs:
                table[i].append(n)
        return table

    @cached_property
    def guards(self) -> list[Node]:
        """Claims on sizes, which are checked when sizes are bound: the ``assume`` and ``at_least`` nodes."""
        return [n for n in self.nodes if n.op.name in ("assume", "at_least")]

    @property
    def dims(self) -> list[str]:
        """Names of the dims that inputs mention, sorted."""
        return sorted(set().union(*(type_symbols(i.node.type) for i in self.inputs))) if self.inputs else []

    @property
    def structural_key(self) -> tuple[Any, ...]:
        """Equal for two graphs exactly when they compute the same from the same inputs (provenance is left out)."""
        return (
            "graph",
            tuple((i.name, i.node, i.role) for i in self.inputs),
            self.outputs,
            self.updates,
            self.finite,
        )

    def input(self, name: str) -> Input:
        for i in self.inputs:
            if i.name == name:
                return i
        raise KeyError(name)

    def with_roots(self, mapping: Callable[[Node], Node], **changes: Any) -> Graph:
        """The graph with every output and update replaced by its image."""
        return replace(
            self,
            outputs=tuple((k, mapping(n)) for k, n in self.outputs),
            updates=tuple((k, mapping(n)) for k, n in self.updates),
            **changes,
        )

    def transform(self, rule: Callable[[Node, tuple[Node, ...]], Node | None], **changes: Any) -> Graph:
        """Rebuilds the graph bottom-up. ``rule(node, new_inputs)`` gives the replacement or None to keep the operator.

        Every new node inherits the provenance of the node it replaces.
        """
        image: dict[Node, Node] = {}
        prov = self.provenance
        for node in self.nodes:
            ins = tuple(image[i] for i in node.inputs)
            with prov.inherit(node):
                new = rule(node, ins)
                if new is None:
                    new = node if all(a is b for a, b in zip(ins, node.inputs, strict=True)) else rebuild(node, ins)
            if new is not node:
                origin = prov.of(node)
                prov.add(new, origin.locs, origin.scopes, origin.rules)
            image[node] = new
        return self.with_roots(image.__getitem__, **changes)

    # -- to look at ----------------------------------------------------------------------------------------------------
    def __str__(self) -> str:
        from .text import print_graph

        return print_graph(self)

    def lower(self, target: str = "cpu", **options: Any) -> Any:
        """What the graph becomes on a target, up to the text of its kernels; nothing is compiled.

        The result prints each stage (``as_text(stage=...)``), and tells cost and memory.
        """
        from ..compiler import lower_graph

        return lower_graph(self, target, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the graph to a file, in the form that its name ends with: ``.html`` (the report, with every stage for the CPU),
        ``.json`` (its data), ``.txt`` (the text form), ``.dot``, ``.svg`` (by Graphviz) or ``.mmd`` (Mermaid)."""
        from ..inspect.files import save_graph

        save_graph(self, path)

    def to_dot(self) -> str:
        """The graph in Graphviz's language, modules as clusters."""
        from ..inspect.drawing import to_dot

        return to_dot(self)

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart, for Markdown."""
        from ..inspect.drawing import to_mermaid

        return to_mermaid(self)

    def to_networkx(self) -> Any:
        """A ``networkx.MultiDiGraph`` with what is known of each node as attributes."""
        from ..inspect.drawing import to_networkx

        return to_networkx(self)

    def _repr_html_(self) -> str:
        from ..inspect.drawing import graph_html

        return graph_html(self)

    def _repr_svg_(self) -> str | None:
        from ..inspect.drawing import small_svg

        return small_svg(self) or None


def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The same operator and attributes on other inputs."""
    return Node.make(node.op, inputs, **node.attrs)


def verify(graph: Graph) -> None:
    """Raises :class:`VerifyError` where an invariant is broken: unknown inputs, types that do not follow, bad updates."""
    known = {i.node for i in graph.inputs}
    declared = {i.name: i for i in graph.inputs}
    dims = set(graph.dims)
    for node in graph.nodes:
        if node.op.kind == "input" and node not in known:
            raise VerifyError(f"graph {graph.name}: {node!r} is read but is not an input")
        again = node.op.infer(*(i.type for i in node.inputs), **node.attrs)
        if again != node.type:
            raise VerifyError(f"graph {graph.name}: {node!r} should have type {again}")
        for part in _parts(node):
            for s in part.shape:
                if not symbols(s) <= dims:
                    raise VerifyError(f"graph {graph.name}: {node!r} mentions a dim that no input has")
    for name, value in graph.updates:
        if name not in declared or declared[name].role == "arg":
            raise VerifyError(f"graph {graph.name}: update of {name!r}, which is no param or state")
        if value.type != declared[name].node.type:
            raise VerifyError(f"graph {graph.name}: update of {name!r} has type {value.type}, not {declared[name].node.type}")
    if graph.finite and graph.finite not in dict(graph.outputs):
        raise VerifyError(f"graph {graph.name}: finite={graph.finite!r} is not an output")


def _parts(node: Node) -> Iterable[TensorType]:
    return node.type.items if isinstance(node.type, TupleType) else (node.type,)
