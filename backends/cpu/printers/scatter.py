"""The printer of scatters: each thread owns a part of every destination row, or a range of rows where rows are short, and walks all
updates in order.

So the result does not depend on the number of threads, and no atomics are needed. Parts of rows are shared out where they can be:
indices are seldom spread evenly over rows (a few words make half of a text).
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.loops.nest import Nest

from ..machine_facts import Facts
from .emit import Emitter
from .rows import whole
from .text import Printed

__all__ = ["print_scatter"]

COLUMNS = 64
"""Elements of a row, at least, that a thread's part should have."""


def print_scatter(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of ``out = base; out[index[i]] = combine(out[index[i]], update[i])``."""
    s = nest.scatter
    assert s is not None
    out = Emitter(buffers, None, comment=comment)
    dt = buffers[s.out].type.dtype
    lanes = max(facts.width * 4 // dt.itemsize, 2)
    row = 1 if s.columns == 1 else lanes  # rows of one element need no masks
    index = buffers[s.index].type.dtype
    pick = f"{out.fn('item')}({out.make('cast', 'i64')}({out.make('loader', index, 1, 1)}({{}}, i, 0, 1, 1)))"
    po, pi, pu = (out.pointer(buffers[n]) for n in (s.out, s.index, s.update))
    rows, columns, count = out.size(s.rows), out.size(s.columns), out.size(s.count)
    shares = not isinstance(s.columns, int) or s.columns >= COLUMNS
    out.line(f"lo = {rows} * tid // nthreads")
    out.line(f"hi = {rows} * (tid + 1) // nthreads")
    left, right = "0", columns
    if shares:
        left, right, blocks = "c0", "c1", f"({columns} + {lanes - 1}) // {lanes}"
        out.line("c0 = 0")
        out.line(f"c1 = {columns}")
        out.open(f"if {columns} >= {COLUMNS} * nthreads:")
        out.line("lo = 0")
        out.line(f"hi = {rows}")
        out.line(f"c0 = {blocks} * tid // nthreads * {lanes}")
        out.line(f"c1 = {out.fn('least')}({blocks} * (tid + 1) // nthreads * {lanes}, {columns})")
        out.close()
    first = None if s.fill is not None else out.pointer(buffers[s.base])
    if first != po:

        def copy(wide: int) -> None:
            if first is None:
                value = f"{out.make('splat', dt, 1, 1)}({out.literal(s.fill, dt)})"
            else:
                value = f"{out.make('loader', dt, 1, wide)}({first}, j, 0, 1, w)"
            out.line(f"{out.make('storer', dt, 1, wide)}({po}, j, 0, {value}, 1, w)")

        if shares:
            out.open(f"if c1 - c0 < {columns}:")
            out.open("for i in range(lo, hi):")
            _along(out, f"i * {columns} + c0", f"i * {columns} + c1", 4 * lanes, copy)
            out.close()
            out.close()
            out.open(f"if c1 - c0 == {columns}:")
        _along(out, f"lo * {columns}", f"hi * {columns}", 4 * lanes, copy)
        if shares:
            out.close()
    out.open(f"for i in range({count}):")
    out.line(f"r = {pick.format(pi)}")
    out.open("if r >= lo and r < hi:")

    def combine(wide: int) -> None:
        read = out.make("loader", dt, 1, wide)
        update, old = f"{read}({pu}, i * {columns} + j, 0, 1, w)", f"{read}({po}, r * {columns} + j, 0, 1, w)"
        out.line(f"x = {update if s.combine == 'set' else f'{out.fn(s.combine)}({old}, {update})'}")
        out.line(f"{out.make('storer', dt, 1, wide)}({po}, r * {columns} + j, 0, x, 1, w)")

    _along(out, left, right, row, combine, whole(s.columns, row))
    out.close()
    out.close()
    return Printed(out.render(), out.slots, names=out.names)


def _along(out: Emitter, start: str, stop: str, lanes: int, body: Callable[[int], None], even: bool = False) -> None:
    """A loop over a range in blocks: whole ones without masks, and, unless the range is ``even``, the rest."""
    out.line(f"start = {start}")
    out.line(f"end = start + ({stop} - start) // {lanes} * {lanes}" if not even else f"end = {stop}")
    out.open(f"for j in range(start, end, {lanes}):")
    out.line(f"w = {lanes}")
    body(lanes)
    out.close()
    if not even and lanes > 1:
        out.open(f"if end < {stop}:")
        out.line("j = end")
        out.line(f"w = {stop} - end")
        body(lanes)
        out.close()
