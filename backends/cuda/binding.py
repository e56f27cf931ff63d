"""A program on a GPU for one value of every named dim: memory with fixed addresses, launches, and the graphs that they become."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphc.errors import CompileError
from graphc.ir.dims import evaluate
from graphc.runtime.store import ParameterStore
from graphc.schedule.launches import Buffer, Check, Launch, Repeat, memory_key
from graphc.schedule.memory import plan_memory

from .arrays import DeviceArray
from .gpu import Gpu
from .program import Program, argument, check_indices, grid

__all__ = ["Binding", "Mirror"]


class Mirror:
    """The values of a store on a GPU. What training changes there comes back when somebody asks the store for it."""

    def __init__(self, store: ParameterStore, gpu: Gpu):
        self.gpu = gpu
        self.version = -1
        self.kept: dict[str, tuple[int, Any]] = {}
        self.newer: set[str] = set()
        self._store = weakref.ref(store)

    def addresses(self, names: list[str]) -> dict[str, int]:
        """Where values lie; those that changed on the host since are copied first."""
        store = self._store()
        assert store is not None
        stale = []
        if self.version != store.version:
            self.pull()
            stale = list(self.kept)
            self.version = store.version
        for name in names:
            if name not in self.kept:
                slot = store[name]
                self.kept[name] = self.gpu.allocate(slot.buffer.nbytes, f"{slot.role} {name!r}")
                stale.append(name)
        self.gpu.send([(self.kept[name][0], store[name].numpy()) for name in stale])
        return {name: self.kept[name][0] for name in names}

    def changed(self, names: list[str]) -> None:
        """A run has written values here: the store asks for them when it needs them."""
        store = self._store()
        assert store is not None
        self.newer.update(names)
        store.version += 1
        self.version = store.version
        store.fetch = self.pull

    def pull(self) -> None:
        """Brings newer values to the host."""
        store = self._store()
        if store is None:
            return
        store.fetch = None
        values = {name: np.empty(store.slots[name].shape, store.slots[name].type.dtype.numpy) for name in sorted(self.newer)}
        with self.gpu.entered():
            self.gpu.fetch([(value, self.kept[name][0]) for name, value in values.items()])
        for name, value in values.items():
            store.slots[name].buffer[:] = store.slots[name].layout.pack(value)
        self.newer.clear()


class _Call(NamedTuple):
    """A launch with everything that it needs."""

    kernel: Any
    blocks: int
    threads: int
    args: tuple[Any, ...]


class Binding:
    """Arena, addresses and launches. ``run`` starts one graph up to the check of the loss, and another one behind it."""

    def __init__(self, program: Program, dims: Mapping[str, int], slots: Mapping[str, int], gpu: Gpu):
        schedule = program.schedule
        self.program, self.dims, self.gpu, self.slots = program, dict(dims), gpu, slots
        check_indices(schedule, dims)
        plan = plan_memory(schedule, dims)
        sizes = "".join(f", {d} = {n}" for d, n in self.dims.items())
        self.arena, arena = gpu.allocate(plan.arena_bytes, f"the arena of {schedule.graph.name}{sizes}")
        self.keep: list[Any] = [arena]
        self.offsets = {p.buffer: p.offset for p in plan.placements}
        self.own: dict[Buffer, int] = {}
        self.results = [(name, b, tuple(evaluate(s, self.dims) for s in b.type.shape)) for name, b in schedule.outputs]
        self.arguments = [b for b in dict.fromkeys(schedule.buffers.values()) if b.space == "arg"]
        self.prepare: Callable[[], None] | None = None
        self.prepared = -1
        fixed = [self._call(i, 0) for i in schedule.items if isinstance(i, Launch) and i.static]
        if any(fixed):
            self.prepare = self._started([c for c in fixed if c is not None])
        parts: list[list[_Call]] = [[]]
        self.checks: list[Buffer] = []
        self._last: dict[Any, int] = {}
        self._walk([i for i in schedule.items if not (isinstance(i, Launch) and i.static)], 0, parts)
        self.parts = [self._started(p) for p in parts]

    def _walk(self, items: list[Launch | Check | Repeat], trip: int, parts: list[list[_Call]]) -> None:
        for item in items:
            if isinstance(item, Launch):
                self._last |= {memory_key(b): len(parts) - 1 for b in item.writes}
                call = self._call(item, trip)
                if call is not None:
                    parts[-1].append(call)
            elif isinstance(item, Check):
                self.checks.append(item.buffer)
                parts.append([])
            else:
                count = evaluate(item.count, self.dims)
                for t in range(count):
                    self._walk(item.body, trip * count + t, parts)

    def _call(self, item: Launch, trip: int) -> _Call | None:
        k = self.program.kernels[item]
        blocks = grid(k.printed, self.dims)
        if not blocks:
            return None
        args = tuple(self.address(p.value) if p.kind == "buffer" else argument(p, self.dims, trip) for p in k.printed.params)
        return _Call(self.gpu.load(k.printed), blocks, k.printed.team.threads, args)

    def _started(self, calls: list[_Call]) -> Callable[[], None]:
        """A function that starts launches: as one captured graph, unless GRAPHC_CUDA_GRAPH is 0."""

        def launches() -> None:
            for c in calls:
                self.gpu.launch(c.kernel, c.blocks, c.threads, c.args)

        return self.gpu.capture(launches) if calls and os.environ.get("GRAPHC_CUDA_GRAPH", "1") != "0" else launches

    def address(self, b: Buffer) -> int:
        """Where a buffer lies for as long as the binding lives."""
        if b.space == "temp":
            return self.arena + self.offsets[b]
        if b.space == "slot":
            return self.slots[b.name]
        if b not in self.own:
            nbytes = evaluate(b.nbytes, self.dims)
            self.own[b], alive = self.gpu.allocate(nbytes, f"{b.name or b.node.op.name} of {self.program.schedule.graph.name}")
            self.keep.append(alive)
            if b.space == "const":
                self.gpu.send([(self.own[b], np.asarray(b.node.attrs["value"]))])
            elif b.space not in ("arg", "out", "static"):
                raise CompileError(f"{b.name or b.node!r} has no address of its own")
        return self.own[b]

    def run(self, args: Mapping[str, Any], version: int, stay: bool = False) -> tuple[dict[str, Any], bool]:
        """The outputs (arrays on the GPU with ``stay``), and whether every checked value was finite: where one is not, nothing behind the check
        has run."""
        self.gpu.send([(self.address(b), args[b.name]) for b in self.arguments])
        if self.prepare is not None and self.prepared != version:
            self.prepare()
            self.prepared = version
        found: dict[Buffer, np.ndarray] = {}
        for k, part in enumerate(self.parts):
            part()
            # what is whole already comes back while the rest of the step runs
            due = [b for _, b, _ in self.results if not stay and self._last.get(memory_key(b), 0) == k]
            checked = self.checks[k : k + 1]
            values = {b: np.empty(evaluate(b.elements, self.dims), b.type.dtype.numpy) for b in [*checked, *due]}
            self.gpu.fetch([(value, self.address(b)) for b, value in values.items()])
            if not all(np.isfinite(values[b]).all() for b in checked):
                return {}, False
            found |= values
        if stay:
            return {name: self._kept(name, b, shape) for name, b, shape in self.results}, True
        return {name: b.layout.unpack(found[b], shape) for name, b, shape in self.results}, True

    def _kept(self, name: str, b: Buffer, shape: tuple[int, ...]) -> DeviceArray:
        """A result in memory of its own: the next run writes over this one's."""
        assert b.layout.is_row_major
        made = DeviceArray.empty(self.gpu, shape, b.type.dtype.numpy, f"the result {name} of {self.program.schedule.graph.name}")
        if made.nbytes:
            self.gpu.driver.copy(made.address, self.address(b), made.nbytes)
        return made
