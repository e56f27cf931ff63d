"""The CUDA side: printers of Numba-CUDA kernels, and a simulator that runs their text without a GPU (target "cuda-sim")."""

from __future__ import annotations

from typing import Any

from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore

from .executable import CudaSimExecutable

__all__ = ["BACKEND", "CudaSimBackend"]


class CudaSimBackend:
    """Prints a graph's nests as CUDA kernels and simulates them, thread by thread."""

    name = "cuda-sim"

    def compile(self, graph: Graph, store: ParameterStore | None = None, **options: Any) -> CudaSimExecutable:
        """The executable of a graph. It takes no options."""
        if options:
            raise TypeError(f"cuda-sim takes no option {next(iter(options))!r}")
        return CudaSimExecutable(graph, store)


BACKEND = CudaSimBackend()
