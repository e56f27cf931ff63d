"""Storage layouts: where the element of a logical index lies in a buffer.

A layout is a permutation of the axes and, optionally, a split of the last stored axis into zero-padded panels of ``panel``
elements, panel by panel: the form in which a contraction reads its right operand with unit stride and no jumps.

>>> from graphc.ir.dims import sym
>>> Layout((1, 0)).address((sym("i"), sym("j")), (4, 6))
i + 4*j
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .dims import Size, cdiv, floordiv, prod
from .types import Shape

__all__ = ["Layout", "channels_last", "row_major"]


@dataclass(frozen=True, slots=True)
class Layout:
    """``perm``: stored axis order (slowest first) as logical axes; ``panel``: 0, or elements per panel of the last one;
    ``pad``: unused elements after each row (so that rows a power of two apart do not fall on the same cache sets)."""

    perm: tuple[int, ...]
    panel: int = 0
    pad: int = 0

    @property
    def is_row_major(self) -> bool:
        return self.panel == 0 and self.pad == 0 and self.perm == tuple(range(len(self.perm)))

    @property
    def structural_key(self) -> tuple[str, tuple[int, ...], int, int]:
        return ("layout", self.perm, self.panel, self.pad)

    def __str__(self) -> str:
        order = "".join("abcdefghij"[p] for p in self.perm)
        return order + (f"/{self.panel}" if self.panel else "") + (f"+{self.pad}" if self.pad else "")

    def stored_size(self, shape: Shape) -> Size:
        """Elements of the buffer, padding included."""
        if not self.perm:
            return 1
        if not self.panel:
            return prod(shape[p] for p in self.perm[:-1]) * (shape[self.perm[-1]] + self.pad)
        last = shape[self.perm[-1]]
        return prod(shape[p] for p in self.perm[:-1]) * cdiv(last, self.panel) * self.panel

    def address(self, index: tuple[Size, ...], shape: Shape, ranges: Mapping[str, Size] | None = None) -> Size:
        """The element offset of a logical index."""
        at: Size = 0
        if not self.panel:
            for p in self.perm:
                at = at * (shape[p] + (self.pad if p == self.perm[-1] else 0)) + index[p]
            return at
        last = index[self.perm[-1]]
        block = floordiv(last, self.panel, ranges)
        at = block
        for p in self.perm[:-1]:
            at = at * shape[p] + index[p]
        return at * self.panel + (last - block * self.panel)

    def pack(self, array: np.ndarray) -> np.ndarray:
        """The stored form of a logical array: 1-D, padding zero."""
        stored = np.transpose(array, self.perm)
        if self.panel:
            pad = -stored.shape[-1] % self.panel
            stored = np.pad(stored, [(0, 0)] * (stored.ndim - 1) + [(0, pad)])
            stored = stored.reshape(*stored.shape[:-1], -1, self.panel)
            stored = np.moveaxis(stored, -2, 0)
        elif self.pad:
            stored = np.pad(stored, [(0, 0)] * (stored.ndim - 1) + [(0, self.pad)])
        return np.ascontiguousarray(stored).reshape(-1)

    def unpack(self, buffer: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The logical array of a stored buffer (a copy)."""
        stored = tuple(shape[p] for p in self.perm)
        if self.panel:
            blocks = -(-stored[-1] // self.panel)
            array = buffer.reshape(blocks, *stored[:-1], self.panel)
            array = np.moveaxis(array, 0, -2).reshape(*stored[:-1], blocks * self.panel)[..., : stored[-1]]
        else:
            array = buffer.reshape(*stored[:-1], stored[-1] + self.pad)[..., : stored[-1]] if self.pad else buffer.reshape(stored)
        inverse = sorted(range(len(self.perm)), key=self.perm.__getitem__)
        return np.array(np.transpose(array, inverse))


def row_major(rank: int) -> Layout:
    """The layout of user arrays."""
    return Layout(tuple(range(rank)))


def channels_last(rank: int) -> Layout:
    """The layout in which (N, C, *spatial) has its channels side by side.

    >>> str(channels_last(4))
    'acdb'
    """
    return Layout((0, *range(2, rank), 1))
