"""The affine layer."""

from __future__ import annotations

import math
from typing import Any

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.node import Node
from graphc.ops.define import show

from .. import init as initial
from ..explain import flatten_note
from ..module import Module
from ..parameter import Parameter

__all__ = ["Linear"]


class Linear(Module):
    """``x @ weight.T + bias``: (..., in_features) -> (..., out_features).

    ``weight`` is (out, in), uniform with bound 1/sqrt(in) as in torch (Kaiming with a = sqrt(5)); ``bias`` likewise.
    Raises :class:`ShapeError` where the last axis of ``x`` is not ``in_features``.

    >>> Linear(3, 4).weight
    Parameter(float32(4, 3))
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32", init: Any = None
    ):
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(
            (out_features, in_features), init=init or initial.kaiming_uniform(math.sqrt(5.0)), dtype=dtype
        )
        bound = 1.0 / math.sqrt(max(in_features, 1))
        self.bias = Parameter((out_features,), init=initial.uniform(-bound, bound), dtype=dtype) if bias else None

    def forward(self, x: Node) -> Node:
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            note = flatten_note(x) if x.ndim else ""
            raise ShapeError(
                f"matmul: inner dimensions differ: a {show(x.shape)} @ b {show((self.in_features, self.out_features))}",
                notes=note,
                hint=f"nn.Linear({x.shape[-1]}, {self.out_features})"
                if x.ndim and isinstance(x.shape[-1], int)
                else "",
            )
        return ops.linear(x, self.weight, self.bias)

    def describe(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features} | (
            {} if self.bias is not None else {"bias": False}
        )
