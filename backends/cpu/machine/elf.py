"""Object code as an image that a process can run: 64-bit ELF objects for x86, linked by this module alone.

LLVM's code for just-in-time use addresses everything by 64-bit words (the large code model), so linking is laying sections one behind the
other and writing addresses into words. Anything else in an object (another processor, another kind of relocation) is not
linked; :mod:`loader` then leaves it to LLVM.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

__all__ = ["Image", "keep_for_good", "link", "map_image", "undefined_symbols"]

_MAGIC = b"\x7fELF\x02\x01"
_X86_64 = 62
_SYMTAB, _RELA, _NOBITS = 2, 4, 8
_ALLOC = 2
_ABSOLUTE = 1  # R_X86_64_64


@dataclass
class Image:
    """Sections of objects one behind the other, and what depends on where they come to lie."""

    data: bytearray = field(default_factory=bytearray)
    entries: list[int] = field(default_factory=list)
    """Where each object's function begins."""
    inside: list[tuple[int, int]] = field(default_factory=list)
    """(place of a word, place in the image whose address it holds)."""
    outside: list[tuple[int, str, int]] = field(default_factory=list)
    """(place of a word, function of the C library whose address it holds, what is added)."""


@dataclass(frozen=True)
class _Section:
    name: int
    kind: int
    flags: int
    at: int
    size: int
    link: int
    info: int
    align: int


def _known(data: bytes) -> bool:
    return data[:6] == _MAGIC and len(data) >= 64 and struct.unpack_from("<H", data, 18)[0] == _X86_64


def _sections(data: bytes) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    found = []
    for i in range(count):
        name, kind, flags, _, at, length, link_, info, align, _ = struct.unpack_from("<IIQQQQIIQQ", data, table + i * size)
        found.append(_Section(name, kind, flags, at, length, link_, info, align))
    return found


def _symbols(data: bytes, sections: list[_Section]) -> list[tuple[str, int, int]]:
    """(name, section, place in it) of every symbol."""
    table = next((s for s in sections if s.kind == _SYMTAB), None)
    if table is None:
        return []
    strings = sections[table.link].at
    found = []
    for at in range(table.at, table.at + table.size, 24):
        name, _, _, where, value = struct.unpack_from("<IBBHQ", data, at)
        found.append((data[strings + name : data.index(b"\0", strings + name)].decode(), where, value))
    return found


def undefined_symbols(data: bytes) -> list[str]:
    """Names that an object uses and does not define; none for other formats, which are not read."""
    return [name for name, where, _ in _symbols(data, _sections(data)) if where == 0 and name] if _known(data) else []


def link(objects: Sequence[tuple[bytes, str]]) -> Image | None:
    """One image of objects, each with the name of its function; None where one of them is of another form."""
    image = Image()
    with suppress(struct.error, IndexError, ValueError):  # a damaged object
        if all(_known(data) and _add(image, data, symbol) for data, symbol in objects):
            return image
    return None


def _add(image: Image, data: bytes, symbol: str) -> bool:
    sections = _sections(data)
    symbols = _symbols(data, sections)
    place: dict[int, int] = {}
    frames = {i for i, s in enumerate(sections) if s.kind not in (1, _NOBITS)}  # unwind tables: nothing is thrown through kernels
    for i, s in enumerate(sections):
        if s.flags & _ALLOC and s.size and i not in frames:
            image.data += bytes(-len(image.data) % max(s.align, 1))
            place[i] = len(image.data)
            image.data += bytes(s.size) if s.kind == _NOBITS else data[s.at : s.at + s.size]
    for s in sections:
        if s.kind != _RELA or s.info not in place:
            continue
        for at in range(s.at, s.at + s.size, 24):
            offset, info, add = struct.unpack_from("<QQq", data, at)
            name, where, value = symbols[info >> 32]
            if info & 0xFFFFFFFF != _ABSOLUTE or (where and where not in place):
                return False
            word = place[s.info] + offset
            if where:
                image.inside.append((word, place[where] + value + add))
            else:
                image.outside.append((word, name, add))
    entry = next((place[w] + v for n, w, v in symbols if n == symbol and w in place), None)
    if entry is None:
        return False
    image.entries.append(entry)
    return True


def map_image(data: bytes | bytearray, inside: Sequence[tuple[int, int]], outside: Sequence[tuple[int, str, int]]) -> tuple[int, mmap.mmap]:
    """(address, the memory to keep) of an image that can run; the address is 0 where the system lets a process run no code that it has
    written itself."""
    process = ctypes.CDLL(None)
    memory = mmap.mmap(-1, max(len(data), 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[: len(data)] = bytes(data)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    words = [(at, base + to) for at, to in inside]
    words += [(at, (ctypes.cast(getattr(process, name), ctypes.c_void_p).value or 0) + add) for at, name, add in outside]
    for at, value in words:
        struct.pack_into("<Q", memory, at, value)
    protect = process.mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    refused = protect(base, len(data), mmap.PROT_READ | mmap.PROT_EXEC)
    return (0 if refused else base), memory


def keep_for_good(memory: mmap.mmap) -> None:
    """Never gives the memory back. Threads of a program may still run in it when the interpreter takes its modules apart: a list that
    holds it would be emptied under them."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
