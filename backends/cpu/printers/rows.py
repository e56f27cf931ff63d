"""Passes over inner axes: what a nest does at one outer point, or at a few at once.

Each stage is a pass that feeds accumulators and writes elements. Where the lanes lie along an inner axis, a pass goes through it block
by block and its accumulators are reduced across lanes at the end; where they lie along an outer axis every lane has its own
accumulator. A value that costs something and that several passes need (the exponentials of a softmax) is computed by the first of
them and kept in memory of the thread, a row long, which stays in the nearest caches.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from graphc.ir.dims import Size, coefficient, floordiv, prod, symbols
from graphc.ir.node import Node
from graphc.loops.nest import Axis, Nest, Stage
from graphc.loops.scalar import Scalar, operands, postorder, values_in

from .emit import Emitter, lane_stride

__all__ = ["ROWS", "print_passes", "roots_of", "rows_axis", "whole"]

HORIZONTAL = {"add": "hsum", "mul": "hprod", "maximum": "hmax", "minimum": "hmin", "bit_or": "hany", "bit_and": "hall"}
ROWS = 4
"""Short rows that are computed at once: the reductions of one hide behind those of the others."""
SHORT = 512
"""Elements of a row up to which rows are short."""
WORTH = 8
"""Instructions from which on a value is kept for the next pass instead of computed again."""
LITTLE = 24
"""Instructions of a pass up to which it waits for memory."""
CHEAP = {"load", "const", "arg", "index", "acc"}


def rows_axis(nest: Nest, lane: Axis) -> Axis | None:
    """The outer axis of which a few points are computed at once, if the rows are short and lie at equal distances."""
    length = prod(a.size for a in nest.inner)
    if not nest.outer or not isinstance(length, int) or length > SHORT:
        return None
    axis = nest.outer[-1]
    if isinstance(axis.size, int) and axis.size < ROWS:
        return None
    loads = [t for t in postorder(nest.roots()) if t.op == "load"]
    addresses = [e for t in loads for e in t.attr[1]] + [e for w in nest.writes() for e in w.index]
    regular = all(coefficient(e, axis.name) is not None and not values_in(e) for e in addresses)
    return axis if regular and all(lane_stride(e, lane.name, 1) is not None for e in addresses) else None


def whole(size: Size, count: int) -> bool:
    """Whether ``count`` divides a size, whatever its named dims are."""
    return floordiv(size, count) * count == size


def print_passes(out: Emitter, nest: Nest, lane: Axis | None) -> None:
    """All stages of a nest at the current outer points; ``lane`` is the inner axis that lies along lanes, if one does."""
    kept = _Kept()
    if lane is not None and nest.inner == (lane,):
        kept = _values_to_keep(out, nest, lane)
    passes = [st for st in nest.stages if st.accs or st.writes]
    fetching = passes[-2] if len(passes) > 1 and lane is not None and out.rows is None else None
    for stage in nest.stages:
        _stage(out, nest, stage, lane, kept, _streams(nest, lane) if lane is not None and stage is fetching else [])


def _streams(nest: Nest, lane: Axis) -> list[tuple[Node, Size]]:
    """Where the next row lies in memory and where this one's results go, in a kernel that has so little to do that it waits for them:
    they are asked for while a pass goes over what is in the caches."""
    if not nest.outer or any(len(postorder(roots_of(st))) > LITTLE for st in nest.stages):
        return []
    row = nest.outer[-1].name
    found: dict[tuple[Node, Size], None] = {}
    for t in postorder(nest.roots()):
        if t.op == "load" and not t.args and not values_in(t.attr[1][0]):
            (e,) = t.attr[1]
            step = coefficient(e, row)
            if step is not None and step != 0 and lane_stride(e, lane.name, 1) == 1:
                found[t.attr[0], e + step] = None
    for w in nest.writes():
        (e,) = w.index
        if not values_in(e) and lane_stride(e, lane.name, 1) == 1:
            found[w.node, e] = None
    return list(found)


def _stage(out: Emitter, nest: Nest, stage: Stage, lane: Axis | None, kept: _Kept, ahead: list[tuple[Node, Size]]) -> None:
    for w in stage.points:
        out.store(w)
    if not stage.accs and not stage.writes:
        return
    unit = out.chain[-1]
    across, lanes = out.rows, out.lanes
    per_lane = lanes is not None and lane is None
    if lane is not None and lanes is not None:
        out.lanes = replace(lanes, count=_width(stage, lane, lanes.count, kept) if across is None else lanes.count)
    count = out.lanes.count if out.lanes is not None else 1
    for a in stage.accs:
        wide = lane is not None or (per_lane and out.varies(a.value)[1])
        shape = (across.count if lane is not None and across is not None else 1, count if wide else 1)
        out.line(f"a{a.number} = {out.make('splat', a.value.dtype, *shape)}({out.literal(a.neutral, a.value.dtype)})")
    others = [a for a in nest.inner if a is not lane]
    for x in others:
        out.open(f"for {out.vars[x.name]} in range({out.int_expr(x.size)}):", frozenset({x.name}))
    if lane is None:
        _pass(out, stage, 0, kept)
    else:
        _blocks(out, stage, lane, count, kept, ahead)
    for _ in others:
        out.close()
    for a in stage.accs:
        if lane is not None:
            out.line(f"r{a.number} = {out.fn(HORIZONTAL[a.combine])}(a{a.number}, {count})")
            out.acc_names[a.number] = (f"r{a.number}", (across is not None, False), unit)
        else:
            out.acc_names[a.number] = (f"a{a.number}", (False, per_lane and out.varies(a.value)[1]), unit)
    out.lanes = lanes


def _width(stage: Stage, lane: Axis, count: int, kept: _Kept) -> int:
    """Lanes of a pass: with little to do at an element, more of them keep several chains of dependences going."""
    work = postorder(roots_of(stage), kept.offsets)
    factor = 4 if len(work) <= 12 else 2 if len(work) <= 40 else 1
    addresses = [e for t in work if t.op == "load" for e in t.attr[1]] + [e for w in stage.writes for e in w.index]
    while factor > 1:
        long = not isinstance(lane.size, int) or lane.size >= 4 * factor * count
        if long and all(lane_stride(e, lane.name, factor * count) == lane_stride(e, lane.name, count) for e in addresses):
            break
        factor //= 2
    return factor * count


# -- values that are kept ---------------------------------------------------------------------------------------------------
@dataclass
class _Kept:
    """Values kept for later passes: where each lies in the row memory (elements of its type), and which are there by now."""

    offsets: dict[Scalar, str] = field(default_factory=dict)
    pitch: str = "0"
    there: set[Scalar] = field(default_factory=set)


def roots_of(stage: Stage) -> list[Scalar]:
    """What the pass of a stage computes."""
    return [w.value for w in stage.writes] + [a.value for a in stage.accs]


def _values_to_keep(out: Emitter, nest: Nest, lane: Axis) -> _Kept:
    """The outermost values that a pass shares with an earlier one and that cost more than a store and a load."""
    found: list[Scalar] = []
    before: set[Scalar] = set()
    for stage in nest.stages:
        mine = _along(postorder(roots_of(stage)), lane)
        shared = {t for t in mine if t in before}
        inner = {a for t in mine if t in shared for a in operands(t)}
        used = {a for t in mine if t not in shared for a in operands(t)} | set(roots_of(stage))
        found += [t for t in mine if t in shared and (t in used or t not in inner) and t not in found and _worth(t, lane)]
        before |= set(mine)
    kept = _Kept()
    if not found:
        return kept
    rows = out.rows.count if out.rows is not None else 1
    pad = 64  # whole blocks are stored and loaded, of up to so many lanes
    pitch = (floordiv(lane.size + (pad - 1), pad) * pad) if not isinstance(lane.size, int) else -(-lane.size // pad) * pad
    for dtype in dict.fromkeys(t.dtype for t in found):
        mine = [t for t in found if t.dtype == dtype]
        place = out.scratch(pitch * rows * len(mine), dtype)
        for i, t in enumerate(mine):
            kept.offsets[t] = f"{place} + {i * rows} * {out.size(pitch)}" if i else place
    kept.pitch = out.size(pitch)
    return kept


def _worth(s: Scalar, lane: Axis) -> bool:
    return s.dtype.kind != "b" and sum(t.op not in CHEAP for t in _along(postorder([s]), lane)) >= WORTH


def _along(order: list[Scalar], lane: Axis) -> list[Scalar]:
    """Those of an order (operands first) that differ from element to element of a row."""
    found: dict[Scalar, None] = {}
    for t in order:
        names = symbols(t.attr[1][0]) if t.op == "load" else symbols(t.attr) if t.op == "index" else ()
        if lane.name in names or any(a in found for a in operands(t)):
            found[t] = None
    return list(found)


# -- passes -----------------------------------------------------------------------------------------------------------------
def _blocks(out: Emitter, stage: Stage, lane: Axis, count: int, kept: _Kept, ahead: list[tuple[Node, Size]]) -> None:
    """The pass over an axis block by block: whole blocks in a loop without masks, then the rest."""
    var, size, axes = out.vars[lane.name], out.int_expr(lane.size), frozenset({lane.name})
    end = size if whole(lane.size, count) else f"{size} // {count} * {count}"
    new = [t for t in kept.offsets if t not in kept.there]
    if end != "0":
        out.open(f"for {var} in range(0, {end}, {count}):", axes)
        out.line(f"w = {count}")
        for node, e in ahead:
            fetch = out.make("prefetcher", node.dtype, 1, count)
            out.line(f"{fetch}({out.pointer(out.buffers[node])}, {out.int_expr(e)}, 0)")
        _pass(out, stage, 0, kept)
        out.close()
    if end != size:
        out.open(f"if {end} < {size}:", axes)
        out.line(f"{var} = {end}")
        out.line(f"w = {size} - {var}")
        kept.there -= set(new)
        _pass(out, stage, count, kept)
        out.close()


def _pass(out: Emitter, stage: Stage, count: int, kept: _Kept) -> None:
    """What a pass does at one place; ``count`` is the size of a block that is not whole (0: it is)."""
    needed = [t for t in kept.offsets if t in postorder(roots_of(stage))] if kept.offsets else []
    for t in needed:
        shape = out.shape((out.rows is not None, True))
        place = f"{kept.offsets[t]} + {out.vars[out.lanes.axis]}, {kept.pitch if shape[0] > 1 else '0'}" if out.lanes else ""
        if t in kept.there:
            name = out.fresh()
            out.names[name] = t
            out.line(f"{name} = {out.make('loader_full', t.dtype, *shape)}({place})")
            out.chain[-1].known[t] = name
        else:
            out.line(f"{out.make('storer_full', t.dtype, *shape)}({place}, {out.value(t)})")
            kept.there.add(t)
    for w in stage.writes:
        out.store(w)
    for a in stage.accs:
        value = out.value(a.value)
        if count:
            value = _valid_only(out, a.value, value, a.neutral, count)
        # (the accumulator second: what maximum does about a NaN in the first does not lengthen the chain of dependences)
        out.line(f"a{a.number} = {out.fn(a.combine)}({value}, a{a.number})")


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
