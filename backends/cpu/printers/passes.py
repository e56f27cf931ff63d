"""Contractions in passes over K: many tiles get a part of their sums at a time, and keep it in memory until the next part.

Where K is long, tiles one by one would read both operands from far memory, again and again. A pass reads a part of them that stays in
the caches; what lies far apart is copied to one place first.
"""

from __future__ import annotations

from graphc.errors import CompileError
from graphc.ir.dims import coefficient, substitute
from graphc.loops.nest import Axis, Nest

from .emit import Emitter, lane_stride
from .products import GROUP, Column, open_tiles, products, sum_over_k
from .walks import jumps

__all__ = ["open_passes"]

PASS = 24_576
"""Elements of both operands that one pass of a convolution's gradient reads: they should stay in the second cache."""
STEPS = 256
"""Steps of K of one pass of a matrix product: a panel's part of the right operand fits the first cache."""
PANELS = 4
"""Panels of the right operand that are copied together."""
RUN = 1024
"""Tiles of which the sums are kept between passes."""


def open_passes(out: Emitter, nest: Nest, rows: int, lanes: int) -> None:
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
    kept = out.scratch(side + PANELS * STEPS * lanes + GROUP * _pitch(rows), c.a.dtype)
    last = "units * (tid + 1) // nthreads"
    out.open(f"for first in range(units * tid // nthreads, {last}, {RUN}):")
    out.line(f"last = {out.fn('least')}(first + {RUN}, {last})")
    out.open(f"for k0 in range(0, kn if kn > 0 else 1, {step}):")  # an empty sum is a sum too
    out.line(f"k1 = {out.fn('least')}(k0 + {step}, kn)")
    packs, turns = not around and jumps(nest, lanes), not around and _turned(nest, rows)
    if packs:
        out.line("packed = -1")
    if turns:
        out.line("turned = -1")
    open_tiles(out, nest, rows, lanes, "passes", "first, last")
    place = f"{kept} + (u - first) * {rows * lanes}, {lanes}"
    out.line(f"acc = {out.make('zeros', c.a.dtype, rows, lanes)}()")
    out.open("if k0 > 0:")
    out.line(f"acc = {out.make('loader_full', c.a.dtype, rows, lanes)}({place})")
    out.close()
    if around:
        _open_axes(out, around)
        products(out, nest, {x.name for x in around})
        out.close()
    else:
        if turns:
            place_a = f"{kept} + {side + PANELS * STEPS * lanes}"
            _pack_left(out, nest, place_a, rows)
            pointer, offset = place_a.split(", ")
            column = Column.strided(pointer, f"{offset} + (r - p * gt) * {_pitch(rows)} + (k - k0) * {rows}", "1")
        else:
            column = Column.of_load(out, nest, [])
        if packs:
            _pack(out, nest, f"{kept} + {side}", lanes)
            out.open("for k in range(k0, k1):")
            out.line(f"acc = {out.fn(column.function)}(acc, {column.args}, {kept} + {side} + (p % {PANELS} * {STEPS} + k - k0) * {lanes})")
            out.close()
        else:
            sum_over_k(out, nest, column, "k", "k0", "k1", out.chain[-1])
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


def _pitch(rows: int) -> int:
    """Elements from one tile's rows to the next in the copied left operand: not a power of two."""
    return STEPS * rows + 16


def _turned(nest: Nest, rows: int) -> bool:
    """Whether the left operand walks memory along M, by wide steps along K: then each step is a page of its own."""
    c = nest.contract
    assert c is not None
    (e,) = c.a.attr[1]
    step = coefficient(e, c.k[-1].name)
    return coefficient(e, c.m.name) == 1 and (not isinstance(step, int) or step >= GROUP * rows)


def _pack_left(out: Emitter, nest: Nest, place: str, rows: int) -> None:
    """Copies this pass's part of a group of rows of the left operand, where the group has changed: tile by tile, so that the products
    of each walk one run of memory."""
    c = nest.contract
    assert c is not None
    node, (e,) = c.a.attr
    first = substitute(e, {c.m.name: 0, c.k[-1].name: 0})
    step = out.size(coefficient(e, c.k[-1].name) or 0)
    out.line("ga = left * mt + g")
    out.open("if ga != turned:")
    out.line(f"x0 = {out.int_expr(first)} + g * gs * {rows}")
    out.line(f"xn = {out.fn('least')}(gt * {rows}, {out.size(c.m.size)} - g * gs * {rows})")
    out.open("for k in range(k0, k1):")
    out.open("for i in range(gt):")
    load = f"{out.make('loader', c.a.dtype, 1, rows)}({out.pointer(out.buffers[node])}, x0 + k * {step} + i * {rows}, 0, 1, {out.fn('least')}({rows}, xn - i * {rows}))"
    out.line(f"{out.make('storer_full', c.a.dtype, 1, rows)}({place} + i * {_pitch(rows)} + (k - k0) * {rows}, {rows}, {load})")
    out.close()
    out.close()
    out.line("turned = ga")
    out.close()


def _pack(out: Emitter, nest: Nest, place: str, lanes: int) -> None:
    """Copies this pass's part of the right operand, some panels of tiles at a time, where they have changed. Its rows may be a page
    apart: the more is taken of each, the better it is fetched."""
    c = nest.contract
    assert c is not None
    node, (e,) = c.b.attr
    step, lane = coefficient(e, c.k[-1].name), lane_stride(e, c.n.name, lanes)
    if step is None or (lane != 1 and c.n.size != 1):
        raise CompileError(f"{nest.name}: the right operand of a contraction needs strides, unit along N")
    out.line(f"qa = q - p % {PANELS}")
    out.open("if qa != packed:")
    out.line(f"w0 = {out.int_expr(substitute(e, {c.k[-1].name: 0}))} - p % {PANELS} * {lanes}")
    out.line(f"wn = {out.fn('least')}({PANELS * lanes}, {out.size(c.n.size) if c.n.size != 1 else 1} - n0 + p % {PANELS} * {lanes})")
    out.open("for k in range(k0, k1):")
    out.open(f"for i in range(0, wn, {lanes}):")
    row = f"{out.make('loader', c.b.dtype, 1, lanes)}({out.pointer(out.buffers[node])}, w0 + k * {out.size(step)} + i, 0, 1, {out.fn('least')}({lanes}, wn - i))"
    out.line(f"{out.make('storer_full', c.b.dtype, 1, lanes)}({place} + (k - k0) * {lanes} + i * {STEPS}, {lanes}, {row})")
    out.close()
    out.close()
    out.line("packed = qa")
    out.close()


def _size(axis: Axis, otherwise: int) -> int:
    return axis.size if isinstance(axis.size, int) else otherwise
