"""Positions of tokens: added to embeddings, or turned into queries and keys.

Sequences are (L, N, E), or (N, L, E) with ``batch_first``, or (L, E), as in the attention layers.
"""

from __future__ import annotations

from typing import Any

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.node import Node
from graphc.ops.define import show

from .. import init as initial
from ..module import Module
from ..parameter import Parameter
from .dropout import Dropout

__all__ = ["LearnedPositionalEncoding", "RotaryEmbedding", "SinusoidalPositionalEncoding"]


class _Added(Module):
    """Adds one vector a position, then drops elements in training."""

    def __init__(self, d_model: int, dropout: float, batch_first: bool):
        self.d_model, self.batch_first, self.dropout = d_model, batch_first, Dropout(dropout)

    def rows(self, x: Node, length: Any) -> Node:
        """The vectors of the first positions: (length, d_model)."""
        raise NotImplementedError

    def forward(self, x: Node) -> Node:
        if x.ndim not in (2, 3) or x.shape[-1] != self.d_model:
            order = "N, L" if self.batch_first else "L, N"
            raise ShapeError(
                f"{type(self).__name__}: {show(x.shape)} is not ({order}, {self.d_model}) or (L, {self.d_model})",
                hint="the last axis has d_model features",
            )
        first = x.ndim == 2 or not self.batch_first
        rows = self.rows(x, x.shape[0 if first else 1])
        return self.dropout(x + (ops.expand_dims(rows, 1) if first and x.ndim == 3 else rows))  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        return {"d_model": self.d_model, "batch_first": self.batch_first}


class SinusoidalPositionalEncoding(_Added):
    """Adds sines and cosines of the position (Vaswani et al. 2017, section 3.5): for sequences of any length.

    >>> SinusoidalPositionalEncoding(8, batch_first=True)
    SinusoidalPositionalEncoding(d_model=8, batch_first=True
      (dropout): Dropout(p=0.0)
    )
    """

    def __init__(self, d_model: int, dropout: float = 0.0, batch_first: bool = False, base: float = 10000.0):
        super().__init__(d_model, dropout, batch_first)
        self.base = base

    def rows(self, x: Node, length: Any) -> Node:
        return ops.sinusoidal_positions(length, self.d_model, self.base, x.dtype)


class LearnedPositionalEncoding(_Added):
    """Adds a learned vector a position: ``weight`` (max_len, d_model), normal with deviation 0.02 (Devlin et al. 2019).

    A sequence longer than ``max_len`` is an error, for a named length when it is bound.
    """

    def __init__(self, d_model: int, max_len: int, dropout: float = 0.0, batch_first: bool = False, dtype: Any = "float32"):
        super().__init__(d_model, dropout, batch_first)
        self.max_len = max_len
        self.weight: Any = Parameter((max_len, d_model), init=initial.normal(0.0, 0.02), dtype=dtype)

    def rows(self, x: Node, length: Any) -> Node:
        why = f"the sequence is longer than max_len = {self.max_len}"
        return ops.slice(ops.at_least(self.weight, self.max_len - length, 0, why), (0, 0), (length, self.d_model))


class RotaryEmbedding(Module):
    """Turns pairs of features of queries and keys (..., L, E) by their position (Su et al. 2021); see ``ops.rotary_embedding``."""

    def __init__(self, base: float = 10000.0, interleaved: bool = False):
        self.base, self.interleaved = base, interleaved

    def forward(self, x: Node, positions: Node | None = None) -> Node:
        return ops.rotary_embedding(x, positions, base=self.base, interleaved=self.interleaved)

    def describe(self) -> dict[str, Any]:
        return {"base": self.base, "interleaved": self.interleaved}
