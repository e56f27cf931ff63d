"""Arrays of other libraries, without a copy: DLPack (https://dmlc.github.io/dlpack) and ``__cuda_array_interface__`` (version 3), both ways.

Pure ctypes, since NumPy exchanges neither memory of a GPU nor bfloat16. A capsule holds a ``DLManagedTensor``; whoever takes it renames it, and
calls its deleter when nobody needs the memory any more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ir.dtypes import as_dtype, bfloat16

__all__ = ["CPU", "CUDA", "LEGACY", "DeviceView", "as_array", "capsule_of", "device_view", "interface_of"]

CPU, CUDA, MANAGED = 1, 2, 13
"""Kinds of devices in DLPack; managed memory is reached from a GPU too."""
LEGACY = 1
"""The handle of CUDA's default stream, which both protocols mean where none is named."""

_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT = 4


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("index", ctypes.c_int32)]


class _Type(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32), ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64), ("tensor", _Tensor),
    ]  # fmt: skip


_KINDS: dict[bytes, Any] = {b"dltensor": _Managed, b"dltensor_versioned": _Versioned}
_USED = {name: b"used_" + name for name in _KINDS}
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", _api))
# of a capsule that is going away only the address may be touched
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_SetName", _api))


# -- giving ------------------------------------------------------------------------------------------------------------------
_lent: dict[int, Any] = {}
"""What capsules that are out hold, by the address of their structure."""


def _forget(pointer: int) -> None:
    _lent.pop(pointer, None)


def _forget_untaken(capsule: int) -> None:
    for name in _KINDS:
        if _is_valid(capsule, name):
            _forget(_pointer(capsule, name))


_give_back, _capsule_ends = _DELETER(_forget), _DELETER(_forget_untaken)


def capsule_of(
    address: int, shape: Sequence[int], dtype: np.dtype[Any], device: tuple[int, int], owner: Any, max_version: tuple[int, int] | None = None
) -> Any:
    """A capsule over contiguous memory; ``owner`` lives until its taker is done. Versioned where the taker knows DLPack 1."""
    versioned = max_version is not None and max_version[0] >= 1
    made = _Versioned(1, 0) if versioned else _Managed()
    sizes = (ctypes.c_int64 * max(len(shape), 1))(*shape)
    steps = (ctypes.c_int64 * max(len(shape), 1))(*(prod(shape[i + 1 :]) for i in range(len(shape))))
    code = _BFLOAT if dtype == bfloat16.numpy else _CODES[dtype.kind]
    made.tensor = _Tensor(address, _Device(*device), len(shape), _Type(code, 8 * dtype.itemsize, 1), sizes, steps, 0)
    made.deleter = ctypes.cast(_give_back, ctypes.c_void_p)
    where = ctypes.addressof(made)
    _lent[where] = (made, sizes, steps, owner)
    return _new(where, b"dltensor_versioned" if versioned else b"dltensor", ctypes.cast(_capsule_ends, ctypes.c_void_p))


def interface_of(address: int, shape: Sequence[int], dtype: np.dtype[Any], stream: int) -> dict[str, Any]:
    """``__cuda_array_interface__`` of contiguous memory whose values are there when ``stream`` comes to them."""
    if dtype == bfloat16.numpy:
        raise AttributeError("__cuda_array_interface__ has no bfloat16; __dlpack__ does")
    return {"shape": tuple(shape), "typestr": dtype.str, "data": (address, False), "version": 3, "strides": None, "stream": stream}


# -- taking ------------------------------------------------------------------------------------------------------------------
class _Taken:
    """What a capsule held; its giver is told when nobody needs it."""

    def __init__(self, managed: Any, deleter: int | None):
        self.managed, self.deleter = managed, deleter

    def __del__(self) -> None:
        if self.deleter:
            _DELETER(self.deleter)(ctypes.addressof(self.managed))


@dataclass
class DeviceView:
    """Memory of a GPU that another library owns, or its own: contiguous, row by row.

    What is to come of it is there when ``stream`` (a handle; None: at once) comes to it.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: int
    stream: int | None
    keep: Any = field(repr=False)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise ArgumentError("this array is on a GPU", hint="np.asarray(x.cpu()) brings it to the host")


def _refused(value: Any, what: str, hint: str) -> ArgumentError:
    return ArgumentError(f"{type(value).__module__.split('.')[0]}'s {type(value).__name__} {what}", hint=hint)


def _capsule(value: Any, stream: int | None) -> Any:
    """The capsule of an array, versioned where it knows that."""
    given = {} if stream is None else {"stream": stream}
    try:
        try:
            return value.__dlpack__(**given, max_version=(1, 0))
        except TypeError:
            return value.__dlpack__(**given)
    except (BufferError, RuntimeError, TypeError, ValueError) as e:
        raise _refused(value, f"gives no memory: {e}", "x.detach() where it needs a gradient") from None


def _take(value: Any, stream: int | None) -> tuple[_Tensor, bool, _Taken]:
    """The tensor of an array by DLPack, whether it may be written to, and what keeps it alive."""
    capsule = _capsule(value, stream)
    where = id(capsule)
    name = next((n for n in _KINDS if _is_valid(where, n)), None)
    if name is None:
        raise _refused(value, "gives no DLPack capsule", "np.asarray(x)")
    managed = _KINDS[name].from_address(_pointer(where, name))
    _rename(where, _USED[name])
    return managed.tensor, name == b"dltensor_versioned" and not managed.flags & 1, _Taken(managed, managed.deleter)


def _type_of(value: Any, t: _Type) -> np.dtype[Any]:
    kind = "bf" if t.code == _BFLOAT else next((k for k, code in _CODES.items() if code == t.code), "")
    if not kind or t.lanes != 1 or t.bits % 8:
        raise _refused(value, f"has elements of a type that NumPy lacks (DLPack {t.code}, {t.bits} bits, {t.lanes} lanes)", "x.float()")
    return bfloat16.numpy if kind == "bf" else np.dtype(f"{kind}{t.bits // 8}")


def _steps(shape: Sequence[int], steps: Sequence[int] | None) -> bool:
    """Whether elements lie row by row; ``steps`` are in elements."""
    if steps is None or not prod(shape):
        return True
    return all(size == 1 or step == prod(shape[i + 1 :]) for i, (size, step) in enumerate(zip(shape, steps, strict=True)))


def device_view(value: Any) -> DeviceView | None:
    """The memory of an array on a GPU; None for anything else. Raises :class:`ArgumentError` where it cannot be taken as it lies."""
    if isinstance(value, (np.ndarray, np.generic, DeviceView)):
        return value if isinstance(value, DeviceView) else None
    if hasattr(value, "__graphc_view__"):
        view: DeviceView = value.__graphc_view__()
        return view
    if hasattr(value, "__dlpack_device__"):
        kind, index = value.__dlpack_device__()
        if kind not in (CUDA, MANAGED):
            return None
        tensor, _, keep = _take(value, LEGACY)
        shape = tuple(tensor.shape[: tensor.ndim])
        steps = list(tensor.strides[: tensor.ndim]) if tensor.strides else None
        made = DeviceView((tensor.data or 0) + tensor.byte_offset, shape, _type_of(value, tensor.dtype), index, LEGACY, keep)
    elif hasattr(value, "__cuda_array_interface__"):
        said = value.__cuda_array_interface__
        dtype = np.dtype(said["typestr"])
        if said.get("mask") is not None:
            raise _refused(value, "has a mask", "fill what is missing")
        given = said.get("strides")
        steps = None if given is None else [s / dtype.itemsize for s in given]
        # version 3 names the stream that fills the array (None: it is filled), older ones leave it to the default stream
        stream = said.get("stream") if said["version"] >= 3 else LEGACY
        made = DeviceView(int(said["data"][0] or 0), tuple(said["shape"]), dtype, _index_of(value), stream, value)
    else:
        return None
    if not _steps(made.shape, steps):
        raise _refused(value, f"of shape {made.shape} does not lie row by row", "x.contiguous(), or cupy.ascontiguousarray(x)")
    as_dtype(made.dtype)
    return made


def _index_of(value: Any) -> int:
    """The number of the GPU, where an array says it: the interface does not."""
    device = getattr(value, "device", 0)
    number = getattr(device, "id", getattr(device, "index", device))
    return number if isinstance(number, int) else 0


@dataclass
class _Memory:
    """What NumPy makes an array of."""

    __array_interface__: dict[str, Any]
    keep: Any


def as_array(value: Any) -> np.ndarray:
    """``value`` as NumPy's array: arrays of other libraries that lie in this host's memory share it.

    >>> import numpy as np
    >>> as_array([1.0, 2.0])
    array([1., 2.])
    """
    if isinstance(value, (np.ndarray, np.generic)) or not hasattr(type(value), "__dlpack__") or value.__dlpack_device__()[0] != CPU:
        return np.asarray(value)
    tensor, writable, keep = _take(value, None)
    shape, dtype = tuple(tensor.shape[: tensor.ndim]), _type_of(value, tensor.dtype)
    if not prod(shape):
        return np.empty(shape, dtype)
    steps = None if not tensor.strides else tuple(s * dtype.itemsize for s in tensor.strides[: tensor.ndim])
    said = {
        "version": 3, "shape": shape, "typestr": np.dtype(f"V{dtype.itemsize}").str if dtype == bfloat16.numpy else dtype.str, "strides": steps,
        "data": (tensor.data + tensor.byte_offset, not writable),
    }  # fmt: skip
    array = np.asarray(_Memory(said, keep))
    return array.view(dtype) if array.dtype != dtype else array
