"""What the printers need to know of the processor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphc.errors import ArgumentError
from graphc.schedule.limits import Limits

from .machine.loader import host_cpu

__all__ = ["Facts", "host_facts"]


@dataclass(frozen=True)
class Facts:
    """``width``: vector width in float32 lanes (16 AVX-512, 8 AVX2, 4 portable). ``walks``: measured walks of contractions by the
    digests of their signatures (:mod:`.printers.walks`)."""

    width: int
    walks: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)

    def tile(self, itemsize: int) -> tuple[int, int]:
        """Rows and lanes of the contraction tile: accumulators, one row of B and one element of A fit the registers."""
        lanes = max(2 * self.width * 4 // itemsize, 2)
        return (8 if self.width == 16 else 6 if self.width == 8 else 4), lanes

    def limits(self) -> Limits:
        """What fusion may assume."""
        return Limits(tile=self.tile(4))


def host_facts(width: int | None = None, walks: Mapping[str, str] | None = None) -> Facts:
    """The facts of this machine; ``width`` forces another vector width (tests do), ``walks`` are measured ones."""
    if width is None:
        features = host_cpu()[1].split(",")
        width = 16 if "+avx512f" in features else 8 if "+avx2" in features else 4
    if width not in (16, 8, 4):
        raise ArgumentError(f"vector width {width} is not one of 16, 8, 4")
    return Facts(width, walks or {})
