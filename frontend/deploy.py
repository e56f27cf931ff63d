"""Bundles: a compiled prediction in one file, which runs without a compiler.

A bundle is a file in graphc's one format (:mod:`.files`): written atomically, read with every bound and digest checked. It holds machine
code, so it is a program: load bundles that you would run.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError, FileFormatError, GraphcError
from graphc.ir.dims import symbols
from graphc.ir.types import TensorType
from graphc.locate import boundary, leaving, public

from .arguments import Arguments
from .files import File, write_file
from .specs import Spec
from .tree import tree_map

if TYPE_CHECKING:
    from .function import Function

__all__ = ["Bundle", "load_bundle", "save_bundle"]

PROGRAMS = "graphc.backends.cpu.bundle"
DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError)


def _pack(tree: Any) -> Any:
    """Nested dicts, tuples and lists of texts as JSON values."""
    if isinstance(tree, Mapping):
        return {"dict": [[k, _pack(v)] for k, v in tree.items()]}
    if isinstance(tree, (tuple, list)):
        return {"list" if isinstance(tree, list) else "tuple": [_pack(v) for v in tree]}
    return tree


def _unpack(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, parts),) = tree.items()
    if kind == "dict":
        return {k: _unpack(v) for k, v in parts}
    return [_unpack(v) for v in parts] if kind == "list" else tuple(_unpack(v) for v in parts)


def _named_specs(arguments: Arguments) -> dict[str, Any]:
    """The structure of arguments, with the paths of its specs in their place."""
    paths = iter(arguments.flat)
    return {label: tree_map(lambda _: next(paths), tree) for label, tree in arguments.structure.items()}


def save_bundle(function: Function, path: str | os.PathLike[str]) -> None:
    """Writes the compiled function, its parameters included; see :meth:`Model.save_bundle`."""
    if function.graph.updates:
        raise ArgumentError(f"{function.graph.name} updates state: a bundle only computes", hint="save the bundle of a model's prediction, or of a function without a step")
    program = function.executable
    if not hasattr(program, "packed"):
        raise ArgumentError(f"a bundle needs compiled kernels, and {function.target} has none that a file can hold", hint='gc.compile(..., target="cpu")')
    data, arrays = program.packed()
    data |= {"arguments": _pack(_named_specs(function.arguments)), "output": _pack(function.traced.output)}
    write_file(path, arrays, {"kind": "bundle", "program": json.dumps(data, separators=(",", ":"))})


class Bundle:
    """A loaded bundle: arrays in, arrays out, for any size of a named dim."""

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None):
        file = File(path)
        if file.meta.get("kind") != "bundle":
            raise FileFormatError(f"{file.path} is a file of graphc, but no bundle", hint="model.load(path); a bundle is what model.save_bundle(path) writes")
        data, arrays = file.json("program"), file.tensors()
        try:
            # by name: the frontend does not depend on backends
            self._program = importlib.import_module(PROGRAMS).PackedProgram(data, arrays, file.path, threads)
            inputs: dict[str, TensorType] = self._program.inputs
            self.arguments = Arguments({k: tree_map(lambda name: Spec(inputs[name]), v) for k, v in _unpack(data["arguments"]).items()})
            self._output = _unpack(data["output"])
        except GraphcError:
            raise
        except DAMAGED as e:
            raise FileFormatError(f"{file.path}: damaged program: {e!r:.200}", hint="the file was changed") from None
        self.path, self.name = file.path, str(data["name"])
        self.dims = sorted({d for t in inputs.values() for s in t.shape for d in symbols(s)})
        self._quick: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs for arguments in order or by name, as the compiled function takes them."""
        try:  # a boundary written out: a wrapper would cost a call
            if self._quick is not None and len(args) == 1 and not kwargs and (out := self._quick(args[0])) is not None:
                return out
            outputs = self._program(self.arguments.bind(args, kwargs))
            if isinstance(self._output, str) and len(self.arguments.flat) == 1:
                self._quick = self._program.quick()
            return tree_map(outputs.__getitem__, self._output)
        except Exception as e:
            leaving(e)
            raise

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """The output for ``x``: an array; a tuple, or a dict by name, of all inputs where there are several. ``batch_size`` cuts the rows in pieces,
        for less memory."""
        try:
            names = list(self.arguments.structure)
            if isinstance(x, Mapping) and len(names) > 1:
                args, named = (), dict(x)
            else:
                args, named = (tuple(x) if len(names) > 1 and isinstance(x, (tuple, list)) else (x,)), {}
            if batch_size is None:
                return self(*args, **named)
            return self._in_pieces(args, named, batch_size)
        except Exception as e:
            leaving(e)
            raise

    def _in_pieces(self, args: tuple[Any, ...], named: Mapping[str, Any], batch_size: int) -> Any:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(f"batch_size = {batch_size!r}", hint="a number of rows, 1 or more")
        given = self.arguments.bind(args, named)
        rows = max((len(a) for a in given.values() if a.ndim), default=0)
        pieces = [{n: a[i : i + batch_size] for n, a in given.items()} for i in range(0, max(rows, 1), batch_size)]
        parts = [self._program({n: np.ascontiguousarray(a) for n, a in p.items()}) for p in pieces]
        return tree_map({k: np.concatenate([p[k] for p in parts]) for k in parts[0]}.__getitem__, self._output)

    def __repr__(self) -> str:
        return f"<Bundle {self.name}{self.arguments} of {self.path}>"


@boundary
def load_bundle(path: str | os.PathLike[str], threads: int | None = None) -> Bundle:
    """The bundle of a file: ``load_bundle(path).predict(x)``. Neither Numba nor llvmlite is imported, and nothing is compiled.

    ``threads`` are the threads of large calls (all there are, if None). Raises :class:`FileFormatError` for a damaged or foreign file and
    for one of another graphc, :class:`DeviceUnavailableError` where it holds code for another processor.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ArgumentError(f"threads = {threads!r}", hint="a whole number of 1 or more")
    return Bundle(path, threads)


public(globals())
