"""The printer of map and row nests.

A map gives every point to one thread, or four neighbours where memory can be read and written by 16 bytes. A fold is the work of

* a warp, where what is folded lies side by side: lanes take neighbours, and a butterfly of shuffles combines what they have,
* a block, where the same is long and there are few results: warps combine through shared memory,
* a column of eight threads, where results lie side by side and what is folded does not: each warp of a block takes an eighth of the
  rows of 32 results, and shared memory combines them,
* a thread, where there is little to fold (windows).
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.dims import Size, coefficient, prod
from graphc.ir.node import Node
from graphc.loops.nest import Acc, Axis, Nest, Stage
from graphc.loops.scalar import postorder
from graphc.schedule.program import Buffer

from .instructions import instruction, literal, shuffle
from .split import FOUR, best_vector_axis, split_axis
from .text import Block, KernelText, Printed, Team

__all__ = ["print_loops"]

WARP = 32
SHORT = 16
"""Folds over fewer elements leave too much of a warp idle."""
LONG = 2048
"""Elements from which a fold is the work of a block, where there are few results or one of its axes alone is as long."""
FEW = 512
PARTS = 8
"""Warps that share a column's rows."""

THREAD, ONE_WARP = Team("thread", 128, 128), Team("warp", 128, 128 // WARP)
BLOCK, COLUMN = Team("block", 256, 1), Team("column", PARTS * WARP, WARP)
FIRST = {"warp": "lane == 0", "block": "t == 0", "column": "part == 0 and c < {points}"}
"""Which thread of a team writes what belongs to a point."""


def print_loops(nest: Nest, buffers: Mapping[Node, Buffer], comment: str = "") -> Printed:
    """The kernel of a map or row nest."""
    team, lanes = choose_team(nest)
    vector = best_vector_axis(nest, [lanes] if lanes is not None else () if any(st.accs for st in nest.stages) else nest.outer)
    origins = None
    if vector is not None:
        nest, origins = split_axis(nest, vector)
        lanes = next((a for a in nest.inner if lanes is not None and a.name == lanes.name), lanes)
    printer = _Loops(nest, buffers, comment, team, lanes, FOUR if vector is not None else "", origins)
    return printer.print(vector.name if vector is not None else "")


def choose_team(nest: Nest) -> tuple[Team, Axis | None]:
    """Who works at a point, and the folded axis that the team walks together."""
    if not nest.inner:
        return THREAD, None
    beside, columns = _contiguous(nest, nest.inner), _contiguous(nest, nest.outer)
    folded, results = prod(a.size for a in nest.inner), prod(a.size for a in nest.outer)
    rows = max(nest.inner, key=lambda a: a.size if isinstance(a.size, int) else LONG)
    if beside is not None and _least(beside.size, LONG):
        return BLOCK, beside
    if isinstance(results, int) and results <= FEW and _least(folded, LONG) and (columns is None or beside is not None):
        return BLOCK, beside or nest.inner[-1]
    if beside is not None:
        return ONE_WARP, beside
    if columns is not None and _least(rows.size, WARP):
        return COLUMN, rows
    return THREAD, None


def _least(size: Size, bound: int) -> bool:
    """Whether a size is that large, or may be."""
    return not isinstance(size, int) or size >= bound


def _contiguous(nest: Nest, axes: tuple[Axis, ...]) -> Axis | None:
    """The axis along which most of what is folded lies side by side."""
    loads = [t for st in nest.stages for a in st.accs for t in postorder([a.value]) if t.op == "load"]
    best, most = None, 0
    for axis in axes:
        good = sum(coefficient(t.attr[1][0], axis.name) == 1 for t in loads)
        if good > most and _least(axis.size, SHORT):
            best, most = axis, good
    return best


class _Loops(KernelText):
    """The text of one kernel; ``lanes`` is the axis that a team walks together."""

    def __init__(self, nest: Nest, buffers: Mapping[Node, Buffer], comment: str, team: Team, lanes: Axis | None, vector: str, origins: object):
        super().__init__(nest, buffers, comment, vector, origins)  # type: ignore[arg-type]
        self.team = team
        self.lanes = lanes
        self.shared: dict[tuple[int, str], str] = {}

    def print(self, split: str) -> Printed:
        """``split`` names the axis that counts groups of four."""
        nest = self.nest
        points = prod(a.size for a in nest.outer)
        unit = self._open(points, self._order(split))
        for stage in nest.stages:
            self._points(stage, points)
            if stage.accs or stage.writes:
                self._pass(stage, unit)
        self.close()
        return self.finish(points, self.team)

    def _order(self, split: str) -> tuple[Axis, ...]:
        """Outer axes, slowest first: neighbouring threads take neighbours in memory."""
        outer, last = self.nest.outer, None
        if self.team is COLUMN:
            last = _contiguous(self.nest, outer)
        elif split:
            last = next((a for a in outer if a.name == split), None)
        return outer if last is None else (*(a for a in outer if a is not last), last)

    def _open(self, points: Size, axes: tuple[Axis, ...]) -> Block:
        """The loop over the team's points."""
        thread, team = "cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x", self.team
        if team is THREAD:
            self.line(f"first = np.int32({thread})")
            self.line("step = np.int32(cuda.blockDim.x * cuda.gridDim.x)")
        elif team is ONE_WARP:
            self.line("lane = np.int32(cuda.threadIdx.x & 31)")
            self.line(f"first = np.int32(({thread}) >> 5)")
            self.line("step = np.int32((cuda.blockDim.x * cuda.gridDim.x) >> 5)")
        else:
            self.line("t = np.int32(cuda.threadIdx.x)")
            self.line("lane = np.int32(t & 31)")
            self.line("part = np.int32(t >> 5)")
        if team in (THREAD, ONE_WARP):
            return self.open_points(axes, points, "first", "step")
        if team is BLOCK:
            return self.open_points(axes, points, "np.int32(cuda.blockIdx.x)", "np.int32(cuda.gridDim.x)")
        # lanes beyond the last point work at the last one and write nothing: all threads come to the barriers
        count = self.typed(points)
        block = self.open(f"for c0 in range(np.int32(cuda.blockIdx.x * 32), {count}, np.int32(cuda.gridDim.x * 32)):", *self.nest.outer)
        self.line("c = np.int32(c0 + lane)")
        self.line(f"u = np.int32(c if c < {count} else {count} - 1)")
        self.decode(axes, "u")
        return block

    def _points(self, stage: Stage, points: Size) -> None:
        """What is written once a point."""
        if not stage.points:
            return
        if not self.nest.inner and self.vector:
            self.open_vector()
            for w in stage.points:
                self.store(w)
            self.close_vector()
            return
        for w in stage.points:
            self.value(w.value)
            self.index(w.index[0])
        if self.team is not THREAD:
            if self._reads_back():
                self.line("cuda.syncwarp()" if self.team is ONE_WARP else "cuda.syncthreads()")
            self.open(f"if {FIRST[self.team.name].format(points=self.typed(points))}:")
        for w in stage.points:
            self.store(w)
        if self.team is not THREAD:
            self.close()

    def _reads_back(self) -> bool:
        """Whether the kernel updates in place: then every thread of the team has read before one writes."""
        written = {self.pointer(w.node) for w in self.nest.writes()}
        return any(self.pointer(t.attr[0]) in written for t in postorder(self.nest.roots()) if t.op == "load")

    def _pass(self, stage: Stage, unit: Block) -> None:
        """One pass over the folded axes: elements are written, accumulators fed, and what threads have combined after it."""
        for a in stage.accs:
            self.line(f"a{a.number} = {literal(a.neutral, a.value.dtype)}")
        depth = len(self.blocks)
        self._walk()
        if self.vector:
            self.open_vector()
        guarded = self.team is COLUMN and stage.writes
        if guarded:
            for w in stage.writes:
                self.value(w.value)
            self.open(f"if c < {self.typed(prod(a.size for a in self.nest.outer))}:")
        for w in stage.writes:
            self.store(w)
        if guarded:
            self.close()
        for a in stage.accs:
            acc, dtype = f"a{a.number}", a.value.dtype
            self.line(f"{acc} = {instruction(a.combine, dtype, (acc, self.value(a.value)), (dtype, dtype))}")
        if self.vector:
            self.close_vector()
        self.close(len(self.blocks) - depth)
        if stage.accs and self.team is not THREAD:
            self._combine(stage.accs)
        for a in stage.accs:
            for t in postorder(self.nest.roots()):
                if t.op == "acc" and t.attr == a.number:
                    unit.known[t] = f"a{a.number}"

    def _walk(self) -> None:
        """The loops over the folded axes."""
        inner, lanes = self.nest.inner, self.lanes
        if self.team is BLOCK:  # as one long axis, so that all threads have work
            total = self.typed(prod(a.size for a in inner))
            self.open(f"for r in range(t, {total}, np.int32({BLOCK.threads})):", *inner)
            self.decode((*(a for a in inner if a is not lanes), *(a for a in inner if a is lanes)), "r")
            return
        for axis in inner:
            if axis is not lanes:
                self.open(f"for {self.vars[axis.name]} in range({self.size(axis.size)}):", axis)
        if lanes is not None:
            first, step = ("lane", WARP) if self.team is ONE_WARP else ("part", PARTS)
            self.open(f"for {self.vars[lanes.name]} in range({first}, {self.typed(lanes.size)}, np.int32({step})):", lanes)

    def _combine(self, accs: tuple[Acc, ...]) -> None:
        """What the threads of a team have becomes one value that all of them know."""
        if self.team is not COLUMN:
            self.device.add("shuffle_xor")
            self.open("for k in range(5):")
            for a in accs:
                acc, other, dtype = f"a{a.number}", f"b{a.number}", a.value.dtype
                self.line(f"{other} = {shuffle(acc, dtype, '16 >> k')}")
                self._join(a, other)
            self.close()
        if self.team is ONE_WARP:
            return
        block = self.team is BLOCK
        at, mine, step = ("part", "0", "k") if block else ("t", "lane", f"np.int32(k * {WARP} + lane)")
        names = [self._shared(a, n, PARTS if block else PARTS * WARP) for n, a in enumerate(accs)]
        if block:
            self.open("if lane == 0:")
        for a, name in zip(accs, names, strict=True):
            self.line(f"{name}[{at}] = {self.stored(f'a{a.number}', a.value.dtype)}")
        if block:
            self.close()
        self.line("cuda.syncthreads()")
        for a, name in zip(accs, names, strict=True):
            self.line(f"a{a.number} = {self.loaded(f'{name}[{mine}]', a.value.dtype)}")
        self.open(f"for k in range(1, {PARTS}):")
        for a, name in zip(accs, names, strict=True):
            self.line(f"b{a.number} = {self.loaded(f'{name}[{step}]', a.value.dtype)}")
            self._join(a, f"b{a.number}")
        self.close()
        self.line("cuda.syncthreads()")

    def _join(self, a: Acc, other: str) -> None:
        acc, dtype = f"a{a.number}", a.value.dtype
        self.line(f"{acc} = {instruction(a.combine, dtype, (acc, other), (dtype, dtype))}")

    def _shared(self, a: Acc, n: int, size: int) -> str:
        """The shared array through which the n-th accumulator of a stage is combined; later stages use it again."""
        key = (n, a.value.dtype.name)
        if key not in self.shared:
            self.shared[key] = self.array("shared", size, a.value.dtype)
        return self.shared[key]
