"""Finding the first operator that made a value non-finite, by running the graph again on the reference."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.errors import GraphcError, NonFiniteError
from graphc.ir.graph import Graph

__all__ = ["explain_nonfinite"]


def explain_nonfinite(graph: Graph, store: Any, inputs: Mapping[str, np.ndarray]) -> NonFiniteError:
    """The error of a loss that is not finite: the first operator whose result is not finite though its operands are, and
    the user's line. Nothing has been written, so running again shows the same.
    """
    # by name: the frontend does not depend on backends
    first_nonfinite = importlib.import_module("graphc.backends.reference").first_nonfinite

    title = "loss" if graph.finite == "$loss" else graph.finite
    message = f"{title} is not finite; nothing was written"
    values = {i.name: inputs[i.name] if i.role == "arg" else store.numpy(i.name) for i in graph.inputs}
    try:
        found = first_nonfinite(graph, values, roots=[dict(graph.outputs)[graph.finite]])
    except GraphcError:
        found = None
    if found is None:
        return NonFiniteError(message)
    node, nan, inf = found
    count = " and ".join(f"{n} {kind}" for n, kind in ((nan, "NaN"), (inf, "infinite")) if n)
    if node.op.kind == "input":
        name = node.attrs["name"]
        what = "argument" if name in inputs else "parameter" if name in store.names("param") else "state"
        return NonFiniteError(
            message,
            notes=f"first: the {what} {name!r} {node.type} has {count} values",
            hint="check the data" if name in inputs else "",
        )
    scopes = [s for s in graph.provenance.scopes(node) if s]
    where = [f"in    {scopes[0]}"] if scopes else []
    where += [f"used  {loc!s:<29}{loc.text}".rstrip() for loc in graph.provenance.locs(node)[:1]]
    return NonFiniteError(
        message, where=tuple(where), notes=f"first: {node.op.name} : {node.type} made {count} values of finite ones"
    )
