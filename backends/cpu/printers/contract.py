"""The printer of contractions: a register tile of the result, loops over K, any scalar IR as prologue and epilogue.

The tile is MR rows by NR lanes; each step of K multiplies a column of A by a row of B (:mod:`products`). Tiles at the edges run
the same text with fewer valid rows and lanes. Threads take equal runs of tiles, panel by panel, so that a panel of B stays in cache
while rows of A stream past it, or in another order where that is faster (:mod:`walks`).
"""

from __future__ import annotations

from graphc.ir.dims import coefficient
from graphc.loops.nest import Nest
from graphc.loops.scalar import Scalar, loads, postorder

from ..machine_facts import Facts
from .emit import Emitter, Lanes
from .passes import open_passes
from .products import Column, count_tiles, open_tiles, products, shares_of, sum_over_k
from .text import Printed
from .walks import chosen

__all__ = ["print_contract"]


def print_contract(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of a contraction with its prologue and epilogue."""
    c = nest.contract
    assert c is not None
    rows, lanes = tile_shape(nest, buffers, facts)
    out = Emitter(buffers, Lanes(c.n.name, lanes, "nv"), Lanes(c.m.name, rows, "mv"), comment)
    count_tiles(out, nest, rows, lanes)
    walk = chosen(nest, buffers, facts)
    if walk == "passes":
        open_passes(out, nest, rows, lanes)
    else:
        open_tiles(out, nest, rows, lanes, walk)
        _prefetch(out, nest)
        out.line(f"acc = {out.make('zeros', c.a.dtype, rows, lanes)}()")
        if c.a.op == "load":
            products(out, nest, set())
        else:
            _products_of_blocks(out, nest, rows, facts)
    for stage in nest.stages:
        for w in stage.points:
            out.store(w)
    return Printed(out.render(), out.slots, names=out.names, shares=shares_of(nest, rows, lanes, walk))


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
    column = Column.strided(block, "k - k0" if along_k else f"(k - k0) * {shape[1]}", str(shape[1]) if along_k else "1")
    sum_over_k(out, nest, column, "k", "k0", "k0 + kv", out.chain[-2])  # B's first row is known once a tile, not once a block
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
    vectors = -(-lanes * c.a.dtype.itemsize // (facts.width * 4))
    return (_rows(c.m.size, rows, vectors), lanes) if isinstance(c.m.size, int) else (rows, lanes)


CHAINS = 8
"""Vectors of sums that keep two units busy, each of which takes four cycles."""


def _rows(m: int, usual: int, vectors: int) -> int:
    """The height of tiles of so many vectors a row: as usual, or one that leaves fewer rows empty. All of a short axis may be one tile, in
    twice the registers at most."""

    def time(rows: int) -> int:
        return -(-m // rows) * (max(rows * vectors, CHAINS) + 1)

    best = min((r for r in range(1, m + 1) if r <= usual or (r == m and r * vectors <= 2 * usual)), key=time, default=1)
    return best if m < usual or 12 * time(best) < 11 * time(usual) else usual
