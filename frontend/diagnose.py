"""Finding the first operator that made a value non-finite, by running the graph again on the reference."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from graphc.errors import GraphcError, NonFiniteError
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.locate import used_line

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
    count = " and ".join(f"{n} {kind}" for n, kind in ((nan, "NaN"), (inf, "infinite value" + "s" * (inf > 1))) if n)
    if node.op.kind == "input":
        name = node.attrs["name"]
        what = "argument" if name in inputs else "parameter" if name in store.names("param") else "state"
        return NonFiniteError(
            message,
            notes=f"first: the {what} {name!r} {node.type} has {count}" + _place(inputs.get(name)),
            hint=f"np.isfinite({name}) shows where; fill such values or leave their rows out" if name in inputs else "",
        )
    scopes = [s for s in graph.provenance.scopes(node) if s]
    where = [f"in    {scopes[0]}"] if scopes else []
    where += [used_line(loc) for loc in graph.provenance.locs(node)[:1]]
    notes, hint = [f"first: {node.op.name} : {node.type} made {count} of finite operands"], "a smaller learning rate, clip_norm= in the optimiser, or a guard against zero: (x + 1e-6).log()"
    for name, low, high, classes in _wrong_labels(node, inputs):
        notes.append(f"{name!r} has labels from {low} to {high}, but there are {classes} classes: 0 to {classes - 1}")
        hint = f"{name} - 1: labels count from 0" if (low, high) == (1, classes) else "labels count from 0; the last layer has an output for each class"
    return NonFiniteError(message, where=tuple(where), notes=tuple(notes), hint=hint)


def _place(array: np.ndarray | None) -> str:
    """Where the first bad value of an argument is."""
    if array is None or not array.ndim:
        return ""
    index = np.argwhere(~np.isfinite(array))[0].tolist()
    return f", the first at [{', '.join(map(str, index))}] of the batch"


def _wrong_labels(node: Node, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, int, int, int]]:
    """(argument, lowest label, highest, number of classes) of integer operands that do not fit scores with one more axis."""
    ignored = node.attrs.get("ignore_index")
    for labels in node.inputs:
        name = labels.attrs["name"] if labels.op.kind == "input" else ""
        if name not in inputs or not labels.dtype.is_int:
            continue
        for scores in node.inputs:
            classes = scores.shape[min(1, scores.ndim - 1)] if scores.dtype.is_float and scores.ndim == labels.ndim + 1 else None
            found = inputs[name][inputs[name] != ignored]
            if isinstance(classes, int) and found.size and not 0 <= found.min() <= found.max() < classes:
                yield name, int(found.min()), int(found.max()), classes
