"""The target "cuda": the kernels of "cuda-sim" on a GPU."""

from __future__ import annotations

from typing import Any, ClassVar

from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore
from graphc.runtime.warming import warm_architectures

from ..base import Option
from . import PRECISION, gpu
from .ahead import AheadExecutable
from .executable import CudaExecutable

__all__ = ["BACKEND", "CudaBackend"]


class CudaBackend:
    """Prints a graph's nests as CUDA kernels and runs them on a GPU; without one it is an error, never a run on the CPU."""

    name = "cuda"
    device_arrays = True
    """Arguments may be arrays on a GPU."""
    options: ClassVar = {
        "device": Option(lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0, "the number of a GPU, from 0"),
        "precision": PRECISION,
    }

    @staticmethod
    def require(device: int = 0, precision: str = "float32") -> None:
        """Raises :class:`DeviceUnavailableError`, with cause and fix, where there is no such GPU."""
        if not warm_architectures():
            gpu.open_gpu(device)

    def compile(self, graph: Graph, store: ParameterStore | None = None, device: int = 0, precision: str = "float32") -> Any:
        """The executable of a graph. Options: ``device``, the number of the GPU, and ``precision``, as for "cuda-sim".

        Under ``graphc warm --arch`` kernels are compiled for other machines, and nothing runs.
        """
        if warm_architectures():
            return AheadExecutable(graph, store, precision)
        return CudaExecutable(graph, store, device, precision)


BACKEND = CudaBackend()
