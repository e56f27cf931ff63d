"""What an object needs from the process that loads it.

LLVM ends the whole process when a symbol is missing at load time, and a warm start has no Numba to offer its helpers.
So a kernel may use what the C library and libm offer, and nothing else; that is checked when it is compiled.
"""

from __future__ import annotations

import ctypes

from .elf import undefined_symbols

__all__ = ["foreign_symbols"]


def foreign_symbols(data: bytes) -> list[str]:
    """The undefined symbols that a plain Python process would not resolve."""
    process = ctypes.CDLL(None)
    return [name for name in undefined_symbols(data) if name != "_GLOBAL_OFFSET_TABLE_" and not hasattr(process, name)]
