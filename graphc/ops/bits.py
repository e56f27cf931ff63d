"""Bits of integers and bools: and, or, xor, not and shifts; exclusive or of truth values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from .define import elementwise, rand

__all__ = ["bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "logical_xor", "shift_left"]

_no = "bit operations have no gradient"


def _integers(*shape: int, dtype: Any = np.int32, low: int = -1000, high: int = 1000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).integers(low, high, shape).astype(dtype)


def _pairs() -> list[Sample]:
    return [
        Sample((_integers(5, 7), _integers(5, 7, seed=1))), Sample((_integers(33), np.int32(6))), Sample((_integers(0), _integers(0))),
        Sample((_integers(2, 1, 19, low=0, high=255, dtype=np.uint8), _integers(3, 1, low=0, high=255, dtype=np.uint8))),
        Sample((_integers(9, dtype=np.int64), _integers(9, dtype=np.int64, seed=1))), Sample((rand(5, 7) > 0, rand(5, 7, seed=1) > 0)),
    ]  # fmt: skip


def _bitwise(name: str, scalar: Callable[..., Any], numpy: Any, sign: str) -> Callable[..., Node]:
    return elementwise(
        name, 2, scalar=scalar, numpy=numpy, commutative=True, grad=_no, kinds="iub", samples=_pairs, doc=f"``x {sign} y`` of integers, bit by bit, or of bools.",
        errors=lambda: [Sample((rand(3), rand(3)), error="not supported")],
    )  # fmt: skip


bitwise_and = _bitwise("bitwise_and", lambda x, y: x & y, np.bitwise_and, "&")
bitwise_or = _bitwise("bitwise_or", lambda x, y: x | y, np.bitwise_or, "|")
bitwise_xor = _bitwise("bitwise_xor", lambda x, y: x ^ y, np.bitwise_xor, "^")
bitwise_not = elementwise(
    "bitwise_not", 1, scalar=lambda x: ~x, numpy=np.invert, grad=_no, kinds="iub", doc="``~x`` of integers, bit by bit, or of bools.",
    samples=lambda: [Sample((_integers(5, 7),)), Sample((_integers(33, low=0, high=255, dtype=np.uint8),)), Sample((rand(19) > 0,))],
)  # fmt: skip
logical_xor = elementwise(
    "logical_xor", 2, scalar=lambda x, y: x ^ y, numpy=np.logical_xor, commutative=True, grad=_no, kinds="b", doc="Where exactly one of the two holds.",
    samples=lambda: [Sample((rand(5, 7) > 0, rand(5, 7, seed=1) > 0))],
)  # fmt: skip
shift_left = elementwise(
    "shift_left", 2, scalar=lambda x, y: x << y, numpy=np.left_shift, grad=_no, kinds="iu", doc="``x << y``; bits that leave the type are lost.",
    samples=lambda: [Sample((np.arange(35, dtype=np.uint32) * np.uint32(123456789), np.uint32(8))), Sample((np.arange(-9, 9, dtype=np.int32), np.int32(1)))],
)  # fmt: skip

sugar(bitwise_not, "invert")
sugar(shift_left, "left_shift")
sugar(lookup("shift_right").call, "right_shift")
