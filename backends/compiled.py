"""What every executable made of kernels has in common: it can be looked at, and it explains a loss that is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.errors import NonFiniteError
from graphc.ir.graph import Graph
from graphc.passes.pipeline import Lowered, PassRecord
from graphc.runtime.store import ParameterStore
from graphc.schedule.explain import explain
from graphc.schedule.groups import Decision
from graphc.schedule.memory import MemoryPlan, plan_memory
from graphc.schedule.program import Schedule

from .reference import BACKEND as REFERENCE

__all__ = ["Compiled"]


class Compiled:
    """A graph that went through passes and schedule and became kernels; ``program.kernels`` has one entry a launch."""

    graph: Graph
    store: ParameterStore | None
    lowered: Lowered
    schedule: Schedule
    program: Any

    def listing(self) -> str:
        """The launches in order, as text."""
        raise NotImplementedError

    @property
    def stages(self) -> dict[str, str]:
        """The graph's text after every pass, then the launches."""
        out = {"traced": str(self.graph)}
        out |= {p.name: p.as_text() for p in self.lowered.passes}
        out["schedule"] = self.listing()
        return out

    @property
    def passes(self) -> list[PassRecord]:
        return self.lowered.passes

    @property
    def kernels(self) -> list[Any]:
        """One entry a launch, in order: nest, text and name of its kernel."""
        return [self.program.kernels[i] for i in self.schedule.launches()]

    @property
    def decisions(self) -> list[Decision]:
        return self.schedule.decisions

    def explain_fusion(self, a: Any, b: Any) -> str:
        """Why two nodes share a kernel or do not, in one sentence; ``a`` and ``b`` are nodes or operator names."""
        return explain(self.schedule.grouping, a, b)

    def memory_analysis(self, dims: Mapping[str, int] | None = None) -> MemoryPlan:
        """The memory plan, known before the first run: for given sizes, else for the hints of the named dims (64 without)."""
        hints = self.graph.meta.get("hints", {})
        sizes = {d: hints.get(d) or 64 for d in self.graph.dims} | dict(dims or {})
        return plan_memory(self.schedule, sizes)

    def not_finite(self, args: Mapping[str, Any]) -> None:
        """Nothing was written: the reference finds who produced the value, and raises."""
        REFERENCE.compile(self.graph, _ReadOnly(self.store))(args)
        raise NonFiniteError(f"{self.graph.finite} is not finite; nothing was written")


class _ReadOnly:
    """A store that only shows its values."""

    def __init__(self, store: ParameterStore | None):
        if store is not None:
            self.lock = store.lock
            self.numpy = store.numpy

    def write(self, values: Mapping[str, Any]) -> None:
        """Nothing is written."""
