"""A scheduled graph as CUDA kernels, and its run on the simulator for one value of every named dim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from graphc.errors import CompileError, SimulationError
from graphc.ir.dims import evaluate
from graphc.schedule.launches import Buffer, Check, Launch, Repeat, Schedule

from . import sim
from .printers.contract import print_contract
from .printers.loops import print_loops
from .printers.scatter import print_scatter
from .printers.text import Param, Printed

__all__ = ["Kernel", "KernelLaunch", "Program", "argument", "check_indices", "grid"]

PRINTERS = {"map": print_loops, "row": print_loops, "scatter": print_scatter}
BLOCKS, SHARES = 2048, 256
"""Most blocks of a launch: as many threads as the largest GPUs hold at once, since those that wait for memory are what keeps it busy; kernels walk the
rest in strides of the grid. Of a scatter, whose warps each look through all updates, fewer."""


@dataclass(frozen=True)
class Kernel:
    """One distinct kernel: a name made from its text, and the text."""

    name: str
    text: str


@dataclass
class KernelLaunch:
    """A launch with its printed kernel."""

    launch: Launch
    printed: Printed
    kernel: Kernel


def grid(printed: Printed, dims: Mapping[str, int]) -> int:
    """Blocks of a launch; 0 where there is nothing to do."""
    most = min(BLOCKS, SHARES) if printed.team.name == "share" else BLOCKS
    return min(-(-evaluate(printed.points, dims) // printed.team.points), most)


def argument(p: Param, dims: Mapping[str, int], trip: int) -> np.generic:
    """What fills a parameter that is no buffer."""
    value = trip if p.kind == "trip" else evaluate(p.value, dims) if p.kind == "size" else p.value[0][1]
    return p.dtype.numpy.type(value)  # type: ignore[no-any-return]


def check_indices(schedule: Schedule, dims: Mapping[str, int]) -> None:
    """Kernels index in 32 bits: no buffer may have more elements than that counts."""
    for b in schedule.buffers.values():
        count = evaluate(b.elements, dims)
        if count >= 2**31:
            sizes = "".join(f", {d} = {n}" for d, n in dims.items())
            raise CompileError(
                f"{schedule.graph.name}{sizes}: {b.name or b.node.op.name} has {count} elements; kernels index in 32 bits", hint="smaller batches"
            )


class Program:
    """The kernels of a schedule as text, and their run on the simulator."""

    def __init__(self, schedule: Schedule, precision: str = "float32"):
        self.schedule = schedule
        self.kernels: dict[Launch, KernelLaunch] = {}
        for item in schedule.launches():
            nest = item.nest
            comment = f"{nest.kind}: {' '.join(n.op.name for n in nest.nodes)}"
            if nest.kind == "contract":
                printed = print_contract(nest, schedule.buffers, comment, precision)
            else:
                printed = PRINTERS[nest.kind](nest, schedule.buffers, comment)
            name = f"kernel_{blake2b(printed.text.encode(), digest_size=6).hexdigest()}"
            self.kernels[item] = KernelLaunch(item, printed, Kernel(name, printed.text))

    def run(self, dims: Mapping[str, int], given: Mapping[str, np.ndarray]) -> tuple[dict[Buffer, sim.Memory], bool]:
        """Memory after a run, and whether a check ended it. ``given`` are args, params and state in row-major order.

        Each buffer has memory of its own, so that an access past its end cannot hide in a neighbour.
        """
        check_indices(self.schedule, dims)
        memory: dict[Buffer, sim.Memory] = {}
        return memory, self._items(self.schedule.items, memory, dims, given, 0)

    def _items(
        self, items: list[Launch | Check | Repeat], memory: dict[Buffer, sim.Memory], dims: Mapping[str, int],
        given: Mapping[str, np.ndarray], trip: int,
    ) -> bool:  # fmt: skip
        """Runs items in order; whether no check ended the run. ``trip`` counts through all repeats around them."""
        for item in items:
            if isinstance(item, Check):
                if not np.isfinite(self._memory(memory, item.buffer, dims, given).data).all():
                    return False
            elif isinstance(item, Launch):
                self._launch(self.kernels[item], memory, dims, given, trip)
            else:
                count = evaluate(item.count, dims)
                if not all(self._items(item.body, memory, dims, given, trip * count + t) for t in range(count)):
                    return False
        return True

    def _launch(
        self, k: KernelLaunch, memory: dict[Buffer, sim.Memory], dims: Mapping[str, int], given: Mapping[str, np.ndarray], trip: int
    ) -> None:
        blocks = grid(k.printed, dims)
        if blocks:
            args = {p.name: self._memory(memory, p.value, dims, given) if p.kind == "buffer" else argument(p, dims, trip) for p in k.printed.params}
            sim.run(k.printed.text, blocks, k.printed.team.threads, args, f"{k.kernel.name} ({k.launch.nest.name})")

    def _memory(self, memory: dict[Buffer, sim.Memory], b: Buffer, dims: Mapping[str, int], given: Mapping[str, np.ndarray]) -> sim.Memory:
        # an update in place is another buffer object over the same slot
        key = next((other for other in memory if other.space == "slot" and other.name == b.name), b) if b.space == "slot" else b
        if key not in memory:
            name = b.name or f"{b.space} {b.node.op.name}"
            if b.space in ("arg", "slot"):
                memory[key] = sim.Memory(name, np.array(given[b.name], order="C").reshape(-1))
            elif b.space == "const":
                memory[key] = sim.Memory(name, np.array(b.node.attrs["value"], order="C").reshape(-1))
            else:
                memory[key] = sim.Memory(name, np.zeros(evaluate(b.elements, dims), b.type.dtype.numpy), written=False)
        return memory[key]

    def slot(self, memory: dict[Buffer, sim.Memory], b: Buffer, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """The logical value of a parameter or state after the run."""
        return self._memory(memory, b, {}, kept).data.view(b.type.dtype.numpy).reshape(kept[b.name].shape)

    def result(self, memory: dict[Buffer, sim.Memory], b: Buffer, dims: Mapping[str, int]) -> np.ndarray:
        """A buffer's logical array; every element must have been written."""
        shape = tuple(evaluate(s, dims) for s in b.type.shape)
        m = self._memory(memory, b, dims, {})
        if not m.written.all():
            raise SimulationError(f"{m}: element {int(np.argmin(m.written))} was never written")
        return b.layout.unpack(m.data.view(b.type.dtype.numpy), shape)
