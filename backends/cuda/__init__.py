"""The CUDA side: printers of Numba-CUDA kernels, and a simulator that runs their text without a GPU (target "cuda-sim")."""

from __future__ import annotations

from typing import Any, ClassVar

from graphc.cuda import summary
from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore

from .executable import CudaSimExecutable

__all__ = ["BACKEND", "CudaSimBackend"]


class CudaSimBackend:
    """Prints a graph's nests as CUDA kernels and simulates them, thread by thread."""

    name = "cuda-sim"
    options: ClassVar[dict[str, Any]] = {}

    def compile(self, graph: Graph, store: ParameterStore | None = None) -> CudaSimExecutable:
        """The executable of a graph. It takes no options."""
        return CudaSimExecutable(graph, store)

    @staticmethod
    def examine() -> list[tuple[str, str]]:
        """What ``graphc doctor`` prints: the GPU, or why there is none."""
        return [("cuda", summary())]


BACKEND = CudaSimBackend()
