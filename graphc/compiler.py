"""From a graph to an executable: finds the backend of a target and hands it the graph."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ArgumentError, DeviceUnavailableError, did_you_mean
from .inspect.capture import collected, record
from .ir.graph import Graph
from .runtime.garbage import no_collecting
from .runtime.store import ParameterStore

__all__ = ["TARGETS", "compile_graph", "find_backend", "lower_graph", "ready_backend"]

TARGETS = {
    "cpu": "graphc.backends.cpu",
    "cuda": "graphc.backends.cuda.on_gpu",
    "cuda-sim": "graphc.backends.cuda",
    "reference": "graphc.backends.reference",
}


def find_backend(target: str, options: Mapping[str, Any], others: Iterable[str] = ()) -> Any:
    """The backend of a target, when it takes all the options.

    Raises :class:`DeviceUnavailableError` for a target that does not exist (there is never a silent change of target) and
    :class:`ArgumentError` for an option that the backend does not know or whose value it does not take. ``others`` are
    arguments of the caller that somebody may have meant.
    """
    if target not in TARGETS:
        near = "" if "cuda" in str(target) else did_you_mean(target, TARGETS, 0)
        hint = near or 'the targets are "cpu", "cuda" (a GPU), "cuda-sim" (its kernels in a simulator, for tests) and "reference" (NumPy)'
        raise DeviceUnavailableError(f"this version of graphc has no target {target!r}", hint=hint)
    # by name and not by import: the core does not depend on backends
    backend = importlib.import_module(TARGETS[target]).BACKEND
    for name, value in options.items():
        option = backend.options.get(name)
        if option is None:
            known = [*others, *backend.options]
            hint = did_you_mean(name, known) if known else ""
            raise ArgumentError(f"there is no argument {name!r}, and no option of the target {target}", hint=hint)
        if not option.fits(value):
            raise ArgumentError(f"{name} = {value!r} is not {option.says}", hint="without it graphc decides")
    return backend


def ready_backend(target: str, options: Mapping[str, Any], others: Iterable[str] = ()) -> Any:
    """The same, when it can run on this machine: a GPU that is missing is an error before any work is done."""
    backend = find_backend(target, options, others)
    if hasattr(backend, "require"):
        backend.require(**options)
    return backend


def compile_graph(graph: Graph, target: str = "cpu", store: ParameterStore | None = None, **options: Any) -> Any:
    """The executable of a graph on a target; raises what :func:`find_backend` raises."""
    backend = find_backend(target, options)
    with no_collecting():
        made = backend.compile(graph, store, **options)
    if os.environ.get("GRAPHC_VIZ") or collected():
        record(made)
    return made


def lower_graph(graph: Graph, target: str = "cpu", **options: Any) -> Any:
    """What a graph becomes on a target, up to the text of its kernels, without compiling them.

    The result prints (``as_text(stage=...)``), tells costs and memory, and compiles (``compile(store)``).
    """
    backend = find_backend(target, options)
    if not hasattr(backend, "lower"):
        raise ArgumentError(f"{target} runs a graph as it was traced: there is nothing to lower", hint='target="cpu"')
    return backend.lower(graph, **options)
