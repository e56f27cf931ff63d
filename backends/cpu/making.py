"""How a program comes from its graph, step by step: what a program from the cache is spared until somebody looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Graph
from graphc.ir.layout import Layout

from .machine_facts import Facts

if TYPE_CHECKING:  # passes and printers are read when they run: a program from the cache has no use for them
    from graphc.passes.pipeline import Lowered
    from graphc.schedule.launches import Schedule

    from .program import Program

__all__ = ["Making"]


class Making:
    """How a program comes from its graph; each step is done when somebody asks for it. ``stored`` has the layouts of parameters before, and
    ``fixed`` those that stay."""

    # no cached_property: before Python 3.12 it lets one thread at a time compile anything

    def __init__(self, graph: Graph, stored: Mapping[str, Layout], fixed: Mapping[str, Layout], trains: bool, facts: Facts, progress: Any):
        self.graph, self.stored, self.fixed, self.trains, self.facts, self.progress = graph, stored, fixed, trains, facts, progress
        self._lowered: Lowered | None = None
        self._schedule: Schedule | None = None
        self._program: Program | None = None

    @property
    def lowered(self) -> Lowered:
        from graphc.passes.pipeline import Settings, lower

        if self._lowered is None:
            self._lowered = lower(self.graph, Settings(self.facts.width, self.fixed, may_choose=self.trains))
        return self._lowered

    @property
    def layouts(self) -> dict[str, Layout]:
        """The layouts of parameters from now on: training may choose."""
        chosen = self.lowered.layouts if self.trains else {}
        return {n: chosen.get(n, layout) for n, layout in self.stored.items()}

    @property
    def schedule(self) -> Schedule:
        from graphc.schedule.program import schedule_graph

        if self._schedule is None:
            self._schedule = schedule_graph(self.lowered.graph, self.layouts, self.facts.limits())
        return self._schedule

    @property
    def program(self) -> Program:
        from .program import Program

        if self._program is None:
            self._program = Program(self.schedule, self.facts, self.progress)
        return self._program
