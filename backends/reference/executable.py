"""The reference backend's executable: the interpreter behind the protocol that every backend has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from graphc.errors import CompileError, NonFiniteError, ParameterError
from graphc.ir.graph import Graph, verify

from ..base import Option
from .interpreter import first_nonfinite, interpret

__all__ = ["BACKEND", "ReferenceBackend", "ReferenceExecutable"]


class ReferenceExecutable:
    """Interprets ``graph`` at each call. Params and state come from the store, or from ``inputs`` if there is none."""

    def __init__(self, graph: Graph, store: Any = None, mode: str = "faithful"):
        if graph.updates and store is None:
            raise CompileError(f"graph {graph.name} writes {', '.join(k for k, _ in graph.updates)}, but there is no store to write to")
        self.graph = graph
        self.store = store
        self.mode = mode

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs by name. Updates are written, all or none, after every value is known and the loss is finite."""
        given = {i.name for i in self.graph.inputs if i.role == "arg" or self.store is None}
        unknown = sorted(set(inputs) - given)
        if unknown:
            raise ParameterError(f"{self.graph.name} has no argument {unknown[0]!r}", hint="arguments: " + ", ".join(sorted(given)))
        with self.store.lock if self.store is not None else nullcontext():
            values = dict(inputs)
            for i in self.graph.inputs:
                if i.name not in given:
                    values[i.name] = self.store.numpy(i.name)
            outputs, updates = interpret(self.graph, values, self.mode)
            self._check_finite(outputs, values)
            if updates:
                self.store.write(updates)
        return outputs

    def _check_finite(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        name = self.graph.finite
        if not name or np.isfinite(outputs[name]).all():
            return
        root = dict(self.graph.outputs)[name]
        cause = first_nonfinite(self.graph, values, self.mode, [root])
        if cause is None:
            raise NonFiniteError(f"{name} is not finite; nothing was written")
        node, nan, inf = cause
        what = f"input {node.attrs['name']!r}" if node.op.kind == "input" else node.op.name
        origin = self.graph.provenance.of(node)
        where = [f"in    {s}" for s in sorted(origin.scopes) if s] + [f"used  {loc}   {loc.text}".rstrip() for loc in sorted(origin.locs)]
        raise NonFiniteError(
            f"{name} is not finite; nothing was written. First non-finite value: {what} : {node.type} ({nan} NaN, {inf} infinite)",
            where=tuple(where),
        )


class ReferenceBackend:
    """Compiling is free: the graph is its own program."""

    name = "reference"
    options: ClassVar = {"mode": Option(lambda v: v in ("faithful", "exact"), '"faithful" (declared dtypes) or "exact" (float64)')}

    def compile(self, graph: Graph, store: Any = None, *, mode: str = "faithful") -> ReferenceExecutable:
        """The executable of a graph; ``mode`` is "faithful" (declared dtypes) or "exact" (float64 throughout)."""
        verify(graph)
        return ReferenceExecutable(graph, store, mode)


BACKEND = ReferenceBackend()
