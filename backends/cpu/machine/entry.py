"""Calls of small programs in about a microsecond: checks and run are one call into compiled code.

An entry takes one array and gives one. It does nothing unless the array is exactly what the program was bound for; then the
caller goes the long way, which converts and explains.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .cache import default_cache
from .pool import LaunchList, driver_entry

__all__ = ["Quick", "entry_text", "quick_call", "use_entry"]

Quick = Callable[[Any], "np.ndarray[Any, Any] | None"]
OTHER, TYPE, DESCR, RANK, START, NOWHERE, DESCRIPTOR, IO, DIMS = range(9)
_FIELDS = {"type": 1, "data": 2, "rank": 3, "dims": 4, "descr": 7, "flags": 8}
"""Where an array object keeps what an entry looks at, in words; entry_code.py has the same numbers."""
FASTCALL = 0x0080
"""Python's METH_FASTCALL."""


@cache
def _known_layout() -> bool:
    """Whether objects of this Python lie in memory as entry_code.py assumes."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    for a in (np.zeros((3, 5), np.float32), np.zeros(7, np.int64), np.zeros((2, 3, 4))[:, ::2]):
        words = (ctypes.c_int64 * 9).from_address(id(a))
        dims = (ctypes.c_int64 * a.ndim).from_address(words[_FIELDS["dims"]])
        if (
            words[_FIELDS["type"]] != id(np.ndarray)
            or words[_FIELDS["data"]] != a.ctypes.data
            or words[_FIELDS["rank"]] & 0xFFFFFFFF != a.ndim
            or tuple(dims) != a.shape
            or words[_FIELDS["descr"]] != id(a.dtype)
            or bool(words[_FIELDS["flags"]] & 1) != a.flags.c_contiguous
            or bool(words[_FIELDS["flags"]] & 0x100) != a.flags.aligned
        ):
            return False
    return True


class _MethodDef(ctypes.Structure):
    """Python's PyMethodDef."""

    _fields_ = [("name", ctypes.c_char_p), ("meth", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


@cache
def entry_text() -> str:
    """The kernel text of the entry."""
    return (Path(__file__).parent / "entry_code.py").read_text()


def use_entry(address: int, memory: Any) -> None:
    """Takes an entry that came with a bundle, and keeps the memory that it lies in, unless there is one."""
    global _entry, _entry_memory
    if not _entry:
        _entry, _entry_memory = address, memory


_entry = 0
_entry_memory: Any = None


@cache
def _method() -> _MethodDef:
    """The compiled entry as a method that Python calls without converting anything."""
    if not _entry:
        use_entry(default_cache().get([entry_text()])[0].address, None)
    nowhere, block = (ctypes.c_int64 * 8)(), (ctypes.c_int64 * 8)()
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p, ctypes.c_int64)
    kind(_entry)(ctypes.addressof(nowhere), ctypes.addressof(nowhere), 0, 0, ctypes.addressof(block), 1)
    return _MethodDef(b"enter", block[OTHER], FASTCALL, None)


def quick_call(
    program: LaunchList, given: tuple[tuple[int, ...], Any], made: tuple[tuple[int, ...], Any], lock: Any, current: Callable[[], bool]
) -> Quick | None:
    """The entry of a one-thread program from an array of a shape and dtype to a new one; None where this Python's objects are others.

    It gives None where the array is not just so, or what the program was bound to is not ``current``.
    """
    if not _known_layout():
        return None
    shape, dtype = given
    nowhere = (ctypes.c_int64 * 8)()
    block = np.zeros(DIMS + max(len(shape), 1), np.int64)
    block[TYPE], block[DESCR], block[RANK] = id(np.ndarray), id(np.dtype(dtype)), len(shape)
    block[START], block[NOWHERE], block[DESCRIPTOR] = driver_entry(), ctypes.addressof(nowhere), program.address
    block[IO] = ctypes.addressof(program.io)
    block[DIMS : DIMS + len(shape)] = shape
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    enter = new(ctypes.addressof(_method()), block, None)
    empty = np.empty
    out_shape, out_dtype = made
    keep = (nowhere, program)

    def call(x: Any, keep: Any = keep) -> np.ndarray[Any, Any] | None:
        with lock:
            if not current():
                return None
            out = empty(out_shape, out_dtype)
            return out if enter(x, out) is out else None

    return call
