"""Compiled programs in files: objects, launch list, memory and weights, without the graph that they came from.

:func:`pack_program` gives what a program consists of as JSON values and arrays; :class:`PackedProgram` runs it. The latter imports neither
Numba nor llvmlite, nor passes and printers: kernels were linked to one image when the file was written (:mod:`.machine.elf`).
"""

from __future__ import annotations

import platform
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from graphc.errors import CompileError, DeviceUnavailableError, FileFormatError
from graphc.ir.bind import bind_dims
from graphc.ir.dims import evaluate
from graphc.runtime.locks import STORE, held_for_forks
from graphc.runtime.memory import aligned_empty
from graphc.runtime.store import ParameterStore, Slot
from graphc.schedule.launches import Buffer

from .binding import BINDINGS, Binding
from .machine.driver_words import LAYOUT
from .machine.elf import link, map_image
from .machine.entry import Quick, entry_text, use_entry
from .machine.loader import cpu_flags
from .machine.pool import default_threads, driver_text, small_work, use_driver
from .packing import LoadedProgram, pack, pack_size, pack_type, unpack_size, unpack_type

__all__ = ["PackedProgram", "pack_program"]


# -- guards -----------------------------------------------------------------------------------------------------------
def _pack_guard(node: Any) -> Any:
    if node.op.name == "at_least":
        return ["at_least", pack_size(node.attrs["size"]), pack_size(node.attrs["least"]), node.attrs["why"]]
    return ["equal", [pack_size(s) for s in node.inputs[0].shape], [pack_size(s) for s in node.shape]]


def _guard(packed: Any) -> Any:
    """What :func:`bind_dims` looks at."""
    kind, *rest = packed
    if kind == "at_least":
        return SimpleNamespace(op=SimpleNamespace(name=kind), attrs={"size": unpack_size(rest[0]), "least": unpack_size(rest[1]), "why": rest[2]})
    have, want = (tuple(unpack_size(s) for s in shape) for shape in rest)
    return SimpleNamespace(op=SimpleNamespace(name=kind), inputs=(SimpleNamespace(shape=have),), shape=want)


# -- writing -------------------------------------------------------------------------------------------------------------
def pack_program(executable: Any, objects: Callable[[str], tuple[bytes, str]]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(JSON values, arrays) of a CPU executable that updates nothing; ``objects`` gives object and symbol of a kernel's text."""
    name, flags = cpu_flags()
    texts = list(dict.fromkeys([driver_text(), entry_text(), *(k.printed.text for k in executable.kernels)]))
    image = link([objects(t) for t in texts]) if flags else None
    if image is None:
        raise CompileError("bundles can be made on x86 processors under Linux only so far", hint="model.save(path), and compile where it runs")
    data, arrays = pack(executable.program, lambda made: texts.index(made.printed.text))
    arrays["code"] = np.frombuffer(bytes(image.data), np.uint8)
    for space, slot, *_ in data["buffers"]:
        if space == "slot":
            arrays[f"value/{slot}"] = executable.store[slot].buffer
    data |= {
        "layout": LAYOUT,
        "machine": platform.machine(),
        "processor": name,
        "flags": list(flags),
        "inputs": [[i.name, pack_type(i.node.tensor)] for i in executable.graph.inputs if i.role == "arg"],
        "guards": [_pack_guard(node) for node in executable.guards],
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
        kernels = [SimpleNamespace(address=base + at) for at in data["entries"]]
        self._program = LoadedProgram(data, arrays, kernels)
        self.store = ParameterStore()
        for buffer in self._program.buffers:
            if buffer.space == "slot":
                self._fill(buffer, arrays[f"value/{buffer.name}"])
        self.name: str = data["name"]
        self.inputs = {name: unpack_type(t) for name, t in data["inputs"]}
        shown = [SimpleNamespace(name=n, role="arg", node=SimpleNamespace(tensor=t, shape=t.shape)) for n, t in self.inputs.items()]
        self._graph: Any = SimpleNamespace(
            inputs=shown, guards=[_guard(g) for g in data["guards"]], provenance=SimpleNamespace(locs=lambda node: ())
        )
        self.threads = threads or default_threads()
        self.lock = held_for_forks(threading.RLock(), STORE)
        self._bindings: OrderedDict[Any, Binding] = OrderedDict()
        use_driver(kernels[0].address, self._code)
        use_entry(kernels[1].address, self._code)

    def _fill(self, buffer: Buffer, given: np.ndarray) -> None:
        values = aligned_empty(given.size, given.dtype, f"{buffer.name!r}")
        values[:] = given
        self.store.slots[buffer.name] = Slot(buffer.name, buffer.type, "param", False, buffer.layout, values, fixed=True)

    def _binding(self, args: Mapping[str, np.ndarray]) -> Binding:
        key = tuple([a.shape for a in args.values()])
        binding = self._bindings.get(key)
        if binding is None:
            dims = bind_dims(self._graph, args)
            binding = Binding(self._program, dims, self.store, self.threads if evaluate(self._program.work, dims) > small_work() else 1)
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
