"""Convolution (cross-correlation) over any number of axes; its gradients are convolutions again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Size, evaluate, floordiv, prod
from ..ir.dtypes import promote
from ..ir.node import Node
from ..ir.op import Sample, lookup
from ..ir.types import TensorType
from ..loops.fold import Fold
from .define import as_node, primitive, rand, show
from .views import flip, reshape, transpose
from .windows import per_axis, window_size

__all__ = ["conv"]

Pads = tuple[tuple[Size, Size], ...]


def _pads(padding: Any, kernel: Sequence[Size], stride: Sequence[int], dilation: Sequence[int]) -> Pads:
    """(low, high) of each spatial axis."""
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
    pads = _pads(padding, w.shape[2:], steps, holes)
    dtype = promote(a.dtype, w.dtype)
    return _make(a.cast(dtype), w.cast(dtype), steps, pads, holes, per_axis(input_dilation, rank, "input_dilation"), int(groups))


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
                f"spatial axis {axis} of x {show(x.shape)} is smaller than the kernel of weight {show(w.shape)}: size {size}, padding {(lo, hi)}"
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


def _nest(b: Any, node: Node) -> Fold:
    x, w = node.inputs
    a = node.attrs
    per_group = floordiv(w.shape[0], a["groups"])

    def value(b: Any, outer: tuple[Size, ...], inner: tuple[Size, ...]) -> Any:
        n, o, *place = outer
        c, *offset = inner
        index: list[Size] = [n, c if a["groups"] == 1 else floordiv(o, per_group, b.ranges) * w.shape[1] + c]
        conditions = []
        for p, k, s, (lo, hi), d, hole, size in zip(
            place, offset, a["stride"], a["padding"], a["dilation"], a["input_dilation"], x.shape[2:], strict=True
        ):
            at = p * s - lo + k * d
            # without padding every window lies inside by the size rule
            if not (isinstance(lo, int) and lo <= 0 and isinstance(hi, int) and hi <= 0):
                conditions.append(b.inside(at, _dilated(size, hole)))
            if hole != 1:
                conditions.append(b.divisible(at, hole))
                at = floordiv(at, hole, b.ranges)
            index.append(at)
        return b.guarded(x, tuple(index), conditions, 0) * b.value(w, (o, *inner))

    return Fold(node.shape, (w.shape[1], *w.shape[2:]), value, "add", 0.0)


# -- gradients: an index p * stride = j * hole + low - k * dilation read from the other side ---------------------------------
def _grad(n: Node, g: Node) -> tuple[Node, Node]:
    return _grad_x(n, g), _grad_w(n, g)


def _split(x: Node, axis: int, groups: int) -> Node:
    return reshape(x, (*x.shape[:axis], groups, floordiv(x.shape[axis], groups), *x.shape[axis + 1 :]))


def _grad_x(n: Node, g: Node) -> Node:
    """The convolution of g, with the stride as holes, by the kernel flipped and with its channels exchanged."""
    x, w = n.inputs
    a = n.attrs
    groups = a["groups"]
    turned = w
    for axis in range(2, w.ndim):
        turned = flip(turned, axis)
    rest = tuple(range(3, w.ndim + 1))
    turned = transpose(_split(turned, 0, groups), (0, 2, 1, *rest))  # (groups, C/groups, O/groups, *K)
    turned = reshape(turned, (x.shape[1], turned.shape[2], *w.shape[2:]))
    pads = []
    for size, k, out, s, (lo, _), d, hole in zip(
        x.shape[2:], w.shape[2:], n.shape[2:], a["stride"], a["padding"], a["dilation"], a["input_dilation"], strict=True
    ):
        pads.append(((k - 1) * d - lo, (size - 1) * hole - (out - 1) * s + lo))
    return _make(g, turned, a["input_dilation"], tuple(pads), a["dilation"], a["stride"], groups)


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
        Sample((rand(0, 3, 6, 6), rand(4, 3, 3, 3))), Sample((rand(2, 1, 12, 12), rand(3, 1, 5, 5, seed=1)), {"padding": 2, "stride": (3, 2)}),
    ],
    errors=lambda: [
        Sample((rand(2, 3, 6, 6), rand(4, 2, 3, 3)), error="channels"), Sample((rand(2, 3, 2, 2), rand(4, 3, 3, 3)), error="smaller than the kernel"),
        Sample((rand(3, 6, 6), rand(4, 3, 3, 3)), error="expected"), Sample((rand(2, 3, 6, 6), rand(4, 3, 3, 3)), {"padding": -1}, error="negative"),
        Sample((rand(2, 4, 6, 6), rand(3, 2, 3, 3)), {"groups": 2}, error="groups"),
    ],
)  # fmt: skip
