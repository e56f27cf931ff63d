"""Object code to callable addresses, by llvmlite alone: a warm start never imports Numba.

Ctrl-C waits while llvmlite works: what it frees in C and marks as freed in Python an interrupt between the two would free twice.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from functools import cache
from typing import Any

from graphc.runtime.interrupts import no_interrupts
from graphc.runtime.locks import MEMORY, held_for_forks

__all__ = ["host_cpu", "load_object"]

_lock = held_for_forks(threading.Lock(), MEMORY)
_engine: Any = None
_mapped: dict[tuple[str, bytes], int] = {}


def _get_engine() -> Any:
    global _engine
    if _engine is None:
        import llvmlite.binding as llvm

        for start in (llvm.initialize_native_target, llvm.initialize_native_asmprinter):
            with suppress(RuntimeError):  # newer llvmlite does this by itself and says so
                start()
        machine = llvm.Target.from_default_triple().create_target_machine()
        _engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    return _engine


def load_object(data: bytes, symbol: str) -> int:
    """Maps an object file into the process, once, and gives the address of a symbol (0 if it is not there)."""
    key = (symbol, hashlib.sha256(data).digest())
    with _lock, no_interrupts():
        if key not in _mapped:
            import llvmlite.binding as llvm

            engine = _get_engine()
            engine.add_object_file(llvm.ObjectFileRef.from_data(data))
            engine.finalize_object()
            _mapped[key] = int(engine.get_function_address(symbol))
        return _mapped[key]


@cache
def host_cpu() -> tuple[str, str]:
    """Name and feature string of this processor: objects are made for them and must not run elsewhere."""
    with no_interrupts():
        import llvmlite.binding as llvm

        return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
