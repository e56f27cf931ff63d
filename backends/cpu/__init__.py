"""The CPU backend: Numba kernels run by a compiled driver."""

from __future__ import annotations

from typing import Any

from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore

from .executable import CpuExecutable
from .lowering import CpuLowering

__all__ = ["BACKEND", "CpuBackend"]


class CpuBackend:
    """Prints a graph's nests as Numba kernels and runs them on every core."""

    name = "cpu"

    def compile(self, graph: Graph, store: ParameterStore | None = None, **options: Any) -> CpuExecutable:
        """The executable of a graph. Options: ``threads``, ``width`` (vector lanes: 16, 8, 4), ``progress``."""
        return CpuExecutable(graph, store, **options)

    def lower(self, graph: Graph, **options: Any) -> CpuLowering:
        """The passes, schedule and kernel texts of a graph; nothing is compiled. Option: ``width``."""
        return CpuLowering(graph, **options)


BACKEND = CpuBackend()
