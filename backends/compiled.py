"""What every lowered or compiled graph has in common: it can be looked at, and it explains a loss that is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError, NonFiniteError
from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore
from graphc.schedule.memory import MemoryPlan, plan_memory

if TYPE_CHECKING:  # read when somebody looks
    from graphc.inspect.cost import Cost
    from graphc.passes.pipeline import Lowered, PassRecord
    from graphc.schedule.group import Decision
    from graphc.schedule.launches import Schedule

__all__ = ["Compiled", "Lowering"]


class Lowering:
    """A graph that went through passes and schedule and became the text of kernels; ``program.kernels`` has one entry a launch."""

    target: str
    graph: Graph
    lowered: Lowered
    schedule: Schedule
    program: Any

    def listing(self) -> str:
        """Launches in order, with barriers, buffers and the user lines they come from."""
        prov = self.lowered.graph.provenance
        lines = []
        for i in self.schedule.items:
            if getattr(i, "barrier", False):
                lines.append("-- barrier --")
            if i in self.program.kernels:
                k = self.program.kernels[i]
                locs = sorted({str(loc) for n in k.launch.nest.nodes for loc in prov.locs(n)})
                axes = " x ".join(str(a.size) for a in k.launch.nest.outer) or "1"
                lines.append(
                    f"{k.kernel.name}  {k.launch.nest.kind:8} [{axes}]  {k.launch.nest.name}" + (f"   # {', '.join(locs)}" if locs else "")
                )
            else:
                lines.append(type(i).__name__.lower())
        return "\n".join(lines)

    @property
    def stages(self) -> dict[str, str]:
        """The graph's text after every pass, then the launches."""
        out = {"traced": str(self.graph)}
        out |= {p.name: p.as_text() for p in self.lowered.passes}
        out["schedule"] = self.listing()
        return out

    def as_text(self, stage: str = "") -> str:
        """One stage as text: "traced", the name of a pass, "fused" (nodes by kernel), "schedule" (launches) or "kernels" (their
        source); the graph that was scheduled if empty."""
        if not stage:
            return str(self.lowered.graph)
        if stage == "fused":
            from graphc.inspect.fused import fused_text

            return fused_text(self.schedule)
        if stage == "kernels":
            return "\n".join({k.kernel.name: f"# {k.kernel.name}\n{k.printed.text}" for k in self.kernels}.values())
        shown = self.stages
        if stage not in shown:
            raise ArgumentError(f"no stage {stage!r}", hint=", ".join([*shown, "fused", "kernels"]))
        return shown[stage]

    def __str__(self) -> str:
        return self.as_text()

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
        from graphc.schedule.explain import explain

        return explain(self.schedule.grouping, a, b)

    def dims(self, dims: Mapping[str, int] | None = None) -> dict[str, int]:
        """A value for every named dim: the given ones, else the hints, else 64."""
        hints = self.graph.meta.get("hints", {})
        return {d: hints.get(d) or 64 for d in self.graph.dims} | dict(dims or {})

    def memory_analysis(self, dims: Mapping[str, int] | None = None) -> MemoryPlan:
        """The memory plan, known before the first run: for given sizes, else for the hints of the named dims (64 without)."""
        sizes = self.dims(dims)
        return replace(plan_memory(self.schedule, sizes), working_bytes=self.working_bytes(sizes))

    def working_bytes(self, dims: Mapping[str, int]) -> int:
        """Memory that kernels keep for themselves while they run."""
        return 0

    def cost_analysis(self, dims: Mapping[str, int] | None = None) -> Cost:
        """Work and traffic of a run, before the first one: in all, by kernel and by module; sizes as in :meth:`memory_analysis`."""
        from graphc.inspect.cost import cost_of

        return cost_of(self.schedule, self.dims(dims))


class Compiled(Lowering):
    """A lowered graph whose kernels can run, over a store."""

    store: ParameterStore | None

    def not_finite(self, args: Mapping[str, Any]) -> None:
        """Nothing was written: the reference finds who produced the value, and raises."""
        from .reference import BACKEND

        BACKEND.compile(self.graph, _ReadOnly(self.store))(args)
        raise NonFiniteError(f"{self.graph.finite} is not finite; nothing was written")


class _ReadOnly:
    """A store that only shows its values."""

    def __init__(self, store: ParameterStore | None):
        if store is not None:
            self.lock = store.lock
            self.numpy = store.numpy

    def write(self, values: Mapping[str, Any]) -> None:
        """Nothing is written."""
