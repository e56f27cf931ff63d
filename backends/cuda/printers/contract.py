"""The printer of contractions in the generic first form: one thread an element of the result, a serial loop over K.

Right for every shape and fast for none: no shared memory, no tiles. Tiled and tensor-core forms replace it for the shapes
where they pay; the epilogue is printed the same way in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.dims import prod
from graphc.ir.node import Node
from graphc.loops.nest import Nest
from graphc.loops.scalar import postorder
from graphc.schedule.program import Buffer

from .instructions import instruction, literal
from .text import KernelText, Printed

__all__ = ["print_contract"]


def print_contract(nest: Nest, buffers: Mapping[Node, Buffer], comment: str = "") -> Printed:
    """The kernel of a contraction with its epilogue."""
    c = nest.contract
    assert c is not None
    out = KernelText(nest, buffers, comment)
    axes = tuple(a for a in nest.outer if a.size != 1)
    points = prod(a.size for a in axes)
    out.line("first = np.int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)")
    out.line("step = np.int32(cuda.blockDim.x * cuda.gridDim.x)")
    unit = out.open_points(axes, points, "first", "step")
    dtype = c.a.dtype
    out.line(f"a0 = {literal(0, dtype)}")
    for k in c.k:
        out.open(f"for {out.vars[k.name]} in range({out.size(k.size)}):", k)
    product = (out.value(c.a), out.value(c.b), "a0")
    out.line(f"a0 = {instruction('fma', dtype, product, (dtype, dtype, dtype))}")
    out.close(len(c.k))
    for t in postorder([w.value for w in nest.writes()]):
        if t.op == "acc":
            unit.known[t] = "a0"
    for stage in nest.stages:
        for w in stage.points:
            out.store(w)
    out.close()
    return out.finish(points, 1)
