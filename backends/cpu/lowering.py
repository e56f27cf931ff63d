"""A graph on its way to the CPU, without compiling: what it will be, for those who want to look."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from graphc.ir.graph import Graph
from graphc.passes.pipeline import Settings, lower
from graphc.runtime.store import ParameterStore
from graphc.schedule.program import schedule_graph

from ..compiled import Lowering
from .executable import CpuExecutable
from .machine.cache import key_of
from .machine.pool import default_threads
from .machine_facts import host_facts
from .measured_walks import measured_walks
from .program import print_kernels
from .slots import working_bytes

__all__ = ["CpuLowering"]


class CpuLowering(Lowering):
    """Passes, schedule and the text of every kernel. Layouts are those of a model that runs for the first time."""

    target = "cpu"

    def __init__(self, graph: Graph, width: int | None = None):
        self.graph = graph
        facts = host_facts(width, measured_walks(default_threads()))
        self.lowered = lower(graph, Settings(facts.width, {}, may_choose=bool(graph.updates)))
        self.schedule = schedule_graph(self.lowered.graph, self.lowered.layouts, facts.limits())
        kernels = {
            launch: SimpleNamespace(launch=launch, printed=p, kernel=SimpleNamespace(name=f"k_{key_of(p.text)[:16]}"))
            for launch, p in zip(self.schedule.launches(), print_kernels(self.schedule, facts), strict=True)
        }
        self.program = SimpleNamespace(kernels=kernels)

    def working_bytes(self, dims: Mapping[str, int]) -> int:
        """See :meth:`Lowering.working_bytes`."""
        return working_bytes((s for k in self.kernels for s in k.printed.slots), dims, default_threads())

    def compile(self, store: ParameterStore | None = None, **options: Any) -> CpuExecutable:
        """The executable of the graph, over the store of its parameters."""
        return CpuExecutable(self.graph, store, **options)
