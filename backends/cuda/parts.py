"""Long sums with few tiles are summed in parts: by one kernel whose blocks share K, and by one that adds what they found.

A contraction is one block's work a tile of the result, however long K is. The gradient of a convolution's kernel has a few tiles and
sums over every pixel of a batch: nearly all processors would have nothing to do. So a part of K becomes an axis of the result, and a fold over
it follows, which the epilogue moves to. The parts do not depend on the GPU, so neither do the bits of the sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from graphc.ir.dims import Size, coefficient, prod, sym
from graphc.ir.layout import row_major
from graphc.ir.node import Node
from graphc.ir.op import lookup
from graphc.loops import scalar as s
from graphc.loops.nest import Acc, Axis, Nest, Stage, Write
from graphc.loops.scalar import Scalar, postorder, scalar_symbols
from graphc.schedule.launches import Buffer, Check, Launch, Repeat, Schedule
from graphc.schedule.nests import collapse

from .printers.contract import PROCESSORS, TYPICAL

__all__ = ["in_parts"]

TILE = 64
"""Rows and columns of the tile that is reckoned with."""
LONG = 256
"""Products that a part has to sum: fewer are not worth another kernel."""
FEWEST, MOST = 4, 64
"""Parts of a sum."""


def in_parts(schedule: Schedule) -> Schedule:
    """The schedule with its long sums in parts."""
    schedule.items = list(_all(schedule.items, schedule.buffers))
    return schedule


def _all(items: Iterable[Launch | Check | Repeat], buffers: dict[Node, Buffer]) -> Iterable[Launch | Check | Repeat]:
    for item in items:
        if isinstance(item, Repeat):
            item.body = list(_all(item.body, buffers))
        if isinstance(item, Launch) and (found := _part_of_k(item.nest)) is not None:
            yield from _two(item, *found, buffers)
        else:
            yield item


def _part_of_k(nest: Nest) -> tuple[Axis, int] | None:
    """The axis of K that is shared out, and among how many; None where the tiles alone are work enough, or K is short."""
    c = nest.contract
    if c is None or not c.a.dtype.is_float or {t.dtype for t in _sums(nest)} != {c.a.dtype}:
        return None
    left, right = scalar_symbols(c.a), scalar_symbols(c.b)
    rows = columns = batch = depth = 1
    for x in c.k:
        depth *= _number(x.size)
    for x in nest.outer:
        if x.name in left and x.name not in right:
            rows *= _number(x.size)
        elif x.name in right and x.name not in left:
            columns *= _number(x.size)
        else:
            batch *= _number(x.size)
    blocks = -(-rows // TILE) * -(-columns // TILE) * batch
    most = min(2 * PROCESSORS // max(blocks, 1), depth // LONG, MOST)
    if not 0 < 2 * blocks <= PROCESSORS or most < FEWEST:
        return None
    best: tuple[Axis, int] | None = None
    for x in c.k:
        if isinstance(x.size, int) and x.name in left & right:
            # the last axis keeps whole lines of what lies side by side
            fit = [d for d in range(FEWEST, most + 1) if x.size % d == 0 and (x is not c.k[-1] or x.size // d % 16 == 0)]
            if fit and (best is None or fit[-1] > best[1]):
                best = x, fit[-1]
    return best


def _number(size: Size) -> int:
    return size if isinstance(size, int) else TYPICAL


def _sums(nest: Nest) -> list[Scalar]:
    """What the nest reads its sum by."""
    return [t for t in postorder(nest.roots()) if t.op == "acc"]


def _two(item: Launch, axis: Axis, count: int, buffers: dict[Node, Buffer]) -> tuple[Launch, Launch]:
    nest = item.nest
    c = nest.contract
    assert c is not None and isinstance(axis.size, int)
    part, rest = Axis(f"{axis.name}_part", count), axis.size // count
    values: dict[str, Size] = {axis.name: sym(part.name) * rest + (sym(axis.name) if rest > 1 else 0)}
    k = tuple(Axis(x.name, rest) if x is axis else x for x in c.k)
    # parts lie one after another, each as the result does
    first = nest.writes()[0].index[0]
    steps = {x.name: coefficient(first, x.name) for x in nest.outer}
    order = [x for x in nest.outer if x.size != 1]
    if all(isinstance(steps[x.name], int) for x in order):
        order.sort(key=lambda x: -steps[x.name])  # type: ignore[operator]
    axes = (part, *order)
    shape = tuple(x.size for x in axes)
    node: Node = lookup("input").call(f"parts{len(buffers)}", shape, c.a.dtype)
    buffer = buffers[node] = Buffer(node, node.tensor, row_major(node.ndim), "temp", node.attrs["name"])
    at: Size = 0
    for n, x in enumerate(axes):
        at = at + sym(x.name) * prod(shape[n + 1 :])
    total = _sums(nest)[0]
    parts = Nest(
        "contract", f"{nest.name}_parts", (part, *nest.outer), (), (Stage((Write(node, (at,), total),)),),
        replace(c, batch=(part, *c.batch), k=k, a=s.substitute_scalar(c.a, values), b=s.substitute_scalar(c.b, values)), nodes=nest.nodes,
    )  # fmt: skip
    added = Stage(accs=(Acc(total.attr, "add", 0.0, s.load(node, (at,), c.a.dtype)),))
    whole = collapse(Nest("row", nest.name, tuple(order), (part,), (added, *nest.stages), nodes=nest.nodes, values=nest.values))
    return (
        Launch(parts, item.reads, (buffer,), item.barrier, item.phase, item.static),
        Launch(whole, (*item.reads, buffer), item.writes, True, item.phase, item.static),
    )
