"""The printer of map and row nests: parallel outer axes, passes over inner axes, one axis in vector lanes."""

from __future__ import annotations

from graphc.loops.nest import Axis, Nest
from graphc.loops.scalar import postorder

from ..machine_facts import Facts
from ..shares import Share
from .emit import Emitter, Lanes, lane_stride
from .rows import ROWS, print_passes, roots_of, rows_axis, whole
from .text import Printed

__all__ = ["print_loops"]

SUMS = 16
"""Vectors of sums that a fold along an outer axis holds in registers."""
PARTS = 4
"""Parts that are left to share among threads, at least, where such a fold takes wide lanes."""

def print_loops(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of a map or row nest."""
    axis = choose_lane_axis(nest)
    inside = axis is not None and axis in nest.inner
    count = lanes_for(nest, axis, facts)
    across = transposed_axis(nest, axis)
    if across is not None:
        count = max(facts.width * 4 // max(buffers[w.node].type.dtype.itemsize for w in nest.writes()), 2)
    lanes = Lanes(axis.name, count, "w") if axis is not None else None
    rows = Lanes(across.name, count, "h") if across is not None else None
    if axis is not None and inside:
        across = rows_axis(nest, axis)
        rows = Lanes(across.name, ROWS, "h") if across is not None else None
    out = Emitter(buffers, lanes, rows, comment)
    blocks = [a for a in nest.outer if a is not axis and a is not across]
    # blocked axes vary fastest over units: neighbours in memory stay on one thread
    blocks += [a for a in (across, axis) if a is not None and not (inside and a is axis)]
    tiled = {a.name: x for a, x in ((None if inside else axis, lanes), (across, rows)) if a is not None and x is not None}
    shares = tuple(Share(a.name, a.size, tiled[a.name].count if a.name in tiled else 1) for a in blocks)
    _open_units(out, nest, shares, tiled)
    if axis is None or nest.inner or rows is not None or whole(axis.size, count):
        print_passes(out, nest, axis if inside else None)
    else:
        _whole_and_rest(out, nest, count)
    out.close()
    return Printed(out.render(), out.slots, names=out.names, shares=shares)


def choose_lane_axis(nest: Nest) -> Axis | None:
    """The axis along which most memory is contiguous; ties go to the innermost."""
    candidates = [a for a in (*nest.outer, *nest.inner) if a.size != 1]
    if not candidates:
        return None
    passes = 1 if nest.inner else 2  # what is written once an outer point counts less than what a pass reads
    addresses = [w.index[0] for st in nest.stages for w in (*st.writes * 2, *st.points * passes)]
    addresses += [t.attr[1][0] for t in postorder(nest.roots()) if t.op == "load"]

    def score(a: Axis) -> tuple[int, int]:
        good = 0
        for e in addresses:
            step = lane_stride(e, a.name, 1)
            good += 2 if step == 1 else 0 if isinstance(step, int) and step == 0 else -1
        if isinstance(a.size, int) and a.size < 4:
            good -= 4
        return good, candidates.index(a)

    return max(candidates, key=score)


def transposed_axis(nest: Nest, lane: Axis | None) -> Axis | None:
    """For a map that writes along one axis and reads along another: that other axis. Both are then walked in square
    blocks, which are transposed in registers."""
    if lane is None or nest.inner or nest.kind != "map":
        return None
    loads = [t.attr[1][0] for t in postorder(nest.roots()) if t.op == "load" and not t.args]
    far = [e for e in loads if lane_stride(e, lane.name, 1) not in (0, 1)]
    for a in nest.outer:
        if a is not lane and far and all(lane_stride(e, a.name, 1) == 1 and lane_stride(e, lane.name, 1) is not None for e in far):
            return a
    return None


def hardware_lanes(nest: Nest, facts: Facts) -> int:
    """Lanes of a vector of the widest float of the nest."""
    widest = max((t.dtype.itemsize for t in postorder(nest.roots()) if t.dtype.is_float), default=4)
    return max(facts.width * 4 // widest, 2)


def lanes_for(nest: Nest, axis: Axis | None, facts: Facts) -> int:
    """Lanes of a tile along an outer axis: the hardware's for the widest float of the nest, more of them for cheap long loops.

    A fold along rows of memory takes as much of each row as registers can hold sums of: rows lie far apart, each on a page of
    its own, and often on the same few sets of the caches.
    """
    if axis is None:
        return 1
    count = hardware_lanes(nest, facts)
    if axis in nest.inner:
        return count  # each pass may take more
    if not nest.inner:
        work = len(postorder(nest.roots()))
        return count * 2 if work <= 40 and (not isinstance(axis.size, int) or axis.size >= 8 * count) else count
    work = max(len(postorder(roots_of(st))) for st in nest.stages)
    sums = max(len(st.accs) for st in nest.stages)
    most = 1 if work > 40 else max(SUMS >> (max(sums * 4, work) // 4).bit_length() - 1, 2)
    while most > 1 and (not isinstance(axis.size, int) or axis.size < PARTS * most * count):
        most //= 2
    return count * most


def _open_units(out: Emitter, nest: Nest, axes: tuple[Share, ...], tiled: dict[str, Lanes]) -> None:
    """The loop over this thread's share of the outer points, and the axes decoded from the running number.

    Axes in ``tiled`` are walked in blocks; a variable says how much of the block is valid.
    """
    sizes = []
    for i, a in enumerate(axes):
        if a.axis in tiled:
            out.line(f"nb{i} = ({out.int_expr(a.size)} + {a.block - 1}) // {a.block}")
            sizes.append(f"nb{i}")
        else:
            sizes.append(out.int_expr(a.size))
            if not sizes[-1].isidentifier() and not sizes[-1].isdigit():
                out.line(f"e{i} = {sizes[-1]}")
                sizes[-1] = f"e{i}"
    total = " * ".join(sizes) or "1"
    out.line(f"units = {total}")
    for i, x in enumerate((*nest.outer, *nest.inner)):
        out.vars[x.name] = f"i{i}"
    out.open("for u in range(units * tid // nthreads, units * (tid + 1) // nthreads):", frozenset(a.name for a in nest.outer))
    left = "u"
    for i in range(len(axes) - 1, -1, -1):
        a, var = axes[i], out.vars[axes[i].axis]
        if i:
            out.line(f"q{i} = {out.fn('div_pos')}({left}, {sizes[i]})")
            number = f"{left} - q{i} * {sizes[i]}"
            left = f"q{i}"
        else:
            number = left
        out.line(f"{var} = ({number}) * {a.block}" if a.axis in tiled else f"{var} = {number}")
    for a in axes:
        if a.axis in tiled:
            out.line(f"{tiled[a.axis].valid} = {_valid(out, a)}")


def _whole_and_rest(out: Emitter, nest: Nest, count: int) -> None:
    """A map's blocks without masks, and the last ones with them."""
    for condition, valid in ((f"w == {count}", str(count)), (f"w < {count}", "w")):
        with out.branch(condition):
            out.line(f"w = {valid}")
            print_passes(out, nest, None)


def _valid(out: Emitter, share: Share) -> str:
    """How many of a block's elements are valid. Where all blocks are whole, the text says so, and the compiler drops the masks."""
    if whole(share.size, share.block):
        return str(share.block)
    return f"{out.fn('least')}({share.block}, {out.int_expr(share.size)} - {out.vars[share.axis]})"
