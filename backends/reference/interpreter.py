"""Interprets graphs by calling the NumPy function in each operator's record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from graphc.errors import CompileError, GraphcError
from graphc.ir.bind import bind_dims, fit
from graphc.ir.dims import evaluate
from graphc.ir.dtypes import DType, float64, kind_of
from graphc.ir.graph import Graph
from graphc.ir.node import Node, toposort
from graphc.ir.op import OpDef
from graphc.ir.provenance import Provenance
from graphc.ir.types import TensorType, TupleType

__all__ = ["Interpreter", "NonFinite", "first_nonfinite", "interpret"]

Value = np.ndarray | tuple[np.ndarray, ...]


class NonFinite(NamedTuple):
    """Where a non-finite value first arose, and how many of each kind there are."""

    node: Node
    nan: int
    inf: int


class Interpreter:
    """Evaluates nodes for one binding of named dims.

    ``mode`` "faithful" computes in declared dtypes; "exact" replaces every float dtype by float64. ``trip`` is the flattened
    scan iteration, which random bits read.
    """

    def __init__(self, dims: Mapping[str, int], mode: str = "faithful", trip: int = 0, provenance: Provenance | None = None):
        if mode not in ("faithful", "exact"):
            raise CompileError(f"the reference has no mode {mode!r}", hint="'faithful' or 'exact'")
        self.dims = dict(dims)
        self.mode = mode
        self.exact = mode == "exact"
        self.trip = trip
        self.provenance = provenance or Provenance()

    def run(self, roots: Sequence[Node], known: Mapping[Node, Value], watch: Callable[[Node, Value], None] | None = None) -> list[Value]:
        """The values of ``roots``, where ``known`` holds those of inputs; ``watch`` sees each node's value once."""
        order = toposort(roots, frozenset(known))
        left: dict[Node, int] = {}
        for node in order:
            for i in node.inputs:
                left[i] = left.get(i, 0) + 1
        for r in roots:
            left[r] = left.get(r, 0) + 1
        values: dict[Node, Value] = {}
        for node in order:
            value = known[node] if node in known else self._node(node, [values[i] for i in node.inputs])
            values[node] = value
            if watch is not None:
                watch(node, value)
            if node in known:
                continue
            for i in node.inputs:  # a value goes when its last reader has run: long graphs would hold everything
                left[i] -= 1
                if not left[i]:
                    values.pop(i, None)
        return [values[r] for r in roots]

    def body(self, graph: Graph, arrays: Sequence[np.ndarray], trip: int) -> list[np.ndarray]:
        """The outputs of a closed body graph (a scan's) at one iteration."""
        inner = Interpreter(self.dims, self.mode, trip, graph.provenance)
        known = {i.node: inner._conform(a, i.node.tensor) for i, a in zip(graph.inputs, arrays, strict=True)}
        return [v for v in inner.run([n for _, n in graph.outputs], known) if isinstance(v, np.ndarray)]

    def _node(self, node: Node, ins: list[Value]) -> Value:
        op = node.op
        if op.kind == "input":
            raise CompileError(f"{node!r} has no value: it is not an input of the graph")
        try:
            if op.kind == "composite":
                return self._composite(node, ins)
            if op.numpy is None:
                raise CompileError(f"{op.name} has no reference meaning")
            attrs = {k: float64 if self.exact and isinstance(v, DType) and v.is_float else v for k, v in node.attrs.items()}
            offered = {"dims": self.dims, "trip": self.trip, "interpret": self.body}
            attrs.update((k, offered[k]) for k in _extras(op) if k not in attrs)
            with np.errstate(all="ignore"):
                return self._typed(node, op.numpy(*ins, **attrs))
        except GraphcError as e:
            if not e.where:
                e.where = self._where(node)
            raise
        except Exception as e:
            raise CompileError(
                f"reference: {op.name} failed: {type(e).__name__}: {e}", where=self._where(node), notes=f"node {node!r}"
            ) from e

    def _composite(self, node: Node, ins: list[Value]) -> Value:
        parts = _bodies.get(node)
        if parts is None:
            assert node.op.decompose is not None
            out = node.op.decompose(*node.inputs, **node.attrs)
            parts = _bodies[node] = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        values = self.run(parts, dict(zip(node.inputs, ins, strict=True)))
        return self._typed(node, tuple(values) if isinstance(node.type, TupleType) else values[0])

    def _typed(self, node: Node, value: Any) -> Value:
        if isinstance(node.type, TupleType):
            return tuple(self._conform(v, t) for v, t in zip(value, node.type.items, strict=True))
        return self._conform(value, node.type)

    def _conform(self, value: Any, t: TensorType) -> np.ndarray:
        dtype = float64 if self.exact and t.dtype.is_float else t.dtype
        array = np.asarray(value).astype(dtype.numpy, copy=False)
        shape = tuple(evaluate(s, self.dims) for s in t.shape)
        if array.shape != shape:
            raise CompileError(f"the reference gives shape {array.shape}, the type says {t}")
        return array

    def _where(self, node: Node) -> tuple[str, ...]:
        origin = self.provenance.of(node)
        lines = [f"in    {s}" for s in sorted(origin.scopes) if s]
        return (*lines, *(f"used  {loc}   {loc.text}".rstrip() for loc in sorted(origin.locs)))


# of its own and not the slot on the node: the decompose pass fills that one and records provenance while it does
_bodies: WeakKeyDictionary[Node, tuple[Node, ...]] = WeakKeyDictionary()
_signatures: dict[OpDef, tuple[str, ...]] = {}


def _extras(op: OpDef) -> tuple[str, ...]:
    """Which of ``dims``, ``trip`` and ``interpret`` a record's NumPy function asks for."""
    found = _signatures.get(op)
    if found is None:
        try:
            names = inspect.signature(op.numpy).parameters if op.numpy is not None else {}
        except (TypeError, ValueError):  # a ufunc without a signature
            names = {}
        found = _signatures[op] = tuple(k for k in ("dims", "trip", "interpret") if k in names)
    return found


def _prepare(graph: Graph, inputs: Mapping[str, Any], mode: str, trip: int) -> tuple[Interpreter, dict[Node, Value]]:
    declared = {i.name: i.node for i in graph.inputs}
    arrays = {name: fit(name, value, declared[name].tensor) for name, value in inputs.items() if name in declared}
    dims = bind_dims(graph, arrays)
    machine = Interpreter(dims, mode, trip, graph.provenance)
    # exact mode keeps the float64 digits that the declared dtype would drop
    source = {n: np.asarray(inputs[n]) for n in arrays} if machine.exact else arrays
    return machine, {declared[n]: machine._conform(source[n], declared[n].tensor) for n in arrays}


def interpret(
    graph: Graph, inputs: Mapping[str, Any], mode: str = "faithful", trip: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs and updates of a graph, by name.

    ``inputs`` gives every input (params and state too) by name. Mode "faithful" computes in the declared dtypes, "exact" in
    float64 throughout. Raises the errors of :func:`graphc.ir.bind.bind_dims` for arrays that do not fit.
    """
    machine, known = _prepare(graph, inputs, mode, trip)
    values = machine.run(graph.roots, known)
    names = [k for k, _ in graph.outputs]
    outputs: Any = dict(zip(names, values[: len(names)], strict=True))
    updates: Any = dict(zip([k for k, _ in graph.updates], values[len(names) :], strict=True))
    return outputs, updates


def first_nonfinite(
    graph: Graph, inputs: Mapping[str, Any], mode: str = "faithful", roots: Sequence[Node] | None = None
) -> NonFinite | None:
    """The first node with a NaN or infinity whose operands are all finite; None if every value is finite.

    Constants may be infinite on purpose (a mask's -inf). If no finite operand turned non-finite, the first node that made a
    NaN out of operands without NaN is named instead. ``roots`` limits the search to what they need.
    """
    machine, known = _prepare(graph, inputs, mode, 0)
    state: dict[Node, tuple[int, int]] = {}
    found: list[NonFinite] = []
    made_nan: list[NonFinite] = []

    def watch(node: Node, value: Value) -> None:
        parts = value if isinstance(value, tuple) else (value,)
        floats = [p for p in parts if kind_of(p.dtype) == "f"]
        nan = sum(int(np.isnan(p).sum()) for p in floats)
        inf = sum(int(np.isinf(p).sum()) for p in floats)
        state[node] = nan, inf
        if (not nan and not inf) or node.op.kind == "const":
            return
        before = [state[i] for i in node.inputs]
        if not any(n or i for n, i in before):
            found.append(NonFinite(node, nan, inf))
        elif nan and not any(n for n, _ in before):
            made_nan.append(NonFinite(node, nan, inf))

    machine.run(graph.roots if roots is None else roots, known, watch)
    return (found or made_nan or [None])[0]  # type: ignore[list-item]
