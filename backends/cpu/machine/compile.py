"""Kernel text to object code, through Numba's compiler without its wrappers.

The compiled function keeps Numba's own calling convention (``i32 f(ret*, excinfo**, tid, nthreads, args, trip)``),
which the driver calls directly: no Python wrapper and no C wrapper is generated.
"""

from __future__ import annotations

import linecache
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from graphc.errors import KernelCompileError
from graphc.locate import whole_traceback
from graphc.runtime.interrupts import no_interrupts

from .symbols import foreign_symbols

__all__ = ["CODE_SETTINGS", "ObjectCode", "compile_function", "compile_text", "origin_lines"]

CODE_SETTINGS = frozenset(
    f"NUMBA_{name}"
    for name in ("OPT", "CPU_NAME", "CPU_FEATURES", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO", "BOUNDSCHECK")
)
"""Numba's own variables that change the code of a kernel: part of its key in the cache."""
LINES = 6
"""Lines that an error shows of what the compiler said."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class ObjectCode:
    """A relocatable object and the symbol to call in it."""

    data: bytes
    symbol: str


def compile_text(text: str, entry: str, path: str) -> ObjectCode:
    """The object of a text that defines ``kernel``; ``entry`` goes into its symbol, ``path`` names it in errors.

    Ctrl-C waits for its end: Numba's tables would stay half filled, and this process could compile no more.
    """
    with no_interrupts():
        return _compile_text(text, entry, path)


def _compile_text(text: str, entry: str, path: str) -> ObjectCode:
    from numba import types

    namespace: dict[str, Any] = {"__name__": entry, "__file__": path}
    try:
        exec(compile(text, path, "exec"), namespace)
        fn = namespace["kernel"]
        fn.__name__ = fn.__qualname__ = entry
        linecache.cache[path] = (len(text), None, text.splitlines(True), path)
        i64 = types.int64
        code = compile_function(fn, (i64, i64, types.CPointer(i64), i64))
        foreign = foreign_symbols(code.data)
        if foreign:
            raise TypeError(f"it needs {', '.join(foreign)}, which only a process with Numba offers")
        return code
    except Exception as e:
        raise _refused(text, path, e) from (e if whole_traceback() else None)


def origin_lines(comment: str) -> tuple[str, ...]:
    """The comment at the head of a kernel (operators, the user's lines, modules) as lines of an error."""
    words = {"from": "used", "in": "in"}
    parts = [line.partition(" ") for line in comment.splitlines()]
    return tuple(f"{words[w]:<6}{rest}" if w in words else f"does  {w} {rest}" for w, _, rest in parts)


def _refused(text: str, path: str, error: Exception) -> KernelCompileError:
    """The error of a kernel that does not compile: its file, what it computes and for whom, and how to see the same again."""
    said = [line.rstrip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip() and not line.startswith("Failed in ")]
    lines = text.splitlines()
    marks = [int(n) for n in re.findall(rf'{re.escape(os.path.basename(path))}["\']?,? (?:line |\()?(\d+)', str(error))]
    at = getattr(getattr(error, "loc", None), "line", None) or getattr(error, "lineno", None) or (marks[-1] if marks else 0)
    where = [f"file  {path}" + (f":{at}   {lines[at - 1].strip()}" if 0 < at <= len(lines) else "")]
    where += origin_lines("\n".join(line[2:] for line in takewhile(lambda line: line.startswith("# "), lines)))
    settings = "".join(f"{k}={shlex.quote(os.environ[k])} " for k in sorted(CODE_SETTINGS & os.environ.keys()))
    command = f"{settings}{shlex.quote(sys.executable)} -m {__package__}.reproduce {shlex.quote(path)}"
    return KernelCompileError(
        f"a kernel does not compile: {type(error).__name__}: {said[0] if said else ''}",
        where=tuple(where),
        notes=tuple(said[1:LINES]),
        hint=f"this is a defect of graphc; to see the compiler's whole report: {command}",
    )


def compile_function(fn: Any, signature: Sequence[Any]) -> ObjectCode:
    """The object of a Python function for Numba argument types; it must return nothing."""
    from .kernel_target import emit_object

    return ObjectCode(*emit_object(fn, tuple(signature)))
