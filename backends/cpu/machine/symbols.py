"""What an object needs from the process that loads it.

LLVM ends the whole process when a symbol is missing at load time, and a warm start has no Numba to offer its helpers.
So a kernel may use what the C library and libm offer, and nothing else; that is checked when it is compiled.
"""

from __future__ import annotations

import ctypes
import struct

__all__ = ["foreign_symbols", "undefined_symbols"]

_SECTION_SYMTAB = 2


def undefined_symbols(data: bytes) -> list[str]:
    """Names that a 64-bit little-endian ELF object uses and does not define; other formats are not read."""
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    names = []
    for section in sections:
        if section[1] != _SECTION_SYMTAB:
            continue
        strings = sections[section[6]][4]
        for at in range(section[4] + 24, section[4] + section[5], 24):  # the first symbol is always empty
            name, _, _, where = struct.unpack_from("<IBBH", data, at)
            if where == 0 and name:
                names.append(data[strings + name : data.index(b"\0", strings + name)].decode())
    return names


def foreign_symbols(data: bytes) -> list[str]:
    """The undefined symbols that a plain Python process would not resolve."""
    process = ctypes.CDLL(None)
    return [name for name in undefined_symbols(data) if name != "_GLOBAL_OFFSET_TABLE_" and not hasattr(process, name)]
