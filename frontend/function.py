"""A traced computation and its executable, called with arrays."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.compiler import compile_graph, find_backend
from graphc.errors import ArgumentError, NonFiniteError
from graphc.ir.graph import Graph
from graphc.locate import boundary, leaving
from graphc.runtime.exchange import DeviceView
from graphc.runtime.locks import FUNCTION, held_for_forks

from .arguments import Arguments
from .deploy import save_bundle
from .diagnose import explain_nonfinite
from .trace import Traced
from .tree import tree_map

if TYPE_CHECKING:
    from graphc.inspect.measured import Profile

__all__ = ["Function", "not_sendable"]


def not_sendable(what: str) -> ArgumentError:
    """The error of a pickle or a deep copy."""
    hint = "compile it in the process that uses it (a pool's initializer=), with the values of model.save(path); or fork after compiling"
    return ArgumentError(f"{what} holds addresses and locks: it cannot be pickled, copied or sent to another process", hint=hint)


class Function:
    """Arrays in, arrays out: one graph, compiled for one target at the first call.

    Outputs have the structure that the traced function returned. ``graph`` and ``executable`` show what runs.
    """

    def __init__(self, traced: Traced, target: str, options: Mapping[str, Any] | None = None):
        self.traced, self.target, self.options = traced, target, dict(options or {})
        self.arguments = Arguments(traced.specs, getattr(find_backend(target, {}), "device_arrays", False))
        self._executable: Any = None
        self._quick: Any = None
        self._lock = held_for_forks(threading.RLock(), FUNCTION)

    @property
    def graph(self) -> Graph:
        """The graph as it was traced."""
        return self.traced.graph

    @property
    def store(self) -> Any:
        """The store of the parameters and state that it uses (None where there are none)."""
        return self.traced.store

    @property
    def executable(self) -> Any:
        """The compiled program; compiling happens here, once."""
        if self._executable is None:
            with self._lock:
                if self._executable is None:
                    self._executable = compile_graph(self.graph, self.target, self.store, **self.options)
        return self._executable

    @property
    def compiled(self) -> bool:
        """Whether it is compiled already."""
        return self._executable is not None

    def renew(self) -> None:
        """Forgets the compiled program; the next call compiles it as it would be compiled now."""
        with self._lock:
            self._executable = self._quick = None

    def run(self, inputs: dict[str, Any], stay: bool = False) -> dict[str, Any]:
        """Runs on arrays that are already checked; with ``stay``, results are where the inputs are: on a GPU, if one of them is.

        Raises :class:`NonFiniteError` with the first operator that failed.
        """
        device = self.arguments.device and any(isinstance(a, DeviceView) for a in inputs.values())
        try:
            return self.executable(inputs, stay=True) if stay and device else self.executable(inputs)  # type: ignore[no-any-return]
        except NonFiniteError:
            raise explain_nonfinite(self.graph, self.store, self.executable.fetched(inputs) if device else inputs) from None

    def quick(self) -> Callable[[Any], Any] | None:
        """The last call's program as a function of an array just like the last one; it gives None for any other, and where
        something has changed. None where the program has more arguments or results, or is large."""
        made = getattr(self.executable, "quick", None)
        return made() if made is not None and isinstance(self.traced.output, str) and len(self.arguments.flat) == 1 else None

    def restore(self, outputs: Mapping[str, np.ndarray]) -> Any:
        """Outputs by name in the structure that the function returned."""
        return tree_map(outputs.__getitem__, self.traced.output)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:  # a boundary written out: a wrapper would cost a call
            if self._quick is not None and len(args) == 1 and not kwargs and (out := self._quick(args[0])) is not None:
                return out
            out = self.restore(self.run(self.arguments.bind(args, kwargs), stay=True))
            self._quick = self.quick()
            return out
        except Exception as e:
            leaving(e)
            raise

    @boundary
    def memory_analysis(self, dims: Mapping[str, int] | None = None) -> Any:
        """Bytes that a run needs, before the first one."""
        return self._planned("memory_analysis", dims)

    @boundary
    def cost_analysis(self, dims: Mapping[str, int] | None = None) -> Any:
        """Operations and bytes of a run, before the first one."""
        return self._planned("cost_analysis", dims)

    def _planned(self, what: str, dims: Mapping[str, int] | None) -> Any:
        if not hasattr(self.executable, what):
            raise ArgumentError(f"{self.target} makes no plan: it runs operator by operator", hint='target="cpu"')
        return getattr(self.executable, what)(dims)

    @boundary
    def report(self, path: str | os.PathLike[str], profile: Profile | Mapping[str, Any] | None = None) -> None:
        """Writes one HTML file that shows what became of the function: see :meth:`Model.report`."""
        from graphc.inspect.html import write_report
        from graphc.inspect.profile import records_of

        name, programs = self.graph.name, {self.graph.name: self.executable}
        given = {name: profile} if isinstance(profile, Mapping) else profile
        write_report(path, programs, name, profiles=records_of(given, programs))

    @boundary
    def save_bundle(self, path: str | os.PathLike[str]) -> None:
        """Writes the compiled function with its parameters to one file; :func:`graphc.load_bundle` gives it back, without a compiler."""
        save_bundle(self, path)

    @boundary
    def explain_fusion(self, a: Any, b: Any) -> str:
        """One sentence: why two operators share a kernel, or do not."""
        program = self.executable
        if not hasattr(program, "explain_fusion"):
            return f"on {self.target} every operator runs by itself: nothing is fused"
        return str(program.explain_fusion(a, b))

    def __reduce__(self) -> Any:
        raise not_sendable(f"the compiled {self.graph.name}")

    def __repr__(self) -> str:
        return f"<compiled {self.graph.name}{self.arguments} for {self.target}>"
