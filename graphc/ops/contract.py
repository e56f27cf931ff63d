"""Sums of products: ``dot_general``, on which matmul, linear layers and attention products stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import Expr, prod
from ..ir.dtypes import promote
from ..ir.node import Node
from ..ir.op import Sample, lookup, sugar
from ..ir.types import TensorType
from .define import as_node, broadcast_shapes, normal_axis, primitive, rand, show
from .views import broadcast_to, transpose

__all__ = ["dot_general", "free_axes", "matmul"]


def free_axes(rank: int, *used: Sequence[int]) -> tuple[int, ...]:
    """The axes of a rank that are in none of the lists."""
    taken = {a for u in used for a in u}
    return tuple(a for a in range(rank) if a not in taken)


def _infer(a: TensorType, b: TensorType, *, contract: Any, batch: Any) -> TensorType:
    if a.dtype != b.dtype:
        raise DTypeError(f"operands have dtypes {a.dtype} and {b.dtype}")
    if not a.dtype.is_float:
        raise DTypeError(f"{a.dtype} operands are not supported", hint="cast to float32")
    (ca, cb), (ba, bb) = contract, batch
    for name, xs, ys in (("contracted", ca, cb), ("batch", ba, bb)):
        for x, y in zip(xs, ys, strict=True):
            if a.shape[x] != b.shape[y]:
                raise ShapeError(f"{name} sizes differ: axis {x} of {show(a.shape)} against axis {y} of {show(b.shape)}")
    shape = [a.shape[i] for i in ba] + [a.shape[i] for i in free_axes(a.rank, ca, ba)] + [b.shape[i] for i in free_axes(b.rank, cb, bb)]
    return TensorType(tuple(shape), a.dtype)


def _call(a: Any, b: Any, contract: tuple[Sequence[int], Sequence[int]], batch: tuple[Sequence[int], Sequence[int]] = ((), ())) -> Node:
    """The sum over contracted axes of products, for each index of the batch axes (JAX's ``dot_general``).

    ``contract`` and ``batch`` are pairs of axis lists, of ``a`` and of ``b``. The result's axes are batch, then the free
    axes of ``a``, then those of ``b``.
    """
    x, y = as_node(a), as_node(b)
    dtype = promote(x.dtype, y.dtype)

    def tidy(pair: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(normal_axis(i, x.ndim) for i in pair[0]), tuple(normal_axis(i, y.ndim) for i in pair[1])

    return Node.make(lookup("dot_general"), (x.cast(dtype), y.cast(dtype)), contract=tidy(contract), batch=tidy(batch))


def _numpy(a: np.ndarray, b: np.ndarray, *, contract: Any, batch: Any) -> np.ndarray:
    (ca, cb), (ba, bb) = contract, batch
    fa, fb = free_axes(a.ndim, ca, ba), free_axes(b.ndim, cb, bb)
    x = np.transpose(a, (*ba, *fa, *ca))
    y = np.transpose(b, (*bb, *cb, *fb))
    lead, m, n = x.shape[: len(ba)], x.shape[len(ba) : len(ba) + len(fa)], y.shape[len(bb) + len(cb) :]
    k = int(np.prod(x.shape[len(ba) + len(fa) :], dtype=int))
    out = np.matmul(x.reshape(*lead, int(np.prod(m, dtype=int)), k), y.reshape(*lead, k, int(np.prod(n, dtype=int))))
    return np.reshape(out, (*lead, *m, *n))


def _grad(n: Node, g: Node) -> tuple[Node, Node]:
    a, b = n.inputs
    (ca, cb), (ba, bb) = n.attrs["contract"], n.attrs["batch"]
    fa, fb = free_axes(a.ndim, ca, ba), free_axes(b.ndim, cb, bb)
    lead = tuple(range(len(ba)))
    ga = tuple(range(len(ba), len(ba) + len(fa)))
    gb = tuple(range(len(ba) + len(fa), n.ndim))
    da = _call(g, b, (gb, fb), (lead, bb))  # batch, fa, then b's contracted axes in b's order
    order = sorted(range(len(cb)), key=cb.__getitem__)
    da = transpose(da, _back(a.ndim, ba, fa, tuple(ca[i] for i in order)))
    db = _call(a, g, (fa, ga), (ba, lead))  # batch, a's contracted axes in a's order, then fb
    order = sorted(range(len(ca)), key=ca.__getitem__)
    db = transpose(db, _back(b.ndim, bb, tuple(cb[i] for i in order), fb))
    return da, db


def _back(rank: int, *groups: Sequence[int]) -> tuple[int, ...]:
    """The permutation that takes axes listed as ``groups`` back to 0..rank-1."""
    listed = [i for g in groups for i in g]
    return tuple(listed.index(i) for i in range(rank))


dot_general = primitive(
    "dot_general", "contract", _call.__doc__ or "", _call, _infer, numpy=_numpy, grad=_grad,
    flops=lambda n: 2 * n.size * prod(n.inputs[0].shape[i] for i in n.attrs["contract"][0]),
    tolerance={"float32": 1e-5, "float64": 1e-12},
    samples=lambda: [
        Sample((rand(5, 7), rand(7, 3)), {"contract": ((1,), (0,))}), Sample((rand(5, 7), rand(3, 7)), {"contract": ((1,), (1,))}),
        Sample((rand(7, 5), rand(7, 33)), {"contract": ((0,), (0,))}), Sample((rand(2, 5, 7), rand(2, 7, 3)), {"contract": ((2,), (1,)), "batch": ((0,), (0,))}),
        Sample((rand(2, 3, 5, 4), rand(2, 3, 6, 4)), {"contract": ((3,), (3,)), "batch": ((0, 1), (0, 1))}), Sample((rand(1, 64), rand(64, 70)), {"contract": ((1,), (0,))}),
        Sample((rand(0, 7), rand(7, 3)), {"contract": ((1,), (0,))}), Sample((rand(5, 0), rand(0, 3)), {"contract": ((1,), (0,))}),
        Sample((rand(19), rand(19)), {"contract": ((0,), (0,))}), Sample((rand(2, 3), rand(4)), {"contract": ((), ())}), Sample((rand(2, 3, 4), rand(3, 4, 5)), {"contract": ((1, 2), (0, 1))}),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(6, 3)), {"contract": ((1,), (0,))}, error="sizes differ")],
)  # fmt: skip


@sugar
def matmul(a: Any, b: Any) -> Node:
    """NumPy's matrix product: the last axis of ``a`` with the second last of ``b``; leading axes broadcast.

    Shapes (..., M, K) @ (..., K, N) -> (..., M, N); 1-D operands are vectors. Raises ShapeError where K differs.
    """
    x, y = as_node(a), as_node(b)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError("matmul: a scalar operand", hint="use *")
    inner = y.shape[-2 if y.ndim > 1 else 0]
    if isinstance(inner, Expr) and isinstance(x.shape[-1], Expr):
        x = lookup("assume").call(x, (*x.shape[:-1], inner))  # named sizes: equal by a guard
    if x.shape[-1] != inner:
        raise ShapeError(f"matmul: inner dimensions differ: a {show(x.shape)} @ b {show(y.shape)}")
    if y.ndim <= 2:
        return _call(x, y, ((x.ndim - 1,), (max(y.ndim - 2, 0),)))
    if x.ndim == 1:
        return _call(y, x, ((y.ndim - 2,), (0,)))
    lead = broadcast_shapes([x.shape[:-2], y.shape[:-2]])
    x, y = broadcast_to(x, (*lead, *x.shape[-2:])), broadcast_to(y, (*lead, *y.shape[-2:]))
    axes = tuple(range(len(lead)))
    return _call(x, y, ((x.ndim - 1,), (y.ndim - 2,)), (axes, axes))


