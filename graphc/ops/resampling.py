"""Linear maps along one axis given by a short list of sources for each result, and what is made of them.

Interpolation, adaptive means and padding by reflection all have the form ``out[o] = sum over j of weight[o, j] * x[source[o, j]]``. The transposed
map has it too, so a gradient is again a gather: nothing is scattered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Expr, Size, floordiv
from ..ir.dtypes import int64
from ..ir.node import Node
from ..ir.op import Sample, lookup
from .define import as_node, composite, constant, normal_axis, rand, show
from .elementwise import where
from .generate import iota
from .indexing import take
from .reductions import sum as reduce_sum
from .views import at_least, broadcast_to, reshape, transpose
from .views import pad as pad_

__all__ = ["area_windows", "channel_shuffle", "interpolate", "pad_nd", "pixel_shuffle", "pixel_unshuffle", "resample"]

Table = tuple[np.ndarray, np.ndarray]
UNROLLED = 4  # up to so many sources a result is written as a sum, which joins its neighbours in one kernel


# -- tables: (sources, weights), both (out, most sources of one result); unused places have weight 0 and repeat a used source --------
def _nearest(size: int, out: int, scale: float, exact: bool = False) -> Table:
    """Floor of (o + 0 or 1/2) times the scale, in float32 as torch computes it, so that ties fall alike."""
    step = np.float32(1.0 / scale if scale else size / out)
    at = np.floor((np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0.0)) * step).astype(np.int64)
    return np.minimum(at, size - 1)[:, None], np.ones((out, 1))


def _positions(size: int, out: int, align_corners: bool, scale: float) -> np.ndarray:
    if align_corners:
        return np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    return (np.arange(out) + 0.5) * (1.0 / scale if scale else size / out) - 0.5


def _linear(size: int, out: int, align_corners: bool, scale: float) -> Table:
    at = np.clip(_positions(size, out, align_corners, scale), 0.0, size - 1.0)
    first = np.floor(at).astype(np.int64)
    t = at - first
    return np.stack([first, np.minimum(first + 1, size - 1)], 1), np.stack([1 - t, t], 1)


def _cubic(size: int, out: int, align_corners: bool, scale: float) -> Table:
    """Keys' convolution kernel with a = -0.75 (torch's and OpenCV's); beyond the ends the last element is repeated."""
    at = _positions(size, out, align_corners, scale)
    first, a = np.floor(at).astype(np.int64), -0.75
    t = at - first
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (t + 1, 2 - t)]
    sources = np.clip(first[:, None] + np.arange(-1, 3), 0, size - 1)
    return sources, np.stack([far[0], near[0], near[1], far[1]], 1)


def area_windows(size: int, out: int) -> np.ndarray:
    """Elements ``floor(o size / out)`` to ``ceil((o + 1) size / out)`` of each o, in rows filled up with the last of them."""
    first = np.arange(out) * size // out
    last = -(-(np.arange(out) + 1) * size // out) - 1
    return np.minimum(first[:, None] + np.arange((last - first).max() + 1), last[:, None])


def _area(size: int, out: int) -> Table:
    sources = area_windows(size, out)
    real = np.diff(sources, axis=1, prepend=-1) > 0
    return sources, real / real.sum(1, keepdims=True)


def _edges(size: int, out: int, low: int, mode: str) -> Table:
    return np.pad(np.arange(size), (low, out - size - low), mode)[:, None], np.ones((out, 1))  # type: ignore[call-overload]


def _table(size: int, out: int, rule: tuple[Any, ...]) -> Table:
    name, *args = rule
    makers: dict[str, Callable[..., Table]] = {"nearest": _nearest, "linear": _linear, "cubic": _cubic, "area": _area, "edges": _edges}
    if name not in makers:
        raise TraceError(f"rule {name!r}", hint=", ".join(makers))
    return makers[name](size, out, *args)


def _transposed(table: Table, size: int) -> Table:
    """For each of ``size`` sources the results that it goes to."""
    sources, weights = table
    out, most = sources.shape
    used = weights.ravel() != 0
    results, sources, weights = np.repeat(np.arange(out), most)[used], sources.ravel()[used], weights.ravel()[used]
    order = np.argsort(sources, kind="stable")
    results, sources, weights = results[order], sources[order], weights[order]
    place = np.arange(sources.size) - np.searchsorted(sources, sources)
    shape = (size, int(place.max(initial=0)) + 1)
    to, by = np.zeros(shape, np.int64), np.zeros(shape)
    to[sources, place], by[sources, place] = results, weights
    return to, by


def _apply(x: Node, axis: int, table: Table) -> Node:
    sources, weights = table
    rest = (1,) * (x.ndim - axis - 1)
    if sources.shape[1] <= UNROLLED:
        total: Node | None = None
        for at, by in zip(sources.T, weights.T, strict=True):
            part = take(x, constant(at.astype(np.int32)), axis)
            if not (by == 1).all():
                part = part * constant(by.reshape(-1, *rest), x.dtype)
            if (by == 0).any():  # what has no weight must not count, even where it is infinite
                part = where(constant((by != 0).reshape(-1, *rest)), part, 0.0)
            total = part if total is None else total + part
        assert total is not None
        return total
    parts = take(x, constant(sources.astype(np.int32)), axis) * constant(weights.reshape(*weights.shape, *rest), x.dtype)
    if (weights == 0).any():
        parts = where(constant((weights != 0).reshape(*weights.shape, *rest)), parts, 0.0)
    return reduce_sum(parts, axis + 1)


# -- the operator and its transposed ----------------------------------------------------------------------------------------
def _prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    axis = attrs["axis"] = normal_axis(attrs["axis"], x.ndim)
    if not isinstance(x.shape[axis], int) or not isinstance(attrs["size"], int):
        raise ShapeError(f"axis {axis} of {show(x.shape)} has a named size", hint="declare the size as a number")
    if not x.dtype.is_float:
        raise DTypeError(f"{x.dtype} operands are not supported", hint="x.cast('float32')")
    if attrs["size"] < 1 or not x.shape[axis]:
        raise ShapeError(f"{x.shape[axis]} elements of axis {axis} cannot become {attrs['size']}")


def _other(name: str, n: Node, g: Node) -> tuple[Node]:
    axis = n.attrs["axis"]
    return (lookup(name).call(g, axis, n.inputs[0].shape[axis], n.attrs["rule"]),)


_RULES: list[tuple[int, int, tuple[Any, ...]]] = [
    (5, 8, ("nearest", 0.0)), (7, 3, ("nearest", 0.0, True)), (5, 7, ("linear", False, 0.0)), (5, 9, ("linear", True, 0.0)), (7, 3, ("cubic", False, 0.0)), (7, 4, ("area",)),
    (5, 9, ("edges", 1, "reflect")), (19, 2, ("area",)),
]  # fmt: skip


@composite(
    "resample", inputs=1, prepare=_prepare, tolerance={"float32": 5e-6, "float64": 1e-12},
    grad=lambda n, g: _other("resample_transposed", n, g),
    samples=lambda: [Sample((rand(2, n, 3), 1, m, rule)) for n, m, rule in _RULES] + [Sample((rand(7), 0, 4, ("linear", False, 0.0))), Sample((rand(0, 4), 1, 8, ("nearest", 0.0)))],
    errors=lambda: [Sample((rand(4), 0, 0, ("area",)), error="cannot become"), Sample((rand(4), 0, 2, ("best",)), error="rule")],
)  # fmt: skip
def resample(x: Node, axis: int, size: Size, rule: tuple[Any, ...]) -> Node:
    """A linear map along ``axis`` to ``size`` elements: ``out[o] = sum over j of weight[o, j] * x[source[o, j]]``.

    ``rule`` says which sources and weights: ("nearest", scale, exact=False), ("linear", align_corners, scale), ("cubic", align_corners, scale), with a scale of
    0 for the ratio of the sizes; ("area",) for the means of adaptive pooling; ("edges", low, mode) for NumPy's ``pad``.
    """
    before = x.shape[axis]
    assert isinstance(before, int) and isinstance(size, int)
    return _apply(x, axis, _table(before, size, rule))


@composite(
    "resample_transposed", inputs=1, prepare=_prepare, tolerance={"float32": 5e-6, "float64": 1e-12},
    grad=lambda n, g: _other("resample", n, g),
    samples=lambda: [Sample((rand(2, m, 3), 1, n, rule)) for n, m, rule in _RULES],
    errors=lambda: [Sample((rand(4), 0, 0, ("area",)), error="cannot become")],
)  # fmt: skip
def resample_transposed(x: Node, axis: int, size: int, rule: tuple[Any, ...]) -> Node:
    """The transposed map of :func:`resample` from ``size`` elements: its gradient."""
    after = x.shape[axis]
    assert isinstance(after, int)
    return _apply(x, axis, _transposed(_table(size, after, rule), size))


# -- interpolation -------------------------------------------------------------------------------------------------------------
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _interpolate_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    rank, mode = x.ndim - 2, attrs["mode"]
    if rank not in (1, 2, 3):
        raise ShapeError(f"(N, C, *spatial) with 1 to 3 spatial axes expected, not {show(x.shape)}")
    if not x.dtype.is_float:
        raise DTypeError(f"images must be float, not {x.type}", hint="x.cast('float32')")
    known = ["nearest", "nearest-exact", "area", _LINEAR[rank], *(["bicubic"] if rank == 2 else [])]
    if mode not in known:
        raise TraceError(f"mode={mode!r} for {rank} spatial axes", hint=", ".join(known))
    if attrs["align_corners"] is not None and mode in ("nearest", "nearest-exact", "area"):
        raise TraceError(f"align_corners has no meaning for mode={mode!r}")
    size, factor = attrs["size"], attrs["scale_factor"]
    if (size is None) == (factor is None):
        raise TraceError("give one of size and scale_factor")
    if attrs["recompute_scale_factor"] and factor is None:
        raise TraceError("recompute_scale_factor needs scale_factor")
    given = size if factor is None else factor
    each = tuple(given) if isinstance(given, (tuple, list)) else (given,) * rank
    if len(each) != rank:
        raise ShapeError(f"{'size' if factor is None else 'scale_factor'}={given!r} must be a number or {rank} of them")
    attrs["size"], attrs["scale_factor"] = (each, None) if factor is None else (None, tuple(float(f) for f in each))


@composite(
    "interpolate", inputs=1, prepare=_interpolate_prepare, onnx="Resize", tolerance={"float32": 5e-6, "float64": 1e-12},
    samples=lambda: [
        Sample((rand(2, 3, 5), 8)), Sample((rand(1, 2, 4, 5),), {"scale_factor": 2}), Sample((rand(1, 2, 3, 2, 4),), {"scale_factor": (2, 1, 3)}), Sample((rand(1, 2, 4, 5), (7, 3))),
        Sample((rand(1, 2, 4, 5), (7, 3)), {"mode": "nearest-exact"}), Sample((rand(1, 2, 4, 5),), {"scale_factor": 1.7}),
        Sample((rand(2, 3, 5), 8), {"mode": "linear"}), Sample((rand(1, 2, 4, 5),), {"scale_factor": 2, "mode": "bilinear"}), Sample((rand(1, 2, 4, 5), (7, 3)), {"mode": "bilinear", "align_corners": True}),
        Sample((rand(1, 2, 4, 5),), {"scale_factor": (1.7, 0.6), "mode": "bilinear"}), Sample((rand(1, 2, 4, 5),), {"scale_factor": 1.7, "mode": "bilinear", "recompute_scale_factor": True}),
        Sample((rand(1, 2, 3, 2, 4), (4, 4, 3)), {"mode": "trilinear"}), Sample((rand(1, 2, 1, 4), (1, 9)), {"mode": "bilinear", "align_corners": True}),
        Sample((rand(1, 2, 4, 5),), {"scale_factor": 2, "mode": "bicubic"}), Sample((rand(1, 2, 4, 5), (7, 3)), {"mode": "bicubic", "align_corners": True}), Sample((rand(1, 2, 4, 5), (3, 2)), {"mode": "area"}),
        Sample((rand(0, 2, 4, 5),), {"scale_factor": 2, "mode": "bilinear"}),
    ],
    errors=lambda: [
        Sample((rand(2, 4), 3), error="spatial"), Sample((rand(2, 3, 4),), error="one of size"), Sample((rand(2, 3, 4), 8), {"mode": "bilinear"}, error="mode"),
        Sample((rand(2, 3, 4), (8, 8)), error="size"), Sample((rand(2, 3, 4), 8), {"align_corners": True}, error="align_corners"), Sample((rand(2, 3, 4), 0), error="cannot become"),
    ],
)  # fmt: skip
def interpolate(
    x: Node, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None
) -> Node:  # fmt: skip
    """Images (N, C, *spatial) at another size, as torch's ``interpolate``; exactly one of ``size`` and ``scale_factor`` is given.

    ``mode``: "nearest", "nearest-exact", "linear" / "bilinear" / "trilinear" for 1 / 2 / 3 spatial axes, "bicubic" (a = -0.75), "area" (adaptive means). With
    ``align_corners`` the centres of the corner elements stay where they are, else the borders of the image. ``recompute_scale_factor`` takes the ratio
    of the sizes where the given factor does not make whole ones. A spatial axis of named size takes
    whole factors of "nearest" only. Source: torch.nn.functional.interpolate (without antialiasing).
    """
    for i in range(x.ndim - 2):
        axis, before = i + 2, x.shape[i + 2]
        factor = 0.0 if scale_factor is None else scale_factor[i]
        after: Size
        if scale_factor is None:
            after = size[i]
        elif isinstance(before, int):
            after = math.floor(before * factor)
        elif mode == "nearest" and factor.is_integer():
            after = before * int(factor)
        else:
            raise ShapeError(
                f"a factor of {factor} and mode={mode!r} on the axis of named size {before}", hint="declare the size as a number"
            )
        if recompute_scale_factor:
            factor = 0.0
        if after == before and (factor in (0.0, 1.0) or mode.startswith("nearest")):
            continue
        times = floordiv(after, before)
        if mode == "nearest" and isinstance(times, int) and times and after == before * times and factor in (0.0, times):
            wide = reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
            x = reshape(
                broadcast_to(wide, (*x.shape[: axis + 1], times, *x.shape[axis + 1 :])), (*x.shape[:axis], after, *x.shape[axis + 1 :])
            )
            continue
        rules: dict[str, tuple[Any, ...]] = {"nearest": ("nearest", factor), "nearest-exact": ("nearest", factor, True), "area": ("area",)}
        rule = rules.get(mode, ("cubic" if mode == "bicubic" else "linear", bool(align_corners), factor))
        x = resample(x, axis, after, rule)
    return x


# -- channels and places -----------------------------------------------------------------------------------------------------
def _blocks(x: Node, factor: Any) -> int:
    if not isinstance(factor, (int, np.integer)) or factor < 1:
        raise ShapeError(f"a factor of {factor!r}: it must be a positive int")
    if x.ndim < 3:
        raise ShapeError(f"(..., C, H, W) expected, not {show(x.shape)}")
    return int(factor)


@composite(
    "pixel_shuffle", inputs=1, onnx="DepthToSpace",
    samples=lambda: [Sample((rand(2, 8, 3, 2), 2)), Sample((rand(9, 2, 5), 3)), Sample((rand(0, 4, 2, 2), 2))],
    errors=lambda: [Sample((rand(2, 6, 3, 2), 2), error="divide"), Sample((rand(4, 2), 2), error="expected"), Sample((rand(2, 4, 3, 2), 0), error="positive")],
)  # fmt: skip
def pixel_shuffle(x: Node, upscale_factor: int) -> Node:
    """(..., C r^2, H, W) -> (..., C, H r, W r): channel ``c r^2 + i r + j`` gives the pixels (i, j) of each block, as torch's ``pixel_shuffle`` (Shi et al. 2016)."""
    r = _blocks(x, upscale_factor)
    *lead, channels, h, w = x.shape
    if isinstance(channels, int) and channels % (r * r):
        raise ShapeError(f"{channels} channels do not divide by {r}^2")
    k, c = len(lead), floordiv(channels, r * r)
    parts = transpose(reshape(x, (*lead, c, r, r, h, w)), (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return reshape(parts, (*lead, c, h * r, w * r))


@composite(
    "pixel_unshuffle", inputs=1, onnx="SpaceToDepth",
    samples=lambda: [Sample((rand(2, 3, 4, 6), 2)), Sample((rand(1, 6, 3), 3)), Sample((rand(0, 4, 2, 2), 2))],
    errors=lambda: [Sample((rand(2, 6, 3, 2), 2), error="divide"), Sample((rand(4, 2), 2), error="expected")],
)  # fmt: skip
def pixel_unshuffle(x: Node, downscale_factor: int) -> Node:
    """(..., C, H r, W r) -> (..., C r^2, H, W): the inverse of :func:`pixel_shuffle`, as torch's ``pixel_unshuffle``."""
    r = _blocks(x, downscale_factor)
    *lead, c, h, w = x.shape
    if any(isinstance(s, int) and s % r for s in (h, w)):
        raise ShapeError(f"{show((h, w))} does not divide by {r}")
    k, low, wide = len(lead), floordiv(h, r), floordiv(w, r)
    parts = transpose(reshape(x, (*lead, c, low, r, wide, r)), (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return reshape(parts, (*lead, c * (r * r), low, wide))


@composite(
    "channel_shuffle", inputs=1,
    samples=lambda: [Sample((rand(2, 6, 3, 2), 3)), Sample((rand(1, 4, 5), 2)), Sample((rand(0, 4, 2), 2))],
    errors=lambda: [Sample((rand(2, 5, 3), 2), error="groups"), Sample((rand(5), 1), error="expected")],
)  # fmt: skip
def channel_shuffle(x: Node, groups: int) -> Node:
    """(N, C, ...): channel ``g (C / groups) + i`` moves to ``i groups + g``, as torch's ``channel_shuffle`` (Zhang et al. 2018)."""
    if x.ndim < 2:
        raise ShapeError(f"(N, C, ...) expected, not {show(x.shape)}")
    n, c, *rest = x.shape
    if groups < 1 or (isinstance(c, int) and c % groups):
        raise ShapeError(f"{c} channels do not divide into {groups} groups")
    parts = reshape(x, (n, groups, floordiv(c, groups), *rest))
    return reshape(transpose(parts, (0, 2, 1, *range(3, x.ndim + 1))), x.shape)


# -- padding -------------------------------------------------------------------------------------------------------------------
_MODES = ("constant", "reflect", "symmetric", "edge", "wrap")


def _pad_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    width = np.asarray(attrs["pad_width"])
    if width.dtype.kind not in "iu" or width.shape not in ((), (1,), (2,), (1, 2), (x.ndim, 2)):
        raise ShapeError(f"pad_width={attrs['pad_width']!r}", hint=f"an int, (before, after), or one such pair for each of {x.ndim} axes")
    if (width < 0).any():
        raise ShapeError(f"pad_width={attrs['pad_width']!r} must not be negative", hint="slice x instead")
    if attrs["mode"] not in _MODES:
        raise TraceError(f"mode={attrs['mode']!r}", hint=", ".join(_MODES))
    attrs["pad_width"] = tuple((int(a), int(b)) for a, b in np.broadcast_to(width, (x.ndim, 2)))
    attrs["constant_values"] = float(attrs["constant_values"])
    for size, widths in zip(x.shape, attrs["pad_width"], strict=True):
        if isinstance(size, Expr) and max(widths) and attrs["mode"] != "constant":
            least = {"reflect": max(widths) + 1, "edge": 1}.get(attrs["mode"], max(widths))
            x = at_least(x, size, least, f"padding by mode {attrs['mode']!r}")
    ins[0] = x


@composite(
    "pad_nd", inputs=1, prepare=_pad_prepare, onnx="Pad",
    samples=lambda: [
        Sample((rand(5, 7), 2)), Sample((rand(5, 7), ((1, 2), (0, 3))), {"constant_values": 1.5}), *(Sample((rand(2, 4, 5), ((0, 0), (1, 3), (2, 0)), m)) for m in _MODES[1:]),
        *(Sample((rand(3), (7, 4), m)) for m in _MODES[1:]), Sample((rand(1, 4), ((0, 2), (1, 1)), "edge")), Sample((rand(0, 4), ((0, 0), (1, 1)), "reflect")),
    ],
    errors=lambda: [Sample((rand(5, 7), -1), error="negative"), Sample((rand(5, 7), (1, 2, 3)), error="pad_width"), Sample((rand(5), 1, "mirror"), error="mode"), Sample((rand(0), 1, "edge"), error="no elements")],
)  # fmt: skip
def pad_nd(x: Node, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Node:
    """``x`` with elements added before and after each axis, as NumPy's ``pad``; ``pad_width`` is an int, (before, after), or a pair for each axis.

    ``mode``: "constant", "edge" (the last element again: torch's replicate), "reflect" (mirrored at the last element), "symmetric" (mirrored behind it),
    "wrap" (from the other end: torch's circular). An axis of named size must be larger than its pads where the mode mirrors or wraps.
    """
    if mode == "constant":
        return pad_(x, [a for a, _ in pad_width], [b for _, b in pad_width], value=constant_values)
    for axis, (low, high) in enumerate(pad_width):
        size = x.shape[axis]
        if not low and not high:
            continue
        if isinstance(size, int):
            if not size:
                raise ShapeError(f"axis {axis} of {show(x.shape)} has no elements to repeat")
            if x.dtype.is_float:
                x = resample(x, axis, size + low + high, ("edges", low, mode))
            else:
                x = take(x, constant(_edges(size, size + low + high, low, mode)[0][:, 0].astype(np.int32)), axis)
        else:
            x = take(x, _named_edges(size, low, high, mode), axis)
    return x


def _named_edges(size: Size, low: int, high: int, mode: str) -> Node:
    """Where each element comes from on an axis whose size is known later."""
    at, last = iota((size + low + high,), 0, int64) - low, as_node(size - 1).cast(int64)
    below, above = {
        "edge": (at * 0, last),
        "reflect": (-at, 2 * last - at),
        "symmetric": (-1 - at, 2 * last + 1 - at),
        "wrap": (at + last + 1, at - last - 1),
    }[mode]
    return where(at < 0, below, where(at > last, above, at))
