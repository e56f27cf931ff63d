"""The lookup table."""

from __future__ import annotations

from typing import Any

from graphc import ops
from graphc.errors import DTypeError
from graphc.ir.node import Node

from .. import init as initial
from ..module import Module
from ..parameter import Parameter

__all__ = ["Embedding"]


class Embedding(Module):
    """Rows of a table by index: integers (...) -> (..., dim). The table is normal with standard deviation 1, as in torch."""

    def __init__(self, count: int, dim: int, dtype: Any = "float32"):
        self.count, self.dim = count, dim
        self.weight = Parameter((count, dim), init=initial.normal(), dtype=dtype)

    def forward(self, x: Node) -> Node:
        if not x.dtype.is_int:
            raise DTypeError(f"embedding: indices must be integers, not {x.dtype}", hint='gc.spec("N", dtype="int64")')
        return ops.embedding(x, self.weight)

    def describe(self) -> dict[str, Any]:
        return {"count": self.count, "dim": self.dim}
