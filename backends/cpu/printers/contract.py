"""The printer of contractions: a register tile of the result, one loop over K, any scalar IR as prologue and epilogue.

The tile is MR rows by NR lanes; each step of K multiplies a column of A by a row of B. Tiles at the edges run the same
text with fewer valid rows and lanes. Threads take equal runs of tiles, panel by panel, so that a panel of B stays in
cache while rows of A stream past it.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.errors import CompileError
from graphc.ir.dims import coefficient, substitute
from graphc.loops.nest import Nest
from graphc.loops.scalar import Scalar, loads, postorder
from graphc.schedule.program import Buffer

from ..machine_facts import Facts
from .emit import Emitter, Lanes, lane_stride
from .text import Printed

__all__ = ["print_contract"]


def print_contract(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of a contraction with its prologue and epilogue."""
    c = nest.contract
    assert c is not None
    rows, lanes = tile_shape(nest, buffers, facts)
    out = Emitter(buffers, Lanes(c.n.name, lanes, "nv"), Lanes(c.m.name, rows, "mv"), comment)
    _open_tiles(out, nest, rows, lanes)
    out.acc_names[0] = ("acc", (True, True), out.chain[-1])
    _prefetch(out, nest)
    out.line(f"acc = {out.make('zeros', c.a.dtype, rows, lanes)}()")
    if _stored(c.a):
        _products(out, nest, _Column.of_load(out, nest), "k", "0", out.size(c.k.size))
    else:
        _products_of_blocks(out, nest, rows, facts)
    for stage in nest.stages:
        for w in stage.points:
            out.store(w)
    out.close()
    return Printed(out.render(), out.slots, names=out.names)


def _open_tiles(out: Emitter, nest: Nest, rows: int, lanes: int) -> None:
    """The loop over this thread's tiles: ``m0`` and ``n0`` are a tile's first row and lane, ``mv`` and ``nv`` how many are valid."""
    c = nest.contract
    assert c is not None
    m, n = (out.size(x.size) if x.size != 1 else "1" for x in (c.m, c.n))
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
    out.line(f"mv = {out.fn('least')}({rows}, {m} - m0)")
    out.line(f"nv = {out.fn('least')}({lanes}, {n} - n0)")


def _stored(operand: Scalar) -> bool:
    """Whether an operand is a plain load: its strides say where everything is."""
    return operand.op == "load" and not operand.args


@dataclass(frozen=True)
class _Column:
    """Where the left operand's column at ``k`` lies: pointer, first element at k, distance of rows."""

    pointer: str
    at: str
    row: str

    @staticmethod
    def of_load(out: Emitter, nest: Nest) -> _Column:
        c = nest.contract
        assert c is not None
        node, (e,) = c.a.attr
        row, step = coefficient(e, c.m.name), coefficient(e, c.k.name)
        if row is None or step is None:
            raise CompileError(f"{nest.name}: the left operand of a contraction needs strides")
        pointer = out.pointer(out.buffers[node])
        out.line(f"a0 = {out.int_expr(substitute(e, {c.k.name: 0}))}")
        return _Column(pointer, f"a0 + k * {out.size(step)}", out.size(row))


def _products(out: Emitter, nest: Nest, column: _Column, k: str, start: str, stop: str) -> None:
    """The loop over K from ``start`` to ``stop``: a column of A times a row of B."""
    c = nest.contract
    assert c is not None
    loop = f"for {k} in range({stop}):" if start == "0" else f"for {k} in range({start}, {stop}):"
    args = f"acc, {column.pointer}, {column.at}, {column.row}, mv"
    if not _stored(c.b):
        out.vars[c.k.name] = k
        out.open(loop, frozenset({c.k.name}))
        row = out.value(c.b)
        out.line(f"acc = {out.fn('fma_outer_tile')}({args}, {row})")
        out.close()
        return
    node, (e,) = c.b.attr
    step, lane = coefficient(e, c.k.name), lane_stride(e, c.n.name, out.lanes.count if out.lanes else 1)
    if step is None or (lane != 1 and c.n.size != 1):
        raise CompileError(f"{nest.name}: the right operand of a contraction needs strides, unit along N")
    pointer = out.pointer(out.buffers[node])
    unit = out.chain[-1] if start == "0" else out.chain[-2]  # known once a tile, not once a block
    out.line(f"w0 = {out.int_expr(substitute(e, {c.k.name: 0}))}", unit)
    out.open(loop)
    at = f"{pointer}, w0 + {k} * {out.size(step)}"
    if _padded(out.buffers[node]):
        out.line(f"acc = {out.fn('fma_outer')}({args}, {at})")
    else:
        out.line(f"acc = {out.fn('fma_outer_n')}({args}, {at}, nv)")
    out.close()


def _products_of_blocks(out: Emitter, nest: Nest, rows: int, facts: Facts) -> None:
    """A computed left operand: a block of it, vectorised along the axis that its loads walk, goes to the stack; the products
    read it there as they read a stored operand."""
    c = nest.contract
    assert c is not None
    width = max(facts.width * 4 // c.a.dtype.itemsize, 2)
    along_k = _walks_along(c.a, c.k.name, c.m.name)
    shape = (rows, width) if along_k else (width, rows)
    block = out.fresh("block")
    out.line(f"{block} = {out.make('scratch', c.a.dtype, *shape)}()", out.chain[0])
    k = out.size(c.k.size) if c.k.size != 1 else "1"
    out.vars[c.k.name] = "k0"
    out.open(f"for k0 in range(0, {k}, {width}):", frozenset({c.k.name}))
    out.line(f"kv = {out.fn('least')}({width}, {k} - k0)")
    over_k, over_m = Lanes(c.k.name, width, "kv"), Lanes(c.m.name, rows, "mv")
    with out.tile(*((over_k, over_m) if along_k else (over_m, over_k))):
        value = out.value(c.a)
        out.line(f"{out.make('storer_full', c.a.dtype, *shape)}({block}, 0, {shape[1]}, {value})")
    column = _Column(block, "k - k0" if along_k else f"(k - k0) * {shape[1]}", str(shape[1]) if along_k else "1")
    _products(out, nest, column, "k", "k0", "k0 + kv")
    out.close()


def _walks_along(value: Scalar, axis: str, other: str) -> bool:
    """Whether more loads have neighbours along ``axis`` than along ``other``."""
    votes = [(coefficient(t.attr[1][0], axis) == 1) - (coefficient(t.attr[1][0], other) == 1) for t in loads(value)]
    return sum(votes) >= 0


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
    involved = [*(buffers[t.attr[0]] for t in loads(c.b)), *(buffers[w.node] for w in nest.writes())]
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
