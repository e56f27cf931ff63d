"""The printer of map and row nests: parallel outer axes, passes over inner axes, one axis in vector lanes."""

from __future__ import annotations

from graphc.ir.dims import Size, floordiv
from graphc.loops.nest import Axis, Nest, Stage
from graphc.loops.scalar import Scalar, postorder

from ..machine_facts import Facts
from .emit import Emitter, Lanes, lane_stride
from .text import Printed

__all__ = ["print_loops"]

HORIZONTAL = {"add": "hsum", "mul": "hprod", "maximum": "hmax", "minimum": "hmin", "bit_or": "hany", "bit_and": "hall"}


def print_loops(nest: Nest, buffers: dict, facts: Facts, comment: str = "") -> Printed:  # type: ignore[type-arg]
    """The kernel of a map or row nest."""
    axis = choose_lane_axis(nest)
    count = lanes_for(nest, axis, facts)
    across = transposed_axis(nest, axis)
    if across is not None:
        count = max(facts.width * 4 // max(buffers[w.node].type.dtype.itemsize for w in nest.writes()), 2)
    lanes = Lanes(axis.name, count, "w") if axis is not None else None
    rows = Lanes(across.name, count, "h") if across is not None else None
    out = Emitter(buffers, lanes, rows, comment)
    inside = axis is not None and axis in nest.inner
    blocks = [a for a in nest.outer if a is not axis and a is not across]
    # blocked axes vary fastest over units: neighbours in memory stay on one thread
    blocks += [a for a in (across, axis) if a is not None and not inside]
    tiled = {a.name: x for a, x in ((axis, lanes), (across, rows)) if a is not None and x is not None and not inside}
    _open_units(out, nest, blocks, tiled)
    for stage in nest.stages:
        _stage(out, nest, stage, axis if inside else None, count)
    out.close()
    return Printed(out.render(), out.slots, names=out.names)


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


def lanes_for(nest: Nest, axis: Axis | None, facts: Facts) -> int:
    """Lanes of a tile: the hardware's for the widest float of the nest, twice as many for cheap long loops."""
    if axis is None:
        return 1
    widest = max((t.dtype.itemsize for t in postorder(nest.roots()) if t.dtype.is_float), default=4)
    count = max(facts.width * 4 // widest, 2)
    long = not isinstance(axis.size, int) or axis.size >= 8 * count
    work = len(postorder(nest.roots()))
    return count * 2 if long and work <= 40 else count


def _open_units(out: Emitter, nest: Nest, axes: list[Axis], tiled: dict[str, Lanes]) -> None:
    """The loop over this thread's share of the outer points, and the axes decoded from the running number.

    Axes in ``tiled`` are walked in blocks; a variable says how much of the block is valid.
    """
    sizes = []
    for i, a in enumerate(axes):
        if a.name in tiled:
            count = tiled[a.name].count
            out.line(f"nb{i} = ({out.int_expr(a.size)} + {count - 1}) // {count}")
            sizes.append(f"nb{i}")
        else:
            sizes.append(out.int_expr(a.size))
            if not sizes[-1].isidentifier() and not sizes[-1].isdigit():
                out.line(f"e{i} = {sizes[-1]}")
                sizes[-1] = f"e{i}"
    total = " * ".join(sizes) or "1"
    out.line(f"units = {total}")
    for a in (*nest.outer, *nest.inner):
        out.vars[a.name] = f"i{(*nest.outer, *nest.inner).index(a)}"
    out.open("for u in range(units * tid // nthreads, units * (tid + 1) // nthreads):", frozenset(a.name for a in nest.outer))
    left = "u"
    for i in range(len(axes) - 1, -1, -1):
        a, var = axes[i], out.vars[axes[i].name]
        if i:
            out.line(f"q{i} = {out.fn('div_pos')}({left}, {sizes[i]})")
            number = f"{left} - q{i} * {sizes[i]}"
            left = f"q{i}"
        else:
            number = left
        out.line(f"{var} = ({number}) * {tiled[a.name].count}" if a.name in tiled else f"{var} = {number}")
    for a in axes:
        if a.name in tiled:
            x = tiled[a.name]
            out.line(f"{x.valid} = {_valid(out, a, x.count)}")


def whole(size: Size, count: int) -> bool:
    """Whether ``count`` divides a size, whatever its named dims are."""
    return floordiv(size, count) * count == size


def _valid(out: Emitter, axis: Axis, count: int) -> str:
    """How many of a block's elements are valid. Where all blocks are whole, the text says so, and the compiler drops the masks."""
    if whole(axis.size, count):
        return str(count)
    return f"{out.fn('least')}({count}, {out.int_expr(axis.size)} - {out.vars[axis.name]})"


def _stage(out: Emitter, nest: Nest, stage: Stage, lane: Axis | None, count: int) -> None:
    for w in stage.points:
        out.store(w)
    if not stage.accs and not stage.writes:
        return
    unit = out.chain[-1]
    per_lane = out.lanes is not None and lane is None
    for a in stage.accs:
        wide = lane is not None or (per_lane and out.varies(a.value)[1])
        shape = (1, count) if wide else (1, 1)
        out.line(f"a{a.number} = {out.make('splat', a.value.dtype, *shape)}({out.literal(a.neutral, a.value.dtype)})")
    others = [a for a in nest.inner if a is not lane]
    for x in others:
        out.open(f"for {out.vars[x.name]} in range({out.int_expr(x.size)}):", frozenset({x.name}))
    if lane is None:
        _pass(out, stage, 0)
    else:
        _blocks(out, stage, lane, count)
    for _ in others:
        out.close()
    for a in stage.accs:
        if lane is not None:
            out.line(f"r{a.number} = {out.fn(HORIZONTAL[a.combine])}(a{a.number}, {count})")
            out.acc_names[a.number] = (f"r{a.number}", (False, False), unit)
        else:
            out.acc_names[a.number] = (f"a{a.number}", (False, per_lane and out.varies(a.value)[1]), unit)


def _blocks(out: Emitter, stage: Stage, lane: Axis, count: int) -> None:
    """The pass over an axis block by block: whole blocks in a loop without masks, then the rest."""
    var, size, axes = out.vars[lane.name], out.int_expr(lane.size), frozenset({lane.name})
    end = size if whole(lane.size, count) else f"{size} // {count} * {count}"
    out.open(f"for {var} in range(0, {end}, {count}):", axes)
    out.line(f"w = {count}")
    _pass(out, stage, 0)
    out.close()
    if end != size:
        out.open(f"if {end} < {size}:", axes)
        out.line(f"{var} = {end}")
        out.line(f"w = {size} - {var}")
        _pass(out, stage, count)
        out.close()


def _pass(out: Emitter, stage: Stage, count: int) -> None:
    """What a pass does at one place; ``count`` is the size of a block that is not whole (0: it is)."""
    for w in stage.writes:
        out.store(w)
    for a in stage.accs:
        value = out.value(a.value)
        if count:
            value = _valid_only(out, a.value, value, a.neutral, count)
        out.line(f"a{a.number} = {out.fn(a.combine)}(a{a.number}, {value})")


def _valid_only(out: Emitter, s: Scalar, value: str, neutral: float, count: int) -> str:
    """Lanes past the end feed the neutral element."""
    if neutral == 0 and _zero_outside(s):
        return value
    keep = f"{out.fn('lt')}({out.make('iota', 'i64', 1, count)}(0, 0, 1), w)"
    return f"{out.fn('select')}({keep}, {value}, {out.literal(neutral, s.dtype)})"


def _zero_outside(s: Scalar) -> bool:
    """Whether a value is 0 in masked lanes because every path to it is a product of masked loads."""
    if s.op == "load":
        return True
    if s.op == "mul":
        return any(_zero_outside(a) for a in s.args) and all(_finite_outside(a) for a in s.args)
    return s.op in ("neg", "absolute", "cast") and _zero_outside(s.args[0])


def _finite_outside(s: Scalar) -> bool:
    return s.op in ("load", "const") or (s.op in ("mul", "add", "sub", "neg") and all(_finite_outside(a) for a in s.args))
