"""From a graph to an executable: finds the backend of a target and hands it the graph."""

from __future__ import annotations

import importlib
import os
from typing import Any

from .errors import ArgumentError, DeviceUnavailableError
from .inspect.capture import collected, record
from .ir.graph import Graph, verify
from .runtime.store import ParameterStore

__all__ = ["TARGETS", "compile_graph", "lower_graph"]

TARGETS = {"cpu": "graphc.backends.cpu", "cuda-sim": "graphc.backends.cuda", "reference": "graphc.backends.reference"}


def compile_graph(graph: Graph, target: str = "cpu", store: ParameterStore | None = None, **options: Any) -> Any:
    """The executable of a graph on a target ("cpu" or "reference").

    Raises :class:`DeviceUnavailableError` for a target that does not exist: there is never a silent change of target.
    """
    verify(graph)
    made = _backend(target).compile(graph, store, **options)
    if os.environ.get("GRAPHC_VIZ") or collected():
        record(made)
    return made


def lower_graph(graph: Graph, target: str = "cpu", **options: Any) -> Any:
    """What a graph becomes on a target, up to the text of its kernels, without compiling them.

    The result prints (``as_text(stage=...)``), tells costs and memory, and compiles (``compile(store)``).
    """
    verify(graph)
    backend = _backend(target)
    if not hasattr(backend, "lower"):
        raise ArgumentError(f"{target} runs a graph as it was traced: there is nothing to lower", hint='target="cpu"')
    return backend.lower(graph, **options)


def _backend(target: str) -> Any:
    if target not in TARGETS:
        raise DeviceUnavailableError(f"target {target!r} is not available", hint="one of " + ", ".join(TARGETS))
    # by name and not by import: the core does not depend on backends
    return importlib.import_module(TARGETS[target]).BACKEND
