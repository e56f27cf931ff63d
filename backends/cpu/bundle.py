"""Compiled programs in files: objects, launch list, memory and weights, without the graph that they came from.

:func:`pack_program` gives what a program consists of as JSON values and arrays; :class:`PackedProgram` runs it. The latter imports neither
Numba nor llvmlite, nor passes and printers: kernels were linked to one image when the file was written (:mod:`.machine.elf`).
"""

from __future__ import annotations

import platform
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from graphc.errors import CompileError, DeviceUnavailableError, FileFormatError
from graphc.ir.bind import bind_dims
from graphc.ir.dims import Expr, FloorDiv, Size, Sym, atom, evaluate, floordiv
from graphc.ir.dtypes import as_dtype
from graphc.ir.layout import Layout
from graphc.ir.types import TensorType
from graphc.runtime.locks import STORE, held_for_forks
from graphc.runtime.memory import aligned_empty
from graphc.runtime.store import ParameterStore, Slot
from graphc.schedule.launches import Buffer, Check, Launch, Repeat

from .binding import BINDINGS, SMALL, Binding
from .machine.driver_words import LAYOUT
from .machine.elf import link, map_image
from .machine.entry import Quick, entry_text, use_entry
from .machine.loader import cpu_flags
from .machine.pool import default_threads, driver_text, use_driver
from .shares import Reach, Share, Touch
from .slots import Slot as Word

__all__ = ["PackedProgram", "pack_program"]


# -- sizes ---------------------------------------------------------------------------------------------------------------
def _pack_size(size: Size) -> Any:
    if not isinstance(size, Expr):
        return int(size)
    return [[coefficient, [[_pack_atom(a), power] for a, power in term]] for term, coefficient in size.terms]


def _pack_atom(a: Any) -> Any:
    if isinstance(a, Sym):
        return a.name
    if isinstance(a, FloorDiv):
        return [_pack_size(a.num), _pack_size(a.den)]
    raise CompileError(f"a size depends on {a}, which only a running program knows")


def _size(packed: Any) -> Size:
    if isinstance(packed, int):
        return packed
    total: Size = 0
    for coefficient, term in packed:
        value: Size = coefficient
        for a, power in term:
            factor = atom(Sym(a)) if isinstance(a, str) else floordiv(_size(a[0]), _size(a[1]))
            for _ in range(power):
                value = value * factor
        total = total + value
    return total


def _pack_type(t: TensorType) -> Any:
    return [t.dtype.name, [_pack_size(s) for s in t.shape]]


def _type(packed: Any) -> TensorType:
    return TensorType(tuple(_size(s) for s in packed[1]), as_dtype(packed[0]))


def _pack_guard(node: Any) -> Any:
    if node.op.name == "at_least":
        return ["at_least", _pack_size(node.attrs["size"]), _pack_size(node.attrs["least"]), node.attrs["why"]]
    return ["equal", [_pack_size(s) for s in node.inputs[0].shape], [_pack_size(s) for s in node.shape]]


def _guard(packed: Any) -> Any:
    """What :func:`bind_dims` looks at."""
    kind, *rest = packed
    if kind == "at_least":
        return SimpleNamespace(op=SimpleNamespace(name=kind), attrs={"size": _size(rest[0]), "least": _size(rest[1]), "why": rest[2]})
    have, want = (tuple(_size(s) for s in shape) for shape in rest)
    return SimpleNamespace(op=SimpleNamespace(name=kind), inputs=(SimpleNamespace(shape=have),), shape=want)


def _pack_reach(reach: Reach | None, number: Callable[[Buffer], int]) -> Any:
    if reach is None:
        return None
    shares = [[s.axis, _pack_size(s.size), s.block] for s in reach.shares]
    touches = [[number(t.buffer), None if t.at is None else _pack_size(t.at), t.writes] for t in reach.touches]
    return [shares, [[name, _pack_size(size)] for name, size in reach.axes], touches]


def _reach(packed: Any, buffers: Sequence[Buffer]) -> Reach | None:
    if packed is None:
        return None
    shares, axes, touches = packed
    return Reach(
        tuple(Share(axis, _size(size), block) for axis, size, block in shares),
        tuple((name, _size(size)) for name, size in axes),
        tuple(Touch(buffers[b], None if at is None else _size(at), writes) for b, at, writes in touches),
    )


# -- writing -------------------------------------------------------------------------------------------------------------
def pack_program(executable: Any, objects: Callable[[str], tuple[bytes, str]]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(JSON values, arrays) of a CPU executable that updates nothing; ``objects`` gives object and symbol of a kernel's text."""
    from .executable import work_of

    schedule, program = executable.schedule, executable.program
    name, flags = cpu_flags()
    texts = list(dict.fromkeys([driver_text(), entry_text(), *(k.printed.text for k in program.kernels.values())]))
    image = link([objects(t) for t in texts]) if flags else None
    if image is None:
        raise CompileError("bundles can be made on x86 processors under Linux only so far", hint="model.save(path), and compile where it runs")
    arrays = {"code": np.frombuffer(bytes(image.data), np.uint8)}
    buffers: dict[Buffer, int] = {}
    packed: list[Any] = []

    def number(b: Buffer) -> int:
        if b not in buffers:
            buffers[b] = len(packed)
            packed.append([b.space, b.name, _pack_type(b.type), [list(b.layout.perm), b.layout.panel, b.layout.pad]])
            if b.space == "const":
                arrays[f"const/{buffers[b]}"] = np.asarray(b.node.attrs["value"])
        return buffers[b]

    def word(w: Word) -> Any:
        if w.kind == "address":
            return [w.kind, number(w.value)]
        return [w.kind, int(w.value[0][1]) if w.kind == "number" else _pack_size(w.value)]

    def step(i: Launch | Check | Repeat) -> Any:
        if isinstance(i, Repeat):
            return ["repeat", i.barrier, i.phase, _pack_size(i.count), [step(x) for x in i.body]]
        if isinstance(i, Check):
            return ["check", i.barrier, i.phase, number(i.buffer)]
        printed = program.kernels[i].printed
        words = [word(w) for w in printed.slots]
        reach = _pack_reach(program.kernels[i].reach, number)
        return ["launch", i.barrier, i.phase, i.static, texts.index(printed.text), words, [number(b) for b in i.reads], [number(b) for b in i.writes], reach]

    for b in schedule.buffers.values():
        if b.space == "arg":  # all of them, and in this order
            number(b)
    steps = [step(i) for i in schedule.items]
    outputs = [[n, number(b)] for n, b in schedule.outputs]
    work: Size = 0
    for amount in work_of(schedule):
        work = work + amount
    for b in buffers:
        if b.space == "slot":
            arrays[f"value/{b.name}"] = executable.store[b.name].buffer
    data = {
        "layout": LAYOUT,
        "machine": platform.machine(),
        "processor": name,
        "flags": list(flags),
        "name": schedule.graph.name,
        "inputs": [[i.name, _pack_type(i.node.tensor)] for i in executable.graph.inputs if i.role == "arg"],
        "guards": [_pack_guard(node) for node in executable.guards],
        "buffers": packed,
        "steps": steps,
        "outputs": outputs,
        "work": _pack_size(work),
        "entries": image.entries,
        "inside": image.inside,
        "outside": image.outside,
    }
    return data, arrays


# -- running -------------------------------------------------------------------------------------------------------------
def _must_fit(data: Mapping[str, Any], path: str) -> None:
    """Raises where the file's code is for another graphc or another processor."""
    if data["layout"] != LAYOUT:
        raise FileFormatError(
            f"{path}: its program has the form {data['layout']}, this graphc runs the form {LAYOUT}", hint="save it again with the graphc that is to run it"
        )
    lacking = sorted(set(data["flags"]) - set(cpu_flags()[1]))
    if data["machine"] != platform.machine() or lacking:
        here = f"{platform.machine()} ({cpu_flags()[0] or platform.system()})"
        raise DeviceUnavailableError(
            f"{path} holds code for another processor: {data['machine']} ({data['processor']}); this one is {here}",
            notes=(f"it lacks {', '.join(lacking)}",) if data["machine"] == platform.machine() else (),
            hint="save the bundle on a machine like the one that runs it",
        )


class PackedProgram:
    """A program that was packed, over weights of its own. Called with arrays by name, it gives arrays by name."""

    def __init__(self, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: str, threads: int | None = None):
        _must_fit(data, path)
        base, self._code = map_image(arrays["code"].tobytes(), data["inside"], data["outside"])
        if not base:
            raise DeviceUnavailableError(
                "the system lets this process run no code that it has loaded", hint="mprotect(PROT_EXEC) is refused: see SELinux's execmem, or the container's seccomp profile"
            )
        driver, entry, *kernels = (base + at for at in data["entries"])
        self.store = ParameterStore()
        self.name: str = data["name"]
        buffers = [self._buffer(i, packed, arrays) for i, packed in enumerate(data["buffers"])]
        self.kernels: dict[Any, Any] = {}
        items = [self._step(packed, buffers, [driver, entry, *kernels]) for packed in data["steps"]]
        outputs = [(name, buffers[b]) for name, b in data["outputs"]]
        self.schedule = SimpleNamespace(items=items, buffers=dict(enumerate(buffers)), outputs=outputs, graph=SimpleNamespace(name=self.name))
        self.inputs = {name: _type(t) for name, t in data["inputs"]}
        shown = [SimpleNamespace(name=n, role="arg", node=SimpleNamespace(tensor=t, shape=t.shape)) for n, t in self.inputs.items()]
        self._graph: Any = SimpleNamespace(
            inputs=shown, guards=[_guard(g) for g in data["guards"]], provenance=SimpleNamespace(locs=lambda node: ())
        )
        self._work = _size(data["work"])
        self.threads = threads or default_threads()
        self.lock = held_for_forks(threading.RLock(), STORE)
        self._bindings: OrderedDict[Any, Binding] = OrderedDict()
        use_driver(driver, self._code)
        use_entry(entry, self._code)

    def _buffer(self, number: int, packed: Any, arrays: Mapping[str, np.ndarray]) -> Buffer:
        space, name, kind, (perm, panel, pad) = packed
        node: Any = SimpleNamespace(attrs={"value": arrays[f"const/{number}"]} if space == "const" else {})
        buffer = Buffer(node, _type(kind), Layout(tuple(perm), panel, pad), space, name)
        if space == "slot":
            given = arrays[f"value/{name}"]
            values = aligned_empty(given.size, given.dtype, f"{name!r}")
            values[:] = given
            self.store.slots[name] = Slot(name, buffer.type, "param", False, buffer.layout, values, fixed=True)
        return buffer

    def _step(self, packed: Any, buffers: Sequence[Buffer], kernels: Sequence[int]) -> Launch | Check | Repeat:
        kind, barrier, phase, *rest = packed
        if kind == "repeat":
            return Repeat(_size(rest[0]), [self._step(x, buffers, kernels) for x in rest[1]], barrier, phase)
        if kind == "check":
            return Check(buffers[rest[0]], barrier, phase)
        static, kernel, words, reads, writes, reach = rest
        launch = Launch(None, tuple(buffers[b] for b in reads), tuple(buffers[b] for b in writes), barrier, phase, static)  # type: ignore[arg-type]
        slots = [_word(w, buffers) for w in words]
        self.kernels[launch] = SimpleNamespace(printed=SimpleNamespace(slots=slots), kernel=SimpleNamespace(address=kernels[kernel]), reach=_reach(reach, buffers))
        return launch

    def _binding(self, args: Mapping[str, np.ndarray]) -> Binding:
        key = tuple([a.shape for a in args.values()])
        binding = self._bindings.get(key)
        if binding is None:
            dims = bind_dims(self._graph, args)
            binding = Binding(self, dims, self.store, self.threads if evaluate(self._work, dims) > SMALL else 1)
            self._bindings[key] = binding
            while len(self._bindings) > BINDINGS:
                self._bindings.popitem(last=False)
        self._bindings.move_to_end(key)
        return binding

    def __call__(self, args: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name; the arrays are contiguous and of the declared dtypes."""
        with self.lock:
            binding = self._binding(args)
            outs, _ = binding.run(args)
            return {name: outs[i] for name, i in binding.returned}

    def quick(self) -> Quick | None:
        """The last call's program as a function of an array just like the last one, if it is small."""
        with self.lock:
            binding = next(reversed(self._bindings.values()), None)
            return None if binding is None else binding.quick(self.lock)


def _word(packed: Any, buffers: Sequence[Buffer]) -> Word:
    kind, value = packed
    if kind == "address":
        return Word(kind, buffers[value])
    return Word(kind, (("", value),) if kind == "number" else _size(value))
