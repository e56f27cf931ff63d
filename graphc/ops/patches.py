"""Patches of images as columns and back (im2col, col2im): each is the other's gradient."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..errors import ShapeError
from ..ir.dims import Size, floordiv, prod
from ..ir.dtypes import int32
from ..ir.node import Node
from ..ir.op import Sample, lookup
from .define import composite, rand, show
from .generate import iota
from .indexing import take
from .views import pad, reshape, transpose
from .views import slice as slice_
from .windows import fits, per_axis, window_size

__all__ = ["fold", "unfold"]

_SETTINGS = ("kernel_size", "dilation", "padding", "stride")


def _prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    for k in _SETTINGS:
        attrs[k] = per_axis(attrs[k], 2, k)
    if min((*attrs["kernel_size"], *attrs["dilation"], *attrs["stride"])) < 1 or min(attrs["padding"]) < 0:
        raise ShapeError("kernel_size, dilation and stride must be positive, padding not negative")
    x = ins[0]
    assert x is not None
    if "output_size" in attrs:
        attrs["output_size"] = per_axis(attrs["output_size"], 2, "output_size")
    elif x.ndim > 2:
        ins[0] = fits(x, attrs["kernel_size"], attrs["dilation"], [(p, p) for p in attrs["padding"]], "the kernel")


def _windows(
    sizes: Sequence[Size], kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> list[Size]:
    """How many patches fit along each axis."""
    counts = [window_size(n, k, s, p, p, d) for n, k, d, p, s in zip(sizes, kernel, dilation, padding, stride, strict=True)]
    if any(isinstance(c, int) and c < 1 for c in counts):
        raise ShapeError(f"images {show(tuple(sizes))} with padding {tuple(padding)} are smaller than the kernel {tuple(kernel)}")
    return counts


def _other(name: str, n: Node, g: Node, **more: Any) -> tuple[Node]:
    return (lookup(name).call(g, **{k: n.attrs[k] for k in _SETTINGS}, **more),)


@composite(
    "unfold", inputs=1, prepare=_prepare, method=False, grad=lambda n, g: _other("fold", n, g, output_size=n.inputs[0].shape[-2:]),
    samples=lambda: [
        Sample((rand(2, 3, 4, 5), 2)), Sample((rand(1, 2, 5, 7), (3, 2)), {"stride": 2, "padding": (1, 0)}), Sample((rand(2, 6, 6), 2), {"dilation": (3, 2)}), Sample((rand(0, 2, 3, 3), 2)),
    ],
    errors=lambda: [Sample((rand(3, 4), 2), error="expected"), Sample((rand(1, 2, 2, 2), 3), error="smaller"), Sample((rand(1, 2, 2, 2), 0), error="positive")],
)  # fmt: skip
def unfold(x: Node, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Node:
    """Patches of images as columns: (N, C, H, W) or (C, H, W) -> (N, C kh kw, patches), as torch's ``unfold``; the weights of a convolution times these are the convolution.

    Raises ShapeError where no patch fits.
    """
    if x.ndim not in (3, 4):
        raise ShapeError(f"images (N, C, H, W) expected, not {show(x.shape)}")
    lead = x.shape[:-2]
    k = len(lead)
    counts = _windows(x.shape[-2:], kernel_size, dilation, padding, stride)
    x = pad(x, (*(0,) * k, *padding), (*(0,) * k, *padding))
    for axis in (0, 1):
        shape = (kernel_size[axis], counts[axis])
        x = take(x, iota(shape, 0, int32) * dilation[axis] + iota(shape, 1, int32) * stride[axis], k + 2 * axis)
    x = transpose(x, (*range(k), k, k + 2, k + 1, k + 3))  # (*lead, kh, kw, oh, ow)
    return reshape(x, (*lead[:-1], lead[-1] * prod(kernel_size), prod(counts)))


@composite(
    "fold", inputs=1, prepare=_prepare, method=False, grad=lambda n, g: _other("unfold", n, g), tolerance={"float32": 5e-6, "float64": 1e-12},
    samples=lambda: [
        Sample((rand(2, 12, 12), (4, 5), 2)), Sample((rand(1, 12, 9), (5, 7), (3, 2)), {"stride": 2, "padding": (1, 0)}), Sample((rand(8, 12), 6, 2), {"dilation": (3, 2)}), Sample((rand(0, 8, 4), 3, 2)),
    ],
    errors=lambda: [Sample((rand(1, 2, 3, 4), 4, 2), error="expected"), Sample((rand(1, 8, 5), 3, 2), error="4 patches"), Sample((rand(1, 6, 4), 3, 2), error="divide")],
)  # fmt: skip
def fold(x: Node, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Node:
    """Columns put back as patches, summed where they overlap: (N, C kh kw, patches) or (C kh kw, patches) -> (N, C, *output_size), as torch's ``fold``."""
    if x.ndim not in (2, 3):
        raise ShapeError(f"columns (N, C kh kw, patches) expected, not {show(x.shape)}")
    lead, channels = x.shape[:-2], floordiv(x.shape[-2], prod(kernel_size))
    if channels * prod(kernel_size) != x.shape[-2]:
        raise ShapeError(f"{x.shape[-2]} rows do not divide by the kernel {tuple(kernel_size)}")
    counts = _windows(output_size, kernel_size, dilation, padding, stride)
    if prod(counts) != x.shape[-1]:
        raise ShapeError(f"{x.shape[-1]} columns where images {show(tuple(output_size))} have {prod(counts)} patches")
    k = len(lead) + 1
    parts = reshape(x, (*lead, channels, *kernel_size, *counts))
    total: Node | None = None
    for offset in itertools.product(*map(range, kernel_size)):
        part = slice_(parts, (*(0,) * k, *offset, 0, 0), (*lead, channels, 1, 1, *counts))
        low = [o * d for o, d in zip(offset, dilation, strict=True)]
        high = [n + 2 * p - lo - (c - 1) * s - 1 for n, p, lo, c, s in zip(output_size, padding, low, counts, stride, strict=True)]
        part = pad(reshape(part, (*lead, channels, *counts)), (*(0,) * k, *low), (*(0,) * k, *high), (*(0,) * k, *(s - 1 for s in stride)))
        total = part if total is None else total + part
    assert total is not None
    return slice_(total, (*(0,) * k, *padding), (*lead, channels, *output_size))
