"""Whole programs in the kernel cache: for a graph that was compiled before neither passes nor printers run.

A key is the SHA-256 of the traced graph (:mod:`graphc.ir.digest`), of the layouts in which its parameters are stored, of what the processor
and ``gc.tune`` say (:class:`.machine_facts.Facts`), of the threads, and of the sources of everything between graph and kernel; the last is in no
kernel's key, because texts are. ``p_<hash>.program`` holds a program as :mod:`.packing` packs it, with the keys of its kernels, which lie
beside it. A file that is damaged or foreign, or whose kernels are not all there, is made again.

``GRAPHC_PROGRAMS=off`` compiles every program by passes and printers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
from .packing import LoadedProgram, pack, pack_layout, unpack_layout
from .program import Program

__all__ = ["Kept", "describe", "enabled", "keep_program", "load_program", "program_key", "unkept"]

CORE = ("ir", "loops", "ops", "passes", "runtime", "schedule")
"""Packages of the core whose code is between a traced graph and its kernels."""
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
    h = hashlib.sha256(environment_key().encode())
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


@dataclass(frozen=True)
class Kept:
    """A program from the cache: what runs, the layouts that its passes chose for parameters, and its description."""

    program: LoadedProgram
    layouts: dict[str, Layout]
    described: str


def load_program(key: str, name: str) -> Kept | None:
    """The program of a key, if it and its kernels are whole."""
    kernels = default_cache()
    path = kernels.program_path(key)
    code = unsealed(path, key)
    why = "its entry was damaged or foreign" if path.exists() else "new"
    if code is not None:
        try:
            head, _, raw = code.data.partition(b"\n")
            data = json.loads(head)
            found = kernels.find([*data["kernels"], key_of(driver_text())])
            if found is not None:
                made = LoadedProgram(data, _arrays(data["arrays"], raw), found)
                kernels.programs.append((name, "loaded"))
                return Kept(made, {n: unpack_layout(packed) for n, packed in data["layouts"].items()}, head.decode())
            why = "a kernel of its entry was not there"
        except DAMAGED:
            pass
    kernels.programs.append((name, why))
    return None


def keep_program(key: str, program: Program, layouts: Mapping[str, Layout]) -> None:
    """Keeps a program that was compiled."""
    try:
        head, arrays = describe(program, layouts)
    except CompileError as e:  # a size that no file can hold
        return unkept(program.schedule.graph.name, e.message, again=True)
    nbytes = sum(a.nbytes for a in arrays)
    if nbytes > LARGEST:
        return unkept(program.schedule.graph.name, f"its constants take {nbytes >> 20} MB", again=True)
    default_cache().keep_program(key, program.schedule.graph.name, b"\n".join([head.encode(), b"".join(a.tobytes() for a in arrays)]))


def unkept(name: str, why: str, again: bool = False) -> None:
    """Remembers why a program is not in the cache; ``again`` where it was looked for before."""
    programs = default_cache().programs
    if again and programs and programs[-1][0] == name:
        programs.pop()
    programs.append((name, f"not kept: {why}"))


def describe(program: Program, layouts: Mapping[str, Layout]) -> tuple[str, list[np.ndarray]]:
    """All that a file says of a program as one line, and its constants: equal exactly for equal programs."""
    number: dict[str, int] = {}
    data, arrays = pack(program, lambda made: number.setdefault(made.kernel.key, len(number)))
    data["kernels"] = list(number)
    data["layouts"] = {name: pack_layout(layout) for name, layout in layouts.items()}
    data["arrays"] = [[name, as_dtype(a.dtype).name, a.shape] for name, a in arrays.items()]
    return json.dumps(data, separators=(",", ":")), list(arrays.values())


def _arrays(described: Any, raw: bytes) -> dict[str, np.ndarray]:
    out, at = {}, 0
    for name, dtype, shape in described:
        kind = as_dtype(dtype).numpy
        count = int(np.prod(shape, dtype=np.int64))
        out[name] = np.frombuffer(raw, kind, count, at).reshape(shape)
        at += count * kind.itemsize
    return out
