"""Element types and their promotion.

>>> promote(int32, float32)
float32
>>> promote(bool_, int8)
int8
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DTypeError, did_you_mean

__all__ = ["DType", "as_dtype", "bool_", "float32", "float64", "int8", "int16", "int32", "int64", "promote", "uint8", "uint32"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type: ``code`` is its short name in kernel text, ``itemsize`` its bytes in memory."""

    name: str
    code: str
    kind: str  # "f" float, "i" signed, "u" unsigned, "b" bool
    itemsize: int

    @property
    def numpy(self) -> np.dtype:
        return np.dtype("bool" if self.kind == "b" else self.name)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        return self.kind in "iu"

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


bool_ = DType("bool", "b1", "b", 1)
int8 = DType("int8", "i8", "i", 1)
int16 = DType("int16", "i16", "i", 2)
int32 = DType("int32", "i32", "i", 4)
int64 = DType("int64", "i64", "i", 8)
uint8 = DType("uint8", "u8", "u", 1)
uint32 = DType("uint32", "u32", "u", 4)
float32 = DType("float32", "f32", "f", 4)
float64 = DType("float64", "f64", "f", 8)

ALL = (bool_, uint8, int8, int16, int32, uint32, int64, float32, float64)
_by_name = {d.name: d for d in ALL} | {d.code: d for d in ALL}


def as_dtype(value: object) -> DType:
    """The :class:`DType` named by a string, a NumPy dtype or a DType. Raises :class:`DTypeError` for others."""
    if isinstance(value, DType):
        return value
    name = value if isinstance(value, str) else None
    if name is None:
        try:
            name = np.dtype(value).name  # type: ignore[call-overload]
        except TypeError:
            name = str(value)
    if name not in _by_name:
        raise DTypeError(f"dtype {name} is not supported", hint=did_you_mean(name, [d.name for d in ALL]))
    return _by_name[name]


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two operands, by JAX's lattice (an int never widens a float: int64 with float32 is float32).

    Source: JAX documentation, "Type promotion semantics".
    """
    if a == b:
        return a
    if a.kind == "b":
        return b
    if b.kind == "b":
        return a
    if a.is_float or b.is_float:
        if a.is_float and b.is_float:
            return a if a.itemsize >= b.itemsize else b
        return a if a.is_float else b
    if a.kind == b.kind:
        return a if a.itemsize >= b.itemsize else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    return {1: int16, 2: int32, 4: int64}[unsigned.itemsize]
