"""Kernel text to object code, through Numba's compiler without its wrappers.

The compiled function keeps Numba's own calling convention (``i32 f(ret*, excinfo**, tid, nthreads, args, trip)``),
which the driver calls directly: no Python wrapper and no C wrapper is generated.
"""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.errors import CompileError
from graphc.runtime.interrupts import no_interrupts

from .symbols import foreign_symbols

__all__ = ["KernelCompileError", "ObjectCode", "compile_function", "compile_text"]


class KernelCompileError(CompileError):
    """A kernel that Numba or LLVM refused; names the file that holds its text."""


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
        raise KernelCompileError(f"a kernel does not compile: {type(e).__name__}: {e}", where=f"text  {path}") from e


def compile_function(fn: Any, signature: Sequence[Any]) -> ObjectCode:
    """The object of a Python function for Numba argument types; it must return nothing."""
    from numba import types
    from numba.core import compiler
    from numba.core.compiler import Flags
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    flags = Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.boundscheck = False
    flags.nrt = False
    typing_context, target_context = cpu_target.typing_context, cpu_target.target_context
    typing_context.refresh()
    target_context.refresh()
    result = compiler.compile_extra(typing_context, target_context, fn, tuple(signature), types.void, flags, {})
    library = result.library
    with global_compiler_lock:
        library.finalize()
        library.get_pointer_to_function(result.fndesc.llvm_func_name)  # makes the engine emit the object
        return ObjectCode(library._get_compiled_object(), result.fndesc.llvm_func_name)
