"""The printer of scatters: each warp owns a range of destination rows and looks through all updates in order.

Thirty-two indices are looked at together; a ballot says which of them fall into the warp's rows, and the warp takes those one by
one, its lanes side by side along the columns. So every element is combined in the order of the updates by one thread: the result is
the same for any grid, and no atomics are needed.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.node import Node
from graphc.loops.nest import Nest
from graphc.schedule.program import Buffer

from .instructions import instruction, literal
from .text import KernelText, Printed, Team

__all__ = ["print_scatter"]

def print_scatter(nest: Nest, buffers: Mapping[Node, Buffer], comment: str = "") -> Printed:
    """The kernel of ``out = base; out[index[i]] = combine(out[index[i]], update[i])``."""
    s = nest.scatter
    assert s is not None
    out = KernelText(nest, buffers, comment)
    out.device |= {"ballot", "lowest_bit"}
    po, pi = (out.pointer(n) for n in (s.out, s.index))
    rows, columns, count = (out.typed(e) for e in (s.rows, s.columns, s.count))
    dtype = s.out.dtype
    thread = "cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x"
    out.line("lane = np.int32(cuda.threadIdx.x & 31)")
    out.line("warps = np.uint32((cuda.blockDim.x * cuda.gridDim.x) >> 5)")
    out.line(f"share = np.int32(np.uint32({rows} + warps - 1) // warps)")
    out.line(f"low = np.int32((({thread}) >> 5) * share)")
    out.line(f"high = np.int32(low + share if low + share < {rows} else {rows})")
    first = None if s.fill is not None else out.pointer(s.base)
    if first != po:
        out.open(f"for j in range(np.int32(low * {columns} + lane), np.int32(high * {columns}), np.int32(32)):")
        out.line(f"{po}[j] = {out.stored(literal(s.fill, dtype), dtype) if first is None else f'{first}[j]'}")
        out.close()
        out.line("cuda.syncwarp()")  # other lanes copied what this one will combine
    out.open(f"for first in range(np.int32(0), {count}, np.int32(32)):")
    out.line("i = np.int32(first + lane)")
    out.line(f"mine = i < {count} and {pi}[i] >= low and {pi}[i] < high")
    out.line("found = ballot(mine)")
    out.open("while found != 0:")
    out.line("u = np.int32(first + lowest_bit(found))")
    out.line("found = np.uint32(found & (found - 1))")
    out.line(f"row = np.int32({pi}[u])")
    out.open(f"for j in range(lane, {columns}, np.int32(32)):")
    out.line(f"at = np.int32(row * {columns} + j)")
    value = out.element(s.update, f"np.int32(u * {columns} + j)")
    if s.combine != "set":
        out.line(f"old = {out.element(s.out, 'at')}")
        out.line(f"new = {value}")
        value = instruction(s.combine, dtype, ("old", "new"), (dtype, dtype))
    out.line(f"{po}[at] = {out.stored(value, dtype)}")
    out.close(3)
    return out.finish(s.rows, Team("share", 128, 4))
