"""Pooling over one, two or three spatial axes: the same rules for each number of axes, under torch's names.

Images are (N, C, *spatial) or, as in torch, (C, *spatial): windows slide over the last axes only. Sizes are
``floor((S + 2 padding - (dilation (K - 1) + 1)) / stride) + 1``; with ``ceil_mode`` the division rounds up, but a window that would
begin behind the image and its left padding is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Size, floordiv, prod
from ..ir.dtypes import int32
from ..ir.node import Node
from ..ir.op import Sample, sugar
from .define import as_node, composite, constant, rand, show
from .elementwise import cast, eq, le, logical_and, logical_or, maximum, minimum, mul, ne, where
from .elementwise import pow as power
from .elementwise import sqrt as square_root
from .generate import iota
from .indexing import argmax, take, take_along_axis
from .reductions import max as reduce_max
from .reductions import mean
from .resampling import area_windows, resample
from .views import broadcast_to, expand_dims, pad, reshape, squeeze, transpose
from .views import slice as slice_
from .windows import fits, per_axis, reduce_window

__all__ = ["global_avg_pool", "global_max_pool", "prepare_images"]

UNROLLED = 16  # larger windows are not written out, one element after the other, where that can be avoided

Pads = Sequence[tuple[int, int]]
Prepare = Callable[[list[Node | None], dict[str, Any]], None]


def _images(x: Node, rank: int) -> None:
    if x.ndim not in (rank + 1, rank + 2):
        names = "(N, C, " + ", ".join("DHW"[3 - rank :] if rank > 1 else "L") + ")"
        raise ShapeError(f"{'images' if rank > 1 else 'sequences'} {names} expected, not {show(x.shape)}")
    if not x.dtype.is_float:
        raise DTypeError(f"images must be float, not {x.type}", hint="x.cast('float32')")


def prepare_images(rank: int) -> Prepare:
    """Checks images and brings the arguments of windows into one form; the stride is the kernel unless given."""

    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        x = ins[0]
        assert x is not None
        _images(x, rank)
        attrs["stride"] = attrs["kernel_size"] if attrs["stride"] in (None, ()) else attrs["stride"]
        for k in ("kernel_size", "stride", "padding", "dilation"):
            if k in attrs:
                attrs[k] = per_axis(attrs[k], rank, k)
        if min((*attrs["kernel_size"], *attrs["stride"], *attrs.get("dilation", ()))) < 1:
            raise ShapeError("kernel_size, stride and dilation must be positive")
        if not attrs.get("ceil_mode"):
            pads = [(p, p) for p in attrs.get("padding", (0,) * rank)]
            ins[0] = fits(x, attrs["kernel_size"], attrs.get("dilation", (1,) * rank), pads, "the window")

    return prepare


def _reach(x: Node, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool) -> Pads:
    """(low, high) of each spatial axis; with ``ceil_mode``, high covers what the last window needs beyond the padding."""
    out = []
    for size, k, s, p, d in zip(x.shape[x.ndim - len(kernel) :], kernel, stride, padding, dilation, strict=True):
        high = p
        if ceil_mode:
            if not isinstance(size, int):
                raise ShapeError(f"ceil_mode on the axis of named size {size}", hint="declare the size as a number")
            space = size + 2 * p - (k - 1) * d - 1
            if space % s and (space // s + 1) * s < size + p:
                high += s - space % s
        out.append((p, high))
    return out


def _fold(x: Node, combine: str, kernel: Sequence[int], stride: Sequence[int], pads: Pads, dilation: Sequence[int]) -> Node:
    lead = x.ndim - len(kernel)
    one = (1,) * lead
    return reduce_window(x, combine, (*one, *kernel), (*one, *stride), ((0, 0),) * lead + tuple(pads), (*one, *dilation))


def _winners(x: Node, places: Node, kernel: Sequence[int], stride: Sequence[int], pads: Pads, dilation: Sequence[int]) -> tuple[Node, Node]:
    """The maximum of each window and the entry of ``places`` (int32, the spatial shape) where it stands first."""
    top = _fold(x, "max", kernel, stride, pads, dilation)
    lead = x.ndim - len(kernel)
    low, high = [lo for lo, _ in pads], [hi for _, hi in pads]
    held = pad(x, (*(0,) * lead, *low), (*(0,) * lead, *high), value=-math.inf)
    where_ = pad(places, low, high, value=-1)
    windows = top.shape[lead:]
    index: Node | None = None
    for offset in reversed(list(itertools.product(*map(range, kernel)))):
        starts = tuple(o * d for o, d in zip(offset, dilation, strict=True))
        part = slice_(held, (*(0,) * lead, *starts), top.shape, (*(1,) * lead, *stride))
        place = broadcast_to(slice_(where_, starts, windows, stride), top.shape)
        hit = logical_or(eq(part, top), ne(part, part))
        if any(map(any, pads)):  # where all elements are -inf, padding must not win
            hit = logical_and(hit, le(0, place))
        index = place if index is None else where(hit, place, index)
    assert index is not None
    return top, index


def _apart(x: Node, kernel: Sequence[int]) -> Node:
    """Windows side by side as a last axis: (..., O1 k1, O2 k2) -> (..., O1, O2, k1 k2)."""
    k, rank = x.ndim - len(kernel), len(kernel)
    sizes = [floordiv(s, n) for s, n in zip(x.shape[k:], kernel, strict=True)]
    parts = reshape(x, (*x.shape[:k], *(v for pair in zip(sizes, kernel, strict=True) for v in pair)))
    parts = transpose(parts, (*range(k), *range(k, k + 2 * rank, 2), *range(k + 1, k + 2 * rank, 2)))
    return reshape(parts, (*x.shape[:k], *sizes, math.prod(kernel)))


def _maximum(
    x: Node, places: Node, kernel: Sequence[int], stride: Sequence[int], pads: Pads, dilation: Sequence[int], return_indices: bool
) -> Any:
    """The maximum of each window, with ``return_indices`` also its place.

    The gradient of a window fold and the search for places are written out, one element of a window after the other. Large windows that
    stand side by side (the maximum over a whole axis, mostly) are laid out as an axis instead, whose largest element is looked up.
    """
    side_by_side = tuple(stride) == tuple(kernel) and not any(map(any, pads)) and max(dilation) == 1
    if math.prod(kernel) <= UNROLLED or not side_by_side:
        return _winners(x, places, kernel, stride, pads, dilation) if return_indices else _fold(x, "max", kernel, stride, pads, dilation)
    lead = x.ndim - len(kernel)
    used = [floordiv(s, k) * k for s, k in zip(x.shape[lead:], kernel, strict=True)]
    if any(u == 0 for u in used):
        raise ShapeError(f"{show(x.shape)} is smaller than the window {tuple(kernel)}")
    x, places = slice_(x, (0,) * x.ndim, (*x.shape[:lead], *used)), slice_(places, (0,) * len(kernel), used)
    windows = _apart(x, kernel)
    at = expand_dims(argmax(windows, -1), -1)
    top = squeeze(take_along_axis(windows, at, -1), -1)
    if not return_indices:
        return top
    return top, squeeze(take_along_axis(broadcast_to(_apart(places, kernel), windows.shape), at, -1), -1)


def _places(spatial: Sequence[Size]) -> Node:
    """The flat index of each position of a plane."""
    return reshape(iota((prod(spatial),), 0, int32), tuple(spatial))


# -- what the samples of all ranks are -----------------------------------------------------------------------------------
_SHAPES: dict[int, list[tuple[int, ...]]] = {
    1: [(2, 3, 8), (2, 3, 9), (1, 1, 5)],
    2: [(2, 3, 6, 8), (2, 3, 7, 9), (1, 1, 5, 5)],
    3: [(1, 2, 4, 4, 6), (1, 2, 5, 3, 7), (1, 1, 3, 3, 3)],
}
_NAMES: dict[int, str] = {1: "sequences (N, C, L)", 2: "images (N, C, H, W)", 3: "volumes (N, C, D, H, W)"}


def _errors(rank: int) -> Callable[[], list[Sample]]:
    return lambda: [
        Sample((rand(*(6,) * rank), 2), error=", ".join("DHW"[3 - rank :] if rank > 1 else "L")), Sample((rand(2, 3, *(2,) * rank), 3), error="smaller than the window"),
        Sample((rand(2, 3, *(6,) * rank), (2,) * (rank + 1)), error="kernel_size"), Sample((rand(2, 3, *(6,) * rank), 2, 0), error="positive"),
    ]  # fmt: skip


# -- max and min -----------------------------------------------------------------------------------------------------------
def _define_max(rank: int) -> None:
    a, b, c = _SHAPES[rank]

    @composite(
        f"max_pool{rank}d", prepare=prepare_images(rank), inputs=1, onnx="MaxPool", errors=_errors(rank),
        doc=f"""The maximum of each window of {_NAMES[rank]}, as torch's ``max_pool{rank}d``; ``stride`` is the kernel unless given.

        Padding counts as -inf. With ``return_indices`` also where each maximum stands, as an int32 index into the flattened spatial axes
        (the first of equals). The gradient goes to that element alone. Sizes: see :mod:`graphc.ops.pooling`.""",
        samples=lambda: [
            Sample((rand(*a), 2), smooth=False), Sample((rand(*b), 3, 2, 1), smooth=False), Sample((rand(*c), (2, *(3,) * (rank - 1)), (1, *(2,) * (rank - 1))), smooth=False),
            Sample((rand(1, 2, *(5,) * rank), 3, 1, 1, 2), smooth=False), Sample((rand(*b[1:]), 2, 2, 0, 1, True), smooth=False),
            Sample((rand(*b), 3, 2, 1, 1, True, True), smooth=False), Sample((rand(0, *a[1:]), 2), smooth=False),
            Sample((rand(1, 2, 37, *(5,) * (rank - 1)), (18, *(2,) * (rank - 1)), None, 0, 1, False, True), smooth=False),
        ],
    )  # fmt: skip
    def max_pool(
        x: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False
    ) -> Any:  # fmt: skip
        pads = _reach(x, kernel_size, stride, padding, dilation, ceil_mode)
        return _maximum(x, _places(x.shape[x.ndim - rank :]), kernel_size, stride, pads, dilation, return_indices)

    @composite(
        f"min_pool{rank}d", prepare=prepare_images(rank), inputs=1, errors=_errors(rank),
        doc=f"The minimum of each window of {_NAMES[rank]}: ``-max_pool{rank}d(-x)``; arguments as there.",
        samples=lambda: [Sample((rand(*a), 2), smooth=False), Sample((rand(*b), 3, 2, 1), smooth=False), Sample((rand(*c), 2, 1, 1, 1, True), smooth=False)],
    )  # fmt: skip
    def min_pool(x: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False) -> Node:
        pads = _reach(x, kernel_size, stride, padding, dilation, ceil_mode)
        return -_maximum(-x, _places(x.shape[x.ndim - rank :]), kernel_size, stride, pads, dilation, False)  # type: ignore[no-any-return]


# -- means -----------------------------------------------------------------------------------------------------------------
def _average(
    x: Node,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Node:
    one = (1,) * len(kernel)
    pads = _reach(x, kernel, stride, padding, one, ceil_mode)
    total = _fold(x, "add", kernel, stride, pads, one)
    whole = all((lo, hi) == ((p, p) if count_include_pad else (0, 0)) for (lo, hi), p in zip(pads, padding, strict=True))
    if divisor is not None or whole:
        return mul(total, 1.0 / (divisor or math.prod(kernel)))
    return total / _counts(x, total.shape[x.ndim - len(kernel) :], kernel, stride, padding, count_include_pad)


def _counts(x: Node, windows: Sequence[Size], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], padded: bool) -> Node:
    """How many elements each window holds, with the padding or without (never what ceil_mode adds): a product over axes."""
    counts = constant(1, int32)
    for axis, (size, k, s, p) in enumerate(zip(x.shape[x.ndim - len(kernel) :], kernel, stride, padding, strict=True)):
        first = iota(windows, axis, int32) * s - p
        end = minimum(first + k, as_node(size + p if padded else size).cast(int32))
        counts = mul(counts, end - (first if padded else maximum(first, 0)))
    return cast(counts, x.dtype)


def _define_means(rank: int) -> None:
    a, b, c = _SHAPES[rank]

    @composite(
        f"avg_pool{rank}d", prepare=prepare_images(rank), inputs=1, onnx="AveragePool", errors=_errors(rank), tolerance={"float32": 5e-6, "float64": 1e-12},
        doc=f"""The mean of each window of {_NAMES[rank]}, as torch's ``avg_pool{rank}d``; ``stride`` is the kernel unless given.

        The divisor is the number of elements of the window, padding included, or with ``count_include_pad=False`` of real ones;
        ``divisor_override`` replaces it. What ``ceil_mode`` lets a window reach beyond the padding never counts.""",
        samples=lambda: [
            Sample((rand(*a), 2)), Sample((rand(*b), 3, 2, 1)), Sample((rand(*b), 3, 2, 1), {"count_include_pad": False}), Sample((rand(*c), (2, *(3,) * (rank - 1)), (1, *(2,) * (rank - 1)))),
            Sample((rand(*a), 3, 2, 1, True)), Sample((rand(*a), 3, 2, 1, True, False)), *([Sample((rand(*b[1:]), 2), {"divisor_override": 3})] if rank > 1 else []),
        ],
    )  # fmt: skip
    def avg_pool(
        x: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Node:  # fmt: skip
        if divisor_override == 0:
            raise ShapeError("divisor_override must not be 0")
        return _average(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    @composite(
        f"lp_pool{rank}d", prepare=prepare_images(rank), inputs=1, onnx="LpPool", tolerance={"float32": 1e-5, "float64": 1e-11},
        doc=f"""``(sum of x^p over each window)^(1/p)`` of {_NAMES[rank]} with p = ``norm_type``, as torch's ``lp_pool{rank}d``.

        p = 1 is the sum, p = 2 the Euclidean norm. There is no |.|, as in torch: odd p of negative sums give NaN. Where a window sums to 0 the
        gradient is 0. Windows that ``ceil_mode`` lets reach over the end are scaled up to a whole one, as in torch.""",
        samples=lambda: [
            Sample((rand(*a), 2, 2)), Sample((rand(*b, low=0.5), 3, 3, 2)), Sample((rand(*c, low=0.5), 1.5, 2, 1)), Sample((rand(*a), 2, 3, 2, True)), Sample((rand(*a), 1, 2)),
        ],
        errors=lambda: [Sample((rand(*(6,) * rank), 2, 2), error="expected"), Sample((rand(*a), 0, 2), error="norm_type")],
    )  # fmt: skip
    def lp_pool(x: Node, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Node:
        p = float(norm_type)
        if p <= 0 or math.isinf(p):
            raise ShapeError(f"norm_type={norm_type!r} must be a positive number", hint=f"max_pool{rank}d for infinity")
        terms = x
        for _ in range(int(p) - 1 if p.is_integer() and p <= 8 else 0):
            terms = terms * x
        if not (p.is_integer() and p <= 8):
            terms = power(x, p)
        total = mul(_average(terms, kernel_size, stride, (0,) * rank, ceil_mode, True, None), float(math.prod(kernel_size)))
        if p == 1:
            return total
        none = eq(total, 0.0)  # the root has no slope there
        safe = where(none, 1.0, total)
        return where(none, 0.0, square_root(safe) if p == 2 else power(safe, 1.0 / p))


# -- a given output size ---------------------------------------------------------------------------------------------------
def _adaptive_prepare(rank: int) -> Prepare:
    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        x = ins[0]
        assert x is not None
        _images(x, rank)
        given = attrs["output_size"]
        sizes = (given,) * rank if given is None or isinstance(given, (int, np.integer)) else tuple(given)
        if len(sizes) != rank:
            raise ShapeError(f"output_size={given!r} must be an int or {rank} entries, one for each spatial axis")
        spatial = x.shape[x.ndim - rank :]
        for size, out in zip(spatial, sizes, strict=True):
            if isinstance(out, (int, np.integer)) and out < 1:
                raise ShapeError(f"output_size={given!r} must be positive")
            if isinstance(size, int) and size == 0:
                raise ShapeError(f"an empty plane {show(x.shape)} has no windows")
        attrs["output_size"] = tuple(size if out is None else int(out) for size, out in zip(spatial, sizes, strict=True))

    return prepare


def _even(size: Size, out: Size) -> bool:
    """Whether windows of one size cover the axis."""
    if isinstance(size, int) and isinstance(out, int):
        return size % out == 0
    if size == out or out == 1:
        return True
    raise ShapeError(f"an output of {out} on the axis of named size {size}", hint="1, or declare the size as a number")


def _define_adaptive(rank: int) -> None:
    a, b, _ = _SHAPES[rank]
    other = (3, 2, 4)[:rank]
    rule = "Window i of an axis of S goes from ``floor(i S / O)`` to ``ceil((i + 1) S / O)``; None keeps the size of an axis. An axis of named size takes 1 or None."

    @composite(
        f"adaptive_avg_pool{rank}d", prepare=_adaptive_prepare(rank), inputs=1, tolerance={"float32": 5e-6, "float64": 1e-12},
        doc=f"""Means of {_NAMES[rank]} over windows so chosen that the output has ``output_size``, as torch's ``adaptive_avg_pool{rank}d``.

        {rule}""",
        samples=lambda: [Sample((rand(*a), 2)), Sample((rand(*b), other)), Sample((rand(*b), 1)), Sample((rand(*b[1:]), (None, *other[1:]) if rank > 1 else 9)), Sample((rand(*a), 7))],
        errors=lambda: [Sample((rand(*(6,) * rank), 2), error="expected"), Sample((rand(*a), 0), error="positive"), Sample((rand(*a), (2,) * (rank + 1)), error="output_size")],
    )  # fmt: skip
    def adaptive_avg_pool(x: Node, output_size: Any) -> Node:
        lead = x.ndim - rank
        sizes = dict(zip(range(lead, x.ndim), output_size, strict=True))
        ones = tuple(axis for axis, out in sizes.items() if out == 1 and x.shape[axis] != 1)
        if ones:
            x = mean(x, ones, keepdims=True)
        kernel = [x.shape[axis] // out if out != 1 and _even(x.shape[axis], out) else 1 for axis, out in sizes.items()]
        if any(k != 1 for k in kernel):
            x = mul(_fold(x, "add", kernel, kernel, ((0, 0),) * rank, (1,) * rank), 1.0 / math.prod(kernel))
        for axis, out in sizes.items():
            if x.shape[axis] != out:
                x = resample(x, axis, out, ("area",))
        return x

    @composite(
        f"adaptive_max_pool{rank}d", prepare=_adaptive_prepare(rank), inputs=1,
        doc=f"""Maxima of {_NAMES[rank]} over windows so chosen that the output has ``output_size``, as torch's ``adaptive_max_pool{rank}d``.

        {rule} ``return_indices`` as in ``max_pool{rank}d``.""",
        samples=lambda: [
            Sample((rand(*a), 2), smooth=False), Sample((rand(*b), other), smooth=False), Sample((rand(*b), 1), smooth=False), Sample((rand(*b[1:]), (None, *other[1:]) if rank > 1 else 9), smooth=False),
            Sample((rand(*b), other, True), smooth=False), Sample((rand(1, 2, 20, *(3,) * (rank - 1)), 1, True), smooth=False), Sample((rand(*a), 2, True), smooth=False),
        ],
        errors=lambda: [Sample((rand(*(6,) * rank), 2), error="expected"), Sample((rand(*a), 0), error="positive")],
    )  # fmt: skip
    def adaptive_max_pool(x: Node, output_size: Any, return_indices: bool = False) -> Any:
        lead = x.ndim - rank
        if not return_indices:
            named = tuple(lead + i for i, out in enumerate(output_size) if out == 1 and not isinstance(x.shape[lead + i], int))
            x = reduce_max(x, named, keepdims=True) if named else x
        places = _places(x.shape[lead:])
        kernel = []
        for i, out in enumerate(output_size):
            size = x.shape[lead + i]
            if _even(size, out):
                kernel.append(1 if size == out else size // out)
                continue
            # windows of unequal size: each is laid out with the last element repeated, so that they become equal
            assert isinstance(size, int)
            table = area_windows(size, out)
            kernel.append(table.shape[1])
            x, places = take(x, constant(table.ravel()), lead + i), take(places, constant(table.ravel()), i)
        if not all(isinstance(k, int) for k in kernel):
            raise ShapeError("return_indices needs spatial sizes that are numbers")
        return _maximum(x, places, kernel, kernel, ((0, 0),) * rank, (1,) * rank, return_indices)


for _rank in (1, 2, 3):
    _define_max(_rank)
    _define_means(_rank)
    _define_adaptive(_rank)


# -- the whole plane -------------------------------------------------------------------------------------------------------
@sugar
def global_avg_pool(x: Node, keepdims: bool = False) -> Node:
    """The mean of each channel: (N, C, *spatial) -> (N, C), or (N, C, 1, ...) with ``keepdims``; ``1/(HW) sum_ij x_ijc``."""
    return mean(x, _spatial(x, "global_avg_pool"), keepdims)


@sugar
def global_max_pool(x: Node, keepdims: bool = False) -> Node:
    """The maximum of each channel: (N, C, *spatial) -> (N, C), or (N, C, 1, ...) with ``keepdims``; ties share the gradient."""
    return reduce_max(x, _spatial(x, "global_max_pool"), keepdims)


def _spatial(x: Node, name: str) -> tuple[int, ...]:
    if x.ndim < 3:
        raise ShapeError(f"{name}: (N, C, *spatial) expected, not {show(x.shape)}")
    return tuple(range(2, x.ndim))
