"""Order: ranks, sort, top-k, quantiles, and places among sorted values.

Sorting counts: the place of an element is the number of elements before it, a fold over all pairs of a row (``count_before``);
then the elements are scattered to their places. That is n^2 comparisons a row, but each of them in vector registers (64 million
in 2 ms on two cores), stable, without branches or memory, and one kernel for every size, named ones too. A bitonic network
needs (log2 n)^2 / 2 passes over the row, with as many launches and barriers, and a size known when the graph is built; a
comparison sort branches. Rows of up to some 2000 elements sort faster this way than with PyTorch, rows of 20000 much slower.

NaN counts as the largest value, as in NumPy, JAX and PyTorch: last when ascending, first when descending.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dims import Size
from ..ir.dtypes import bool_, float32, float64, int32, promote
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import Shape, TensorType
from ..loops import scalar as s
from ..loops.fold import Fold
from ..loops.scalar import Scalar
from .define import NUMERIC, as_node, composite, constant, normal_axes, normal_axis, primitive, rand, show
from .elementwise import div, eq, logical_and, logical_not, logical_or, lt, ne, where
from .generate import iota
from .indexing import gather
from .reductions import max as reduce_max
from .reductions import min as reduce_min
from .reductions import sum as reduce_sum
from .scattering import scatter_elements
from .views import broadcast_to, concat, expand_dims, reshape, swapaxes, transpose

__all__ = [
    "argsort", "bucketize", "count_before", "kthvalue", "median", "msort", "percentile", "quantile", "rankdata", "searchsorted", "sort", "top_k", "topk",
]  # fmt: skip


# -- counting ------------------------------------------------------------------------------------------------------------------
_ties = ("less", "equal", "earlier")


def _count_before(x: Any, among: Any, ties: str = "less", descending: bool = False) -> Node:
    """For each element of ``x`` (.., m) the number of elements of ``among`` (.., n) that come before it (int32).

    ``ties`` says which equal ones count too: "less" none, "equal" all, "earlier" those with a lower index (``among`` is then
    ``x``, and the numbers are the places in stable order). ``among`` has one axis or the leading axes of ``x``. A fold over
    comparisons. NaN comes after all other numbers; ``descending`` turns the order around.
    """
    node, other = as_node(x), as_node(among)
    return Node.make(lookup("count_before"), (node, other), ties=ties, descending=bool(descending))


def _count_infer(x: TensorType, among: TensorType, *, ties: str, descending: bool) -> TensorType:
    if ties not in _ties:
        raise TraceError(f"ties={ties!r}", hint=", ".join(_ties))
    if x.dtype != among.dtype:
        raise DTypeError(f"operands have dtypes {x.dtype} and {among.dtype}")
    if x.dtype.kind not in NUMERIC:
        raise DTypeError(f"{x.dtype} operands are not supported", hint="x.cast('int32')")
    if among.rank == 0 or (among.rank > 1 and among.shape[:-1] != x.shape[:-1]) or (ties == "earlier" and x.shape != among.shape):
        raise ShapeError(f"x {show(x.shape)} and among {show(among.shape)}: the axes before the last must be equal")
    return TensorType(x.shape, int32)


def _count_numpy(x: np.ndarray, among: np.ndarray, *, ties: str, descending: bool) -> np.ndarray:
    if among.ndim > 1:
        rows = [_count_numpy(a, b, ties=ties, descending=descending) for a, b in zip(x, among, strict=True)]
        return np.stack(rows) if rows else np.zeros(x.shape, np.int32)
    n = among.size
    if ties == "earlier":
        order = n - 1 - np.argsort(x[::-1], kind="stable")[::-1] if descending else np.argsort(x, kind="stable")
        places = np.empty(n, np.int32)
        places[order] = np.arange(n, dtype=np.int32)
        return places
    line = np.sort(among)
    side = np.searchsorted(line, x, "right" if (ties == "equal") != descending else "left")
    return np.asarray(n - side if descending else side, np.int32)


def _before(a: Scalar, b: Scalar) -> Scalar:
    """Whether ``a`` comes strictly before ``b`` in ascending order."""
    return (a < b) | (b.ne(b) & a.eq(a)) if a.dtype.is_float else a < b


def _count_nest(b: Any, node: Node) -> Fold:
    x, among = node.inputs
    ties, descending = node.attrs["ties"], node.attrs["descending"]

    def value(b: Any, outer: tuple[Size, ...], inner: tuple[Size, ...]) -> Scalar:
        mine, other = b.value(x, outer), b.value(among, (*(outer[:-1] if among.ndim > 1 else ()), inner[0]))
        less, more = (_before(mine, other), _before(other, mine)) if descending else (_before(other, mine), _before(mine, other))
        hit = less if ties == "less" else ~more
        if ties == "earlier":
            hit = less | (~more & (s.index_value(inner[0]).cast(int32) < s.index_value(outer[-1]).cast(int32)))
        return hit.cast(int32)

    return Fold(node.shape, (among.shape[-1],), value, "add", 0)


def _equals(*shape: int) -> np.ndarray:
    """Sample data with equal elements in most rows: integers, since order has no slope where elements are equal."""
    out: np.ndarray = np.rint(rand(*shape) * 3).astype(np.int32)
    return out


def _apart(*shape: int) -> np.ndarray:
    """Sample data whose elements stay in order when they move a little, so that differences see the slope."""
    count = int(np.prod(shape, dtype=int))
    order = np.random.default_rng(count).permutation(count)
    return np.asarray((order.reshape(shape) + 0.5) * (4.0 / max(count, 1)) - 2.0)


def _count_samples() -> list[Sample]:
    ways = [{"ties": t, "descending": d} for t in _ties for d in (False, True)]
    x, rows = _equals(33), _equals(4, 9)
    out = [Sample((a, a), way) for a in (x, rows) for way in ways]
    out += [Sample((_equals(5, 7), x), way) for way in ways[:4]] + [Sample((_equals(2, 3, 4), _equals(2, 3, 9)), ways[0])]
    return out + [Sample((_apart(*a), _apart(*b))) for a, b in (((7,), (130,)), ((), (5,)), ((0,), (3,)), ((3,), (0,)), ((0, 3), (0, 2)))]


count_before = primitive(
    "count_before", "reduce", _count_before.__doc__ or "", _count_before, _count_infer, numpy=_count_numpy, nest=_count_nest, method=False,
    grad="a count is piecewise constant", reduce=("add", 0.0), flops=lambda n: n.size * n.inputs[1].shape[-1], samples=_count_samples,
    errors=lambda: [
        Sample((rand(2, 3), rand(3, 3)), error="before the last"), Sample((rand(3), _equals(3)), error="dtypes"),
        Sample((rand(3), rand(2)), {"ties": "earlier"}, error="before the last"), Sample((rand(3), rand(3)), {"ties": "any"}, error="ties"),
    ],
)  # fmt: skip


def _places(x: Node, axis: int, descending: bool = False) -> Node:
    """Where each element goes in sorted order: 0 to n-1, equal elements in their own order."""
    row = swapaxes(x, axis, -1)
    return swapaxes(count_before(row, row, "earlier", descending), axis, -1)


def _axis_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    if x.dtype.kind not in NUMERIC:
        raise DTypeError(f"{x.dtype} operands are not supported", hint="x.cast('int32')")
    if not x.ndim:
        raise ShapeError("a scalar has no axis")
    attrs["axis"] = normal_axis(attrs["axis"], x.ndim)
    if "descending" in attrs:
        attrs["descending"] = bool(attrs["descending"])


# -- ranks -------------------------------------------------------------------------------------------------------------------
_methods = ("average", "min", "max", "ordinal")


def _rank_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    if attrs["method"] not in _methods:
        raise TraceError(f"method={attrs['method']!r}", hint=", ".join(_methods))
    _axis_prepare(ins, attrs)


@composite(
    "rankdata",
    prepare=_rank_prepare,
    samples=lambda: [Sample((_equals(5, 7),), {"method": m}) for m in _methods] + [
        Sample((_apart(5, 7),), {"axis": 0}), Sample((_equals(2, 3, 19),), {"axis": 1, "method": "ordinal"}), Sample((_equals(130),), {"method": "ordinal"}),
        Sample((_apart(1),)), Sample((_apart(0, 3),)), Sample((_apart(3, 0),)),
    ],
    errors=lambda: [Sample((_apart(5),), {"method": "first"}, error="ordinal"), Sample((_apart(),), error="scalar"), Sample((_apart(5) > 0,), error="bool")],
)  # fmt: skip
def rankdata(x: Node, axis: int = -1, method: str = "average") -> Node:
    """Ranks from 1 along ``axis``, as SciPy's ``rankdata``: equal elements get the "average", "min" or "max" of theirs.

    "ordinal": all ranks differ, equal elements in their own order. int32, but "average" is float (what an AUC takes).
    """
    if method == "ordinal":
        return _places(x, axis) + 1
    row = swapaxes(x, axis, -1)
    if method == "min":
        rank = count_before(row, row) + 1
    elif method == "max":
        rank = count_before(row, row, "equal")
    else:  # between less + 1 and less + equal
        rank = (count_before(row, row) + count_before(row, row, "equal") + 1).cast(x.dtype if x.dtype.is_float else float32) * 0.5
    return swapaxes(rank, axis, -1)


# -- sort ----------------------------------------------------------------------------------------------------------------------
def _sort_samples() -> list[Sample]:
    cases: list[tuple[np.ndarray, int]] = [(_equals(5, 7), -1), (_apart(5, 7), 0), (_equals(2, 3, 19), 1), (_apart(130), 0), (_apart(1, 1), -1)]
    cases += [(_apart(0, 3), -1), (_apart(3, 0), -1)]
    return [Sample((x,), {"axis": a, "descending": d}) for x, a in cases for d in (False, True)]


_sort_errors = [Sample((_apart(),), error="scalar"), Sample((_apart(5),), {"axis": 1}, error="axis 1"), Sample((_apart(5) > 0,), error="bool")]


@composite(
    "sort",
    prepare=_axis_prepare,
    # the element of place p goes to x's place p: the cotangent comes back by the same permutation
    grad=lambda n, g: (gather(g, n.attrs["axis"], _places(n.inputs[0], n.attrs["axis"], n.attrs["descending"])),),
    samples=_sort_samples,
    errors=lambda: _sort_errors,
)
def sort(x: Node, axis: int = -1, descending: bool = False) -> Node:
    """The elements along ``axis`` in order (NumPy's ``sort``; ``nn.functional.sort`` gives the indices too, as torch's).

    The order is stable, NaN counts as the largest.
    """
    return scatter_elements(x, _places(x, axis, descending), x, axis=axis)


@composite("argsort", prepare=_axis_prepare, grad=lambda n, g: (None,), samples=_sort_samples, errors=lambda: _sort_errors)
def argsort(x: Node, axis: int = -1, descending: bool = False, stable: bool = True) -> Node:
    """The indices (int32) that sort ``x`` along ``axis``: ``take_along_axis(x, argsort(x))`` is sorted.

    Always stable: equal elements keep their order, also when descending. NaN counts as the largest.
    """
    start = broadcast_to(constant(0, int32), x.shape)
    return scatter_elements(start, _places(x, axis, descending), iota(x.shape, axis), axis=axis)


@sugar
def msort(x: Node) -> Node:
    """``sort`` along the first axis (torch's ``msort``)."""
    return sort(x, 0)


# -- top-k ---------------------------------------------------------------------------------------------------------------------
FEW = 16
"""Up to so many elements are picked one after another."""


def _top_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _axis_prepare(ins, attrs)
    x, k = ins[0], attrs["k"]
    assert x is not None
    size = x.shape[attrs["axis"]]
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 0 or (isinstance(size, int) and k > size):
        raise ShapeError(f"k={k} of {size} elements")
    attrs["k"] = int(k)


@composite(
    "top_k",
    inputs=1,
    prepare=_top_prepare,
    samples=lambda: [
        Sample((_equals(5, 7), 3)), Sample((_equals(5, 7), 5), {"axis": 0, "largest": False}), Sample((_apart(2, 3, 19), 2), {"axis": 1}), Sample((_apart(130), 20)),
        Sample((_apart(130), 5)), Sample((_apart(4, 1), 1)), Sample((_apart(0, 3), 2)), Sample((_apart(4, 3), 0)), Sample((_apart(4, 9), 8), {"largest": False}),
    ],
    errors=lambda: [Sample((_apart(5, 7), 8), error="k=8 of 7"), Sample((_apart(), 1), error="scalar")],
    onnx="TopK",
)  # fmt: skip
def top_k(x: Node, k: int, axis: int = -1, largest: bool = True) -> tuple[Node, Node]:
    """The ``k`` largest (or smallest) elements along ``axis`` in order, and their indices (int32), as JAX's ``top_k``.

    Of equal elements the one with the lower index comes first; NaN counts as the largest. A few elements are picked one after
    another, in two folds each; more are taken from the whole order.
    """
    if k == 0 or k > FEW:
        places = argsort(x, axis, descending=largest)
        key = [slice(None)] * x.ndim
        key[axis] = slice(0, k)
        indices = places[tuple(key)]
    else:
        picked: list[Node] = []
        number, n = iota(x.shape, axis), as_node(x.shape[axis], int32).cast(int32)
        left: Node | None = None
        for _ in range(k):
            picked.append(_pick(x, number, n, left, axis, largest))
            fresh = ne(number, picked[-1])
            left = fresh if left is None else logical_and(left, fresh)
        indices = concat(picked, axis)
    return gather(x, axis, indices), indices


def _pick(x: Node, number: Node, n: Node, left: Node | None, axis: int, largest: bool) -> Node:
    """The index of the first element among those ``left``: the lowest of the extreme ones."""
    known = eq(x, x) if x.dtype.is_float else None
    able = left if largest or known is None else known if left is None else logical_and(left, known)
    info = None if x.dtype.is_float else np.iinfo(x.dtype.numpy)
    if largest:
        low = -math.inf if info is None else info.min
        best = reduce_max(x if able is None else where(able, x, low), axis, keepdims=True)
    else:
        high = math.inf if info is None else info.max
        best = reduce_min(x if able is None else where(able, x, high), axis, keepdims=True)
    hit = eq(x, best)
    if known is not None and largest:
        hit = logical_or(hit, logical_not(known))  # where there is a NaN the maximum is NaN
    if left is not None:
        hit = logical_and(hit, left)
    at = reduce_min(where(hit, number, n), axis, keepdims=True)
    if known is None or largest:
        return at
    # nothing but NaN is left: the first of them
    rest = reduce_min(number if left is None else where(left, number, n), axis, keepdims=True)
    return where(lt(at, n), at, rest)


@sugar
def topk(x: Node, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Node, Node]:
    """torch's ``topk``: (values, indices) of ``top_k``, always in order."""
    both = top_k(x, k, axis, largest)
    return both[0], both[1]


# -- order statistics ------------------------------------------------------------------------------------------------------------
@composite(
    "kthvalue",
    inputs=1,
    prepare=_top_prepare,
    samples=lambda: [
        Sample((_apart(5, 7), 3)), Sample((_apart(5, 7), 1), {"axis": 0}), Sample((_apart(2, 3, 19), 2), {"axis": 1, "keepdims": True}), Sample((_apart(130), 77)),
    ],
    errors=lambda: [Sample((_apart(5, 7), 8), error="k=8 of 7"), Sample((_apart(5, 7), 0), error="counts from 1")],
)  # fmt: skip
def kthvalue(x: Node, k: int, axis: int = -1, keepdims: bool = False) -> tuple[Node, Node]:
    """The ``k``-th smallest element along ``axis``, counted from 1, and its index (int32): torch's ``kthvalue``."""
    if k < 1:
        raise ShapeError(f"k={k}: the k-th element counts from 1")
    hit = eq(_places(x, axis), k - 1)
    return reduce_sum(where(hit, x, 0), axis, keepdims), reduce_sum(where(hit, iota(x.shape, axis), 0), axis, keepdims)


_interpolations = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, q = ins[0], attrs["q"]
    assert x is not None
    if x.dtype.kind not in NUMERIC:
        raise DTypeError(f"{x.dtype} operands are not supported", hint="x.cast('float32')")
    if not x.dtype.is_float:
        ins[0] = x.cast(float32)
    if isinstance(q, Node):
        raise TraceError("q must be numbers known when the graph is built")
    attrs["q"] = q = tuple(float(v) for v in q) if np.ndim(q) else float(q)
    if not all(0.0 <= v <= 1.0 for v in (q if isinstance(q, tuple) else (q,))):
        raise TraceError(f"q={q} is not in [0, 1]")
    if attrs["method"] not in _interpolations:
        raise TraceError(f"method={attrs['method']!r}", hint=", ".join(_interpolations))
    attrs["axis"] = normal_axes(attrs["axis"], x.ndim)
    if any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in attrs["axis"]):
        raise ShapeError(f"no elements in {show(x.shape)}")


def _inner(n: Size, q: float) -> tuple[Any, Any]:
    """The place q (n - 1) as a whole number and the rest; numbers where n is one."""
    if isinstance(n, int):
        at = q * (n - 1)
        return math.floor(at), at - math.floor(at)
    at = (as_node(n).cast(float64) - 1.0) * q
    low = at.cast(int32)
    return low, at - low.cast(float64)


@composite(
    "quantile",
    inputs=1,
    prepare=_quantile_prepare,
    samples=lambda: [
        Sample((_apart(5, 7), 0.3), {"axis": 1, "method": m}) for m in _interpolations
    ] + [
        Sample((_apart(5, 8), (0.0, 0.25, 0.5, 1.0)), {"axis": 0}), Sample((_apart(2, 3, 19), 0.9), {"axis": (0, 2), "keepdims": True}), Sample((_equals(33), (0.1, 0.5))),
        Sample((_apart(4, 1), 0.7), {"axis": 1}), Sample((_apart(0, 3), 0.5), {"axis": 1}), Sample((_apart(), 0.5)),
    ],
    errors=lambda: [
        Sample((_apart(5), 1.5), error="not in [0, 1]"), Sample((_apart(5), 0.5), {"method": "hazen"}, error="method"), Sample((_apart(3, 0), 0.5), {"axis": 1}, error="no elements"),
    ],
)  # fmt: skip
def quantile(x: Node, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Node:
    """The value below which the share ``q`` of the elements lies, over ``axis`` (all axes if None), as NumPy's ``quantile``.

    With the elements in order, that is place ``q (n - 1)``; between two places ``method`` says what: "linear", "lower",
    "higher", "midpoint" or "nearest" (even places win). Several ``q`` give a new leading axis. NaN if any element is NaN.
    """
    if x.ndim == 0:
        x, axis, keepdims = reshape(x, (1,)), (0,), False
    rest = tuple(a for a in range(x.ndim) if a not in axis)
    row = reshape(transpose(x, (*rest, *axis)), (*(x.shape[a] for a in rest), -1 if len(axis) > 1 else x.shape[axis[0]]))
    n, last = row.shape[-1], row.ndim - 1
    place = _places(row, last)

    def at(k: Any) -> Node:
        return reduce_sum(where(eq(place, k), row, 0.0), last)

    def one(share: float) -> Node:
        low, part = _inner(n, share)
        if method == "lower" or (isinstance(part, float) and part == 0.0):
            return at(low)
        a, b = at(low), at(low + 1)
        if not isinstance(part, float):  # past the end there is nothing to come: the last place has no rest
            b = where(eq(part, 0.0), a, b)
        if method == "higher":
            return b
        if method == "midpoint":
            return (a + b) * 0.5
        if method == "nearest":
            odd = low % 2 == 1 if isinstance(low, int) else eq(low - div(low, 2) * 2, 1)
            if isinstance(part, float):
                return b if part > 0.5 or (part == 0.5 and odd) else a
            return where(logical_or(lt(0.5, part), logical_and(eq(part, 0.5), odd)), b, a)
        weight = part if isinstance(part, float) else part.cast(x.dtype)
        return a + (b - a) * weight

    shares = q if isinstance(q, tuple) else (q,)
    wrong = lt(0, reduce_max(ne(row, row).cast(int32), last))
    found = [where(wrong, math.nan, one(v)) for v in shares]
    if keepdims:
        shape: Shape = tuple(1 if a in axis else size for a, size in enumerate(x.shape))
        found = [reshape(f, shape) for f in found]
    return concat([expand_dims(f, 0) for f in found], 0) if isinstance(q, tuple) else found[0]


@sugar
def percentile(x: Node, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Node:
    """``quantile`` with ``q`` from 0 to 100."""
    return quantile(x, tuple(v / 100 for v in q) if isinstance(q, Sequence) else q / 100, axis, method, keepdims)


@sugar
def median(x: Node, axis: Any = None, keepdims: bool = False) -> Node:
    """The middle element, or the mean of the two in the middle, over ``axis`` (all axes if None), as NumPy's ``median``."""
    return quantile(x, 0.5, axis, "linear", keepdims)


# -- places among sorted values ----------------------------------------------------------------------------------------------------
def _search_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    order, values = ins
    assert order is not None and values is not None
    if attrs["side"] not in ("left", "right"):
        raise TraceError(f"side={attrs['side']!r}", hint="'left' or 'right'")
    if order.ndim == 0 or (order.ndim > 1 and order.shape[:-1] != values.shape[:-1]):
        raise ShapeError(f"sorted {show(order.shape)} and values {show(values.shape)}: the axes before the last must be equal")
    if bool_ in (order.dtype, values.dtype):
        raise DTypeError("bool operands are not supported", hint="x.cast('int32')")
    dtype = promote(order.dtype, values.dtype)
    ins[:] = [order.cast(dtype), values.cast(dtype)]


@composite(
    "searchsorted",
    prepare=_search_prepare,
    grad=lambda n, g: (None, None),
    samples=lambda: [
        Sample((np.sort(_equals(9)), _equals(5, 7)), {"side": s}) for s in ("left", "right")
    ] + [
        Sample((np.sort(_equals(4, 9)), _equals(4, 6)), {"side": s}) for s in ("left", "right")
    ] + [Sample((np.sort(_apart(130)), rand(33))), Sample((_apart(0), rand(3))), Sample((np.sort(_apart(3)), rand(0))), Sample((np.sort(_apart(3)), rand()))],
    errors=lambda: [
        Sample((_apart(3), rand(3)), {"side": "middle"}, error="side"), Sample((_apart(2, 3), rand(3, 3)), error="before the last"), Sample((_apart(), rand(3)), error="before the last"),
    ],
)  # fmt: skip
def searchsorted(sorted: Node, values: Node, side: str = "left") -> Node:
    """Where ``values`` would go in ``sorted`` (.., n) to keep it in order, 0 to n (int32): NumPy's and torch's ``searchsorted``.

    "left": before equal elements, that is the number of smaller ones; "right": behind them. By counting comparisons.
    ``sorted`` has one axis, or the leading axes of ``values``.
    """
    return count_before(values, sorted, "less" if side == "left" else "equal")


@sugar
def bucketize(x: Node, boundaries: Any, right: bool = False) -> Node:
    """The number of the interval between sorted ``boundaries`` (torch's ``bucketize``): closed on the right, or with ``right`` on the left."""
    return searchsorted(as_node(boundaries, x.dtype), x, "right" if right else "left")
