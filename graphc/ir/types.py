"""The types of values: tensors with static or named sizes, and tuples of them."""

from __future__ import annotations

from dataclasses import dataclass

from .dims import Size, prod, symbols
from .dtypes import DType

__all__ = ["Shape", "TensorType", "TupleType", "Type"]

Shape = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense array: ``shape`` (ints or polynomials of named dims) and ``dtype``."""

    shape: Shape
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Size:
        return prod(self.shape)

    @property
    def nbytes(self) -> Size:
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.code}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class TupleType:
    """Several results of one node; ``item(node, i)`` takes one out."""

    items: tuple[TensorType, ...]

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.items)) + ")"


Type = TensorType | TupleType


def type_symbols(t: Type) -> set[str]:
    """Names of the dims that a type mentions."""
    parts = t.items if isinstance(t, TupleType) else (t,)
    return set().union(*(symbols(s) for p in parts for s in p.shape))
