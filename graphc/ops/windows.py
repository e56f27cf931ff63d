"""Folds over sliding windows: ``reduce_window``, which poolings are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Expr, Size, evaluate, floordiv, prod
from ..ir.dtypes import DType, int32, uint8
from ..ir.node import Node
from ..ir.op import Sample, lookup
from ..ir.types import TensorType
from ..loops.fold import Fold
from .define import NUMERIC, as_node, constant, primitive, rand, show
from .elementwise import eq, logical_and, logical_not, logical_or, where
from .generate import iota
from .views import at_least, broadcast_to, pad, reshape
from .views import slice as slice_

__all__ = ["fits", "per_axis", "reduce_window", "window_size"]

Pads = tuple[tuple[int, int], ...]
_instructions = {"add": "add", "max": "maximum"}


def per_axis(value: Any, rank: int, what: str) -> tuple[int, ...]:
    """An int for every spatial axis (also alone in a sequence), or one int each, as a tuple."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    out = given * rank if len(given) == 1 else given
    if len(out) != rank or not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in out):
        raise ShapeError(f"{what}={value!r} must be an int or {rank} ints, one for each spatial axis")
    return tuple(int(v) for v in out)


def _neutral(combine: str, dtype: DType) -> float:
    if combine == "add":
        return 0
    return float("-inf") if dtype.is_float else int(np.iinfo(dtype.numpy).min)


def window_size(size: Size, window: Size, stride: int, low: Size, high: Size, dilation: int) -> Size:
    """How many windows fit: ``floor((size + low + high - (dilation (window - 1) + 1)) / stride) + 1``."""
    return floordiv(size + low + high - (window - 1) * dilation - 1, stride) + 1


def fits(x: Node, window: Sequence[Size], dilation: Sequence[int], pads: Sequence[tuple[Size, Size]], what: str) -> Node:
    """``x``, whose last axes are claimed to hold a window: for named sizes a guard, since the sizes of results would be negative."""
    for size, w, d, (low, high) in zip(x.shape[x.ndim - len(window) :], window, dilation, pads, strict=True):
        if isinstance(size, Expr) and isinstance(w, int) and w > 1:
            x = at_least(x, size + low + high, d * (w - 1) + 1, what)
    return x


# -- the primitive -------------------------------------------------------------------------------------------------------
def _call(
    x: Any,
    combine: str,
    window: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Sequence[Any] | None = None,
    dilation: Sequence[int] | None = None,
) -> Node:
    """Each window of ``x`` folded by ``combine`` ("add" or "max"): one entry an axis in ``window``, ``strides``, ``padding`` (an
    int or (low, high)) and ``dilation``; axes that are no window have size 1 (XLA's ReduceWindow).

    Sizes: ``floor((size + low + high - (dilation (window - 1) + 1)) / stride) + 1``. Padding counts as the neutral element. The
    gradient of "max" goes to the first largest element of each window in row-major order, as in torch.
    """  # fmt: skip
    node = as_node(x)
    rank = node.ndim
    pads = tuple((p, p) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in padding) if padding is not None else ((0, 0),) * rank
    one = (1,) * rank
    if len(window) == len(pads) == rank:
        node = fits(node, window, dilation or one, pads, "the window")
    return Node.make(
        lookup("reduce_window"), (node,), combine=combine, window=tuple(window), strides=tuple(strides or one), padding=pads, dilation=tuple(dilation or one)
    )  # fmt: skip


def _infer(
    t: TensorType, *, combine: str, window: tuple[int, ...], strides: tuple[int, ...], padding: Pads, dilation: tuple[int, ...]
) -> TensorType:
    if combine not in _instructions:
        raise TraceError(f"combine={combine!r}", hint="'add' or 'max'")
    if t.dtype.kind not in NUMERIC:
        raise DTypeError(f"{t.dtype} operands are not supported", hint="x.cast('int32')")
    if not len(window) == len(strides) == len(padding) == len(dilation) == t.rank:
        raise ShapeError(f"window, strides, padding and dilation must have {t.rank} entries for {show(t.shape)}")
    if min((*window, *strides, *dilation), default=1) < 1:
        raise ShapeError("window, strides and dilation must be positive")
    shape: list[Size] = []
    for axis, (size, w, s, (lo, hi), d) in enumerate(zip(t.shape, window, strides, padding, dilation, strict=True)):
        if not (0 <= lo <= d * (w - 1) and 0 <= hi <= d * (w - 1)):
            raise ShapeError(
                f"padding {(lo, hi)} on axis {axis}: it must be smaller than the window, else a window holds nothing but padding"
            )
        out = window_size(size, w, s, lo, hi, d)
        if isinstance(out, int) and out < (0 if size == 0 and w == 1 else 1):
            raise ShapeError(
                f"axis {axis} of {show(t.shape)} is smaller than the window: {d * (w - 1) + 1} of {size} + {lo} + {hi} elements"
            )
        shape.append(out)
    return TensorType(tuple(shape), t.dtype)


def _numpy(
    x: np.ndarray, *, combine: str, window: tuple[int, ...], strides: tuple[int, ...], padding: Pads, dilation: tuple[int, ...]
) -> np.ndarray:
    fill = 0 if combine == "add" else -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    padded = np.pad(x, padding, constant_values=fill)
    sizes = [window_size(n, w, s, lo, hi, d) for n, w, s, (lo, hi), d in zip(x.shape, window, strides, padding, dilation, strict=True)]
    out = np.full([evaluate(n, {}) for n in sizes], fill, x.dtype)
    fold = np.add if combine == "add" else np.maximum
    for offset in itertools.product(*map(range, window)):
        part = padded[
            tuple(
                np.s_[o * d : o * d + (n - 1) * s + 1 : s] if n else np.s_[0:0]
                for o, d, s, n in zip(offset, dilation, strides, out.shape, strict=True)
            )
        ]
        out = fold(out, part)
    return np.asarray(out)


def _nest(b: Any, node: Node) -> Fold:
    x, a = node.inputs[0], node.attrs
    combine = a["combine"]
    neutral = _neutral(combine, node.dtype)

    def value(b: Any, outer: tuple[Size, ...], inner: tuple[Size, ...]) -> Any:
        index: list[Size] = []
        conditions = []
        for o, k, s, (lo, hi), d, size in zip(outer, inner, a["strides"], a["padding"], a["dilation"], x.shape, strict=True):
            at = o * s - lo + k * d
            if lo or hi:  # without padding every window lies inside by the size rule
                conditions.append(b.inside(at, size))
            index.append(at)
        return b.guarded(x, tuple(index), conditions, neutral)

    return Fold(node.shape, a["window"], value, _instructions[combine], neutral)


def _grad(n: Node, g: Node) -> tuple[Node]:
    return (_grad_add(n, g) if n.attrs["combine"] == "add" else _grad_max(n, g),)


def _grad_add(n: Node, g: Node) -> Node:
    """dx[j] is the sum of g over the windows that hold j: again a window sum, over g with holes between its elements."""
    x, a = n.inputs[0], n.attrs
    low, high = [], []
    for out, size, w, s, (lo, _), d in zip(n.shape, x.shape, a["window"], a["strides"], a["padding"], a["dilation"], strict=True):
        low.append(d * (w - 1) - lo)
        high.append(size + lo - 1 - (out - 1) * s)
    return _call(pad(g, low, high, tuple(s - 1 for s in a["strides"])), "add", a["window"], None, None, a["dilation"])


def _grad_max(n: Node, g: Node) -> Node:
    """The first element of a window that equals its maximum gets the gradient.

    Where windows stand side by side every element lies in one of them: it looks up which element of that one has won. Else it is a sum
    of strided slices, one for each place in the window.
    """
    x, a = n.inputs[0], n.attrs
    lows, highs = tuple(lo for lo, _ in a["padding"]), tuple(hi for _, hi in a["padding"])
    padded = pad(x, lows, highs, value=_neutral("max", x.dtype))
    places = list(itertools.product(*map(range, a["window"])))
    hits = []
    for offset in places:
        starts = tuple(o * d for o, d in zip(offset, a["dilation"], strict=True))
        hits.append((starts, eq(slice_(padded, starts, n.shape, a["strides"]), n)))
    if a["strides"] == a["window"] and max(a["dilation"]) == 1 and len(places) < 255:
        return slice_(_to_winners(n, g, [hit for _, hit in hits], padded.shape), lows, x.shape)
    taken: Node | None = None
    total: Node | None = None
    for starts, hit in hits:
        first = hit if taken is None else logical_and(hit, logical_not(taken))
        taken = hit if taken is None else logical_or(taken, hit)
        rest = [full - start - (out - 1) * s - 1 for full, start, out, s in zip(padded.shape, starts, n.shape, a["strides"], strict=True)]
        part = pad(where(first, g, 0.0), starts, rest, tuple(s - 1 for s in a["strides"]))
        total = part if total is None else total + part
    assert total is not None
    return slice_(total, lows, x.shape)


def _to_winners(n: Node, g: Node, hits: list[Node], whole: Sequence[Size]) -> Node:
    """``g`` of each window at its first hit, 0 elsewhere, for windows side by side that fill ``whole`` but for what is left over."""
    winner = constant(255, uint8)
    for k, hit in reversed(list(enumerate(hits))):
        winner = where(hit, constant(k, uint8), winner)
    window = n.attrs["window"]
    tiles = tuple(s for pair in zip(n.shape, window, strict=True) for s in pair)

    def inside(v: Node) -> Node:
        return broadcast_to(reshape(v, tuple(s for d in n.shape for s in (d, 1))), tiles)

    number = reshape(iota((prod(window),), 0, int32).cast(uint8), tuple(s for w in window for s in (1, w)))
    spread = where(eq(inside(broadcast_to(winner, n.shape)), broadcast_to(number, tiles)), inside(g), 0.0)
    covered = tuple(out * w for out, w in zip(n.shape, window, strict=True))
    return pad(reshape(spread, covered), (0,) * n.ndim, tuple(s - c for s, c in zip(whole, covered, strict=True)))


reduce_window = primitive(
    "reduce_window", "reduce", _call.__doc__ or "", _call, _infer, numpy=_numpy, nest=_nest, grad=_grad, method=False,
    flops=lambda n: n.size * prod(n.attrs["window"]), tolerance={"float32": 5e-6, "float64": 1e-12},
    samples=lambda: [
        Sample((rand(2, 3, 6, 8), "max", (1, 1, 2, 2), (1, 1, 2, 2)), smooth=False), Sample((rand(2, 3, 7, 9), "add", (1, 1, 3, 3), (1, 1, 2, 2), (0, 0, 1, 1))),
        Sample((rand(2, 7, 7), "max", (1, 3, 3), (1, 2, 1), (0, (1, 0), 1)), smooth=False), Sample((rand(19), "add", (4,))),
        Sample((rand(19), "add", (3,), (2,), (1,), (3,))), Sample((rand(33), "max", (3,), (1,), (2,), (2,)), smooth=False), Sample((rand(5, 130), "add", (1, 7), (1, 5))),
        Sample((rand(0, 8), "max", (1, 2), (1, 2)), smooth=False), Sample((rand(4, 11), "add", (2, 3), (3, 4), ((1, 0), (0, 2)))),
    ],
    errors=lambda: [
        Sample((rand(3), "add", (4,)), error="smaller than the window"), Sample((rand(3), "mul", (2,)), error="combine"),
        Sample((rand(3), "max", (2,), (1,), (2,)), error="padding"), Sample((rand(3, 3), "max", (2,)), error="entries"),
    ],
)  # fmt: skip
