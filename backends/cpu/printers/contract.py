"""The printer of contractions: a register tile of the result, one loop over K, any scalar IR as prologue and epilogue.

The tile is MR rows by NR lanes; each step of K multiplies a column of A by a row of B. Tiles at the edges run the same
text with fewer valid rows and lanes. Threads take equal runs of tiles, panel by panel, so that a panel of B stays in
cache while rows of A stream past it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.errors import CompileError
from graphc.ir.dims import coefficient, prod, substitute
from graphc.ir.dtypes import int64
from graphc.loops.nest import Axis, Nest
from graphc.loops.products import conditions
from graphc.loops.scalar import Scalar, loads, postorder, scalar_symbols
from graphc.schedule.program import Buffer

from ..machine_facts import Facts
from .emit import Emitter, Lanes, lane_stride
from .text import Printed, Scope

__all__ = ["print_contract"]

PASS = 24_576
"""Elements of both operands that one pass of a convolution's gradient reads: they should stay in the second cache."""
STEPS = 256
"""Steps of K of one pass of a matrix product: a panel's part of the right operand fits the first cache."""
LONG = 768
"""Steps of K from which on passes pay."""
MANY = 1 << 14
"""Elements of a result from which on a sum over a batch of unknown size is made in passes."""
GROUP = 32
"""Tiles of rows that go through all panels together."""
RUN = 1024
"""Tiles of which the sums are kept between passes."""


def print_contract(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of a contraction with its prologue and epilogue."""
    c = nest.contract
    assert c is not None
    rows, lanes = tile_shape(nest, buffers, facts)
    out = Emitter(buffers, Lanes(c.n.name, lanes, "nv"), Lanes(c.m.name, rows, "mv"), comment)
    _count_tiles(out, nest, rows, lanes)
    if _in_passes(nest):
        _passes(out, nest, rows, lanes)
    else:
        _open_tiles(out, nest, rows, lanes)
        _prefetch(out, nest)
        out.line(f"acc = {out.make('zeros', c.a.dtype, rows, lanes)}()")
        if c.a.op == "load":
            _products(out, nest, set())
        else:
            _products_of_blocks(out, nest, rows, facts)
    for stage in nest.stages:
        for w in stage.points:
            out.store(w)
    return Printed(out.render(), out.slots, names=out.names)


def _in_passes(nest: Nest) -> bool:
    """Whether K is walked in passes over many tiles, with their sums kept in memory between them. Where K is long, tiles one by
    one would read both operands from far memory, again and again."""
    c = nest.contract
    assert c is not None
    if c.a.op != "load" or not _stored(c.b):
        return False
    steps = prod(k.size for k in c.k)
    if not isinstance(steps, int):
        return _tall(nest)
    if len(c.k) > 1:
        return steps >= LONG and _tall(nest)
    wide = not isinstance(c.m.size, int) or c.m.size >= 128
    return steps >= LONG or (steps >= 128 and wide and _jumps(nest, 32))


def _tall(nest: Nest) -> bool:
    """Whether the result is known to have many elements, so that it is K that is summed over a batch."""
    c = nest.contract
    assert c is not None
    sizes = [x.size for x in (*c.batch, c.m, c.n)]
    return all(isinstance(x, int) for x in sizes) and (len(c.k) > 1 or prod(sizes) >= MANY)  # type: ignore[operator]


def _passes(out: Emitter, nest: Nest, rows: int, lanes: int) -> None:
    """Opens the loops over runs of tiles, over parts of K and over the tiles of a run, up to where a tile's sum is complete."""
    c = nest.contract
    assert c is not None
    *around, inner = c.k
    if around:
        step = max(PASS // (_size(inner, 64) * (_size(c.m, 64) + _size(c.n, 64))), 1)
        out.line(f"kn = {' * '.join(out.size(x.size) for x in around)}")
    else:
        step = STEPS
        out.line(f"kn = {out.size(inner.size)}")
    side = RUN * rows * lanes
    kept = out.scratch(side + STEPS * lanes + STEPS * _pitch(rows), c.a.dtype)
    last = "units * (tid + 1) // nthreads"
    out.open(f"for first in range(units * tid // nthreads, {last}, {RUN}):")
    out.line(f"last = {out.fn('least')}(first + {RUN}, {last})")
    out.open(f"for k0 in range(0, kn if kn > 0 else 1, {step}):")  # an empty sum is a sum too
    out.line(f"k1 = {out.fn('least')}(k0 + {step}, kn)")
    packs, turns = not around and _jumps(nest, lanes), not around and _turned(nest, rows)
    if packs:
        out.line("packed = -1")
    if turns:
        out.line("turned = -1")
    _open_tiles(out, nest, rows, lanes, "first, last", groups=True)
    place = f"{kept} + (u - first) * {rows * lanes}, {lanes}"
    out.line(f"acc = {out.make('zeros', c.a.dtype, rows, lanes)}()")
    out.open("if k0 > 0:")
    out.line(f"acc = {out.make('loader_full', c.a.dtype, rows, lanes)}({place})")
    out.close()
    if around:
        _open_axes(out, around)
        _products(out, nest, {x.name for x in around})
        out.close()
    else:
        if turns:
            place_a = f"{kept} + {side + STEPS * lanes}"
            _pack_left(out, nest, place_a, rows)
            pointer, offset = place_a.split(", ")
            column = _Column.strided(pointer, f"{offset} + (k - k0) * {_pitch(rows)} + m0 - g * gs * {rows}", "1")
        else:
            column = _Column.of_load(out, nest, [])
        if packs:
            _pack(out, nest, f"{kept} + {side}", lanes)
            out.open("for k in range(k0, k1):")
            out.line(f"acc = {out.fn(column.function)}(acc, {column.args}, {kept} + {side} + (k - k0) * {lanes})")
            out.close()
        else:
            _sum(out, nest, column, "k", "k0", "k1", out.chain[-1])
    out.open("if k1 < kn:")
    out.line(f"{out.make('storer_full', c.a.dtype, rows, lanes)}({place}, acc)")
    out.line("continue")
    out.close()


def _open_axes(out: Emitter, axes: list[Axis]) -> None:
    """The loop over this pass's part of all outer axes of K, which a running number is taken apart for."""
    out.open("for ka in range(k0, k1):", frozenset(x.name for x in axes))
    left = "ka"
    for i in range(len(axes) - 1, 0, -1):
        size = out.size(axes[i].size)
        out.line(f"kq{i} = {out.fn('div_pos')}({left}, {size})")
        out.line(f"ka{i} = {left} - kq{i} * {size}")
        left = f"kq{i}"
    for i, x in enumerate(axes):
        out.vars[x.name] = f"ka{i}" if i else left


def _jumps(nest: Nest, lanes: int) -> bool:
    """Whether the rows of the right operand lie so far apart that a part of it is better copied to one place first."""
    c = nest.contract
    assert c is not None
    step = coefficient(c.b.attr[1][0], c.k[-1].name)
    return not isinstance(step, int) or step > 4 * lanes


def _pitch(rows: int) -> int:
    """Elements from one step of K to the next in the copied left operand: not a power of two."""
    return GROUP * rows + 16


def _turned(nest: Nest, rows: int) -> bool:
    """Whether the left operand walks memory along M, by wide steps along K: then each step is a page of its own."""
    c = nest.contract
    assert c is not None
    (e,) = c.a.attr[1]
    step = coefficient(e, c.k[-1].name)
    return coefficient(e, c.m.name) == 1 and (not isinstance(step, int) or step >= GROUP * rows)


def _pack_left(out: Emitter, nest: Nest, place: str, rows: int) -> None:
    """Copies this pass's part of a group of rows of the left operand, where the group has changed."""
    c = nest.contract
    assert c is not None
    node, (e,) = c.a.attr
    wide = 4 * rows
    first = substitute(e, {c.m.name: 0, c.k[-1].name: 0})
    out.line("ga = left * mt + g")
    out.open("if ga != turned:")
    out.line(f"x0 = {out.int_expr(first)} + g * gs * {rows}")
    out.line(f"xn = {out.fn('least')}(gt * {rows}, {out.size(c.m.size)} - g * gs * {rows})")
    out.open("for k in range(k0, k1):")
    out.open(f"for i in range(0, xn, {wide}):")
    load = f"{out.make('loader', c.a.dtype, 1, wide)}({out.pointer(out.buffers[node])}, x0 + k * {out.size(coefficient(e, c.k[-1].name) or 0)} + i, 0, 1, {out.fn('least')}({wide}, xn - i))"
    out.line(f"{out.make('storer_full', c.a.dtype, 1, wide)}({place} + (k - k0) * {_pitch(rows)} + i, {wide}, {load})")
    out.close()
    out.close()
    out.line("turned = ga")
    out.close()


def _pack(out: Emitter, nest: Nest, place: str, lanes: int) -> None:
    """Copies this pass's part of the right operand, where the panel of tiles has changed."""
    c = nest.contract
    assert c is not None
    node, (e,) = c.b.attr
    step, lane = coefficient(e, c.k[-1].name), lane_stride(e, c.n.name, lanes)
    if step is None or (lane != 1 and c.n.size != 1):
        raise CompileError(f"{nest.name}: the right operand of a contraction needs strides, unit along N")
    out.open("if q != packed:")
    out.line(f"w0 = {out.int_expr(substitute(e, {c.k[-1].name: 0}))}")
    out.open("for k in range(k0, k1):")
    row = f"{out.make('loader', c.b.dtype, 1, lanes)}({out.pointer(out.buffers[node])}, w0 + k * {out.size(step)}, 0, 1, nv)"
    out.line(f"{out.make('storer_full', c.b.dtype, 1, lanes)}({place} + (k - k0) * {lanes}, {lanes}, {row})")
    out.close()
    out.line("packed = q")
    out.close()


def _count_tiles(out: Emitter, nest: Nest, rows: int, lanes: int) -> None:
    """How many tiles the result has: ``units``."""
    c = nest.contract
    assert c is not None
    m, n = (out.size(x.size) if x.size != 1 else "1" for x in (c.m, c.n))
    out.line(f"mt = ({m} + {rows - 1}) // {rows}")
    out.line(f"nt = ({n} + {lanes - 1}) // {lanes}")
    out.line("units = " + " * ".join(["mt * nt", *(out.size(x.size) for x in c.batch)]))


def _size(axis: Axis, otherwise: int) -> int:
    return axis.size if isinstance(axis.size, int) else otherwise


def _open_tiles(out: Emitter, nest: Nest, rows: int, lanes: int, share: str = "", groups: bool = False) -> None:
    """The loop over tiles, this thread's or the ``share``: ``m0`` and ``n0`` are a tile's first row and lane, ``mv`` and ``nv`` how
    many are valid. With ``groups`` a few hundred rows go through all panels before the next ones do; ``q`` tells panels apart."""
    c = nest.contract
    assert c is not None
    m, n = (out.size(x.size) if x.size != 1 else "1" for x in (c.m, c.n))
    batch = [out.size(x.size) for x in c.batch]
    for i, x in enumerate(c.batch):
        out.vars[x.name] = f"b{i}"
    out.vars[c.m.name], out.vars[c.n.name] = "m0", "n0"
    if groups:
        out.line(f"gs = (mt + (mt + {GROUP - 1}) // {GROUP} - 1) // ((mt + {GROUP - 1}) // {GROUP}) if mt > 0 else 1")
    share = share or "units * tid // nthreads, units * (tid + 1) // nthreads"
    out.open(f"for u in range({share}):", frozenset(x.name for x in nest.outer))
    div = out.fn("div_pos")
    if groups:
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
        out.line(f"q = {div}(u, mt)")
        out.line(f"m0 = (u - q * mt) * {rows}")
        if batch:
            out.line(f"left = {div}(q, nt)")
            out.line(f"n0 = (q - left * nt) * {lanes}")
        else:
            out.line(f"n0 = q * {lanes}")
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


def _stored(operand: Scalar) -> bool:
    """Whether an operand is a plain load: its strides say where everything is."""
    return operand.op == "load" and not operand.args


@dataclass(frozen=True)
class _Column:
    """How the products read the left operand's column at ``k``: the machine function's name and the arguments before those of B."""

    function: str
    args: str

    @staticmethod
    def strided(pointer: str, at: str, row: str) -> _Column:
        """Rows at a constant distance; those past the end read the last one."""
        return _Column("fma_outer", f"{pointer}, {at}, {row}, mv")

    @staticmethod
    def of_load(out: Emitter, nest: Nest, guards: list[Scalar]) -> _Column:
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
        if row is not None and not guards:
            out.line(f"a0 = {out.int_expr(first)}")
            return _Column.strided(pointer, f"a0 + k * {out.size(step)}", out.size(row))
        keep = f"{out.fn('lt')}({out.make('iota', int64, out.rows.count, 1)}(0, 1, 0), mv)"
        for g in guards:
            keep = f"{out.fn('bit_and')}({keep}, {out.value(g)})"
        at = out.index_tile(first, (True, False), out.chain[-1])
        zeros = out.zeros((k.size - 1) * step + 1, c.a.dtype)
        out.line(f"rows = {out.fn('row_addresses')}({pointer}, {at}, {keep}, {zeros})")
        return _Column("fma_outer_rows", f"{pointer}, rows, k * {out.size(step)}")


def _products(out: Emitter, nest: Nest, given: set[str]) -> None:
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
    column = _Column.of_load(out, nest, by_row)
    left.remove(inner.name)
    _sum(out, nest, column, "k", "0", out.size(inner.size), out.chain[-1], check)
    while len(out.chain) > depth:
        out.close()


def _sum(
    out: Emitter, nest: Nest, column: _Column, k: str, start: str, stop: str, unit: Scope, check: Callable[[], None] = lambda: None
) -> None:
    """The innermost loop over K, from ``start`` to ``stop``: a column of A times a row of B. ``unit`` is where the address of B's
    first row is computed."""
    c = nest.contract
    assert c is not None
    inner = c.k[-1]
    loop = f"for {k} in range({stop}):" if start == "0" else f"for {k} in range({start}, {stop}):"
    out.vars[inner.name] = k
    if not _stored(c.b):
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
    if _padded(out.buffers[node]):
        out.line(f"acc = {out.fn(column.function)}(acc, {column.args}, {at})")
    else:
        out.line(f"acc = {out.fn(column.function + '_n')}(acc, {column.args}, {at}, nv)")
    while len(out.chain) > depth:
        out.close()


def _products_of_blocks(out: Emitter, nest: Nest, rows: int, facts: Facts) -> None:
    """A computed left operand: a block of it, vectorised along the axis that its loads walk, goes to the stack; the products
    read it there as they read a stored operand."""
    c = nest.contract
    assert c is not None
    width = max(facts.width * 4 // c.a.dtype.itemsize, 2)
    inner = c.k[-1]
    along_k = _walks_along(c.a, inner.name, c.m.name)
    shape = (rows, width) if along_k else (width, rows)
    block = out.fresh("block")
    out.line(f"{block} = {out.make('scratch', c.a.dtype, *shape)}()", out.chain[0])
    k = out.size(inner.size) if inner.size != 1 else "1"
    out.vars[inner.name] = "k0"
    out.open(f"for k0 in range(0, {k}, {width}):", frozenset({inner.name}))
    out.line(f"kv = {out.fn('least')}({width}, {k} - k0)")
    over_k, over_m = Lanes(inner.name, width, "kv"), Lanes(c.m.name, rows, "mv")
    with out.tile(*((over_k, over_m) if along_k else (over_m, over_k))):
        value = out.value(c.a)
        out.line(f"{out.make('storer_full', c.a.dtype, *shape)}({block}, 0, {shape[1]}, {value})")
    column = _Column.strided(block, "k - k0" if along_k else f"(k - k0) * {shape[1]}", str(shape[1]) if along_k else "1")
    _sum(out, nest, column, "k", "k0", "k0 + kv", out.chain[-2])  # B's first row is known once a tile, not once a block
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
