"""From a graph to an executable: finds the backend of a target and hands it the graph."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import DeviceUnavailableError
from .ir.graph import Graph, verify
from .runtime.store import ParameterStore

__all__ = ["TARGETS", "compile_graph"]

TARGETS = {"cpu": "graphc.backends.cpu", "cuda-sim": "graphc.backends.cuda", "reference": "graphc.backends.reference"}


def compile_graph(graph: Graph, target: str = "cpu", store: ParameterStore | None = None, **options: Any) -> Any:
    """The executable of a graph on a target ("cpu" or "reference").

    Raises :class:`DeviceUnavailableError` for a target that does not exist: there is never a silent change of target.
    """
    if target not in TARGETS:
        raise DeviceUnavailableError(f"target {target!r} is not available", hint="one of " + ", ".join(TARGETS))
    verify(graph)
    # by name and not by import: the core does not depend on backends
    backend = importlib.import_module(TARGETS[target]).BACKEND
    return backend.compile(graph, store, **options)
