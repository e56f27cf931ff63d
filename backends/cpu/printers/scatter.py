"""The printer of scatters: each thread owns a range of destination rows and walks all updates in order.

So the result does not depend on the number of threads, and no atomics are needed.
"""

from __future__ import annotations

from graphc.loops.nest import Nest

from ..machine_facts import Facts
from .emit import Emitter
from .text import Printed

__all__ = ["print_scatter"]


def print_scatter(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of ``out = base; out[index[i]] = combine(out[index[i]], update[i])``."""
    s = nest.scatter
    assert s is not None
    out = Emitter(buffers, None, comment=comment)
    dt = buffers[s.out].type.dtype
    lanes = max(facts.width * 4 // dt.itemsize, 2)
    load, store = out.make("loader", dt, 1, lanes), out.make("storer", dt, 1, lanes)
    wide = 1 if s.columns == 1 else lanes  # rows of one element need no masks
    read, write = out.make("loader", dt, 1, wide), out.make("storer", dt, 1, wide)
    index = buffers[s.index].type.dtype
    pick = f"{out.fn('item')}({out.make('cast', 'i64')}({out.make('loader', index, 1, 1)}({{}}, i, 0, 1, 1)))"
    po, pi, pu = (out.pointer(buffers[n]) for n in (s.out, s.index, s.update))
    rows, columns, count = out.size(s.rows), out.size(s.columns), out.size(s.count)
    out.line(f"lo = {rows} * tid // nthreads")
    out.line(f"hi = {rows} * (tid + 1) // nthreads")
    first = None if s.fill is not None else out.pointer(buffers[s.base])
    if first != po:
        out.open(f"for j in range(lo * {columns}, hi * {columns}, {lanes}):")
        out.line(f"w = {out.fn('least')}({lanes}, hi * {columns} - j)")
        value = f"{load}({first}, j, 0, 1, w)" if first else f"{out.make('splat', dt, 1, 1)}({out.literal(s.fill, dt)})"
        out.line(f"{store}({po}, j, 0, {value}, 1, w)")
        out.close()
    out.open(f"for i in range({count}):")
    out.line(f"r = {pick.format(pi)}")
    out.open("if r >= lo and r < hi:")
    out.open(f"for j in range(0, {columns}, {wide}):")
    out.line(f"w = {out.fn('least')}({wide}, {columns} - j)")
    update, old = f"{read}({pu}, i * {columns} + j, 0, 1, w)", f"{read}({po}, r * {columns} + j, 0, 1, w)"
    out.line(f"x = {update if s.combine == 'set' else f'{out.fn(s.combine)}({old}, {update})'}")
    out.line(f"{write}({po}, r * {columns} + j, 0, x, 1, w)")
    for _ in range(3):
        out.close()
    return Printed(out.render(), out.slots, names=out.names)
