"""Sums over groups that the data names: segments, counts, histograms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError, TraceError
from ..ir.dims import Size
from ..ir.dtypes import float32, int32
from ..ir.node import Node
from ..ir.op import Sample, sugar
from .define import composite, constant, rand, show
from .elementwise import eq, logical_and, logical_not, logical_or, lt, maximum, where
from .indexing import check_constant, need_int, sample_indices
from .reductions import max as reduce_max
from .reductions import min as reduce_min
from .scattering import WRITERS, scatter_add
from .sorting import count_before
from .views import broadcast_to, concat, reshape

__all__ = ["bincount", "histogram", "segment_max", "segment_mean", "segment_min", "segment_prod", "segment_sum"]


# -- segments ----------------------------------------------------------------------------------------------------------------
def _prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, ids = ins
    assert x is not None and ids is not None
    need_int(ids.tensor)
    if ids.ndim != 1 or x.ndim == 0 or x.shape[0] != ids.shape[0]:
        raise ShapeError(f"one segment for each of the rows of x {show(x.shape)} is needed, not {show(ids.shape)}")


def _wrong() -> list[Sample]:
    return [Sample((rand(5, 7), sample_indices(4, high=3), 3), error="one segment"), Sample((rand(5), rand(5), 3), error="integers")]


def _cases() -> list[Sample]:
    sizes: list[tuple[tuple[int, ...], int]] = [((9, 7), 4), ((33,), 5), ((6, 2, 3), 3), ((1, 19), 1)]
    return [Sample((rand(*shape), np.random.default_rng(k).permutation(shape[0]) % k, k)) for shape, k in sizes]


def _gaps() -> list[Sample]:
    """With segments that have no rows, where there is a finite value for them."""
    return [*_cases(), Sample((rand(3, 2), np.array([4, 0, 4]), 6)), Sample((rand(0, 3), sample_indices(0, high=2), 2))]


def _start(x: Node, segments: Size, combine: str) -> Node:
    info = None if x.dtype.is_float else np.iinfo(x.dtype.numpy)
    value = {"add": 0, "mul": 1, "max": -np.inf if info is None else info.min, "min": np.inf if info is None else info.max}[combine]
    return broadcast_to(constant(value, x.dtype), (segments, *x.shape[1:]))


@composite("segment_sum", inputs=2, prepare=_prepare, samples=_gaps, errors=_wrong)
def segment_sum(x: Node, segment_ids: Node, num_segments: Size) -> Node:
    """Row s is the sum of the rows i of ``x`` with ``segment_ids[i] = s``, 0 if there are none (``jax.ops.segment_sum``).

    A row whose segment is out of range is an error in the reference backend; compiled kernels leave it out.
    """
    return scatter_add(_start(x, num_segments, "add"), segment_ids, x)


@composite("segment_prod", inputs=2, prepare=_prepare, samples=_gaps, errors=_wrong, tolerance={"float32": 5e-6, "float64": 1e-12})
def segment_prod(x: Node, segment_ids: Node, num_segments: Size) -> Node:
    """As ``segment_sum``, the product; 1 for a segment without rows."""
    return WRITERS["mul"](_start(x, num_segments, "mul"), segment_ids, x)


@composite("segment_max", inputs=2, prepare=_prepare, samples=_cases, errors=_wrong)
def segment_max(x: Node, segment_ids: Node, num_segments: Size) -> Node:
    """As ``segment_sum``, the largest; -inf (the least integer) for a segment without rows. Equal elements share the gradient."""
    return WRITERS["max"](_start(x, num_segments, "max"), segment_ids, x)


@composite("segment_min", inputs=2, prepare=_prepare, samples=_cases, errors=_wrong)
def segment_min(x: Node, segment_ids: Node, num_segments: Size) -> Node:
    """As ``segment_sum``, the smallest; inf (the greatest integer) for a segment without rows. Equal elements share the gradient."""
    return WRITERS["min"](_start(x, num_segments, "min"), segment_ids, x)


@composite("segment_mean", inputs=2, prepare=_prepare, samples=_gaps, errors=_wrong)
def segment_mean(x: Node, segment_ids: Node, num_segments: Size) -> Node:
    """As ``segment_sum``, the mean; 0 for a segment without rows."""
    x = x if x.dtype.is_float else x.cast(float32)
    count = bincount(segment_ids, num_segments).cast(x.dtype)
    return segment_sum(x, segment_ids, num_segments) / reshape(maximum(count, 1.0), (num_segments, *(1 for _ in x.shape[1:])))


# -- counts ------------------------------------------------------------------------------------------------------------------
def _bin_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    assert ins[0] is not None
    need_int(ins[0].tensor)
    check_constant(ins[0], attrs["length"], 0)


@composite(
    "bincount",
    inputs=1,
    prepare=_bin_prepare,
    samples=lambda: [
        Sample((sample_indices(33, high=5), 5)), Sample((sample_indices(5, 7, high=9, dtype=np.int64), 12)), Sample((sample_indices(0, high=5), 3)),
        Sample((sample_indices(130, high=1), 1)),
    ],
    errors=lambda: [Sample((rand(5), 3), error="integers"), Sample((np.array([1, 5]), 5), error="index 5")],
)  # fmt: skip
def bincount(x: Node, length: Size) -> Node:
    """How often each of 0 to length-1 stands in ``x`` (int32): NumPy's ``bincount``, whose length must be known here.

    With weights: ``segment_sum(weights, x, length)``. A value out of range is an error in the reference backend; compiled kernels leave it out.
    """
    flat = reshape(x, (x.size,))
    return scatter_add(broadcast_to(constant(0, int32), (length,)), flat, broadcast_to(constant(1, int32), flat.shape))


def _histogram_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, bins = ins[0], attrs["bins"]
    assert x is not None
    if not x.dtype.is_float:
        ins[0] = x.cast(float32)
    if isinstance(bins, (tuple, np.ndarray)):
        attrs["bins"] = bins = tuple(float(b) for b in bins)
        if len(bins) < 2 or list(bins) != sorted(bins):
            raise TraceError(f"bins={bins}: edges must ascend", hint="two edges or more, or the number of bins")
    elif not isinstance(bins, (int, np.integer)) or isinstance(bins, bool) or bins < 1:
        raise TraceError(f"bins={bins!r}", hint="the number of bins, or their edges")
    bounds = attrs["range"]
    if bounds is not None:
        attrs["range"] = bounds = tuple(float(b) for b in bounds)
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise TraceError(f"range={bounds}", hint="(low, high)")


@composite(
    "histogram",
    inputs=1,
    prepare=_histogram_prepare,
    samples=lambda: [
        Sample((rand(130), 7), {"range": (-1.5, 1.0)}), Sample((rand(5, 7), (-2.0, -0.5, 0.0, 1.9))), Sample((np.array([0.0, 1.0, 2.0, 2.0, 4.0]), 4), {"range": (0.0, 2.0)}),
        Sample((rand(0), 3), {"range": (0.0, 1.0)}), Sample((rand(33), 10)),
    ],
    errors=lambda: [
        Sample((rand(5), 0), error="bins=0"), Sample((rand(5), (1.0, 0.0)), error="ascend"), Sample((rand(5), 3), {"range": (1.0, 1.0)}, error="range"),
    ],
)  # fmt: skip
def histogram(x: Node, bins: Any = 10, range: Any = None) -> tuple[Node, Node]:
    """How many elements lie in each bin (int32), and the edges: NumPy's ``histogram``.

    ``bins`` is the number of equal bins over ``range`` (the least and the greatest element, if None), or their edges. A bin holds its
    lower edge, the last one both. Elements outside and NaN are not counted.
    """
    flat = reshape(x, (x.size,))
    edges = _edges(flat, bins, range)
    count = edges.shape[0] - 1
    at = count_before(flat, edges, "equal") - 1
    # count_before puts NaN behind the last edge
    inside = logical_and(logical_not(lt(at, 0)), logical_or(lt(at, count), eq(flat, edges[-1])))
    at = where(inside, where(lt(at, count), at, count - 1), 0)
    return scatter_add(broadcast_to(constant(0, int32), (count,)), at, inside.cast(int32)), edges


def _edges(x: Node, bins: Any, bounds: Any) -> Node:
    if isinstance(bins, tuple):
        return constant(np.array(bins), x.dtype)
    share = np.arange(bins + 1) / bins
    if bounds is not None:
        return constant(np.linspace(bounds[0], bounds[1], bins + 1), x.dtype)
    low, high = reduce_min(x), reduce_max(x)
    flat = eq(low, high)  # as NumPy, a bin of width 1 around a single value
    low, high = where(flat, low - 0.5, low), where(flat, high + 0.5, high)
    inner = low + (high - low) * constant(share[:-1], x.dtype)
    return concat([inner, reshape(high, (1,))], 0)


@sugar
def histc(x: Node, bins: int = 100, min: float = 0.0, max: float = 0.0) -> Node:
    """torch's ``histc``: counts of equal bins from ``min`` to ``max`` (of the elements, if both are 0), in the dtype of ``x``."""
    counts = histogram(x, bins, None if min == max == 0.0 else (min, max))[0]
    return counts.cast(x.dtype)  # type: ignore[no-any-return]
