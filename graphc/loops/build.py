"""From operators to scalars at an index: records say what an element is, :class:`PointBuilder` writes it in scalar IR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import CompileError
from ..ir.dims import Size, floordiv, prod, within
from ..ir.dtypes import bool_
from ..ir.node import Node
from ..ir.types import Shape
from . import scalar as s
from .scalar import Scalar

__all__ = ["PointBuilder"]

TRIP = "trip"
"""The symbol of the scan trip counter in index expressions."""


class PointBuilder:
    """Builds the scalar value of nodes at indices.

    ``inline(node)`` says which nodes are written out at the place of use; all others become loads. ``ranges`` holds the
    size of every axis symbol, for simplification and for leaving out conditions that always hold.
    """

    def __init__(self, ranges: Mapping[str, Size], inline: Callable[[Node], bool], trip: Size = 0):
        self.ranges = dict(ranges)
        self.inline = inline
        self._trip = trip
        self._guards: list[Scalar] = []
        self._memo: dict[tuple[Node, tuple[Size, ...], tuple[Scalar, ...]], Scalar] = {}

    # -- what records call -------------------------------------------------------------------------------------------
    def value(self, node: Node, idx: tuple[Size, ...]) -> Scalar:
        """The element of ``node`` at ``idx``."""
        idx = tuple(0 if d == 1 else i for i, d in zip(idx, node.shape, strict=True))
        key = (node, idx, tuple(self._guards))
        found = self._memo.get(key)
        if found is None:
            found = self.define(node, idx) if self.inline(node) else self.load(node, idx)
            self._memo[key] = found
        return found

    def define(self, node: Node, idx: tuple[Size, ...]) -> Scalar:
        """The element of ``node`` at ``idx`` by its own record, even where it is not inline."""
        if node.op.lower is None:
            raise CompileError(f"{node.op.name} has no value at an index")
        out: Scalar = node.op.lower(self, node, idx)
        if out.dtype != node.dtype:
            raise CompileError(f"the lowering of {node.op.name} gives {out.dtype}, its type says {node.dtype}")
        return out

    def load(self, node: Node, idx: tuple[Size, ...]) -> Scalar:
        """A load, under the conditions that hold here."""
        where: Scalar | None = None
        for g in self._guards:
            where = g if where is None else where & g
        return s.load(node, tuple(idx), node.dtype, where)

    def flat(self, idx: Sequence[Size], shape: Shape) -> Size:
        """The row-major position of an index."""
        at: Size = 0
        for i, d in zip(idx, shape, strict=True):
            at = at * d + (0 if d == 1 else i)
        return at

    def reindex(self, idx: Sequence[Size], source: Shape, target: Shape) -> tuple[Size, ...]:
        """The index in ``target`` of the element that stands at ``idx`` in ``source`` (same elements, row-major)."""
        out: list[Size] = []
        i = j = 0
        while i < len(source) or j < len(target):
            # the shortest runs of axes on both sides that hold the same number of elements map to each other
            a, b = i, j
            left: Size = source[i] if i < len(source) else 1
            right: Size = target[j] if j < len(target) else 1
            i, j = min(i + 1, len(source)), min(j + 1, len(target))
            while left != right and (i < len(source) or j < len(target)):
                if i < len(source) and (j == len(target) or _divides(left, right)):
                    left, i = left * source[i], i + 1
                else:
                    right, j = right * target[j], j + 1
            out += self._unflatten(self.flat(idx[a:i], source[a:i]), target[b:j])
        return tuple(out)

    def _unflatten(self, flat: Size, shape: Shape) -> list[Size]:
        out: list[Size] = []
        for axis, d in enumerate(shape):
            if d == 1:
                out.append(0)
                continue
            rest = prod(shape[axis + 1 :])
            q = floordiv(flat, rest, self.ranges)
            out.append(q)
            flat = flat - q * rest
        return out

    def inside(self, expr: Size, size: Size) -> Scalar:
        """Whether ``0 <= expr < size``; a literal true where the axes' ranges prove it."""
        if within(expr, size, self.ranges):
            return s.const(True, bool_)
        at = s.index_value(expr)
        return (at >= 0) & (at < s.index_value(size))

    def divisible(self, expr: Size, by: int) -> Scalar:
        """Whether ``by`` divides ``expr`` (taken only where ``expr`` is not negative)."""
        if by == 1:
            return s.const(True, bool_)
        rest = expr - floordiv(expr, by) * by
        return s.index_value(rest).eq(0)

    def guarded(self, node: Node, idx: tuple[Size, ...], conditions: Sequence[Scalar], fill: float) -> Scalar:
        """The element where all conditions hold, else ``fill``; nothing is read where they do not."""
        open_ = [c for c in conditions if not (c.op == "const" and c.attr)]
        if not open_:
            return self.value(node, idx)
        self._guards += open_
        value = self.value(node, idx)
        del self._guards[len(self._guards) - len(open_) :]
        condition = open_[0]
        for c in open_[1:]:
            condition = condition & c
        if fill == 0 and value.op == "load" and value.args == (condition,):
            return value  # a guarded load is 0 elsewhere already
        return condition.select(value, s.const(fill, value.dtype))

    def trip(self) -> Scalar:
        """The flattened scan iteration, 0 outside scans."""
        return s.index_value(self._trip)


def _divides(a: Size, b: Size) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return floordiv(b, a) * a == b
