"""A scheduled graph as kernels: each launch's text, the loaded kernels, and the memory and launch list of one binding."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.errors import CompileError, GraphcError
from graphc.ir.dims import Size, prod
from graphc.ir.graph import Graph
from graphc.schedule.launches import Launch, Schedule

from .machine.cache import Kernel, Progress, default_cache
from .machine.compile import origin_lines
from .machine.pool import driver_text
from .machine_facts import Facts
from .printers.contract import print_contract
from .printers.loops import print_loops
from .printers.scatter import print_scatter
from .printers.text import Printed
from .shares import Reach, reach_of

__all__ = ["KernelLaunch", "Program", "print_kernels"]

LINES = 8
"""Lines and scopes that the comment of a kernel names."""

PRINTERS = {"map": print_loops, "row": print_loops, "contract": print_contract, "scatter": print_scatter}


@dataclass
class KernelLaunch:
    """A launch with its printed kernel."""

    launch: Launch
    printed: Printed
    kernel: Kernel
    reach: Reach | None


def comment_of(launch: Launch, graph: Graph) -> str:
    """What a reader of the kernel wants to know first: kind, operators, and the user's lines. Models that share a kernel share
    its file, which then shows the lines of the first of them; each model's own are in its listing."""
    words = " ".join(n.op.name for n in launch.nest.nodes)
    origins = [graph.provenance.of(n) for n in launch.nest.nodes]
    locs = sorted({loc for o in origins for loc in o.locs}, key=lambda loc: (loc.file, loc.line))
    scopes = sorted({s for o in origins for s in o.scopes if s})
    lines = [f"{launch.nest.kind}: {words}", *(f"from {loc}  {loc.text}".rstrip() for loc in locs[:LINES])]
    if len(locs) > LINES:
        lines.append(f"and {len(locs) - LINES} more lines")
    if scopes:
        lines.append(f"in {', '.join(scopes[:LINES])}" + (", ..." if len(scopes) > LINES else ""))
    return "\n".join(lines)


def print_kernels(schedule: Schedule, facts: Facts) -> list[Printed]:
    """The kernel of each launch, in order, as text."""
    return [_print_kernel(i, schedule, facts) for i in schedule.launches()]


def _print_kernel(launch: Launch, schedule: Schedule, facts: Facts) -> Printed:
    comment = comment_of(launch, schedule.graph)
    try:
        return PRINTERS[launch.nest.kind](launch.nest, schedule.buffers, facts, comment)
    except Exception as e:
        if not isinstance(e, GraphcError):
            e = CompileError(
                f"a kernel could not be written: {type(e).__name__}: {e}",
                hint="this is a defect of graphc; GRAPHC_TRACEBACK=full shows where",
            ).with_traceback(e.__traceback__)
        e.where = e.where or origin_lines(comment)
        raise e from None


def work_of(launch: Launch) -> Size:
    """A rough count of the scalar operations of a launch."""
    n = launch.nest
    return prod(a.size for a in (*n.outer, *n.inner)) * (prod(k.size for k in n.contract.k) if n.contract else max(len(n.nodes), 1) * 4)


class Program:
    """Kernels of a schedule, compiled and loaded. ``work`` is a rough count of the scalar operations of a run."""

    def __init__(self, schedule: Schedule, facts: Facts, progress: Progress | None = None):
        self.schedule = schedule
        self.facts = facts
        launches = schedule.launches()
        printed = print_kernels(schedule, facts)
        *kernels, _ = default_cache().get([*(p.text for p in printed), driver_text()], progress)  # the driver, so that it is made beside them
        self.kernels = {i: KernelLaunch(i, p, k, reach_of(i, p.shares, schedule.buffers)) for i, p, k in zip(launches, printed, kernels, strict=True)}
        self.work: Size = sum(map(work_of, launches), start=0)

    def texts(self) -> dict[str, str]:
        """Source of every distinct kernel by name."""
        return {k.kernel.name: k.printed.text for k in self.kernels.values()}
