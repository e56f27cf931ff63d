"""Convolution (cross-correlation) over any number of axes; its gradients are convolutions again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Size, cdiv, evaluate, floordiv, prod
from ..ir.dtypes import promote
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from ..loops.fold import Fold
from .define import as_node, composite, primitive, rand, show
from .views import expand_dims, flip, reshape, squeeze, transpose
from .windows import fits, per_axis, window_size

__all__ = ["conv", "conv_transpose", "convolve", "correlate", "padding_of"]

Pads = tuple[tuple[Size, Size], ...]


def padding_of(padding: Any, kernel: Sequence[Size], stride: Sequence[int], dilation: Sequence[int]) -> Pads:
    """(low, high) of each spatial axis: what the argument ``padding`` of :func:`conv` means."""
    rank = len(kernel)
    if isinstance(padding, str):
        return _named_pads(padding, [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)], stride)
    each = (padding,) * rank if isinstance(padding, (int, np.integer)) else tuple(padding)
    if len(each) != rank:
        raise ShapeError(f"padding={padding!r} must have {rank} entries, one for each spatial axis")
    pads = tuple((int(p), int(p)) if isinstance(p, (int, np.integer)) else (int(p[0]), int(p[1])) for p in each)
    if any(p < 0 for two in pads for p in two):
        raise ShapeError(f"padding={padding!r} must not be negative", hint="slice x instead")
    return pads


def _named_pads(padding: str, reach: Sequence[Size], stride: Sequence[int]) -> Pads:
    """``reach`` is how far each kernel reaches beyond its first element."""
    if padding == "valid":
        return ((0, 0),) * len(reach)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ShapeError(f"padding='same' needs a stride of 1, not {tuple(stride)}", hint="give the padding as numbers")
        return tuple((floordiv(r, 2), r - floordiv(r, 2)) for r in reach)
    if padding == "causal":
        if len(reach) != 1:
            raise ShapeError("padding='causal' is for one spatial axis")
        return ((reach[0], 0),)
    raise ShapeError(f"padding={padding!r}", hint="an int, one for each axis, or 'valid', 'same' or 'causal'")


def _call(x: Any, weight: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, input_dilation: Any = 1, groups: int = 1) -> Node:
    """Cross-correlation: x (N, C, *S), weight (O, C/groups, *K) -> (N, O, *P); with an image, (N, C, H, W), as torch's ``conv2d``.

    ``out[n, o, p] = sum over c, k of x[n, c, p * stride - low + k * dilation] * weight[o, c, k]``; the kernel is not flipped.
    ``padding`` is an int, or per axis an int or (low, high), or "valid" (none), "same" (the output is as large as x; stride 1)
    or "causal" (one axis, all of it before x: an output sees nothing later). ``input_dilation`` puts that many minus one zeros
    between the elements of x (a transposed convolution). Sizes: ``floor((S + low + high - (dilation (K - 1) + 1)) / stride) + 1``.
    """
    a, w = as_node(x), as_node(weight)
    rank = a.ndim - 2
    if rank < 1 or w.ndim != a.ndim:
        raise ShapeError(f"x (N, C, *spatial) and weight (O, C/groups, *kernel) expected, not {show(a.shape)} and {show(w.shape)}")
    steps, holes = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
    pads = padding_of(padding, w.shape[2:], steps, holes)
    dtype = promote(a.dtype, w.dtype)
    spread = per_axis(input_dilation, rank, "input_dilation")
    if max(spread) == 1:
        a = fits(a, w.shape[2:], holes, pads, "the kernel")
    return _make(a.cast(dtype), w.cast(dtype), steps, pads, holes, spread, int(groups))


def _make(
    x: Node, w: Node, stride: Sequence[int], padding: Pads, dilation: Sequence[int], input_dilation: Sequence[int], groups: int
) -> Node:
    return Node.make(
        lookup("conv"), (x, w), stride=tuple(stride), padding=tuple(padding), dilation=tuple(dilation), input_dilation=tuple(input_dilation), groups=groups
    )  # fmt: skip


def _dilated(size: Size, step: int) -> Size:
    return (size - 1) * step + 1 if step != 1 else size


def _infer(x: TensorType, w: TensorType, *, stride: Any, padding: Pads, dilation: Any, input_dilation: Any, groups: int) -> TensorType:
    if x.dtype != w.dtype:
        raise DTypeError(f"operands have dtypes {x.dtype} and {w.dtype}")
    if not x.dtype.is_float:
        raise DTypeError(f"{x.dtype} operands are not supported", hint="cast to float32")
    if min((*stride, *dilation, *input_dilation, groups)) < 1:
        raise ShapeError("stride, dilation and groups must be positive")
    channels, outs = x.shape[1], w.shape[0]
    if isinstance(outs, int) and outs % groups:
        raise ShapeError(f"{outs} output channels do not divide into {groups} groups")
    if w.shape[1] * groups != channels:
        each = f"{w.shape[1]} channels in each of {groups} groups" if groups > 1 else f"{w.shape[1]} channels"
        raise ShapeError(f"x {show(x.shape)} has {channels} channels, weight {show(w.shape)} takes {each}")
    shape: list[Size] = [x.shape[0], outs]
    for axis, (size, k, s, (lo, hi), d, a) in enumerate(
        zip(x.shape[2:], w.shape[2:], stride, padding, dilation, input_dilation, strict=True)
    ):
        out = window_size(_dilated(size, a), k, s, lo, hi, d)
        if isinstance(out, int) and out < 1:
            raise ShapeError(
                f"spatial axis {axis} of x {show(x.shape)} is smaller than the kernel of weight {show(w.shape)}: size {size}, padding {(lo, hi)}",
                hint="padding=, a smaller kernel, or less pooling before it",
            )
        shape.append(out)
    return TensorType(tuple(shape), x.dtype)


def _numpy(
    x: np.ndarray, w: np.ndarray, *, stride: Any, padding: Pads, dilation: Any, input_dilation: Any, groups: int, dims: Any = None
) -> np.ndarray:
    rank = x.ndim - 2
    axes = tuple(range(2, 2 + rank))
    pads = [(evaluate(lo, dims or {}), evaluate(hi, dims or {})) for lo, hi in padding]
    holes = np.zeros(
        (*x.shape[:2], *(max((n - 1) * a + 1, 0) if n else 0 for n, a in zip(x.shape[2:], input_dilation, strict=True))), x.dtype
    )
    index: tuple[Any, ...] = (..., *(np.s_[::a] for a in input_dilation))
    holes[index] = x
    padded = np.pad(holes, [(0, 0), (0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in pads)])
    crop = (np.s_[max(-lo, 0) : n - max(-hi, 0)] for (lo, hi), n in zip(pads, padded.shape[2:], strict=True))  # negative pads cut away
    inside: tuple[Any, ...] = (..., *crop)
    padded = padded[inside]
    spans = tuple((k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True))
    outs = [max((n - k) // s + 1, 0) for n, k, s in zip(padded.shape[2:], spans, stride, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *outs), x.dtype)
    if not out.size or not w.size:
        return out
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)
    steps: tuple[Any, ...] = (..., *(np.s_[::s] for s in stride), *(np.s_[::d] for d in dilation))
    view = view[steps]
    cg, og = w.shape[1], w.shape[0] // groups
    kernel = tuple(range(2 + rank, 2 + 2 * rank))
    for i in range(groups):
        part = np.tensordot(view[:, i * cg : (i + 1) * cg], w[i * og : (i + 1) * og], ((1, *kernel), (1, *axes)))
        out[:, i * og : (i + 1) * og] = np.moveaxis(part, -1, 1)
    return out


def _phases(node: Node) -> list[int]:
    """How many phases the result has along each spatial axis: with holes between elements of x, places that are as far apart as those see
    the same elements of the kernel, and the others no others. 1 where that is not so regular."""
    a = node.attrs
    regular = (
        s == 1 and isinstance(lo, int) and math.gcd(d, hole) == 1 and floordiv(out, hole) * hole == out
        for s, (lo, _), d, hole, out in zip(a["stride"], a["padding"], a["dilation"], a["input_dilation"], node.shape[2:], strict=True)
    )
    return [hole if yes else 1 for yes, hole in zip(regular, a["input_dilation"], strict=True)]


def _nest(b: Any, node: Node) -> Fold:
    x, w = node.inputs
    a = node.attrs
    groups, phases = a["groups"], _phases(node)
    each = floordiv(w.shape[0], groups)

    def split(outer: tuple[Size, ...]) -> list[tuple[Size, Size]]:
        """Of each spatial axis, the period in which a place lies and its phase."""
        left = iter(outer[3:])
        return [(next(left), next(left) if n > 1 else 0) for n in phases]

    def place(outer: tuple[Size, ...]) -> tuple[Size, ...]:
        return (outer[0], outer[1] * each + outer[2], *(q * n + r for n, (q, r) in zip(phases, split(outer), strict=True)))

    def value(b: Any, outer: tuple[Size, ...], inner: tuple[Size, ...]) -> Any:
        n, group = outer[:2]
        c, *offset = inner
        index: list[Size] = [n, group * w.shape[1] + c]
        kernel: list[Size] = []
        conditions, both = [], []
        for count, (q, r), k, s, (lo, hi), d, hole, size, taps in zip(
            phases, split(outer), offset, a["stride"], a["padding"], a["dilation"], a["input_dilation"], x.shape[2:], w.shape[2:], strict=True
        ):
            if count > 1:  # the first element of the kernel that meets one of x, and every so manieth after it
                first = (lo - r) * pow(d, -1, hole)
                k = first - floordiv(first, hole, b.ranges) * hole + k * hole
                if floordiv(taps, hole) * hole != taps:
                    both.append(b.inside(k, taps))
            at = (q * count + r) * s - lo + k * d
            kernel.append(k)
            inside = b.inside(floordiv(at, hole, b.ranges), size) if count > 1 else b.inside(at, _dilated(size, hole))
            # without padding every window lies inside by the size rule
            if not (isinstance(lo, int) and lo <= 0 and isinstance(hi, int) and hi <= 0):
                conditions.append(inside)
            if hole != 1:
                conditions += [] if count > 1 else [b.divisible(at, hole)]
                at = floordiv(at, hole, b.ranges)
            index.append(at)
        return b.guarded(x, tuple(index), both + conditions, 0) * b.guarded(w, (group * each + outer[2], c, *kernel), both, 0)

    spatial = (s for out, n in zip(node.shape[2:], phases, strict=True) for s in ((floordiv(out, n), n) if n > 1 else (out,)))
    taps = (cdiv(k, n) for k, n in zip(w.shape[2:], phases, strict=True))
    return Fold((node.shape[0], groups, each, *spatial), (w.shape[1], *taps), value, "add", 0.0, place)


# -- gradients: an index p * stride = j * hole + low - k * dilation read from the other side ---------------------------------
def _grad(n: Node, g: Node) -> tuple[Node, Node]:
    return _grad_x(n, g), _grad_w(n, g)


def _split(x: Node, axis: int, groups: int) -> Node:
    return reshape(x, (*x.shape[:axis], groups, floordiv(x.shape[axis], groups), *x.shape[axis + 1 :]))


def _turned(w: Node, groups: int) -> Node:
    """(O, C/groups, *K) -> (C, O/groups, *K): the kernel flipped and its channels exchanged, group by group."""
    for axis in range(2, w.ndim):
        w = flip(w, axis)
    w = transpose(_split(w, 0, groups), (0, 2, 1, *range(3, w.ndim + 1)))  # (groups, C/groups, O/groups, *K)
    return reshape(w, (w.shape[0] * w.shape[1], *w.shape[2:]))


def _grad_x(n: Node, g: Node) -> Node:
    """The convolution of g, with the stride as holes, by the kernel flipped and with its channels exchanged."""
    x, w = n.inputs
    a = n.attrs
    groups = a["groups"]
    pads = []
    for size, k, out, s, (lo, _), d, hole in zip(
        x.shape[2:], w.shape[2:], n.shape[2:], a["stride"], a["padding"], a["dilation"], a["input_dilation"], strict=True
    ):
        pads.append(((k - 1) * d - lo, (size - 1) * hole - (out - 1) * s + lo))
    return _make(g, _turned(w, groups), a["input_dilation"], tuple(pads), a["dilation"], a["stride"], groups)


def _grad_w(n: Node, g: Node) -> Node:
    """The convolution of x by g, where batch and channels exchange their places: the batch is summed over."""
    x, w = n.inputs
    a = n.attrs
    groups = a["groups"]
    rest = tuple(range(3, x.ndim + 1))
    left = transpose(_split(x, 1, groups), (2, 1, 0, *rest))  # (C/groups, groups, N, *S)
    left = reshape(left, (left.shape[0], x.shape[0] * groups, *x.shape[2:]))
    right = transpose(g, (1, 0, *range(2, g.ndim)))  # (O, N, *P)
    pads = []
    for size, k, out, s, (lo, _), d, hole in zip(
        x.shape[2:], w.shape[2:], n.shape[2:], a["stride"], a["padding"], a["dilation"], a["input_dilation"], strict=True
    ):
        pads.append((lo, (k - 1) * d - (size - 1) * hole - lo + (out - 1) * s))
    dw = _make(left, right, a["dilation"], tuple(pads), a["stride"], a["input_dilation"], groups)  # (C/groups, O, *K)
    return transpose(dw, (1, 0, *range(2, dw.ndim)))


conv = primitive(
    "conv", "contract", _call.__doc__ or "", _call, _infer, numpy=_numpy, nest=_nest, grad=_grad, onnx="Conv",
    flops=lambda n: 2 * n.size * prod(n.inputs[1].shape[1:]), tolerance={"float32": 1e-5, "float64": 1e-12},
    samples=lambda: [
        Sample((rand(2, 3, 6, 8), rand(4, 3, 3, 3, seed=1))), Sample((rand(2, 3, 7, 9), rand(4, 3, 3, 3, seed=1)), {"stride": 2, "padding": 1}),
        Sample((rand(1, 4, 5, 5), rand(6, 2, 3, 2, seed=1)), {"groups": 2, "padding": ((1, 0), (0, 1))}), Sample((rand(2, 3, 19), rand(5, 3, 4, seed=1)), {"dilation": 2, "stride": 3}),
        Sample((rand(2, 3, 5, 4), rand(4, 3, 3, 3, seed=1)), {"input_dilation": (2, 3), "padding": 2}), Sample((rand(1, 4, 6, 6), rand(4, 1, 3, 3, seed=1)), {"groups": 4}),
        Sample((rand(2, 3, 4, 4), rand(5, 3, 1, 1, seed=1))), Sample((rand(1, 2, 4, 5, 6), rand(3, 2, 2, 3, 2, seed=1)), {"stride": (1, 2, 2), "padding": 1}),
        Sample((rand(2, 2, 7), rand(4, 2, 3, seed=1)), {"padding": "causal", "dilation": 2}), Sample((rand(1, 2, 4, 5), rand(2, 2, 3, 2, seed=1)), {"padding": "same"}),
        Sample((rand(1, 2, 5, 4, 5), rand(4, 1, 2, 2, 3, seed=1)), {"padding": ((1, 0), (0, 2), 1), "groups": 2, "dilation": (2, 1, 1), "stride": 2}),
        Sample((rand(1, 4, 6), rand(2, 2, 3, seed=1)), {"padding": ((2, 1),), "input_dilation": 2, "dilation": 3, "stride": 2, "groups": 2}), Sample((rand(0, 3, 6, 6), rand(4, 3, 3, 3))), Sample((rand(2, 1, 12, 12), rand(3, 1, 5, 5, seed=1)), {"padding": 2, "stride": (3, 2)}),
    ],
    errors=lambda: [
        Sample((rand(2, 3, 6, 6), rand(4, 2, 3, 3)), error="channels"), Sample((rand(2, 3, 2, 2), rand(4, 3, 3, 3)), error="smaller than the kernel"),
        Sample((rand(3, 6, 6), rand(4, 3, 3, 3)), error="expected"), Sample((rand(2, 3, 6, 6), rand(4, 3, 3, 3)), {"padding": -1}, error="negative"),
        Sample((rand(2, 4, 6, 6), rand(3, 2, 3, 3)), {"groups": 2}, error="groups"), Sample((rand(2, 4, 6, 6), rand(6, 1, 3, 3)), {"groups": 3}, error="3 groups"),
        Sample((rand(2, 3, 6), rand(4, 3, 3)), {"padding": "same", "stride": 2}, error="stride of 1"), Sample((rand(2, 3, 6), rand(4, 3, 3)), {"padding": "full"}, error="padding='full'"),
        Sample((rand(2, 3, 6), rand(4, 3, 3)), {"stride": (1, 1)}, error="stride"), Sample((rand(2, 3, 6, 6), rand(4, 3, 3, 3)), {"padding": "causal"}, error="one spatial axis"),
    ],
)  # fmt: skip


# -- under torch's names, with bias ---------------------------------------------------------------------------------------------
def _batched(x: Node, rank: int, name: str) -> tuple[Node, bool]:
    """``x`` as (N, C, *S), and whether the batch was missing, as torch allows."""
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name}: (N, C, {', '.join('DHW'[3 - rank :] if rank > 1 else 'L')}) expected, not {show(x.shape)}")
    return (expand_dims(x, 0), True) if x.ndim == rank + 1 else (x, False)


def _biased(out: Node, bias: Any, name: str) -> Node:
    """``out`` plus a number for each channel."""
    if bias is None:
        return out
    b = as_node(bias)
    if b.shape != (out.shape[1],):
        raise ShapeError(f"{name}: bias {show(b.shape)} does not fit {out.shape[1]} output channels")
    return out + reshape(b, (out.shape[1], *(1,) * (out.ndim - 2)))


def _define_layers(rank: int) -> None:
    name = f"conv{rank}d"
    axes = "the last axis" if rank == 1 else f"the last {rank} axes"

    def forward(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Node:
        a, alone = _batched(as_node(x), rank, name)
        out = _biased(conv(a, weight, stride, padding, dilation, groups=groups), bias, name)
        return squeeze(out, 0) if alone else out

    def transposed(
        x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1
    ) -> Node:  # fmt: skip
        a, alone = _batched(as_node(x), rank, f"conv_transpose{rank}d")
        out = conv_transpose(a, weight, bias, stride, padding, output_padding, groups, dilation)
        return squeeze(out, 0) if alone else out

    forward.__doc__ = f"Cross-correlation over {axes}, as torch's ``conv{rank}d``: :func:`conv` and a bias (O,); the batch may be missing."
    transposed.__doc__ = f":func:`conv_transpose` over {axes}, as torch's ``conv_transpose{rank}d``; the batch may be missing."
    sugar(forward, name)
    sugar(transposed, f"conv_transpose{rank}d")


# -- transposed ------------------------------------------------------------------------------------------------------------------
def _transpose_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, w = ins[0], ins[1]
    assert x is not None and w is not None
    rank = x.ndim - 2
    if rank < 1 or w.ndim != x.ndim:
        raise ShapeError(f"x (N, C, *spatial) and weight (C, O/groups, *kernel) expected, not {show(x.shape)} and {show(w.shape)}")
    for k in ("stride", "padding", "output_padding", "dilation"):
        attrs[k] = per_axis(attrs[k], rank, k)
    if min((*attrs["stride"], *attrs["dilation"], attrs["groups"])) < 1 or min((*attrs["padding"], *attrs["output_padding"])) < 0:
        raise ShapeError("stride, dilation and groups must be positive, paddings not negative")
    if any(p and p >= max(s, d) for p, s, d in zip(attrs["output_padding"], attrs["stride"], attrs["dilation"], strict=True)):
        raise ShapeError(f"output_padding={attrs['output_padding']} must be smaller than the stride or the dilation")
    if w.shape[0] != x.shape[1]:
        raise ShapeError(f"x {show(x.shape)} has {x.shape[1]} channels, weight {show(w.shape)} takes {w.shape[0]}")
    if isinstance(w.shape[0], int) and w.shape[0] % attrs["groups"]:
        raise ShapeError(f"{w.shape[0]} input channels do not divide into {attrs['groups']} groups")
    dtype = promote(x.dtype, w.dtype)
    ins[0], ins[1] = x.cast(dtype), w.cast(dtype)


@composite(
    "conv_transpose", inputs=3, prepare=_transpose_prepare, onnx="ConvTranspose", tolerance={"float32": 1e-5, "float64": 1e-12},
    samples=lambda: [
        Sample((rand(2, 3, 5), rand(3, 4, 3, seed=1), rand(4, seed=2))), Sample((rand(1, 3, 3, 4), rand(3, 2, 3, 2, seed=1)), {"stride": 2, "padding": (1, 0), "output_padding": (1, 0)}),
        Sample((rand(1, 4, 3, 3), rand(4, 3, 2, 2, seed=1), rand(6, seed=2)), {"groups": 2, "stride": (2, 3)}), Sample((rand(1, 2, 6), rand(2, 2, 3, seed=1)), {"padding": 3, "stride": 2, "dilation": 2}),
        Sample((rand(1, 2, 2, 3, 2), rand(2, 2, 2, 2, 3, seed=1)), {"stride": 2, "padding": 1, "output_padding": (1, 0, 1)}), Sample((rand(0, 3, 4), rand(3, 2, 2, seed=1))), Sample((rand(1, 1, 4), rand(1, 1, 1, seed=1)), {"padding": 1}),
    ],
    errors=lambda: [
        Sample((rand(2, 3, 5), rand(4, 3, 3)), error="channels"), Sample((rand(2, 3, 5), rand(3, 4, 3)), {"output_padding": 1}, error="output_padding"),
        Sample((rand(2, 3, 5), rand(3, 4, 3)), {"groups": 2}, error="groups"), Sample((rand(2, 3, 5), rand(3, 4, 3), rand(3)), error="bias"), Sample((rand(2, 3, 1), rand(3, 4, 1)), {"padding": 1}, error="nothing"),
        Sample((rand(3, 5), rand(3, 4, 3)), error="expected"), Sample((rand(2, 3, 5), rand(3, 4, 3)), {"padding": -1}, error="negative"),
    ],
)  # fmt: skip
def conv_transpose(
    x: Node, weight: Node, bias: Node | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1
) -> Node:  # fmt: skip
    """The transposed (up-) convolution: x (N, C, *S), weight (C, O/groups, *K), bias (O,) -> (N, O, *P), as torch's ``conv_transpose2d``.

    ``out[n, o, s * stride + k * dilation - padding] += x[n, c, s] * weight[c, o, k]``: the gradient of :func:`conv` by its input, so it undoes the
    sizes of a convolution with these arguments. Sizes: ``(S - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1``.
    """
    pads = []
    for size, k, s, p, extra, d in zip(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation, strict=True):
        out = (size - 1) * s - 2 * p + d * (k - 1) + extra + 1
        if isinstance(out, int) and out < 1:
            raise ShapeError(f"nothing is left of x {show(x.shape)}: an output of size {out}")
        pads.append((d * (k - 1) - p, d * (k - 1) - p + extra))
    return _biased(_make(x, _turned(weight, groups), (1,) * len(pads), tuple(pads), dilation, stride, groups), bias, "conv_transpose")


for _rank in (1, 2, 3):
    _define_layers(_rank)


# -- of plain arrays ---------------------------------------------------------------------------------------------------------------
def _plain_pads(x: Node, kernel: Node, mode: str) -> Pads:
    if x.ndim != kernel.ndim or x.ndim < 1:
        raise ShapeError(f"x and kernel must have one rank, not {show(x.shape)} and {show(kernel.shape)}")
    if mode not in ("full", "same", "valid"):
        raise ShapeError(f"mode={mode!r}", hint="'full', 'same' or 'valid'")
    reach = [k - 1 for k in kernel.shape]
    whole: dict[str, list[tuple[Size, Size]]] = {
        "full": [(r, r) for r in reach],
        "same": [(r - floordiv(r, 2), floordiv(r, 2)) for r in reach],
        "valid": [(0, 0) for _ in reach],
    }
    return tuple(whole[mode])


def _plain(x: Node, kernel: Node, mode: str) -> Node:
    one = (1,) * x.ndim
    dtype = promote(x.dtype, kernel.dtype)
    image, weight = (reshape(n.cast(dtype), (1, 1, *n.shape)) for n in (x, kernel))
    out = _make(image, weight, one, _plain_pads(x, kernel, mode), one, one, 1)
    return reshape(out, out.shape[2:])


_PLAIN: list[tuple[tuple[int, ...], tuple[int, ...], str]] = [
    ((5, 6), (3, 3), "full"), ((5, 6), (2, 4), "same"), ((5, 6), (2, 3), "valid"), ((19,), (4,), "same"), ((7,), (7,), "valid"), ((3, 4, 2), (2, 1, 2), "full"), ((1,), (1,), "full"),
]  # fmt: skip


def _plain_samples() -> list[Sample]:
    return [Sample((rand(*a), rand(*k, seed=1), mode)) for a, k, mode in _PLAIN]


def _plain_errors() -> list[Sample]:
    return [
        Sample((rand(5, 6), rand(3), "full"), error="one rank"), Sample((rand(5), rand(3), "causal"), error="mode"), Sample((rand(2), rand(3), "valid"), error="smaller than the kernel"),
    ]  # fmt: skip


@composite("convolve", inputs=2, samples=_plain_samples, errors=_plain_errors, tolerance={"float32": 1e-5, "float64": 1e-12})
def convolve(x: Node, kernel: Node, mode: str = "full") -> Node:
    """The mathematical convolution of two arrays of one rank: ``out[i] = sum over p of x[i - p] * kernel[p]``, the kernel flipped.

    ``mode``: "full" (every overlap), "same" (the middle part, as large as x) or "valid" (whole overlaps only), as SciPy's ``signal.convolve`` for a kernel
    not larger than x. Equals :func:`correlate` by the flipped kernel; a convolutional layer (:func:`conv`) does not flip.
    """
    for axis in range(kernel.ndim):
        kernel = flip(kernel, axis)
    return _plain(x, kernel, mode)


@composite("correlate", inputs=2, samples=_plain_samples, errors=_plain_errors, tolerance={"float32": 1e-5, "float64": 1e-12})
def correlate(x: Node, kernel: Node, mode: str = "valid") -> Node:
    """The cross-correlation of two arrays of one rank: ``out[i] = sum over p of x[i + p] * kernel[p]``, the kernel not flipped.

    ``mode`` as in :func:`convolve`; "valid" unless given, as NumPy's ``correlate``. It is what convolutional layers compute.
    """
    return _plain(x, kernel, mode)
