"""A digest of a graph that other processes compute too: equal exactly where two graphs compute the same by the same operators.

What a graph means is its nodes in order, by operator, operands and attributes, and what goes in and out. Operators count by name, so a
graph has a digest only if all its operators are graphc's own: what a user's function does cannot be read.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ..errors import CompileError
from .dims import Expr, FloorDiv, Size, Sym
from .dtypes import DType
from .graph import Graph
from .layout import Layout
from .op import OpDef, is_built_in

__all__ = ["graph_digest"]


def graph_digest(graph: Graph) -> str:
    """The digest; raises :class:`CompileError` with what cannot be told in plain values."""
    return hashlib.sha256(repr(_Encoder().graph(graph)).encode()).hexdigest()


class _Encoder:
    """Graphs and attributes as nested tuples of numbers and texts, whose ``repr`` tells different ones apart."""

    def __init__(self) -> None:
        self.sizes: dict[Expr, Any] = {}

    def graph(self, graph: Graph) -> Any:
        number = {node: i for i, node in enumerate(graph.nodes)}
        nodes = []
        for node in graph.nodes:
            if not is_built_in(node.op):
                raise CompileError(f"the operator {node.op.name} is not graphc's own")
            attrs = node.attrs
            nodes.append((node.op.name, [number[i] for i in node.inputs], [(k, self.value(attrs[k])) for k in sorted(attrs)]))
        return (
            graph.name,
            nodes,
            [(i.name, number[i.node], i.role) for i in graph.inputs],
            [(name, number[n]) for name, n in graph.outputs],
            [(name, number[n]) for name, n in graph.updates],
            graph.finite,
            sorted((k, self.value(v)) for k, v in graph.meta.get("hints", {}).items()),
        )

    def value(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind in (tuple, list):
            return ("tuple", *[self.value(v) for v in value])
        if kind is Expr:
            return self.size(value)
        if kind is DType:
            return ("dtype", value.name)
        if kind is np.ndarray:
            return ("array", value.dtype.str, value.dtype.name, value.shape, hashlib.sha256(value.tobytes()).hexdigest())
        if isinstance(value, np.bool_):
            return bool(value)
        if isinstance(value, np.integer):
            return int(value)
        if isinstance(value, np.floating):
            return float(value)
        if isinstance(value, Graph):
            return ("graph", self.graph(value))
        if isinstance(value, Layout):
            return value.structural_key
        if isinstance(value, OpDef) and is_built_in(value):
            return value.structural_key
        raise CompileError(f"an attribute is a {kind.__name__}")

    def size(self, size: Size) -> Any:
        if not isinstance(size, Expr):
            return int(size)
        found = self.sizes.get(size)
        if found is None:
            found = self.sizes[size] = ("size", [(c, [(self._atom(a), power) for a, power in term]) for term, c in size.terms])
        return found

    def _atom(self, a: Any) -> Any:
        if isinstance(a, Sym):
            return a.name
        if isinstance(a, FloorDiv):
            return (self.size(a.num), self.size(a.den))
        raise CompileError(f"a size depends on {a}")
