"""Where a token stands: sines, rotations and linear biases, all computed from the index, so that lengths may be named."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Size
from ..ir.dtypes import DType, as_dtype, float32, float64
from ..ir.node import Node
from ..ir.op import Sample, sugar
from .define import as_node, composite, rand, show
from .elementwise import absolute
from .generate import iota
from .indexing import sample_indices
from .transcendental import cos, sin
from .views import concat, expand_dims, getitem, reshape, stack

__all__ = ["alibi", "rotary_embedding", "sinusoidal_positions"]


def _frequencies(dim: int, base: float) -> np.ndarray:
    """``base^(-2i / dim)`` for each pair of features."""
    return np.asarray(base ** (-2.0 * np.arange(dim // 2) / dim))


def _even(dim: Any, what: str) -> int:
    if not isinstance(dim, (int, np.integer)) or dim < 2 or dim % 2:
        raise ShapeError(f"{what} must be an even number, not {dim}")
    return int(dim)


def _angles(positions: Node, dim: int, base: float) -> Node:
    """(..., dim/2) in float64: float32 would lose four digits of the phase after some thousand tokens."""
    return expand_dims(positions.cast(float64), -1) * as_node(_frequencies(dim, base))


@sugar
def sinusoidal_positions(length: Size, dim: int, base: float = 10000.0, dtype: DType | str = float32) -> Node:
    """The positional encoding of Vaswani et al. (2017), section 3.5, to be added to embeddings: (length, dim).

    ``[p, 2i] = sin(p / base^(2i/dim))`` and ``[p, 2i+1] = cos`` of the same angle.
    """
    dim = _even(dim, "sinusoidal_positions: dim")
    angles = _angles(iota((length,), 0), dim, base)
    pairs = stack([sin(angles), cos(angles)], -1)
    out: Node = reshape(pairs, (length, dim)).cast(as_dtype(dtype))
    return out


def _rotary_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, positions = ins
    assert x is not None
    if not x.dtype.is_float:
        raise DTypeError(f"x must be float, not {x.type}")
    if x.ndim < 2:
        raise ShapeError(f"x (..., L, E) expected, not {show(x.shape)}")
    _even(x.shape[-1], "the number of features")
    if positions is not None and (positions.ndim > x.ndim - 1 or positions.ndim < 1 or not positions.dtype.is_int):
        raise ShapeError(f"positions must be integers that broadcast to {show(x.shape[:-1])}, not {positions.type}")
    attrs["base"] = float(attrs["base"])


@composite(
    "rotary_embedding",
    inputs=2,
    prepare=_rotary_prepare,
    samples=lambda: [
        Sample((rand(2, 3, 5, 4),)), Sample((rand(5, 6),), {"interleaved": True}), Sample((rand(2, 3, 8), sample_indices(3, high=50)), {"base": 100.0}), Sample((rand(0, 3, 2),)),
        Sample((rand(2, 2, 3, 4), sample_indices(2, 1, 3, high=9, dtype=np.int64)), {"interleaved": True}), Sample((rand(1, 34),)),
    ],
    errors=lambda: [Sample((rand(5, 7),), error="even number"), Sample((rand(4),), error="(..., L, E)"), Sample((rand(5, 4), rand(5)), error="integers")],
    tolerance={"float32": 2e-6, "float64": 1e-12},
    onnx="RotaryEmbedding",
)  # fmt: skip
def rotary_embedding(x: Node, positions: Node | None = None, base: float = 10000.0, interleaved: bool = False) -> Node:
    """Rotary position embedding (Su et al. 2021): pairs of features of x (..., L, E) turned by ``p * base^(-2i/E)``.

    Products of two vectors turned so depend on their distance only. ``p`` is the index on axis -2 or ``positions``, which broadcast
    to (..., L). Pair i is the features i and i + E/2 (GPT-NeoX, LLaMA), with ``interleaved`` 2i and 2i + 1 (the paper).
    """
    *lead, length, size = x.shape
    assert isinstance(size, int)
    angles = _angles(iota((length,), 0) if positions is None else positions, size, base)
    c, s = cos(angles).cast(x.dtype), sin(angles).cast(x.dtype)
    if interleaved:
        pairs = reshape(x, (*lead, length, size // 2, 2))
        a, b = getitem(pairs, (..., 0)), getitem(pairs, (..., 1))
        return reshape(stack([a * c - b * s, b * c + a * s], -1), x.shape)
    a, b = getitem(x, (..., slice(size // 2))), getitem(x, (..., slice(size // 2, None)))
    return concat([a * c - b * s, b * c + a * s], -1)


def _slopes(heads: int) -> list[float]:
    """2^(-8/h), 2^(-16/h), ...; between two powers of two, those of the smaller and every second one of the larger."""
    whole = 2 ** (heads.bit_length() - 1)
    own = [2.0 ** (-8.0 * (i + 1) / whole) for i in range(whole)]
    return own if whole == heads else own + _slopes(2 * whole)[::2][: heads - whole]


@sugar
def alibi(heads: int, length: Size, size: Size | None = None, dtype: DType | str = float32) -> Node:
    """Attention with linear biases (Press et al. 2022): a float mask (heads, length, size) of ``-slope |i - j|``.

    The slopes are 2^(-8/h) to 2^-8 for h heads, a power of two; for others as in the authors' code.
    """
    if heads < 1:
        raise ShapeError(f"alibi: {heads} heads")
    kind, shape = as_dtype(dtype), (length, length if size is None else size)
    distance = absolute(iota(shape, 0) - iota(shape, 1)).cast(kind)
    out: Node = distance * as_node(-np.array(_slopes(heads), kind.numpy).reshape(heads, 1, 1))
    return out
