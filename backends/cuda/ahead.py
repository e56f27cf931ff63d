"""Machine code for GPUs that are elsewhere: ``graphc warm --arch`` compiles every kernel of the target "cuda" and runs none.

The kernels lie where the cache keeps them (``GRAPHC_CACHE/cuda``, or the folder of ``-o``) and under the same names; beside them an index for each
architecture says by which versions of the compiler they were made. A machine without a compiler finds them by it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import graphc
from graphc.errors import DeviceUnavailableError, FileAccessError, FilePermissionError
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore
from graphc.runtime.warming import warm_architectures

from .executable import CudaProgram
from .toolchain import (
    INDEX,
    INSTALL,
    Index,
    check_architecture,
    compile_kernel,
    cubin_folder,
    device_functions,
    kernel_key,
    kernel_path,
    read_index,
    toolchain_missing,
    toolchain_words,
    write_file,
)

__all__ = ["AheadExecutable", "Made", "begin"]


@dataclass
class Made:
    """What this process has compiled ahead of time."""

    folder: Path
    programs: list[str] = field(default_factory=list)
    kernels: set[str] = field(default_factory=set)
    compiled: int = 0
    there: int = 0
    seconds: float = 0.0


_made: dict[Path, Made] = {}


def begin() -> Made:
    """What will be compiled from now on. Raises where it could not be: an unknown architecture, no compiler, a folder that cannot be written."""
    for arch in warm_architectures():
        check_architecture(arch)
    if missing := toolchain_missing():
        raise DeviceUnavailableError(f"kernels cannot be compiled: {missing} is not installed", hint=INSTALL)
    folder = cubin_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise FilePermissionError(f"{folder} cannot be written")
    return _made.setdefault(folder, Made(folder))


class AheadExecutable(CudaProgram):
    """A graph whose kernels were compiled for other machines. Calling it checks the arguments and gives zeros: nothing runs."""

    target = "cuda"

    def __init__(self, graph: Graph, store: ParameterStore | None = None, precision: str = "float32"):
        made, archs, words = begin(), warm_architectures(), toolchain_words()
        super().__init__(graph, store, precision)
        start = time.perf_counter()
        keys: dict[str, dict[str, str]] = {arch: {} for arch in archs}
        for k in {k.kernel.name: k for k in self.kernels}.values():
            for arch in archs:  # what Numba makes of a text serves all of them
                key = kernel_key(k.printed, arch, words)
                if k.kernel.name not in made.kernels:
                    there = kernel_path(made.folder, arch, key).exists()
                    made.there, made.compiled = made.there + there, made.compiled + (not there)
                compile_kernel(k.printed, arch)
                if not kernel_path(made.folder, arch, key).exists():
                    raise FileAccessError(f"{made.folder} cannot be written: its machine code would be missing where it is needed")
                keys[arch][key] = f"{k.kernel.name} {k.launch.nest.name}"
            made.kernels.add(k.kernel.name)
        for arch in archs:
            _note(made.folder, arch, keys[arch], graph.name)
        made.programs.append(graph.name)
        made.seconds += time.perf_counter() - start

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Zeros of the shapes and types that the outputs have."""
        _, dims = self._fitted(inputs)
        return {name: np.zeros(tuple(evaluate(s, dims) for s in b.type.shape), b.type.dtype.numpy) for name, b in self.schedule.outputs}


def _note(root: Path, arch: str, kernels: Mapping[str, str], program: str) -> None:
    """Adds a program's kernels to the index of an architecture; one of another toolchain or graphc is replaced."""
    words, device = toolchain_words(), device_functions()
    known = read_index(root, arch)
    if known is None or (known.words, known.device, known.graphc) != (words, device, graphc.__version__):
        known = Index(words, device, graphc.__version__, {}, [])
    known.kernels.update(kernels)
    known.programs = list(dict.fromkeys([*known.programs, program]))
    write_file(root / arch / INDEX, json.dumps(asdict(known), indent=1).encode())
