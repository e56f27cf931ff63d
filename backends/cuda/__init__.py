"""The CUDA side: printers of Numba-CUDA kernels, and a simulator that runs their text without a GPU (target "cuda-sim")."""

from __future__ import annotations

from typing import Any, ClassVar

from graphc.cuda import summary
from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore

from ..base import Option
from .executable import CudaSimExecutable
from .printers.contract import PRECISIONS

__all__ = ["BACKEND", "PRECISION", "CudaSimBackend"]


PRECISION = Option(lambda v: v in PRECISIONS, 'a precision of products: "float32", "tf32" or "bf16" (sums are float32)')


class CudaSimBackend:
    """Prints a graph's nests as CUDA kernels and simulates them, thread by thread."""

    name = "cuda-sim"
    options: ClassVar[dict[str, Any]] = {"precision": PRECISION}

    def compile(self, graph: Graph, store: ParameterStore | None = None, precision: str = "float32") -> CudaSimExecutable:
        """The executable of a graph. Option: ``precision``, what the factors of float32 products may be rounded to."""
        return CudaSimExecutable(graph, store, precision)

    @staticmethod
    def examine() -> list[tuple[str, str]]:
        """What ``graphc doctor`` prints: the GPU, or why there is none."""
        return [("cuda", summary())]


BACKEND = CudaSimBackend()
