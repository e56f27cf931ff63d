"""The CPU backend: Numba kernels run by a compiled driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore

from ..base import Option

if TYPE_CHECKING:
    from .executable import CpuExecutable
    from .lowering import CpuLowering
    from .peaks import Peaks
    from .profiler import Profiler
    from .tuning import Tuning

__all__ = ["BACKEND", "CpuBackend"]


class CpuBackend:
    """Prints a graph's nests as Numba kernels and runs them on every core."""

    name = "cpu"
    options: ClassVar = {
        "threads": Option(lambda v: v is None or (isinstance(v, int) and not isinstance(v, bool) and v >= 1), "a whole number of 1 or more"),
        "width": Option(lambda v: v in (None, 4, 8, 16), "a vector width: 4, 8 or 16 float32 lanes"),
        "progress": Option(lambda v: v is None or callable(v), "a function of (kernels done, kernels to build, file)"),
    }

    def compile(self, graph: Graph, store: ParameterStore | None = None, **options: Any) -> CpuExecutable:
        """The executable of a graph. Options: ``threads``, ``width`` (vector lanes: 16, 8, 4), ``progress``."""
        from .executable import CpuExecutable  # not before: a process that runs a bundle has no use for passes and printers

        return CpuExecutable(graph, store, **options)

    def lower(self, graph: Graph, **options: Any) -> CpuLowering:
        """The passes, schedule and kernel texts of a graph; nothing is compiled. Option: ``width``."""
        from .lowering import CpuLowering

        return CpuLowering(graph, **options)

    def tune(self, graph: Graph, store: ParameterStore | None, inputs: Mapping[str, Any], **options: Any) -> Tuning:
        """Measures the walks of a graph's contractions and keeps the faster ones, for ``gc.tune``; the store stays as it is."""
        from .tuning import tune

        return tune(graph, store, inputs, **options)

    def profiler(self) -> Profiler:
        """What measures programs, for ``gc.profile``: ``start()``, ``stop()``, and then ``measured``, a list of Measurement."""
        from .profiler import Profiler

        return Profiler()

    def limits(self, threads: int) -> Peaks:
        """The machine's measured limits for so many threads."""
        from .peaks import measured_peaks

        return measured_peaks(threads)

    def examine(self) -> list[tuple[str, str]]:
        """What ``graphc doctor`` says of this target: names and what is found."""
        from .doctor import examine

        return examine()


BACKEND = CpuBackend()
