"""Lookup tables, and the bilinear layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import ops
from graphc.errors import DTypeError, ShapeError
from graphc.ir.node import Node
from graphc.ops.define import show

from .. import init as initial
from ..module import Module
from ..parameter import Parameter

__all__ = ["Bilinear", "Embedding", "EmbeddingBag"]


class _Table(Module):
    """What both lookup layers hold: ``weight`` (num_embeddings, embedding_dim), normal with deviation 1, 0 at the padding."""

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None
    weight: Any

    def _make(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, dtype: Any) -> None:
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ShapeError(
                    f"{type(self).__name__}: padding_idx={padding_idx} is out of range for {num_embeddings}",
                    hint="an index from 0 to num_embeddings - 1",
                )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx

        def make(shape: Any, random: Any) -> np.ndarray:
            rows = initial.normal()(shape, random)
            if padding_idx is not None:
                rows[padding_idx] = 0.0
            return rows

        self.weight = Parameter((num_embeddings, embedding_dim), init=make, dtype=dtype)

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, **options: Any) -> Any:
        """A layer with given rows (num_embeddings, embedding_dim), which are not trained unless ``freeze`` is False."""
        rows = np.asarray(embeddings)
        if rows.ndim != 2:
            raise ShapeError(
                f"{cls.__name__}: rows (words, features) expected, not {show(rows.shape)}", hint="one row of numbers for each word"
            )
        made = cls(*rows.shape, **options)
        made.weight = Parameter(rows, trainable=not freeze)
        return made

    def _check(self, x: Node) -> None:
        if not x.dtype.is_int:
            raise DTypeError(f"embedding: indices must be integers, not {x.dtype}", hint='gc.spec("N", dtype="int64")')

    def describe(self) -> dict[str, Any]:
        own: dict[str, Any] = {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim}
        return own | ({} if self.padding_idx is None else {"padding_idx": self.padding_idx})


class Embedding(_Table):
    """Rows of a table by index: integers (...) -> (..., embedding_dim), as torch's.

    The row ``padding_idx`` starts as 0 and gets no gradient.

    >>> Embedding(10, 4).weight
    Parameter(float32(10, 4))
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = "float32"
    ):
        self._make(num_embeddings, embedding_dim, padding_idx, dtype)

    def forward(self, x: Node) -> Node:
        self._check(x)
        return ops.embedding(x, self.weight, padding_idx=self.padding_idx)


class EmbeddingBag(_Table):
    """The sum, mean or maximum of the rows of each bag of indices, as torch's; see ``ops.embedding_bag``.

    Indices are (bags, n), or (n,) with ``offsets``: where each bag starts. The row ``padding_idx`` counts in no bag.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        dtype: Any = "float32",
    ):
        self._make(num_embeddings, embedding_dim, padding_idx, dtype)
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(self, input: Node, offsets: Node | None = None, per_sample_weights: Node | None = None) -> Node:
        self._check(input)
        return ops.embedding_bag(
            input,
            self.weight,
            offsets,
            per_sample_weights,
            mode=self.mode,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"mode": self.mode}


class Bilinear(Module):
    """``x1^T weight[o] x2 + bias[o]``: (..., in1_features) and (..., in2_features) -> (..., out_features).

    ``weight`` (out, in1, in2) and ``bias`` are uniform with bound 1/sqrt(in1), as in torch.
    """

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, dtype: Any = "float32"
    ):
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        bound = 1.0 / math.sqrt(max(in1_features, 1))
        make = initial.uniform(-bound, bound)
        self.weight = Parameter((out_features, in1_features, in2_features), init=make, dtype=dtype)
        self.bias = Parameter((out_features,), init=make, dtype=dtype) if bias else None

    def forward(self, x1: Node, x2: Node) -> Node:
        return ops.bilinear(x1, x2, self.weight, self.bias)

    def describe(self) -> dict[str, Any]:
        return {
            "in1_features": self.in1_features,
            "in2_features": self.in2_features,
            "out_features": self.out_features,
        }
