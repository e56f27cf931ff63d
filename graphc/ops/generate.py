"""Values computed from their index alone: iota and counter-based random bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Size, evaluate
from ..ir.dtypes import DType, as_dtype, int32, uint32
from ..ir.node import Node
from ..ir.op import Sample, lookup
from ..ir.types import Shape, TensorType
from ..loops import scalar as s
from .define import normal_axis, primitive

__all__ = ["iota", "random_bits"]


def _iota_call(shape: Sequence[Size], axis: int = -1, dtype: Any = int32) -> Node:
    """An array of ``shape`` whose elements are their index along ``axis``."""
    shape = tuple(shape)
    return Node.make(lookup("iota"), (), shape=shape, axis=normal_axis(axis, len(shape)), dtype=as_dtype(dtype))


def _iota_numpy(*, shape: Shape, axis: int, dtype: DType, dims: Any = None) -> np.ndarray:
    sizes = tuple(evaluate(d, dims or {}) for d in shape)
    line = np.arange(sizes[axis], dtype=dtype.numpy).reshape([-1 if i == axis else 1 for i in range(len(sizes))])
    return np.broadcast_to(line, sizes)


iota = primitive(
    "iota", "generate", _iota_call.__doc__ or "", _iota_call, lambda *, shape, axis, dtype: TensorType(shape, dtype),
    numpy=_iota_numpy, lower=lambda b, n, idx: s.index_value(idx[n.attrs["axis"]]).cast(n.dtype),
    grad="an index does not depend on values", method=False, cost=1,
    samples=lambda: [Sample((), {"shape": (5, 7), "axis": 1}), Sample((), {"shape": (33,), "axis": 0, "dtype": "float32"})],
)  # fmt: skip


# -- Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") --------------------------------------
_M0, _M1, _W0, _W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85


def philox_numpy(counter: Sequence[np.ndarray], key: Sequence[int]) -> list[np.ndarray]:
    """The four words of Philox4x32-10 for uint32 counters and a 2-word key."""
    c = [np.asarray(x, np.uint64) for x in counter]
    k0, k1 = int(key[0]), int(key[1])
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(_M0), c[2] * np.uint64(_M1)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return [x.astype(np.uint32) for x in c]


def _bits_numpy(seed: np.ndarray, step: np.ndarray, *, shape: Shape, stream: int, dims: Any = None, trip: int = 0) -> np.ndarray:
    sizes = tuple(evaluate(d, dims or {}) for d in shape)
    e = np.arange(int(np.prod(sizes, dtype=int)), dtype=np.uint64).reshape(sizes)
    zero = np.zeros_like(e)
    words = philox_numpy([e >> np.uint64(2), zero + np.uint64(stream), zero + np.uint64(int(step) & 0xFFFFFFFF), zero + np.uint64(trip)], [int(seed[0]), int(seed[1])])
    return np.choose((e & np.uint64(3)).astype(np.intp), words).astype(np.uint32) if e.size else np.zeros(sizes, np.uint32)


def _bits_lower(b: Any, n: Node, idx: tuple[Size, ...]) -> Any:
    seed, step = n.inputs
    e = s.index_value(b.flat(idx, n.shape)).cast(uint32)
    c = [e >> 2, s.arg(("stream", n.attrs["stream"]), uint32), b.value(step, ()).cast(uint32), b.trip().cast(uint32)]
    k = [b.value(seed, (0,)), b.value(seed, (1,))]
    for _ in range(10):
        lo0, hi0, lo1, hi1 = c[0] * _M0, c[0].mulhi(_M0), c[2] * _M1, c[2].mulhi(_M1)
        c = [hi1 ^ c[1] ^ k[0], lo1, hi0 ^ c[3] ^ k[1], lo0]
        k = [k[0] + _W0, k[1] + _W1]
    word = e & 3
    return word.eq(0).select(c[0], word.eq(1).select(c[1], word.eq(2).select(c[2], c[3])))


def _bits_infer(seed: TensorType, step: TensorType, *, shape: Shape, stream: int) -> TensorType:
    if seed != TensorType((2,), uint32):
        raise DTypeError(f"the seed must be u32[2], not {seed}")
    if step.shape != () or not step.dtype.is_int:
        raise ShapeError(f"the step must be an integer scalar, not {step}")
    return TensorType(shape, uint32)


def _bits_call(seed: Node, step: Node, shape: Sequence[Size], stream: int) -> Node:
    """Random words by Philox4x32-10: key = ``seed`` (uint32[2]), counter = (e >> 2, ``stream``, ``step``, scan trip), word e & 3.

    ``e`` is the row-major index in ``shape``, so the bits depend on neither layout, thread count nor device.
    """
    return Node.make(lookup("random_bits"), (seed, step), shape=tuple(shape), stream=int(stream) & 0xFFFFFFFF)


random_bits = primitive(
    "random_bits", "generate", _bits_call.__doc__ or "", _bits_call, _bits_infer, numpy=_bits_numpy, lower=_bits_lower,
    grad="random bits do not depend on values", method=False, cost=60,
    samples=lambda: [Sample((np.array([1, 2], np.uint32), np.uint32(7)), {"shape": s, "stream": 5}) for s in ((5, 7), (130,), (), (0, 3))],
)  # fmt: skip
