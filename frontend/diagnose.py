"""Finding the first operator that made a value non-finite, by running the graph again on the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.errors import NonFiniteError
from graphc.ir.graph import Graph
from graphc.ir.node import Node

__all__ = ["explain_nonfinite"]


def explain_nonfinite(error: NonFiniteError, graph: Graph, store: Any, inputs: Mapping[str, np.ndarray]) -> NonFiniteError:
    """``error`` with the first operator whose result is not finite though its operands are, and the user's line."""
    found = _first(graph, store, inputs)
    if found is None:
        return error
    node, values = found
    bad = int(values.size - np.isfinite(values).sum())
    kind = "NaN" if np.isnan(values).any() else "infinite"
    if node.op.kind == "input":
        what = f"first: the {'argument' if node.attrs['name'] in inputs else 'value'} {node.attrs['name']!r} has {bad} {kind} of {values.size} values"
    else:
        what = f"first: {node.op.name} made {bad} of {values.size} values {kind}"
    scopes = [s for s in graph.provenance.scopes(node) if s]
    where = [f"in    {scopes[0]}"] if scopes else []
    where += [f"used  {loc!s:<29}{loc.text}".rstrip() for loc in graph.provenance.locs(node)[:1]]
    return NonFiniteError(error.message, where=tuple(where), notes=(what, *error.notes), hint=error.hint)


def _first(graph: Graph, store: Any, inputs: Mapping[str, np.ndarray]) -> tuple[Node, np.ndarray] | None:
    from graphc.backends.reference import walk

    values = {i.name: inputs[i.name] if i.role == "arg" else store.numpy(i.name) for i in graph.inputs}
    with np.errstate(all="ignore"):
        for node, value in walk(graph, values):
            for part in value if isinstance(value, (tuple, list)) else (value,):
                array = np.asarray(part)
                if array.dtype.kind == "f" and not np.isfinite(array).all() and node.op.kind != "const":
                    return node, array
    return None
