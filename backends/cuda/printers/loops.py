"""The printer of map and row nests.

A map gives every point to one thread. A row gives every outer point to one warp where the folded axis is contiguous in
memory: the lanes take neighbouring elements, and a butterfly of shuffles combines what they have. Other folds (columns,
small windows) give every outer point to one thread, whose loops over the folded axes are serial: there, neighbouring
threads read neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.dims import coefficient, prod
from graphc.ir.node import Node
from graphc.loops.nest import Axis, Nest, Stage
from graphc.loops.scalar import postorder
from graphc.schedule.program import Buffer

from .instructions import instruction, literal, shuffle
from .text import Block, KernelText, Printed

__all__ = ["print_loops"]

WARP = 32
SHORT = 16
"""Folds over fewer elements leave too much of a warp idle."""


def print_loops(nest: Nest, buffers: Mapping[Node, Buffer], comment: str = "") -> Printed:
    """The kernel of a map or row nest."""
    out = KernelText(nest, buffers, comment)
    lanes = warp_axis(nest)
    points = prod(a.size for a in nest.outer)
    thread = "cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x"
    if lanes is None:
        out.line(f"first = np.int32({thread})")
        out.line("step = np.int32(cuda.blockDim.x * cuda.gridDim.x)")
    else:
        out.line("lane = np.int32(cuda.threadIdx.x & 31)")
        out.line(f"first = np.int32(({thread}) >> 5)")
        out.line("step = np.int32((cuda.blockDim.x * cuda.gridDim.x) >> 5)")
    unit = out.open_points(nest.outer, points, "first", "step")
    for stage in nest.stages:
        _points(out, nest, stage, lanes)
        if stage.accs or stage.writes:
            _pass(out, nest, stage, lanes, unit)
    out.close()
    return out.finish(points, WARP if lanes is not None else 1)


def warp_axis(nest: Nest) -> Axis | None:
    """The folded axis that a warp walks together: one along which what is folded lies side by side."""
    loads = [t for st in nest.stages for a in st.accs for t in postorder([a.value]) if t.op == "load"]
    best, most = None, 0
    for axis in nest.inner:
        good = sum(coefficient(t.attr[1][0], axis.name) == 1 for t in loads)
        if good > most and not (isinstance(axis.size, int) and axis.size < SHORT):
            best, most = axis, good
    return best


def _points(out: KernelText, nest: Nest, stage: Stage, lanes: Axis | None) -> None:
    if not stage.points:
        return
    for w in stage.points:
        out.value(w.value)
        out.index(w.index[0])
    if lanes is not None:
        if _reads_back(out, nest):
            out.line("cuda.syncwarp()")
        out.open("if lane == 0:")
    for w in stage.points:
        out.store(w)
    if lanes is not None:
        out.close()


def _reads_back(out: KernelText, nest: Nest) -> bool:
    """Whether the kernel updates in place: then every lane has read before one writes."""
    written = {out.pointer(w.node) for w in nest.writes()}
    return any(out.pointer(t.attr[0]) in written for t in postorder(nest.roots()) if t.op == "load")


def _pass(out: KernelText, nest: Nest, stage: Stage, lanes: Axis | None, unit: Block) -> None:
    """One pass over the folded axes: elements are written, accumulators fed, and lanes combined after it."""
    for a in stage.accs:
        out.line(f"a{a.number} = {literal(a.neutral, a.value.dtype)}")
    loops = [axis for axis in nest.inner if axis is not lanes]
    for axis in loops:
        out.open(f"for {out.vars[axis.name]} in range({out.size(axis.size)}):", axis)
    if lanes is not None:
        out.open(f"for {out.vars[lanes.name]} in range(lane, {out.size(lanes.size)}, np.int32({WARP})):", lanes)
        loops.append(lanes)
    for w in stage.writes:
        out.store(w)
    for a in stage.accs:
        acc, dtype = f"a{a.number}", a.value.dtype
        out.line(f"{acc} = {instruction(a.combine, dtype, (acc, out.value(a.value)), (dtype, dtype))}")
    out.close(len(loops))
    if lanes is not None and stage.accs:
        out.open("for k in range(5):")
        for a in stage.accs:
            acc, other, dtype = f"a{a.number}", f"b{a.number}", a.value.dtype
            out.line(f"{other} = {shuffle(acc, dtype, '16 >> k')}")
            out.line(f"{acc} = {instruction(a.combine, dtype, (acc, other), (dtype, dtype))}")
        out.close()
    for a in stage.accs:
        for t in postorder(nest.roots()):
            if t.op == "acc" and t.attr == a.number:
                unit.known[t] = f"a{a.number}"
