"""Tiles of a contraction's result, and the loops over K that fill one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from graphc.errors import CompileError
from graphc.ir.dims import cdiv, coefficient, substitute
from graphc.ir.dtypes import int64
from graphc.loops.nest import Nest
from graphc.loops.products import conditions
from graphc.loops.scalar import Scalar, scalar_symbols
from graphc.schedule.program import Buffer

from ..shares import Share
from .emit import Emitter, lane_stride
from .text import Scope

__all__ = ["GROUP", "Column", "count_tiles", "is_stored", "open_tiles", "products", "shares_of", "sum_over_k"]

GROUP = 32
"""Tiles of rows that go through all panels together."""


def count_tiles(out: Emitter, nest: Nest, rows: int, lanes: int) -> None:
    """How many tiles the result has: ``units``."""
    c = nest.contract
    assert c is not None
    m, n = (out.size(x.size) if x.size != 1 else "1" for x in (c.m, c.n))
    out.line(f"mt = ({m} + {rows - 1}) // {rows}")
    out.line(f"nt = ({n} + {lanes - 1}) // {lanes}")
    out.line("units = " + " * ".join(["mt * nt", *(out.size(x.size) for x in c.batch)]))


def shares_of(nest: Nest, rows: int, lanes: int, walk: str) -> tuple[Share, ...]:
    """The axes of the tiles, the slowest first. In "passes" the order of a batch's tiles depends on how many there are."""
    c = nest.contract
    assert c is not None
    m, n = Share(c.m.name, c.m.size, rows), Share(c.n.name, c.n.size, lanes)
    tiles = {"columns": (n, m), "rows": (m, n), "passes": (Share("", cdiv(c.m.size, rows) * cdiv(c.n.size, lanes)),)}
    return (*(Share(x.name, x.size) for x in c.batch), *tiles[walk])


def open_tiles(out: Emitter, nest: Nest, rows: int, lanes: int, walk: str, share: str = "") -> None:
    """The loop over tiles, this thread's or the ``share``: ``m0`` and ``n0`` are a tile's first row and lane, ``mv`` and ``nv`` how
    many are valid. In "passes" a few hundred rows go through all panels before the next ones do; ``q`` tells panels apart."""
    c = nest.contract
    assert c is not None
    m, n = (out.size(x.size) if x.size != 1 else "1" for x in (c.m, c.n))
    batch = [out.size(x.size) for x in c.batch]
    for i, x in enumerate(c.batch):
        out.vars[x.name] = f"b{i}"
    out.vars[c.m.name], out.vars[c.n.name] = "m0", "n0"
    if walk == "passes":
        out.line(f"gs = (mt + (mt + {GROUP - 1}) // {GROUP} - 1) // ((mt + {GROUP - 1}) // {GROUP}) if mt > 0 else 1")
    share = share or "units * tid // nthreads, units * (tid + 1) // nthreads"
    out.open(f"for u in range({share}):", frozenset(x.name for x in nest.outer))
    div = out.fn("div_pos")
    if walk == "passes":
        out.line(f"left = {div}(u, mt * nt)")
        out.line("r = u - left * (mt * nt)")
        out.line(f"g = {div}(r, gs * nt)")
        out.line("r -= g * gs * nt")
        out.line(f"gt = {out.fn('least')}(gs, mt - g * gs)")
        out.line(f"p = {div}(r, gt)")
        out.line(f"m0 = (g * gs + r - p * gt) * {rows}")
        out.line(f"n0 = p * {lanes}")
        out.line("q = left * nt + p")
    else:
        (fast, size, step), (slow, count, wide) = [("m0", "mt", rows), ("n0", "nt", lanes)][:: -1 if walk == "rows" else 1]
        out.line(f"q = {div}(u, {size})")
        out.line(f"{fast} = (u - q * {size}) * {step}")
        if batch:
            out.line(f"left = {div}(q, {count})")
        out.line(f"{slow} = {f'(q - left * {count})' if batch else 'q'} * {wide}")
    for i in range(len(batch) - 1, -1, -1):
        if i:
            out.line(f"next = {div}(left, {batch[i]})")
            out.line(f"b{i} = left - next * {batch[i]}")
            out.line("left = next")
        else:
            out.line("b0 = left")
    out.line(f"mv = {out.fn('least')}({rows}, {m} - m0)")
    out.line(f"nv = {out.fn('least')}({lanes}, {n} - n0)")
    out.acc_names[0] = ("acc", (True, True), out.chain[-1])


def is_stored(operand: Scalar) -> bool:
    """Whether an operand is a plain load: its strides say where everything is."""
    return operand.op == "load" and not operand.args


@dataclass(frozen=True)
class Column:
    """How the products read the left operand's column at ``k``: the machine function's name and the arguments before those of B."""

    function: str
    args: str

    @staticmethod
    def strided(pointer: str, at: str, row: str) -> Column:
        """Rows at a constant distance; those past the end read the last one."""
        return Column("fma_outer", f"{pointer}, {at}, {row}, mv")

    @property
    def lanewise(self) -> Column:
        """The same where neighbours along N have elements of the left operand of their own."""
        return replace(self, function=self.function.replace("outer", "lanes"))

    @staticmethod
    def of_load(out: Emitter, nest: Nest, guards: list[Scalar]) -> Column:
        """The column of a stored operand. Where conditions tell its rows apart, or no stride does, each row has an address of its
        own, and rows outside read zeros."""
        c = nest.contract
        assert c is not None and out.rows is not None
        node, (e,) = c.a.attr
        k = c.k[-1]
        row, step = coefficient(e, c.m.name), coefficient(e, k.name)
        if step is None:
            raise CompileError(f"{nest.name}: the left operand of a contraction needs a stride along K")
        pointer = out.pointer(out.buffers[node])
        first = substitute(e, {k.name: 0})
        lanes = out.lanes.count if out.lanes is not None and c.is_lanewise else 1
        if row is not None and not guards:
            out.line(f"a0 = {out.int_expr(first)}")
            column = Column.strided(pointer, f"a0 + k * {out.size(step)}", out.size(row))
            return column.lanewise if lanes > 1 else column
        keep = f"{out.fn('lt')}({out.make('iota', int64, out.rows.count, 1)}(0, 1, 0), mv)"
        for g in guards:
            keep = f"{out.fn('bit_and')}({keep}, {out.value(g)})"
        wide, out.lanes = out.lanes, None  # addresses of first lanes
        at = out.index_tile(first, (True, False), out.chain[-1])
        out.lanes = wide
        zeros = out.zeros((k.size - 1) * step + lanes, c.a.dtype)
        out.line(f"rows = {out.fn('row_addresses')}({pointer}, {at}, {keep}, {zeros})")
        column = Column("fma_outer_rows", f"{pointer}, rows, k * {out.size(step)}")
        return column.lanewise if lanes > 1 else column


def products(out: Emitter, nest: Nest, given: set[str]) -> None:
    """The loops over K of a stored left operand, but for axes that are ``given``; what its conditions rule out for a whole tile is
    left out."""
    c = nest.contract
    assert c is not None
    *around, inner = c.k
    checks = conditions(c.a)
    by_row = [x for x in checks if c.m.name in scalar_symbols(x)]
    waiting = [x for x in checks if x not in by_row]
    left = {k.name for k in c.k} - given
    depth = len(out.chain)

    def check() -> None:
        for x in [x for x in waiting if not scalar_symbols(x) & left]:
            waiting.remove(x)
            out.open(f"if {out.fn('item')}({out.value(x)}):")

    check()
    for i, axis in enumerate(around):
        if axis.name in given:
            continue
        out.vars[axis.name] = f"k{i}"
        out.open(f"for k{i} in range({out.size(axis.size)}):", frozenset({axis.name}))
        left.remove(axis.name)
        check()
    column = Column.of_load(out, nest, by_row)
    left.remove(inner.name)
    sum_over_k(out, nest, column, "k", "0", out.size(inner.size), out.chain[-1], check)
    while len(out.chain) > depth:
        out.close()


def sum_over_k(
    out: Emitter, nest: Nest, column: Column, k: str, start: str, stop: str, unit: Scope, check: Callable[[], None] = lambda: None
) -> None:
    """The innermost loop over K, from ``start`` to ``stop``: a column of A times a row of B. ``unit`` is where the address of B's
    first row is computed."""
    c = nest.contract
    assert c is not None
    inner = c.k[-1]
    loop = f"for {k} in range({stop}):" if start == "0" else f"for {k} in range({start}, {stop}):"
    out.vars[inner.name] = k
    if not is_stored(c.b):
        out.open(loop, frozenset({inner.name}))
        row = out.value(c.b)
        out.line(f"acc = {out.fn('fma_outer_tile')}(acc, {column.args}, {row})")
        out.close()
        return
    node, (e,) = c.b.attr
    step, lane = coefficient(e, inner.name), lane_stride(e, c.n.name, out.lanes.count if out.lanes else 1)
    if step is None or (lane != 1 and c.n.size != 1):
        raise CompileError(f"{nest.name}: the right operand of a contraction needs strides, unit along N")
    pointer = out.pointer(out.buffers[node])
    out.line(f"w0 = {out.int_expr(substitute(e, {inner.name: 0}))}", unit)
    depth = len(out.chain)
    out.open(loop, frozenset({inner.name}))
    check()
    at = f"{pointer}, w0 + {k} * {out.size(step)}"
    if _padded(out.buffers[node]) and not (c.is_lanewise and not _padded(out.buffers[c.a.attr[0]])):
        out.line(f"acc = {out.fn(column.function)}(acc, {column.args}, {at})")
    else:
        out.line(f"acc = {out.fn(column.function + '_n')}(acc, {column.args}, {at}, nv)")
    while len(out.chain) > depth:
        out.close()


def _padded(b: Buffer) -> bool:
    """Whether reading a whole row of lanes at the right edge stays inside memory that we own."""
    return b.space in ("temp", "slot", "static")
