"""Composites that layers are made of: linear and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Size
from ..ir.dtypes import DType, as_dtype, float32, promote
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from .contract import dot_general
from .define import composite, constant, rand, show
from .elementwise import le, where
from .generate import random_bits
from .views import broadcast_to

__all__ = ["dropout", "linear", "uniform"]


# -- linear --------------------------------------------------------------------------------------------------------------
def _linear_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, weight = ins[0], ins[1]
    assert x is not None and weight is not None
    if not x.dtype.is_float:
        ins[0] = x.cast(promote(x.dtype, weight.dtype))


@composite(
    "linear",
    inputs=3,
    prepare=_linear_prepare,
    samples=lambda: [
        Sample((rand(5, 7), rand(3, 7, seed=1), rand(3, seed=2))), Sample((rand(2, 5, 7), rand(33, 7, seed=1))), Sample((rand(0, 7), rand(3, 7), rand(3))),
        Sample((rand(7), rand(3, 7), rand(3))), Sample((rand(1, 64), rand(70, 64, seed=1), rand(70, seed=2))),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(3, 8)), error="inner dimensions differ"), Sample((rand(5, 7), rand(3, 7), rand(4)), error="bias")],
    tolerance={"float32": 1e-5, "float64": 1e-12},
    onnx="Gemm",
)  # fmt: skip
def linear(x: Node, weight: Node, bias: Node | None = None) -> Node:
    """``x @ weight.T + bias``: x (..., in), weight (out, in), bias (out,) -> (..., out). As torch's ``linear``."""
    if weight.ndim != 2 or x.ndim < 1:
        raise ShapeError(f"x (..., in) and weight (out, in) expected, not {show(x.shape)} and {show(weight.shape)}")
    if x.shape[-1] != weight.shape[1]:
        raise ShapeError(f"inner dimensions differ: x {show(x.shape)} and weight {show(weight.shape)} (out, in)")
    out = dot_general(x, weight, ((x.ndim - 1,), (1,)))
    if bias is None:
        return out
    if bias.shape != weight.shape[:1]:
        raise ShapeError(f"bias {show(bias.shape)} does not fit weight {show(weight.shape)}: it must be {show(weight.shape[:1])}")
    return out + bias


# -- randomness ----------------------------------------------------------------------------------------------------------
@sugar
def uniform(seed: Node, step: Node, shape: Sequence[Size], stream: int, dtype: DType | str = float32) -> Node:
    """Uniform numbers in [0, 1): the high 24 of 32 random bits times 2^-24, so they are the same in every dtype."""
    bits = random_bits(seed, step, shape, stream)
    out: Node = bits.shift_right(np.uint32(8)).cast(as_dtype(dtype)) * 2.0**-24
    return out


def _dropout_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    p = attrs["p"] = float(attrs["p"])
    attrs["stream"] = int(attrs["stream"]) & 0xFFFFFFFF
    if not 0.0 <= p <= 1.0:
        raise TraceError(f"p = {p} is no probability")
    x = ins[0]
    if x is not None and not x.dtype.is_float:
        raise DTypeError(f"x must be float, not {x.type}")


_seed = np.array([1, 2], np.uint32)


@composite(
    "dropout",
    prepare=_dropout_prepare,
    # linear in x: the cotangent goes through the same mask
    grad=lambda n, g: (lookup("dropout").call(g, *n.inputs[1:], **n.attrs), None, None),
    samples=lambda: [Sample((rand(*s), _seed, np.int64(7)), {"p": p, "stream": 9}) for s, p in (((5, 7), 0.5), ((130,), 0.1), ((3,), 0.0), ((4,), 1.0), ((0, 3), 0.5))],
    errors=lambda: [Sample((rand(3), _seed, np.int64(7)), {"p": 1.5}, error="probability")],
    onnx="Dropout",
)  # fmt: skip
def dropout(x: Node, seed: Node, step: Node, p: float = 0.5, stream: int = 0) -> Node:
    """0 with probability ``p``, else ``x / (1 - p)`` (Srivastava et al. 2014, scaled so that the mean stays).

    ``seed`` (uint32[2]), ``step`` and ``stream`` name the random numbers: the same three give the same mask, on every target.
    """
    if p == 0.0:
        return x
    if p == 1.0:
        return broadcast_to(constant(0.0, x.dtype), x.shape)
    kept = le(p, uniform(seed, step, x.shape, stream, x.dtype))
    return where(kept, x * (1.0 / (1.0 - p)), 0.0)
