"""A program for one value of every named dim: its memory, argument blocks and launch list. Nothing is compiled here."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from graphc.errors import CompileError, OutOfMemoryError
from graphc.ir.dims import evaluate
from graphc.runtime.memory import aligned_empty, said_bytes
from graphc.runtime.store import ParameterStore
from graphc.schedule.launches import Buffer, Check, Launch, Repeat

from .machine.entry import Quick, quick_call
from .machine.pool import LaunchList
from .meetings import Places, places_of
from .slots import Slot

__all__ = ["BINDINGS", "Binding"]

BINDINGS = 32
"""Bindings that an executable keeps."""


class Binding:
    """A program for one value of every named dim: arena, argument blocks, launch list. ``places`` are those of before, where they are known."""

    def __init__(self, program: Any, dims: Mapping[str, int], store: ParameterStore | None, nthreads: int, places: Places | None = None):
        schedule = program.schedule
        self.program = program
        self.dims = dict(dims)
        self.places = places_of(program, dims, nthreads) if places is None else places
        self.plan = self.places.plan
        self.nthreads = nthreads
        self.offsets = {p.buffer: p.offset for p in self.plan.placements}
        sizes = "".join(f", {d} = {n}" for d, n in self.dims.items())
        self.arena = aligned_empty(self.plan.arena_bytes, np.uint8, f"the temporaries of {schedule.graph.name}{sizes}")
        self.keep: list[Any] = [self.arena]
        self.blank: np.ndarray | None = None
        self.working: np.ndarray | None = None
        self.addresses: dict[Buffer, int] = {}
        self.arg_order = [b for b in dict.fromkeys(schedule.buffers.values()) if b.space == "arg"]
        self.out_order = list(dict.fromkeys(b for _, b in schedule.outputs))
        self.io_index = {b: i for i, b in enumerate([*self.arg_order, *self.out_order])}
        self.patches: list[tuple[int, int, int]] = []
        self.store = store
        self.epoch = store.epoch if store is not None else 0
        self.results = [(tuple(evaluate(s, self.dims) for s in b.type.shape), b.type.dtype.numpy) for b in self.out_order]
        self.returned = [(name, self.out_order.index(b)) for name, b in schedule.outputs]
        self.arg_names = [b.name for b in self.arg_order]
        self.prepare: LaunchList | None = self._build([i for i in schedule.items if isinstance(i, Launch) and i.static])
        patches = self.patches
        self.patches = []
        self.main: LaunchList | None = self._build([i for i in schedule.items if not (isinstance(i, Launch) and i.static)])
        if patches:
            raise CompileError("a static launch reads an argument")
        self.prepared_version = -1
        self._quick: Quick | None = None
        self.short = nthreads == 1

    def _build(self, items: list[Launch | Check | Repeat]) -> LaunchList | None:
        if not items:
            return None
        out = LaunchList()
        blocks: list[tuple[np.ndarray, list[Slot]]] = []
        self._rows(out, items, blocks)
        out.finish(self.patches, len(self.io_index), self.nthreads)
        return out

    def _rows(self, out: LaunchList, items: list[Launch | Check | Repeat], blocks: list[tuple[np.ndarray, list[Slot]]]) -> None:
        for item in items:
            if item in self.places.barriers and out.rows:
                out.add_barrier()
            if isinstance(item, Launch):
                kernel = self.program.kernels[item]
                out.add_call(kernel.kernel.address, self._block(kernel.printed.slots), self.places.turns.get(item, 0))
            elif isinstance(item, Check):
                out.add_check(self._block([Slot("address", item.buffer)]), item.buffer.type.dtype.itemsize)
            else:
                out.add_loop(np.array([evaluate(item.count, self.dims)], np.int64))
                self._rows(out, item.body, blocks)
                out.add_barrier()
                out.end_loop()

    def _block(self, slots: list[Slot]) -> np.ndarray:
        block = np.zeros(max(len(slots), 1), np.int64)
        for i, s in enumerate(slots):
            if s.kind == "size":
                block[i] = evaluate(s.value, self.dims)
            elif s.kind == "number":
                block[i] = s.value[0][1]
            elif s.kind == "zeros":
                block[i] = self.zeros(evaluate(s.value, self.dims))
            elif s.kind == "scratch":
                block[i] = self.scratch(evaluate(s.value, self.dims) * self.nthreads)
            elif s.value in self.io_index:
                self.patches.append((block.ctypes.data + 8 * i, self.io_index[s.value], 0))
            else:
                block[i] = self._address(s.value)
        self.keep.append(block)
        return block

    def zeros(self, nbytes: int) -> int:
        """The address of zeros that nobody writes: what rows outside of an operand read."""
        if self.blank is None or self.blank.nbytes < nbytes:
            self.blank = np.zeros(nbytes, np.uint8)
            self.keep.append(self.blank)
        return int(self.blank.ctypes.data)

    def scratch(self, nbytes: int) -> int:
        """The address of memory that a kernel may use while it runs."""
        if self.working is None or self.working.nbytes < nbytes:
            self.working = aligned_empty(nbytes, np.uint8)
            self.keep.append(self.working)
        return int(self.working.ctypes.data)

    def _address(self, b: Buffer) -> int:
        if b.space == "temp":
            return int(self.arena.ctypes.data) + self.offsets[b]
        if b.space == "slot":
            if self.store is None:
                raise CompileError(f"{b.name} needs a parameter store")
            self.keep.append(self.store[b.name].buffer)
            return int(self.keep[-1].ctypes.data)
        if b in self.addresses:
            return self.addresses[b]
        if b.space == "const":
            data = aligned_empty(max(b.node.attrs["value"].size, 1), b.type.dtype.numpy)
            data[: b.node.attrs["value"].size] = b.node.attrs["value"].reshape(-1)
        elif b.space == "static":
            data = aligned_empty(evaluate(b.elements, self.dims), b.type.dtype.numpy)
        else:
            raise CompileError(f"{b.name or b.node!r} has no address of its own")
        self.keep.append(data)
        self.addresses[b] = int(data.ctypes.data)
        return self.addresses[b]

    def quick(self, lock: Any) -> Quick | None:
        """The entry from one array to one array, made once; None for programs of other forms and for those of several threads."""
        if self._quick is None and self.nthreads == 1 and self.main is not None and len(self.arg_order) == len(self.out_order) == len(self.returned) == 1:
            (b,) = self.arg_order
            given = (tuple(evaluate(s, self.dims) for s in b.type.shape), b.type.dtype.numpy)
            self._quick = quick_call(self.main, given, self.results[0], lock, self.current)
        return self._quick

    def current(self) -> bool:
        """Whether addresses, and what depends on parameters alone, are still those of the last run."""
        store = self.store
        return store is None or (store.epoch == self.epoch and (self.prepare is None or store.version == self.prepared_version))

    # -- running ---------------------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Computes again what depends on parameters alone, if they have changed."""
        version = self.store.version if self.store is not None else 0
        if self.prepare is not None and self.prepared_version != version:
            self.prepare.run()
            self.prepared_version = version

    def run(self, args: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], int]:
        """Outputs in the order of ``out_order``, and the driver's status."""
        try:
            outs = [np.empty(shape, dtype) for shape, dtype in self.results]
        except (MemoryError, ValueError):
            nbytes = sum(prod(shape) * dtype.itemsize for shape, dtype in self.results)
            what = f"the results of {self.program.schedule.graph.name}"
            raise OutOfMemoryError(f"out of memory: {what} need {said_bytes(nbytes)}") from None
        self.refresh()
        if self.main is None:
            return outs, 0
        io = self.main.io
        for i, name in enumerate(self.arg_names):
            io[i] = _data(args[name])
        for i, o in enumerate(outs, len(self.arg_order)):
            io[i] = _data(o)
        return outs, self.main.run(short=self.short)


# the data pointer is the first field after the object header of an ndarray (numpy/ndarraytypes.h: PyArrayObject_fields);
# array.ctypes.data says the same and takes 0.9 us
_HEADER = object.__basicsize__


def _data_fast(a: np.ndarray) -> int:
    return ctypes.c_int64.from_address(id(a) + _HEADER).value


def _data_slow(a: np.ndarray) -> int:
    return int(a.ctypes.data)


_probe = np.zeros(3)
_data = _data_fast if _data_fast(_probe) == _data_slow(_probe) else _data_slow
