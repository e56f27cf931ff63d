"""Sums of products as contractions: which part each axis of a fold plays.

A convolution is a contraction whose left operand is read through an index map: each output place reads a window of x. What
a tile of the result needs is the same as for a matrix product: an axis M along which only the left operand varies, an axis N
along which only the right one does, and axes K that are summed over. All other axes are walked tile by tile. Where each channel is
convolved by itself, both operands vary along the channels: that axis is N then, and products are made lane by lane.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.dims import FloorDiv, Size, symbols
from ..ir.layout import channels_last
from .nest import Axis, Contract
from .scalar import Scalar, scalar_symbols

__all__ = ["any_contraction_of", "conditions", "contraction_of"]

FEW = 6
"""Rows below which a tile is better laid along another, larger axis."""


def contraction_of(value: Scalar, outer: Sequence[Axis], inner: Sequence[Axis]) -> Contract | None:
    """The contraction that sums ``value`` over ``inner``, or None where it has not the form of one.

    The left operand may be read under conditions (padding), and its address may divide (a stride read from the other side).
    The axes of K are ordered for a left operand that lies channels-last: the innermost one walks memory by the smallest step.
    Axes on which conditions of single rows depend stay outside: the innermost loop has no conditions but for whole tiles. The right
    operand may be read under conditions for whole tiles that the left one is read under as well.
    """
    if value.op != "mul" or not inner or any(x.op != "load" for x in value.args):
        return None
    a, b = value.args
    if not set(conditions(b)) <= set(conditions(a)):
        a, b = b, a
    shared = conditions(b)
    if not set(shared) <= set(conditions(a)):
        return None
    b = Scalar.make("load", (), b.dtype, b.attr)
    left, right = scalar_symbols(a), scalar_symbols(b)
    place = _places(a)
    rows = [x for x in outer if x.name in left and x.name not in right]
    columns = [x for x in outer if x.name in right and x.name not in left]
    if not columns:  # lanewise, along the axis that lies innermost
        columns = sorted((x for x in outer if x.name in right), key=lambda x: -place.get(x.name, -1))
    if not columns or not rows:
        return None
    n, m = columns[0], max(rows, key=lambda x: place.get(x.name, -1))
    if isinstance(m.size, int) and m.size < FEW:
        m = max(rows, key=lambda x: (_size(x), place.get(x.name, -1)))
    if any(m.name in scalar_symbols(c) for c in shared):
        return None
    held = _beside(a, m.name)
    if all(x.name in held for x in inner):
        return None
    k = sorted(inner, key=lambda x: (x.name not in held, place.get(x.name, -1)))
    return Contract(tuple(x for x in outer if x is not m and x is not n), m, n, tuple(k), a, b)


def any_contraction_of(value: Scalar, outer: Sequence[Axis], inner: Sequence[Axis]) -> Contract | None:
    """The same for targets that read operands element by element, where every index map will do."""
    if value.op != "mul" or not inner or any(x.op != "load" for x in value.args):
        return None
    left, right = (scalar_symbols(x) for x in value.args)
    rows = [x for x in outer if x.name in left and x.name not in right]
    columns = [x for x in outer if x.name in right and x.name not in left]
    if not rows or not columns:
        return None
    m, n = rows[-1], columns[-1]
    return Contract(tuple(x for x in outer if x is not m and x is not n), m, n, tuple(inner), *value.args)


def conditions(load: Scalar) -> list[Scalar]:
    """The conditions of a load, one by one."""
    found: list[Scalar] = []
    stack = list(load.args)
    while stack:
        c = stack.pop()
        if c.op == "bit_and" and c.dtype.kind == "b":
            stack += c.args[::-1]
        else:
            found.append(c)
    return found


def _size(a: Axis) -> int:
    return a.size if isinstance(a.size, int) else 8


def _places(a: Scalar) -> dict[str, int]:
    """How far inside each symbol walks memory, when the loaded value lies channels-last."""
    node, index = a.attr
    order = channels_last(node.ndim).perm if node.ndim > 2 else tuple(range(node.ndim))
    out: dict[str, int] = {}
    for i, axis in enumerate(order):
        for name in symbols(index[axis]):
            out[name] = i
    return out


def _beside(a: Scalar, row: str) -> set[str]:
    """Symbols that stand with ``row`` in a condition or under a division: with them the rows of a tile change together."""
    found: set[str] = set()
    groups = [scalar_symbols(c) for c in conditions(a)]
    for e in a.attr[1]:
        groups += _divisions(e)
    for names in groups:
        if row in names:
            found |= names - {row}
    return found


def _divisions(e: Size) -> list[set[str]]:
    if isinstance(e, int):
        return []
    return [symbols(b.num) | symbols(b.den) for mono, _ in e.terms for b, _p in mono if isinstance(b, FloorDiv)]
