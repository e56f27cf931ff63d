"""How an operand of a contraction goes from memory to a tile in shared memory: who brings it, and how it lies there.

A plain load of four-byte elements is a copy that runs beside the threads (``cp.async``): by 16 bytes where neighbours along the
tile's rows (or, for tensor cores, along K) lie side by side and are aligned, else one by one; what is beyond an edge or fails a
condition becomes 0 by copying nothing. Anything else (a prologue, a conversion, elements of eight bytes) is computed by the threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphc.ir.dims import Size, coefficient, substitute
from graphc.ir.dtypes import DType
from graphc.loops.nest import Axis
from graphc.loops.scalar import Scalar, loads, scalar_symbols

from .instructions import WORD
from .text import VECTOR, multiple

__all__ = ["WIDE", "Side", "make_side", "runs"]

WIDE = 16
"""Bytes of the longest access."""


@dataclass(frozen=True)
class Side:
    """An operand: its value, the axes along which only it varies, how they are called in the text, and the tile's extent along them.

    ``copied`` operands are copied, ``width`` elements at a time; others are loaded by the same width where it is more than 1. Threads walk the
    tile ``along_k`` first, or along the rows; with ``deep`` the tile lies row by row, else K by K, in lines of ``stride`` elements of type
    ``kept``.
    """

    value: Scalar
    axes: tuple[Axis, ...]
    size: Size
    letter: str
    rows: int
    depth: int
    kept: DType
    copied: bool
    width: int
    along_k: bool
    deep: bool
    stride: int

    @property
    def held(self) -> bool:
        """Whether threads load several elements at a time, to round them on their way."""
        return self.width > 1 and not self.copied

    def pieces(self, threads: int) -> int:
        """How many pieces of a tile a thread brings."""
        return max(self.rows * self.depth // (self.width * threads), 1)

    @property
    def chunk(self) -> int:
        """Elements of 16 bytes."""
        return WIDE // self.kept.itemsize

    @property
    def elements(self) -> int:
        """Elements of shared memory that a tile takes."""
        return self.stride * (self.rows if self.deep else self.depth)

    def place(self, row: str, k: str) -> str:
        """Where an element of the tile lies."""
        return f"{row} * {self.stride} + ({k} ^ {self.turn(row)})" if self.deep else f"{k} * {self.stride} + {row}"

    def turn(self, row: str) -> str:
        """Tiles that lie row by row have lines of 64 bytes without a gap. What is changed with what in a line differs from every other line to the next,
        so that neither the copies of two lines nor the eight rows of a matrix meet in a bank."""
        return f"(({row} & 6) << {1 if self.kept.itemsize == 4 else 2})"


def make_side(value: Scalar, axes: tuple[Axis, ...], size: Size, k: tuple[Axis, ...], letter: str, rows: int, depth: int, tensor: str, single: Iterable[str]) -> Side:
    """The operand's way. ``tensor``: "" for tiles that threads multiply themselves, "tf32" or "bf16" for those of tensor cores.

    Threads multiply K by K, so their tiles lie K by K; tensor cores take rows of 16 bytes from tiles that lie either way, but of float32 only
    where K is innermost. What a warp takes at a time is spread over all banks.
    """
    dtype = value.dtype
    plain = value
    if tensor == "bf16":
        dtype = WORD
        if value.op == "cast" and value.args[0].op == "load" and value.args[0].dtype.name == "bfloat16":
            plain = value.args[0]  # it is what the tensor core takes
    simple = plain.op == "load" and len(loads(plain)) == 1
    size_of = plain.dtype.itemsize
    wide = WIDE // size_of if simple and size_of in (2, 4) else 1
    by_rows, by_k = wide > 1 and runs(plain, axes, wide, single), wide > 1 and runs(plain, k, wide, single)
    along_k = by_k if by_k != by_rows else bool(k) and _walks_along(value, k[-1].name, axes[-1].name if axes else "")
    copied = simple and (size_of == dtype.itemsize == 4 or (dtype is WORD and size_of == 2 and (by_rows or by_k)))
    deep = bool(tensor) and along_k
    if not tensor and along_k:
        by_k = False  # a tile that lies K by K takes single elements along K
    width = wide if (by_k if along_k else by_rows) else 1
    if not tensor and not copied:
        width = 1
    stride = depth if deep else rows + (8 if tensor else VECTOR)
    return Side(plain if copied else value, axes, size, letter, rows, depth, dtype, copied, width, along_k, deep, stride)


def runs(value: Scalar, axes: Sequence[Axis], width: int, single: Iterable[str] = ()) -> bool:
    """Whether ``width`` numbers along axes that are run through as one, from any multiple of it, are neighbours in memory from an aligned address,
    and all or none of them fail the load's condition. ``single``: axes of one element."""
    at = value.attr[1][0]
    fixed = {name for condition in value.args for name in scalar_symbols(condition)}
    length: Size = 1
    rest = substitute(at, dict.fromkeys(single, 0))
    for axis in reversed(axes):
        if coefficient(at, axis.name) != length or axis.name in fixed:
            return False
        length = length * axis.size
        rest = substitute(rest, {axis.name: 0})
        if multiple(length, width) and multiple(rest, width):
            return True
    return False


def _walks_along(value: Scalar, axis: str, other: str) -> bool:
    """Whether more loads have neighbours along ``axis`` than along ``other``."""
    return sum((coefficient(t.attr[1][0], axis) == 1) - (coefficient(t.attr[1][0], other) == 1) for t in loads(value)) >= 0
