"""Notes on a launch: how many 32-byte sectors of memory each line touches, and what one thread computed."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .memory import WARP, Memory

__all__ = ["Access", "Report"]

SECTOR = 32


@dataclass
class Access:
    """The accesses of one line: requests of warps, sectors that they touched, and the fewest that would hold their bytes."""

    line: int
    text: str
    requests: int = 0
    sectors: int = 0
    needed: int = 0

    @property
    def ratio(self) -> float:
        """Sectors touched to sectors needed: 1 for neighbours in memory, 8 for float32 values that lie far apart."""
        return self.sectors / self.needed if self.needed else 1.0


@dataclass
class Report:
    """Give one to ``launch``. ``lane``: block and thread whose assignments are written down."""

    lane: tuple[int, int] | None = None
    accesses: dict[tuple[int, str], Access] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    threads: int = 0

    def touched(self, node: ast.AST, m: Memory, places: np.ndarray, who: np.ndarray, width: int) -> None:
        """The lanes of an access to global memory."""
        text = ast.unparse(node)
        line = getattr(node, "lineno", 0)
        a = self.accesses.setdefault((line, text), Access(line, text))
        warps, size = who // WARP, m.data.itemsize
        spread = np.int64(1) << 40
        a.requests += np.unique(warps).size
        ends = np.concatenate([places * size // SECTOR, ((places + width) * size - 1) // SECTOR])
        a.sectors += np.unique(np.concatenate([warps, warps]) * spread + ends).size
        # each warp's distinct bytes, laid side by side
        count = np.bincount(np.unique(warps * spread + places) >> 40)
        a.needed += int(-(-count[count > 0] * width * size // SECTOR).sum())

    def assigned(self, node: ast.AST, name: str, value: Any, mask: np.ndarray) -> None:
        """A variable of all lanes has changed."""
        if self.lane is None or not self.threads:
            return
        at = self.lane[0] * self.threads + self.lane[1]
        if mask[at]:
            shown = value if np.ndim(value) == 0 else value[at]
            self.trace.append(f"line {getattr(node, 'lineno', '?')}: {name} = {shown}")

    def uncoalesced(self, ratio: float = 2.0) -> list[str]:
        """A sentence for each line whose warps touch that many times the memory they need, the worst first."""
        bad = sorted((a for a in self.accesses.values() if a.ratio >= ratio), key=lambda a: -a.ratio)
        return [
            f"line {a.line}: {a.text}: {a.sectors} sectors of {SECTOR} bytes in {a.requests} requests, {a.ratio:.1f} times what is needed" for a in bad
        ]
