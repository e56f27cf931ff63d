"""The printer of contractions: a register tile of the result, one loop over K, any scalar IR as epilogue.

The tile is MR rows by NR lanes; each step of K multiplies a column of A by a row of B. Tiles at the edges run the same
text with fewer valid rows and lanes. Threads take equal runs of tiles, panel by panel, so that a panel of B stays in
cache while rows of A stream past it.
"""

from __future__ import annotations

from graphc.errors import CompileError
from graphc.ir.dims import coefficient, substitute
from graphc.loops.nest import Nest
from graphc.loops.scalar import postorder
from graphc.schedule.program import Buffer

from ..machine_facts import Facts
from .emit import Emitter, Lanes, lane_stride
from .text import Printed

__all__ = ["print_contract"]


def print_contract(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of a contraction with its epilogue."""
    c = nest.contract
    assert c is not None
    (a_node, (a_at,)), (b_node, (b_at,)) = c.a.attr, c.b.attr
    a_buffer, b_buffer = buffers[a_node], buffers[b_node]
    rows, lanes = tile_shape(nest, buffers, facts)
    out = Emitter(buffers, Lanes(c.n.name, lanes, "nv"), Lanes(c.m.name, rows, "mv"), comment)
    a_row, a_k = coefficient(a_at, c.m.name), coefficient(a_at, c.k.name)
    b_k, b_n = coefficient(b_at, c.k.name), lane_stride(b_at, c.n.name, lanes)
    if a_row is None or a_k is None or b_k is None or (b_n != 1 and c.n.size != 1):
        raise CompileError(f"{nest.name}: operands of a contraction need strides, and the right one unit stride along N")
    m, n, k = (out.size(x.size) if x.size != 1 else "1" for x in (c.m, c.n, c.k))
    out.line(f"mt = ({m} + {rows - 1}) // {rows}")
    out.line(f"nt = ({n} + {lanes - 1}) // {lanes}")
    batch = [out.size(x.size) for x in c.batch]
    out.line("units = " + " * ".join(["mt * nt", *batch]))
    for i, x in enumerate(c.batch):
        out.vars[x.name] = f"b{i}"
    out.vars[c.m.name], out.vars[c.n.name] = "m0", "n0"
    out.open("for u in range(units * tid // nthreads, units * (tid + 1) // nthreads):", frozenset(x.name for x in nest.outer))
    out.line(f"q = {out.fn('div_pos')}(u, mt)")
    out.line(f"m0 = (u - q * mt) * {rows}")
    if batch:
        out.line("left = div_pos(q, nt)")
        out.line(f"n0 = (q - left * nt) * {lanes}")
    else:
        out.line(f"n0 = q * {lanes}")
    for i in range(len(batch) - 1, -1, -1):
        if i:
            out.line(f"next = div_pos(left, {batch[i]})")
            out.line(f"b{i} = left - next * {batch[i]}")
            out.line("left = next")
        else:
            out.line("b0 = left")
    out.acc_names[0] = ("acc", (True, True), out.chain[-1])
    out.line(f"mv = {out.fn('least')}({rows}, {m} - m0)")
    out.line(f"nv = {out.fn('least')}({lanes}, {n} - n0)")
    pa, pb = out.pointer(a_buffer), out.pointer(b_buffer)
    start = {c.k.name: 0}
    out.line(f"a0 = {out.int_expr(substitute(a_at, start))}")
    out.line(f"w0 = {out.int_expr(substitute(b_at, start))}")
    _prefetch(out, nest)
    out.line(f"acc = {out.make('zeros', c.a.dtype, rows, lanes)}()")
    out.open(f"for k in range({k}):")
    step_a, step_b = out.size(a_k), out.size(b_k)
    if _padded(b_buffer):
        out.line(f"acc = {out.fn('fma_outer')}(acc, {pa}, a0 + k * {step_a}, {out.size(a_row)}, mv, {pb}, w0 + k * {step_b})")
    else:
        out.line(f"acc = {out.fn('fma_outer_n')}(acc, {pa}, a0 + k * {step_a}, {out.size(a_row)}, mv, {pb}, w0 + k * {step_b}, nv)")
    out.close()
    for stage in nest.stages:
        for w in stage.points:
            out.store(w)
    out.close()
    return Printed(out.render(), out.slots)


def _prefetch(out: Emitter, nest: Nest) -> None:
    """What the epilogue reads tile by tile arrives while the products run: K steps hide the way from memory."""
    seen = set()
    for t in postorder([w.value for w in nest.writes()]):
        if t.op == "load" and not t.args and t.attr not in seen and out.varies(t) == (True, True):
            seen.add(t.attr)
            node, (e,) = t.attr
            row, lane = out.strides(e)
            if lane == 1 and row is not None:
                shape = out.shape((True, True))
                out.line(f"{out.make('prefetcher', t.dtype, *shape)}({out.pointer(out.buffers[node])}, {out.int_expr(e)}, {out.size(row)})")


def tile_shape(nest: Nest, buffers: dict, facts: Facts) -> tuple[int, int]:  # type: ignore[type-arg]
    """MR and NR: as the registers allow, not wider than a panel or twice too tall for the matrix."""
    c = nest.contract
    assert c is not None
    rows, lanes = facts.tile(c.a.dtype.itemsize)
    involved = [buffers[c.b.attr[0]], *(buffers[w.node] for w in nest.writes())]
    panels = [b.layout.panel for b in involved if b.layout.panel]
    lanes = min([lanes, *panels])
    if isinstance(c.n.size, int) and c.n.size <= lanes // 2:
        lanes //= 2
    if c.n.size == 1:
        lanes = 1  # a matrix times a vector
    while rows > 1 and isinstance(c.m.size, int) and c.m.size <= rows // 2:
        rows //= 2
    return rows, lanes


def _padded(b: Buffer) -> bool:
    """Whether reading a whole row of lanes at the right edge stays inside memory that we own."""
    return b.space in ("temp", "slot", "static")
