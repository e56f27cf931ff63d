"""Notes on a launch: how many 32-byte sectors of memory each line touches, how often banks conflict, and what one thread computed."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .memory import WARP, Memory, Shared

__all__ = ["Access", "Banked", "Report"]

SECTOR = 32
BANKS = 32
"""Banks of shared memory, of four bytes each."""


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
class Banked:
    """The accesses of one line to shared memory: requests of warps, turns that its banks took, and the fewest there could be."""

    line: int
    text: str
    requests: int = 0
    turns: int = 0
    needed: int = 0

    @property
    def ratio(self) -> float:
        """Turns taken to turns needed: 1 without conflicts."""
        return self.turns / self.needed if self.needed else 1.0


@dataclass
class Report:
    """Give one to ``launch``. ``lane``: block and thread whose assignments are written down."""

    lane: tuple[int, int] | None = None
    accesses: dict[tuple[int, str], Access] = field(default_factory=dict)
    banks: dict[tuple[int, str], Banked] = field(default_factory=dict)
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

    def banked(self, node: ast.AST, m: Shared, places: np.ndarray, who: np.ndarray, width: int, row: bool = False) -> None:
        """The lanes of an access to shared memory. Where lanes take more than a bank's word, a half or a quarter of the warp goes at a time
        (``row``: the rows of one matrix, eight lanes)."""
        text, line = ast.unparse(node), getattr(node, "lineno", 0)
        b = self.banks.setdefault((line, text), Banked(line, text))
        size = width * m.data.itemsize
        together = 8 if row else max(WARP * 4 // max(size, 4), 1)
        turn = who // together
        words = (places[:, None] * m.data.itemsize + np.arange(0, size, 4)) // 4
        # the same word is one access; different words of a bank take turns
        pairs = np.unique(np.stack([np.broadcast_to(turn[:, None], words.shape).reshape(-1), words.reshape(-1)]), axis=1)
        banks, count = np.unique(pairs[0] * BANKS + pairs[1] % BANKS, return_counts=True)
        most: dict[int, int] = {}
        for t, c in zip((banks // BANKS).tolist(), count.tolist(), strict=True):
            most[t] = max(most.get(t, 0), c)
        b.requests += np.unique(who // WARP).size
        b.turns += sum(most.values())
        b.needed += len(most)

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

    def conflicts(self, ratio: float = 2.0) -> list[str]:
        """A sentence for each line whose accesses to shared memory take that many times the turns they need, the worst first."""
        bad = sorted((b for b in self.banks.values() if b.ratio >= ratio), key=lambda b: -b.ratio)
        return [f"line {b.line}: {b.text}: {b.turns} turns of the banks in {b.requests} requests, {b.ratio:.1f} times what is needed" for b in bad]
