"""The executables of the targets "cuda-sim" and "cuda": the same kernels, on the simulator and on a GPU."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from graphc.errors import CompileError, ParameterError
from graphc.ir.bind import bind_dims, fit
from graphc.ir.graph import Graph
from graphc.ir.layout import row_major
from graphc.ir.types import TensorType
from graphc.passes.pipeline import Lowered, Settings, lower
from graphc.runtime.exchange import DeviceView
from graphc.runtime.store import ParameterStore
from graphc.schedule.limits import Limits
from graphc.schedule.program import Schedule, schedule_graph

from ..compiled import Compiled
from . import gpu
from .arrays import shared
from .binding import Binding, Mirror
from .parts import in_parts
from .program import Program

__all__ = ["CudaExecutable", "CudaProgram", "CudaSimExecutable"]

LIMITS = Limits(tile=(64, 64), line=0, tiled_folds=False, any_folds=True, free_halves=True)
"""A block makes a tile of a contraction's result, whatever its operands' index maps are; rows lie as they are."""


BINDINGS = 16
"""Bindings that an executable keeps on a GPU."""


class CudaProgram(Compiled):
    """A graph as CUDA kernels. Parameters lie row by row."""

    def __init__(self, graph: Graph, store: ParameterStore | None = None, precision: str = "float32"):
        if store is None and any(i.role != "arg" for i in graph.inputs):
            raise CompileError(f"graph {graph.name} has parameters or state, but there is no store")
        self.graph = graph
        self.store = store
        self._args = [i for i in graph.inputs if i.role == "arg"]
        self._kept = [i for i in graph.inputs if i.role != "arg"]
        fixed = {i.name: row_major(i.node.ndim) for i in self._kept}
        self.lowered: Lowered = lower(graph, Settings(0, fixed, may_choose=False))
        for node in self.lowered.graph.nodes:
            if node.op.kind == "custom":
                raise CompileError(f"an operator without a scalar program runs on the reference only: {node!r}", hint="custom_op(..., scalar=)")
        self.schedule: Schedule = in_parts(schedule_graph(self.lowered.graph, fixed, LIMITS))
        self.program = Program(self.schedule, precision)

    def _fitted(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """The arguments as arrays of their types, and the values of named dims."""
        names = [i.name for i in self._args]
        wrong = sorted(set(inputs) ^ set(names))
        if wrong:
            raise ParameterError(f"{self.graph.name}: arguments are {', '.join(names)}; check {wrong[0]!r}")
        args = {i.name: self._fit(i.name, inputs[i.name], i.node.tensor) for i in self._args}
        return args, bind_dims(Graph(self.graph.name, tuple(self._args), self.graph.outputs), args)

    @staticmethod
    def _fit(name: str, value: Any, spec: TensorType) -> Any:
        return fit(name, value, spec)

    # -- looking ---------------------------------------------------------------------------------------------------------
    def listing(self) -> str:
        """Launches in order."""
        lines = []
        for k in self.kernels:
            axes = " x ".join(str(a.size) for a in k.launch.nest.outer) or "1"
            lines.append(f"{k.kernel.name}  {k.launch.nest.kind:8} [{axes}] a {k.printed.team.name}  {k.launch.nest.name}")
        return "\n".join(lines)


class CudaSimExecutable(CudaProgram):
    """On the simulator. Parameters are copies; updates are written back at the end."""

    target = "cuda-sim"

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs by name. Updates are written, all or none, after the run and only where the checked output is finite."""
        args, dims = self._fitted(inputs)
        with self.store.lock if self.store is not None else nullcontext():
            kept = {i.name: self.store.numpy(i.name) for i in self._kept} if self.store is not None else {}
            memory, finite = self.program.run(dims, {**args, **kept})
            if not finite:
                self.not_finite(args)
            outputs = {name: self.program.result(memory, b, dims) for name, b in self.schedule.outputs}
            if self.store is not None and self.graph.updates:
                slots = {b.name: b for b in self.schedule.buffers.values() if b.space == "slot"}
                # a slot that no kernel touched has no memory, and its value stays
                self.store.write({name: self.program.slot(memory, slots[name], kept) for name, _ in self.graph.updates})
        return outputs


class CudaExecutable(CudaProgram):
    """On a GPU. Parameters and state stay there; what training changed comes back when it is asked for."""

    target = "cuda"

    def __init__(self, graph: Graph, store: ParameterStore | None = None, device: int = 0, precision: str = "float32"):
        self.gpu = gpu.open_gpu(device)  # the error that there is none comes before any work
        super().__init__(graph, store, precision)
        self._bindings: OrderedDict[Any, Binding] = OrderedDict()

    @staticmethod
    def _fit(name: str, value: Any, spec: TensorType) -> Any:
        # what lies on a GPU was compared with the spec where its dtype and shape were read
        return value if isinstance(value, DeviceView) else fit(name, value, spec)

    def fetched(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Arguments with those on the GPU copied to the host."""
        return {k: shared(v, self.gpu).numpy() if isinstance(v, DeviceView) else v for k, v in inputs.items()}

    def __call__(self, inputs: Mapping[str, Any], stay: bool = False) -> dict[str, Any]:
        """The outputs by name, or with ``stay`` :class:`DeviceArray`s of them; state is updated on the GPU unless the checked output is not finite."""
        args, dims = self._fitted(inputs)
        with self.store.lock if self.store is not None else nullcontext(), self.gpu.entered():
            mirror = mirror_of(self.store, self.gpu) if self.store is not None else None
            slots = mirror.addresses([i.name for i in self._kept]) if mirror is not None else {}
            key = (tuple(sorted(dims.items())), tuple(slots.values()))
            binding = self._bindings.get(key)
            if binding is None:
                binding = self._bindings[key] = Binding(self.program, dims, slots, self.gpu)
                while len(self._bindings) > BINDINGS:
                    self._bindings.popitem(last=False)
            self._bindings.move_to_end(key)
            outputs, finite = binding.run(args, mirror.version if mirror is not None else 0, stay)
            if not finite:
                self.not_finite(self.fetched(args))
            if mirror is not None and self.graph.updates:
                mirror.changed([name for name, _ in self.graph.updates])
        return outputs

    def bindings(self) -> list[Binding]:
        """The bindings of this moment, the one that ran last at the end."""
        return list(self._bindings.values())


_mirrors: weakref.WeakKeyDictionary[ParameterStore, dict[int, Mirror]] = weakref.WeakKeyDictionary()


def mirror_of(store: ParameterStore, device: gpu.Gpu) -> Mirror:
    """The values of a store on a GPU, which all executables over it share."""
    return _mirrors.setdefault(store, {}).setdefault(id(device), Mirror(store, device))
