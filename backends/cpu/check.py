"""Checks of compiled programs while they run, switched on by ``GRAPHC_CHECK``: slow, for tests and for hunting defects.

``schedule`` runs the launch list for four threads on one, in two opposite orders of threads between barriers and over an
arena full of NaN, and compares every kernel's result with a run kernel by kernel. ``bounds`` gives every buffer memory of
its own between guard zones and looks at them after every kernel. Then the program itself runs, and is compared.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import CompileError
from graphc.ir.dims import evaluate
from graphc.ir.dtypes import kind_of
from graphc.schedule.program import Buffer, Check, Launch, Repeat, memory_key

from .machine import driver_words as w

if TYPE_CHECKING:
    from .binding import Binding

__all__ = ["checked_run"]

ORDERS = ((2, 0, 3, 1), (1, 3, 0, 2))  # each pair of threads meets in both orders
GUARD = 1024
POISON = 0xFF  # the byte of memory that nobody has written: NaN in every float, -1 in every integer
_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p, ctypes.c_int64)
_scratch = (ctypes.c_int64 * 4)()


def checked_run(binding: Binding, args: Mapping[str, np.ndarray], mode: str) -> tuple[list[np.ndarray], int]:
    """As ``binding.run(args)``; raises CompileError naming the kernel that breaks what ``mode`` checks."""
    binding.refresh()
    many = type(binding)(binding.program, binding.dims, binding.store, len(ORDERS[0]))  # which barriers are needed depends on the threads
    many.refresh()
    base = _Emulation(many, args, guarded=mode == "bounds")
    base.run((0, 1, 2, 3), lockstep=True)
    if mode == "schedule":
        for order in ORDERS:
            _Emulation(many, args, expect=base.trace).run(order)
    outs, status = binding.run(args)
    slots = [b for b in binding.program.schedule.buffers.values() if b.space == "slot"] if binding.store else []
    found = [*zip(binding.out_order, outs, strict=True), *((b, binding.store.numpy(b.name)) for b in slots if binding.store)]
    for b, x in found:
        if bool(status) != base.stopped or (not status and not _equal(x, base.value(b), 1e-3)):
            raise CompileError(f"GRAPHC_CHECK={mode}: {_name(b)} differs between the driver's run and the kernels one by one")
    return outs, status


def _equal(a: np.ndarray, b: np.ndarray, rtol: float = 0.0) -> bool:
    if kind_of(a.dtype) != "f":
        return np.array_equal(a, b)
    scale = float(np.nan_to_num(np.abs(b)).max(initial=0.0))
    return bool(np.allclose(a, b, rtol=rtol, atol=rtol * 1e-2 * scale, equal_nan=True))


def _name(b: Buffer) -> str:
    return f"{b.space} {b.name or b.node!r}"


def _flat(items: Sequence[Launch | Check | Repeat]) -> Iterator[Launch | Check]:
    for i in items:
        if isinstance(i, Repeat):
            yield from _flat(i.body)
        elif not (isinstance(i, Launch) and i.static):
            yield i


class _Emulation:
    """One run of a binding's launch list on one thread, in memory of its own."""

    def __init__(self, binding: Binding, args: Mapping[str, np.ndarray], guarded: bool = False, expect: list[Any] | None = None):
        self.binding, self.args, self.guarded, self.expect = binding, args, guarded, expect
        self.trace: list[dict[int, list[np.ndarray]]] = []
        self.stopped = False
        self.memory: dict[object, tuple[Buffer, np.ndarray, int]] = {}
        self.clean: dict[object, np.ndarray] = {}
        self.arena = np.full(binding.plan.arena_bytes + GUARD, POISON, np.uint8)
        self.rows = binding.main.rows if binding.main is not None else []
        at = [i for i, row in enumerate(self.rows) if row[0] in (w.CALL, w.CHECK_F32, w.CHECK_F64)]
        self.items = dict(zip(at, _flat(binding.program.schedule.items), strict=True))
        self.blocks = {i: self._block(item) for i, item in self.items.items() if isinstance(item, Launch)}
        self.touched: list[int] = []

    def data(self, b: Buffer) -> np.ndarray:
        """The bytes of a buffer: a copy of the program's, or poison where nobody has written."""
        key, n, planned = memory_key(b), evaluate(b.nbytes, self.binding.dims), b.space == "temp" and not self.guarded
        if key not in self.memory:
            # guards are NaN too, but each buffer's its own: a kernel that copies one guard over another is seen
            guard = np.resize(np.array([POISON, len(self.memory) % POISON, POISON, POISON], np.uint8), n + 2 * GUARD)
            raw = self.arena if planned else guard
            start = self.binding.offsets[b] if planned else GUARD - raw.ctypes.data % 64
            raw[start : start + n] = POISON
            self.memory[key], self.clean[key] = (b, raw, start), guard.copy()
            if b.space == "arg":
                raw[start : start + n] = np.frombuffer(self.args[b.name].tobytes(), np.uint8)
            elif b.space in ("slot", "const", "static"):
                raw[start : start + n] = np.frombuffer(ctypes.string_at(self.binding._address(b), n), np.uint8)
        _, raw, start = self.memory[key]
        return raw[start : start + n]

    def value(self, b: Buffer) -> np.ndarray:
        """The logical array that a buffer holds now."""
        shape = tuple(evaluate(s, self.binding.dims) for s in b.type.shape)
        return b.layout.unpack(self.data(b).view(b.type.dtype.numpy), shape)

    def _block(self, item: Launch) -> np.ndarray:
        words = {
            "size": lambda v: evaluate(v, self.binding.dims),
            "number": lambda v: v[0][1],
            "address": lambda v: self.data(v).ctypes.data,
            "scratch": lambda v: self.binding.scratch(evaluate(v, self.binding.dims) * len(ORDERS[0])),
            "zeros": lambda v: self.binding.zeros(evaluate(v, self.binding.dims)),
        }
        return np.array([words[s.kind](s.value) for s in self.binding.program.kernels[item].printed.slots] or [0], np.int64)

    def run(self, order: Sequence[int], lockstep: bool = False) -> None:
        """Each thread of ``order`` up to the next barrier in turn (or kernel by kernel), until all have come to the end."""
        threads = [self._walk(tid, len(order)) for tid in order]
        ended = False
        while not ended:
            self.touched = []
            steps: list[Any] = [True]
            while lockstep and all(steps):
                steps = [next(t, None) for t in threads]
                if self.guarded and self.touched:
                    self._look_at_guards(self.touched[-1])
            if not lockstep:
                steps = [None if all(t) else False for t in threads]
            ended = None in steps
            self._end_phase(order)

    def _walk(self, tid: int, nthreads: int) -> Iterator[bool]:
        """The driver's walk for one thread, as driver_code has it: True after each kernel, False at each barrier."""
        i, trip, stack = 0, 0, []
        while i < len(self.rows):
            op, at = self.rows[i][0], (self.rows[i] + [0])[1]
            if op == w.CALL:
                self.touched.append(i)
                _KERNEL(at)(_scratch, _scratch, (tid + self.rows[i][3]) % nthreads, nthreads, self.blocks[i].ctypes.data, trip)
                yield True
            elif op == w.BARRIER:
                yield False
            elif op == w.LOOP:
                trips = ctypes.c_int64.from_address(at).value
                if trips <= 0:
                    i = self.rows[i][2]
                else:
                    stack.append([i, trips, trip])
                    trip *= trips
            elif op == w.ENDLOOP:
                stack[-1][1] -= 1
                if stack[-1][1] > 0:
                    trip, i = trip + 1, stack[-1][0]
                else:
                    trip = stack.pop()[2]
            else:
                good = bool(np.isfinite(self.value(self.items[i].buffer)).all())  # type: ignore[union-attr]
                yield False  # the driver's threads meet here, so that all of them see the same value
                if not good:
                    self.stopped = True
                    return
            i += 1

    def _end_phase(self, order: Sequence[int]) -> None:
        """Records (or compares) what was written since the last barrier, and poisons what no later phase reads."""
        here = {i: [self.value(b) for b in self.items[i].writes] for i in sorted(set(self.touched))}  # type: ignore[union-attr]
        wanted = here if self.expect is None else self.expect[len(self.trace)] if len(self.trace) < len(self.expect) else {}
        self.trace.append(here)
        for i in sorted({*here, *wanted}):
            if not (i in here and i in wanted and all(map(_equal, here[i], wanted[i]))):
                raise CompileError(
                    f"GRAPHC_CHECK=schedule: {self._kernel(i)} gives another result when threads run in the order {order}",
                    hint="a barrier is missing around it, or it reads memory that no kernel has written",
                )
        # over are the phases up to the last kernel's, but for one that goes on behind this barrier
        last = max((self.items[i].phase for i in here), default=-1)
        over = min([last + 1, *(x.phase for i, x in self.items.items() if i > max(here, default=i))])
        for p in self.binding.plan.placements:
            if p.dies < over and not self.guarded and self.memory.pop(memory_key(p.buffer), False):
                self.arena[p.offset : p.offset + p.nbytes] = POISON

    def _look_at_guards(self, i: int) -> None:
        for key, (b, raw, start) in self.memory.items():
            wrong = np.flatnonzero(raw != self.clean[key])
            before, behind = wrong < start, wrong >= start + evaluate(b.nbytes, self.binding.dims)
            if before.any() or behind.any():
                side = "before the start" if before.any() else "past the end"
                raise CompileError(f"GRAPHC_CHECK=bounds: {self._kernel(i)} writes {side} of {_name(b)}")

    def _kernel(self, i: int) -> str:
        item = self.items[i]
        assert isinstance(item, Launch)
        return f"kernel {self.binding.program.kernels[item].kernel.name} ({item.nest.kind} {item.nest.name})"
