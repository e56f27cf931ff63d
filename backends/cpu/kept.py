"""Whole programs in the kernel cache: for a graph that was compiled before neither passes nor printers run.

A key is the SHA-256 of the traced graph (:mod:`graphc.ir.digest`), of the layouts in which its parameters are stored, of what the processor
and ``gc.tune`` say (:class:`.machine_facts.Facts`), of the threads, and of the sources of everything between graph and kernel; the last is in no
kernel's key, because texts are. ``p_<hash>.program`` holds a program as :mod:`.packing` packs it, with the keys of its kernels, which lie
beside it, and memory plan and barriers for the first sizes that it was used with. A file that is damaged or foreign, or whose kernels
are not all there, is made again.

``GRAPHC_PROGRAMS=off`` compiles every program by passes and printers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import graphc
from graphc.errors import CompileError, SettingError
from graphc.ir.digest import graph_digest
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Graph
from graphc.ir.layout import Layout

from .machine.cache import default_cache, environment_key, key_of, unsealed
from .machine.pool import driver_text
from .machine_facts import Facts
from .meetings import Places
from .packing import LoadedProgram, pack, pack_layout, pack_places, unpack_layout, unpack_places

if TYPE_CHECKING:
    from .program import Program

__all__ = ["Entry", "describe", "enabled", "keep_program", "load_program", "program_key", "unkept"]

CORE = ("ir", "loops", "ops", "passes", "runtime", "schedule")
"""Packages of the core whose code is between a traced graph and its kernels."""
SIZES = 8
"""Values of named dims for which a program's file keeps what was decided."""
LARGEST = 64 << 20
"""Bytes of constants up to which a program is kept."""
DAMAGED = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError)


def enabled() -> bool:
    """Whether programs are kept and looked for."""
    given = os.environ.get("GRAPHC_PROGRAMS", "")
    if given not in ("", "off"):
        raise SettingError(f"GRAPHC_PROGRAMS={given!r} is not known", hint="off, or nothing to keep programs in the kernel cache")
    return not given


@cache
def code_key() -> str:
    """What a program depends on besides its graph and settings."""
    h = hashlib.sha256(f"{environment_key()} {np.__version__}".encode())  # NumPy folds constants
    core, here = Path(graphc.__file__).parent, Path(__file__).parent
    for folder in (*(core / name for name in CORE), here):
        for path in sorted(folder.rglob("*.py")):
            h.update(f"{folder.name}/{path.relative_to(folder)}\n".encode())
            h.update(path.read_bytes())
    return h.hexdigest()


def program_key(graph: Graph, stored: Mapping[str, tuple[Layout, bool]], facts: Facts, threads: int) -> str:
    """The key of a program; ``stored`` has layout of each parameter and whether it is fixed. Raises :class:`CompileError` for a graph without one."""
    layouts = [(name, layout.structural_key, fixed) for name, (layout, fixed) in stored.items()]
    said = (code_key(), graph_digest(graph), layouts, facts.width, sorted(facts.walks.items()), threads)
    return hashlib.sha256(repr(said).encode()).hexdigest()


class Entry:
    """A program in the cache. ``described`` tells all of it but its constants, and ``places`` what was decided for some sizes."""

    def __init__(self, key: str, name: str, described: bytes, places: dict[str, Any], constants: bytes):
        self.key, self.name, self.described, self.places, self.constants = key, name, described, places, constants

    def write(self) -> None:
        """Keeps it, if that is possible."""
        places = json.dumps(self.places, separators=(",", ":")).encode()
        default_cache().keep_program(self.key, self.name, b"\n".join([self.described, places, self.constants]))

    def places_for(self, program: Any, dims: Mapping[str, int], threads: int) -> Places | None:
        """What was decided for sizes, for a program with this description."""
        packed = self.places.get(_sizes(dims, threads))
        return None if packed is None else unpack_places(program, packed)

    def add(self, program: Any, dims: Mapping[str, int], threads: int, places: Places) -> None:
        """Keeps what was decided for sizes beside the program, for the first sizes that it is used with."""
        if len(self.places) < SIZES:
            self.places[_sizes(dims, threads)] = pack_places(program, places)
            self.write()


def _sizes(dims: Mapping[str, int], threads: int) -> str:
    return f"{sorted(dims.items())} {threads}"


def load_program(key: str, name: str) -> tuple[Entry, LoadedProgram, dict[str, Layout]] | None:
    """The program of a key and the layouts that its passes chose for parameters, if it and its kernels are whole."""
    kernels = default_cache()
    path = kernels.there(kernels.program_path(key))
    code = unsealed(path, key)
    why = "its entry was damaged or foreign" if path.exists() else "new"
    if code is not None:
        try:
            head, places, raw = code.data.split(b"\n", 2)
            data = json.loads(head)
            found = kernels.find([*data["kernels"], key_of(driver_text())])
            if found is not None:
                made = LoadedProgram(data, _arrays(data["arrays"], raw), found)
                layouts = {n: unpack_layout(packed) for n, packed in data["layouts"].items()}
                kernels.programs.append((name, "loaded"))
                return Entry(key, name, head, dict(json.loads(places)), raw), made, layouts
            why = "a kernel of its entry was not there"
        except DAMAGED:
            pass
    kernels.programs.append((name, why))
    return None


def keep_program(key: str, program: Program, layouts: Mapping[str, Layout]) -> Entry | None:
    """Keeps a program that was compiled; None for one that cannot be kept."""
    name = program.schedule.graph.name
    try:
        described, arrays = describe(program, layouts)
    except CompileError as e:  # a size that no file can hold
        unkept(name, e.message, again=True)
        return None
    nbytes = sum(a.nbytes for a in arrays)
    if nbytes > LARGEST:
        unkept(name, f"its constants take {nbytes / 2**20:.1f} MB", again=True)
        return None
    made = Entry(key, name, described, {}, b"".join(a.tobytes() for a in arrays))
    made.write()
    return made


def unkept(name: str, why: str, again: bool = False) -> None:
    """Remembers why a program is not in the cache; ``again`` where it was looked for before."""
    programs = default_cache().programs
    if again and programs and programs[-1][0] == name:
        programs.pop()
    programs.append((name, f"not kept: {why}"))


def describe(program: Program, layouts: Mapping[str, Layout]) -> tuple[bytes, list[np.ndarray]]:
    """All that a file says of a program as one line, and its constants: equal exactly for equal programs."""
    number: dict[str, int] = {}
    data, arrays = pack(program, lambda made: number.setdefault(made.kernel.key, len(number)))
    data["kernels"] = list(number)
    data["layouts"] = {name: pack_layout(layout) for name, layout in layouts.items()}
    data["arrays"] = [[name, as_dtype(a.dtype).name, a.shape] for name, a in arrays.items()]
    return json.dumps(data, separators=(",", ":")).encode(), list(arrays.values())


def _arrays(described: Any, raw: bytes) -> dict[str, np.ndarray]:
    out, at = {}, 0
    for name, dtype, shape in described:
        kind = as_dtype(dtype).numpy
        count = int(np.prod(shape, dtype=np.int64))
        out[name] = np.frombuffer(raw, kind, count, at).reshape(shape)
        at += count * kind.itemsize
    return out
