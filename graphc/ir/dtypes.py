"""Element types and their promotion.

float16 and bfloat16 are *storage*: they lie in memory with 16 bits and every operator computes in float32
(:mod:`graphc.ir.storage` puts the conversions into the graph).

>>> promote(int32, float32)
float32
>>> promote(bool_, int8)
int8
>>> promote(float16, bfloat16)
float32
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import DTypeError, did_you_mean

__all__ = [
    "DType", "as_dtype", "bfloat16", "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "kind_of", "promote", "uint8", "uint32",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class DType:
    """One element type: ``code`` is its short name in kernel text, ``itemsize`` its bytes in memory."""

    name: str
    code: str
    kind: str  # "f" float, "i" signed, "u" unsigned, "b" bool
    itemsize: int

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(ml_dtypes.bfloat16) if self.code == "bf16" else np.dtype("bool" if self.kind == "b" else self.name)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_storage(self) -> bool:
        """Whether values only lie in memory in this type, and arithmetic is in float32."""
        return self.kind == "f" and self.itemsize == 2

    @property
    def arithmetic(self) -> DType:
        """The type that operators compute in: float32 for storage types, else the type itself."""
        return float32 if self.is_storage else self

    @property
    def finfo(self) -> Any:
        """Limits and precision of a float type, as ``np.finfo`` has them."""
        return ml_dtypes.finfo(self.numpy)  # type: ignore[no-untyped-call]

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
float16 = DType("float16", "f16", "f", 2)
bfloat16 = DType("bfloat16", "bf16", "f", 2)
float32 = DType("float32", "f32", "f", 4)
float64 = DType("float64", "f64", "f", 8)

ALL = (bool_, uint8, int8, int16, int32, uint32, int64, float16, bfloat16, float32, float64)
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


def kind_of(dtype: np.dtype[Any]) -> str:
    """NumPy's letter for a kind of dtype, with "f" for bfloat16, which NumPy itself takes for bytes.

    >>> kind_of(np.dtype(np.int8)), kind_of(bfloat16.numpy)
    ('i', 'f')
    """
    return "f" if dtype == bfloat16.numpy else dtype.kind


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two operands, by JAX's lattice (an int never widens a float: int64 with float16 is float16).

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
            if a.is_storage and b.is_storage:  # neither holds the other
                return float32
            return a if a.itemsize >= b.itemsize else b
        return a if a.is_float else b
    if a.kind == b.kind:
        return a if a.itemsize >= b.itemsize else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    return {1: int16, 2: int32, 4: int64}[unsigned.itemsize]
