"""The numbers by which a target bounds fusion: they cost or save time and never change a result."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What grouping and buffers may assume of a target; the defaults suit a CPU with AVX-512."""

    nodes: int = 64
    """Nodes of one kernel: longer text compiles more slowly and runs out of registers."""
    loads: int = 24
    """Buffers that one kernel reads."""
    cheap: int = 6
    """Instructions an element that may be computed again instead of being stored."""
    serial_fold: int = 4096
    """A fold to one value joins its producer only up to this many elements: alone it can be split over threads."""
    tile: tuple[int, int] = (8, 32)
    """Rows and columns of a contraction's result that are made together: an operand is read once a tile of the other axis."""
    tiled_folds: bool = True
    """Whether convolutions are tiled like matrix products; what they read and write then lies channels-last."""
    any_folds: bool = False
    """Whether a contraction may read its operands through any index map: no fold is then too irregular to be tiled."""
    prologue: int = 16
    """Instructions an element that storing a contraction's operand costs: a store, a load, a kernel of its own, a barrier.
    Measured: bytes cast and scaled still gain with 8 panels, an exponential loses with 2."""
    free_halves: bool = False
    """Whether it costs nothing to read 16-bit floats as float32: less memory is moved, by loads that are there anyway."""
    line: int = 64
    """Bytes of a cache line, by which rows a power of two apart are moved (0: they stay)."""
