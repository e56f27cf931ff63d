"""Tables of vectors: rows by index, bags of rows, and the bilinear form of two vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dtypes import int64
from ..ir.node import Node
from ..ir.op import Sample
from .base import stop_gradient
from .contract import dot_general
from .define import composite, constant, rand, show
from .elementwise import eq, le, lt, maximum, ne, where
from .generate import iota
from .indexing import sample_indices, take
from .reductions import max as reduce_max
from .reductions import sum as reduce_sum
from .scattering import scatter_add, scatter_max
from .views import broadcast_to, expand_dims, getitem

__all__ = ["bilinear", "embedding", "embedding_bag"]


def _table(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    indices, weight = ins[:2]
    assert indices is not None and weight is not None
    if weight.ndim != 2:
        raise ShapeError(f"the weight must be (words, features), not {show(weight.shape)}")
    if not indices.dtype.is_int:
        raise DTypeError(f"indices must be integers, not {indices.type}", hint="indices.cast('int32')")
    pad, words = attrs["padding_idx"], weight.shape[0]
    if pad is not None and isinstance(words, int):
        if not -words <= pad < words:
            raise ShapeError(f"padding_idx={pad} is out of range for {words} words")
        attrs["padding_idx"] = int(pad) % words


@composite(
    "embedding",
    inputs=2,
    prepare=_table,
    samples=lambda: [
        Sample((sample_indices(4, high=5), rand(5, 7))), Sample((sample_indices(2, 3, high=5, dtype=np.int64), rand(5, 4))), Sample((sample_indices(0, high=5), rand(5, 4))),
        # the row that gets no gradient is not read: with it, finite differences would rightly disagree
        Sample((sample_indices(9, high=2), rand(3, 19)), {"padding_idx": 2}), Sample((np.array(3), rand(5, 1)), {"padding_idx": -1}),
    ],
    errors=lambda: [
        Sample((rand(4), rand(5, 7)), error="integers"), Sample((sample_indices(4, high=5), rand(5)), error="(words, features)"),
        Sample((sample_indices(4, high=5), rand(5, 7)), {"padding_idx": 5}, error="padding_idx=5"),
    ],
    onnx="Gather",
)  # fmt: skip
def embedding(indices: Node, weight: Node, padding_idx: int | None = None) -> Node:
    """Rows of ``weight`` (V, D) named by ``indices`` (...): shape (..., D), as torch's ``embedding(input, weight)``.

    It is the product of one-hot vectors and the table, without the product. No gradient reaches the row ``padding_idx``.
    """
    rows = take(weight, indices)
    if padding_idx is None:
        return rows
    return where(expand_dims(eq(indices, padding_idx), -1), stop_gradient(rows), rows)


_starts = np.array([0, 2, 2, 6], np.int64)
_bags = np.array([[1, 1, 3], [1, 0, 2], [1, 1, 1], [4, 0, 1]], np.int64)


def _bag_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _table(ins, attrs)
    indices, _, offsets, scale = ins
    assert indices is not None
    if attrs["mode"] not in ("sum", "mean", "max"):
        raise TraceError(f"mode={attrs['mode']!r}", hint="'sum', 'mean' or 'max'")
    if indices.ndim == 2 and offsets is not None:
        raise ShapeError("offsets are for 1-D indices: the rows of 2-D ones are the bags")
    if indices.ndim == 1 and (offsets is None or offsets.ndim != 1):
        raise ShapeError("1-D indices need 1-D offsets: where each bag starts")
    if indices.ndim not in (1, 2):
        raise ShapeError(f"indices (bags, words) or (words,) expected, not {show(indices.shape)}")
    if scale is not None and attrs["mode"] != "sum":
        raise TraceError("per_sample_weights go with mode='sum'")
    if scale is not None and scale.shape != indices.shape:
        raise ShapeError(f"per_sample_weights {show(scale.shape)} for indices {show(indices.shape)}")


@composite(
    "embedding_bag",
    inputs=4,
    prepare=_bag_prepare,
    samples=lambda: [
        *(Sample((_bags, rand(5, 7)), {"mode": m, "padding_idx": p}) for m in ("sum", "mean", "max") for p in (None, 1)),
        *(Sample((sample_indices(9, high=5), rand(5, 7), _starts), {"mode": m, "padding_idx": p}) for m in ("sum", "mean", "max") for p in (None, 1)),
        Sample((_bags, rand(5, 7), None, rand(4, 3)), {"mode": "sum"}), Sample((sample_indices(9, high=5), rand(5, 7), _starts, rand(9)), {"mode": "sum", "padding_idx": -1}),
        Sample((sample_indices(6, high=5), rand(5, 3), _starts), {"include_last_offset": True}), Sample((np.zeros((2, 0), np.int64), rand(5, 3))),
        Sample((np.zeros((0, 2), np.int64), rand(5, 3)), {"mode": "max"}),
    ],
    errors=lambda: [
        Sample((_bags, rand(5, 7)), {"mode": "min"}, error="mode='min'"), Sample((_bags, rand(5, 7), _starts), error="1-D indices"), Sample((sample_indices(9, high=5), rand(5, 7)), error="offsets"),
        Sample((_bags, rand(5, 7), None, rand(4, 3)), error="mode='sum'"), Sample((_bags, rand(5, 7), None, rand(4)), {"mode": "sum"}, error="per_sample_weights"),
    ],
    tolerance={"float32": 5e-6, "float64": 1e-12},
)  # fmt: skip
def embedding_bag(
    indices: Node,
    weight: Node,
    offsets: Node | None = None,
    per_sample_weights: Node | None = None,
    mode: str = "mean",
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Node:
    """The sum, mean or maximum of the rows of each bag, (bags, D), as torch's ``embedding_bag``.

    ``indices`` (bags, n) are bags of n words; ``indices`` (n,) are one row of words in which bag i starts at ``offsets[i]`` (the
    first at 0) and ends where the next starts; with ``include_last_offset`` the last offset is only an end. Rows are
    multiplied by ``per_sample_weights`` (mode "sum"). ``padding_idx`` does not count; a bag of nothing is 0.
    """
    rows = take(weight, indices)
    if per_sample_weights is not None:
        rows = rows * expand_dims(per_sample_weights, -1).cast(rows.dtype)
    counts = None if padding_idx is None else ne(indices, padding_idx)
    neutral = -math.inf if mode == "max" else 0.0
    if counts is not None:
        rows = where(expand_dims(counts, -1), rows, neutral)
    ones = broadcast_to(constant(1.0, rows.dtype), indices.shape) if counts is None else counts.cast(rows.dtype)
    if indices.ndim == 2:
        out = reduce_max(rows, 1) if mode == "max" else reduce_sum(rows, 1)
        number = reduce_sum(ones, 1)
    else:
        assert offsets is not None
        starts = getitem(offsets, slice(None, -1)) if include_last_offset else offsets
        shape = (indices.shape[0], starts.shape[0])
        begun = le(expand_dims(starts.cast(int64), 0), iota(shape, 0, int64))
        bag = reduce_sum(begun.cast(int64), 1) - 1
        empty = broadcast_to(constant(neutral, rows.dtype), (starts.shape[0], rows.shape[1]))
        out = scatter_max(empty, bag, rows) if mode == "max" else scatter_add(empty, bag, rows)
        number = scatter_add(broadcast_to(constant(0.0, rows.dtype), starts.shape), bag, ones)
    number = expand_dims(number, -1)
    if mode == "mean":
        return out / maximum(number, 1.0)
    return where(lt(0.0, number), out, 0.0) if mode == "max" else out


# -- bilinear ----------------------------------------------------------------------------------------------------------------
@composite(
    "bilinear",
    inputs=4,
    samples=lambda: [
        Sample((rand(5, 3), rand(5, 4, seed=1), rand(2, 3, 4, seed=2), rand(2, seed=3))), Sample((rand(2, 5, 7), rand(2, 5, 1, seed=1), rand(3, 7, 1, seed=2))),
        Sample((rand(3), rand(4, seed=1), rand(2, 3, 4, seed=2), rand(2, seed=3))), Sample((rand(0, 3), rand(0, 4), rand(2, 3, 4))), Sample((rand(1, 33), rand(1, 19), rand(1, 33, 19), rand(1))),
    ],
    errors=lambda: [
        Sample((rand(5, 3), rand(5, 4), rand(2, 4, 3)), error="does not fit"), Sample((rand(5, 3), rand(4, 4), rand(2, 3, 4)), error="leading"),
        Sample((rand(5, 3), rand(5, 4), rand(2, 3, 4), rand(3)), error="bias"),
    ],
    tolerance={"float32": 1e-5, "float64": 1e-12},
)  # fmt: skip
def bilinear(x1: Node, x2: Node, weight: Node, bias: Node | None = None) -> Node:
    """``x1^T weight[o] x2 + bias[o]``: x1 (..., a), x2 (..., b), weight (out, a, b), bias (out,) -> (..., out); torch's ``bilinear``."""
    if weight.ndim != 3 or not x1.ndim == x2.ndim >= 1 or (x1.shape[-1], x2.shape[-1]) != weight.shape[1:]:
        raise ShapeError(f"weight {show(weight.shape)} (out, a, b) does not fit x1 {show(x1.shape)} (..., a) and x2 {show(x2.shape)} (..., b)")
    if x1.shape[:-1] != x2.shape[:-1]:
        raise ShapeError(f"the leading axes of x1 {show(x1.shape)} and x2 {show(x2.shape)} differ")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"bias {show(bias.shape)} does not fit weight {show(weight.shape)}")
    half = dot_general(x1, weight, ((x1.ndim - 1,), (1,)))  # (..., out, b)
    out = reduce_sum(half * expand_dims(x2, -2), -1)
    return out if bias is None else out + bias
