"""Object code to callable addresses: a warm start imports neither Numba nor, on x86, LLVM.

Ctrl-C waits while llvmlite works: what it frees in C and marks as freed in Python an interrupt between the two would free twice.
"""

from __future__ import annotations

import hashlib
import platform
import threading
from contextlib import suppress
from functools import cache
from typing import Any

from graphc.runtime.interrupts import no_interrupts
from graphc.runtime.locks import MEMORY, held_for_forks

from .elf import keep_for_good, link, map_image

__all__ = ["cpu_flags", "host_cpu", "load_object"]

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
            _mapped[key] = _map(data, symbol)
        return _mapped[key]


def _map(data: bytes, symbol: str) -> int:
    image = link([(data, symbol)])
    if image is not None:
        base, memory = map_image(image.data, image.inside, image.outside)
        if base:
            keep_for_good(memory)
            return base + image.entries[0]
    import llvmlite.binding as llvm

    engine = _get_engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


@cache
def host_cpu() -> tuple[str, str]:
    """Name and feature string of this processor: objects are made for them and must not run elsewhere."""
    found = cpu_flags()
    if found[1]:
        return found[0], ",".join(f"+{flag}" for flag in found[1])
    with no_interrupts():
        import llvmlite.binding as llvm

        return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def cpu_flags() -> tuple[str, tuple[str, ...]]:
    """Name of this processor and the instruction sets that it has, in the words of Linux for x86 (("", ()) elsewhere).

    What the processor says of itself is all that LLVM's choice of instructions depends on, and reading it needs no LLVM.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return "", ()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            lines = dict(line.partition(":")[::2] for line in f.read().partition("\n\n")[0].splitlines())
    except OSError:
        return "", ()
    about = {k.strip(): v.strip() for k, v in lines.items()}
    name = " ".join([about.get("model name", ""), *(f"{k} {about.get(k, '')}" for k in ("cpu family", "model", "stepping"))])
    return name, tuple(sorted(flag for flag in about.get("flags", "").split() if flag.startswith(_SETS)))


_SETS = (
    "3dn", "abm", "adx", "aes", "amx", "avx", "bmi", "clflush", "clwb", "cx16", "f16c", "fma", "fsgsbase", "fxsr", "gfni", "lahf", "mmx", "movbe",
    "movdir", "pclmul", "pni", "popcnt", "prefetch", "rdrnd", "rdseed", "serialize", "sha", "sse", "ssse", "tbm", "vaes", "vpclmul", "wbnoinvd", "xop", "xsave",
)  # fmt: skip
"""How flags of instruction sets begin. Others are about virtual machines and power, and may change while a machine runs."""
