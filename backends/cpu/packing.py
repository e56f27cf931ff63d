"""Programs as plain values: JSON and arrays, without the graph that they came from.

:func:`pack` takes a scheduled and printed program apart; :class:`LoadedProgram` is what a :class:`~.binding.Binding` looks at and nothing
else: no graph, no nests. Bundles (:mod:`.bundle`) and the programs in the kernel cache (:mod:`.kept`) are made of these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from graphc.errors import CompileError
from graphc.ir.dims import Expr, FloorDiv, Size, Sym, atom, floordiv
from graphc.ir.dtypes import as_dtype
from graphc.ir.layout import Layout
from graphc.ir.types import TensorType
from graphc.schedule.launches import Buffer, Check, Launch, Repeat, Schedule
from graphc.schedule.memory import MemoryPlan, Placement

from .meetings import Places
from .shares import Reach, Share, Touch
from .slots import Slot as Word

__all__ = [
    "LoadedProgram", "pack", "pack_layout", "pack_places", "pack_size", "pack_type", "unpack_layout", "unpack_places", "unpack_size", "unpack_type",
]  # fmt: skip


# -- sizes, types, layouts -------------------------------------------------------------------------------------------------
def pack_size(size: Size) -> Any:
    """A size as a number, or as [[factor, [[name or [numerator, denominator], power], ...]], ...]."""
    if not isinstance(size, Expr):
        return int(size)
    return [[coefficient, [[_pack_atom(a), power] for a, power in term]] for term, coefficient in size.terms]


def _pack_atom(a: Any) -> Any:
    if isinstance(a, Sym):
        return a.name
    if isinstance(a, FloorDiv):
        return [pack_size(a.num), pack_size(a.den)]
    raise CompileError(f"a size depends on {a}, which only a running program knows")


def unpack_size(packed: Any) -> Size:
    """See :func:`pack_size`."""
    if isinstance(packed, int):
        return packed
    total: Size = 0
    for coefficient, term in packed:
        value: Size = coefficient
        for a, power in term:
            factor = atom(Sym(a)) if isinstance(a, str) else floordiv(unpack_size(a[0]), unpack_size(a[1]))
            for _ in range(power):
                value = value * factor
        total = total + value
    return total


def pack_type(t: TensorType) -> Any:
    return [t.dtype.name, [pack_size(s) for s in t.shape]]


def unpack_type(packed: Any) -> TensorType:
    return TensorType(tuple([unpack_size(s) for s in packed[1]]), as_dtype(packed[0]))


def pack_layout(layout: Layout) -> Any:
    return [list(layout.perm), layout.panel, layout.pad]


def unpack_layout(packed: Any) -> Layout:
    perm, panel, pad = packed
    return Layout(tuple(perm), panel, pad)


def _pack_reach(reach: Reach | None, number: Mapping[Buffer, int]) -> Any:
    if reach is None:
        return None
    shares = [[s.axis, pack_size(s.size), s.block] for s in reach.shares]
    touches = [[number[t.buffer], None if t.at is None else pack_size(t.at), t.writes] for t in reach.touches]
    return [shares, [[name, pack_size(size)] for name, size in reach.axes], touches]


def _reach(packed: Any, buffers: Sequence[Buffer]) -> Reach | None:
    if packed is None:
        return None
    shares, axes, touches = packed
    return Reach(
        tuple([Share(axis, unpack_size(size), block) for axis, size, block in shares]),
        tuple([(name, unpack_size(size)) for name, size in axes]),
        tuple([Touch(buffers[b], None if at is None else unpack_size(at), writes) for b, at, writes in touches]),
    )


# -- programs --------------------------------------------------------------------------------------------------------------
Item = Launch | Check | Repeat


def buffers_of(program: Any) -> list[Buffer]:
    """The buffers of a program by number: arguments first, then in the order of their first mention."""
    if isinstance(program, LoadedProgram):
        return program.buffers
    schedule = program.schedule
    found = [b for b in schedule.buffers.values() if b.space == "arg"]
    for i in items_of(schedule):
        if isinstance(i, Check):
            found.append(i.buffer)
        elif isinstance(i, Launch):
            made = program.kernels[i]
            found += [w.value for w in made.printed.slots if w.kind == "address"]
            found += [*i.reads, *i.writes, *(t.buffer for t in (made.reach.touches if made.reach is not None else ()))]
    return list(dict.fromkeys([*found, *(b for _, b in schedule.outputs)]))


def items_of(schedule: Schedule) -> list[Item]:
    """Launches, checks and repeats by number, those inside of repeats behind them."""
    found: list[Item] = []

    def walk(items: Sequence[Item]) -> None:
        for i in items:
            found.append(i)
            if isinstance(i, Repeat):
                walk(i.body)

    walk(schedule.items)
    return found


def pack(program: Any, number_of: Callable[[Any], int]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(JSON values, constants) of a program; ``number_of`` says which kernel of the reader's list that of a launch will be.

    Equal programs give equal values.
    """
    schedule = program.schedule
    buffers = buffers_of(program)
    number = {b: i for i, b in enumerate(buffers)}
    reaches: list[Any] = []

    def word(w: Word) -> Any:
        if w.kind == "address":
            return [w.kind, number[w.value]]
        return [w.kind, int(w.value[0][1]) if w.kind == "number" else pack_size(w.value)]

    def step(i: Item) -> Any:
        if isinstance(i, Repeat):
            return ["repeat", i.barrier, i.phase, pack_size(i.count), [step(x) for x in i.body]]
        if isinstance(i, Check):
            return ["check", i.barrier, i.phase, number[i.buffer]]
        made = program.kernels[i]
        words = [word(w) for w in made.printed.slots]
        reaches.append(_pack_reach(made.reach, number))
        return ["launch", i.barrier, i.phase, i.static, number_of(made), words, [number[b] for b in i.reads], [number[b] for b in i.writes]]

    data = {
        "name": schedule.graph.name,
        "buffers": [[b.space, b.name, pack_type(b.type), pack_layout(b.layout)] for b in buffers],
        "steps": [step(i) for i in schedule.items],
        "reaches": json.dumps(reaches, separators=(",", ":")),  # a text in the text: most readers have no use for it
        "outputs": [[n, number[b]] for n, b in schedule.outputs],
        "work": pack_size(program.work),
    }
    return data, {f"const/{i}": np.asarray(b.node.attrs["value"]) for i, b in enumerate(buffers) if b.space == "const"}


class LoadedKernel:
    """What a launch of a loaded program calls and with which words; its reach is taken apart when somebody asks."""

    def __init__(self, program: LoadedProgram, number: int, kernel: Any, slots: list[Word]):
        self.kernel, self.printed = kernel, SimpleNamespace(slots=slots)
        self._reaches, self._buffers, self._number = program.reaches, program.buffers, number

    @cached_property
    def reach(self) -> Reach | None:
        return _reach(self._reaches()[self._number], self._buffers)


class LoadedProgram:
    """A program from packed values, over kernels that are loaded: what has an ``address``, in the order of the packed numbers."""

    def __init__(self, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], kernels: Sequence[Any]):
        self.kernels: dict[Launch, LoadedKernel] = {}
        text = data["reaches"]
        self.reaches: Callable[[], Any] = cache(lambda: json.loads(text))
        self.buffers = [_buffer(i, packed, arrays) for i, packed in enumerate(data["buffers"])]
        items = [self._step(packed, kernels) for packed in data["steps"]]
        outputs = [(name, self.buffers[b]) for name, b in data["outputs"]]
        graph, numbered = SimpleNamespace(name=data["name"]), dict(enumerate(self.buffers))
        self.schedule = Schedule(graph, items, numbered, outputs, [], None)  # type: ignore[arg-type]
        self.work = unpack_size(data["work"])

    def _step(self, packed: Any, kernels: Sequence[Any]) -> Item:
        kind, barrier, phase, *rest = packed
        if kind == "repeat":
            return Repeat(unpack_size(rest[0]), [self._step(x, kernels) for x in rest[1]], barrier, phase)
        if kind == "check":
            return Check(self.buffers[rest[0]], barrier, phase)
        static, kernel, words, reads, writes = rest
        launch = Launch(None, tuple([self.buffers[b] for b in reads]), tuple([self.buffers[b] for b in writes]), barrier, phase, static)  # type: ignore[arg-type]
        self.kernels[launch] = LoadedKernel(self, len(self.kernels), kernels[kernel], [self._word(*w) for w in words])
        return launch

    def _word(self, kind: str, value: Any) -> Word:
        if kind == "address":
            return Word(kind, self.buffers[value])
        return Word(kind, (("", value),) if kind == "number" else unpack_size(value))


class _Held:
    """What a buffer has instead of its node. Each is another memory: equal to itself alone."""

    def __init__(self, attrs: dict[str, Any]):
        self.attrs = attrs


def _buffer(number: int, packed: Any, arrays: Mapping[str, np.ndarray]) -> Buffer:
    space, name, kind, layout = packed
    node: Any = _Held({"value": arrays[f"const/{number}"]} if space == "const" else {})
    return Buffer(node, unpack_type(kind), unpack_layout(layout), space, name)


# -- what is decided when sizes are known -------------------------------------------------------------------------------------
def pack_places(program: Any, places: Places) -> Any:
    """Memory plan, barriers and turns of a binding."""
    number = {b: i for i, b in enumerate(buffers_of(program))}
    item = {x: i for i, x in enumerate(items_of(program.schedule))}
    plan = places.plan
    return {
        "placements": [[number[p.buffer], p.offset, p.nbytes, p.born, p.dies] for p in plan.placements],
        "plan": [plan.arena_bytes, plan.unplanned_bytes, plan.slot_bytes, plan.peak_phase],
        "barriers": sorted(item[i] for i in places.barriers),
        "turns": sorted([item[i], turn] for i, turn in places.turns.items()),
    }


def unpack_places(program: Any, packed: Any) -> Places:
    """See :func:`pack_places`."""
    buffers, items = buffers_of(program), items_of(program.schedule)
    placements = tuple([Placement(buffers[b], *rest) for b, *rest in packed["placements"]])
    plan = MemoryPlan(placements, *packed["plan"])
    return Places(plan, {items[i] for i in packed["barriers"]}, {items[i]: turn for i, turn in packed["turns"]})  # type: ignore[misc]
