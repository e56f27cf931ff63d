"""The CPU executable: checks arguments, finds or makes the binding, runs, and keeps the books of state."""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import CompileError, ParameterError, SettingError
from graphc.ir.bind import bind_dims, fit
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.layout import Layout
from graphc.ir.node import Node
from graphc.runtime.locks import STORE, held_for_forks
from graphc.runtime.store import ParameterStore

from ..compiled import Compiled
from .binding import BINDINGS, Binding
from .kept import describe, enabled, keep_program, load_program, program_key, unkept
from .machine.cache import default_cache
from .machine.entry import Quick
from .machine.pool import default_threads, small_work
from .machine_facts import Facts, host_facts
from .making import Making
from .measured_walks import measured_walks
from .packing import LoadedProgram
from .profiler import EXECUTABLES, measure_too, measuring
from .slots import working_bytes

if TYPE_CHECKING:  # passes and printers are read when they run: a program from the cache has no use for them
    from graphc.passes.pipeline import Lowered
    from graphc.schedule.launches import Schedule

    from .program import Program

__all__ = ["CpuExecutable"]

CLEAR = "graphc cache clear; this is a defect of graphc, unless its files were changed while it ran"
"""What to do about a program that is not what was kept."""
LARGE = 100
"""Nodes of a graph whose passes take long enough for workers to start meanwhile."""


class CpuExecutable(Compiled):
    """A graph compiled to kernels. Compilation happens when it is made; a new value of a named dim compiles nothing."""

    target = "cpu"

    def __init__(
        self,
        graph: Graph,
        store: ParameterStore | None,
        *,
        threads: int | None = None,
        width: int | None = None,
        progress: Any = None,
        walks: Mapping[str, str] | None = None,
    ):
        if store is None and any(i.role != "arg" for i in graph.inputs):
            raise CompileError(f"graph {graph.name} has parameters or state, but there is no store")
        self.graph = graph
        self.store = store
        self.threads = threads or default_threads()
        self.facts: Facts = host_facts(width, measured_walks(self.threads) if walks is None else walks)
        self.progress = progress
        self.check = os.environ.get("GRAPHC_CHECK", "")
        if self.check not in ("", "schedule", "bounds"):
            raise SettingError(f"GRAPHC_CHECK={self.check!r} is not known", hint="schedule or bounds")
        self.lock = store.lock if store is not None else held_for_forks(threading.RLock(), STORE)
        self._bindings: OrderedDict[Any, Binding] = OrderedDict()
        self._args = [i for i in graph.inputs if i.role == "arg"]
        self._names = {i.name for i in self._args}
        self._specs = [(i.name, i.node.tensor, i.node.dtype.numpy) for i in self._args]
        self._layout_key: Any = None
        self._compile()
        EXECUTABLES.add(self)

    # -- compiling -------------------------------------------------------------------------------------------------------
    def _compile(self) -> None:
        trains = bool(self.graph.updates)
        slots = self.store.slots if self.store is not None else {}
        names = [i.name for i in self.graph.inputs if i.role != "arg"]
        stored = {n: (slots[n].layout, slots[n].fixed) for n in names}
        fixed = {n: layout for n, (layout, chosen) in stored.items() if chosen or not (trains and layout.is_row_major)}
        self._making = making = Making(self.graph, {n: layout for n, (layout, _) in stored.items()}, fixed, trains, self.facts, self.progress)
        key = self._key(stored)
        found = load_program(key, self.graph.name) if key else None
        if found is None and len(self.graph.nodes) >= LARGE:
            default_cache().expect(f"{self.graph.name} {self.facts} {self._layouts()} {' '.join(n.op.name for n in self.graph.nodes)}")
        layouts = making.layouts if found is None else found[2]
        if trains and self.store is not None:
            for n in names:
                self.store.relayout(n, layouts[n])
                self.store.slots[n].fixed = True
        self._layout_key = None if self.store is None else tuple(layouts[n] for n in names)  # another thread may change them before this one is done
        self._runs: Program | LoadedProgram = making.program if found is None else found[1]
        self._entry = found[0] if found is not None else keep_program(key, making.program, layouts) if key else None
        self._bindings.clear()

    def _key(self, stored: Mapping[str, tuple[Layout, bool]]) -> str:
        """The key of the program in the cache; "" for one that is not kept."""
        if self.check or not enabled():
            return ""
        try:
            return program_key(self.graph, stored, self.facts, self.threads)
        except CompileError as e:
            unkept(self.graph.name, e.message)
            return ""

    def whole(self) -> Making:
        """The program with everything that can be looked at. One that came from the cache goes through passes and printers now, and the
        result must be what was loaded."""
        with self.lock:
            making, loaded = self._making, self._runs
            if isinstance(loaded, LoadedProgram):
                program = making.program
                if self._entry is not None and describe(program, making.layouts)[0] == self._entry.described:
                    for binding in self._bindings.values():
                        binding.program = program
                else:
                    warnings.warn(f"the program {self.graph.name} of the kernel cache is not what is compiled now, which is taken: {CLEAR}", stacklevel=3)
                    self._bindings.clear()
                    self._entry = None
                self._runs = program
            return making

    @property
    def lowered(self) -> Lowered:  # type: ignore[override]
        return self.whole().lowered

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        return self.whole().schedule

    @property
    def program(self) -> Program:
        return self.whole().program

    def _layouts(self) -> Any:
        if self.store is None:
            return None
        return tuple(self.store[i.name].layout for i in self.graph.inputs if i.role != "arg")

    def _binding(self, args: Mapping[str, np.ndarray]) -> Binding:
        key = tuple([a.shape for a in args.values()])
        binding = self._bindings.get(key)
        if binding is not None and (self.store is None or binding.epoch == self.store.epoch):
            self._bindings.move_to_end(key)
            return binding
        if self._layouts() != self._layout_key:
            self._compile()  # another executable over the same store has chosen storage layouts since
        dims = bind_dims(self._arg_graph, args)
        if measuring():
            self.whole()
        threads, entry = self.thread_count(dims), self._entry
        places = None if entry is None else entry.places_for(self._runs, dims, threads)
        binding = Binding(self._runs, dims, self.store, threads, places)
        if entry is not None and places is None:
            entry.add(self._runs, dims, threads, binding.places)
        measure_too(binding, self.lock)
        self._bindings[key] = binding
        while len(self._bindings) > BINDINGS:
            self._bindings.popitem(last=False)
        return binding

    @cached_property
    def _arg_graph(self) -> Graph:
        """The graph with its arguments alone as inputs: what sizes are solved from."""
        return Graph(self.graph.name, tuple(self._args), self.graph.outputs, provenance=self.graph.provenance)

    @property
    def guards(self) -> list[Node]:
        """What the graph asks of the sizes that it is called with."""
        return self._arg_graph.guards

    def packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The program as JSON values and arrays, for a file that runs without a compiler; see :mod:`.bundle`."""
        from .bundle import pack_program

        def compiled(text: str) -> tuple[bytes, str]:
            code = default_cache().object_of(text)
            return code.data, code.symbol

        with self.lock:
            if self._layouts() != self._layout_key:
                self._compile()
            return pack_program(self, compiled)

    def thread_count(self, dims: Mapping[str, int]) -> int:
        """One thread where the work is too small to pay for meeting others."""
        return self.threads if evaluate(self._runs.work, dims) > small_work() else 1

    def working_bytes(self, dims: Mapping[str, int]) -> int:
        """See :meth:`Lowering.working_bytes`."""
        return working_bytes((s for k in self.kernels for s in k.printed.slots), dims, self.thread_count(dims))

    def bindings(self) -> list[Binding]:
        """The bindings of this moment, of a program that can be looked at; to be asked for with the lock."""
        self.whole()
        return list(self._bindings.values())

    # -- running ---------------------------------------------------------------------------------------------------------
    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs by name; state is updated unless the guarded output is not finite."""
        if inputs.keys() != self._names:
            given = [i.name for i in self._args]
            unknown = sorted(set(inputs) - set(given)) or sorted(set(given) - set(inputs))
            raise ParameterError(f"{self.graph.name}: arguments are {', '.join(given)}; check {unknown[0]!r}")
        args = {}
        for name, spec, dtype in self._specs:
            a = inputs[name]
            if type(a) is not np.ndarray or a.dtype != dtype or not a.flags.c_contiguous or a.ndim != spec.rank:
                a = np.ascontiguousarray(fit(name, a, spec)).reshape(np.shape(a))  # ascontiguousarray makes scalars 1-D
            args[name] = a
        with self.lock:
            return self._run(args)

    def _run(self, args: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.check and isinstance(self._runs, LoadedProgram):  # a check looks at nests; it may be asked for at any time
            self.whole()
            self._bindings.clear()
        binding = self._binding(args)
        if self.graph.updates and self.store is not None:
            self.store.version += 1  # before the run: an interrupt may come right behind it
        if self.check:
            from .check import checked_run

            outs, status = checked_run(binding, args, self.check)
        else:
            outs, status = binding.run(args)
        if status:
            self.not_finite(args)
        return {name: outs[i] for name, i in binding.returned}

    def quick(self) -> Quick | None:
        """The last run's program as a function of an array just like the last one (see :mod:`.machine.entry`), if it is small."""
        with self.lock:
            binding = next(reversed(self._bindings.values()), None)
            return None if binding is None or self.check or self.graph.updates else binding.quick(self.lock)
