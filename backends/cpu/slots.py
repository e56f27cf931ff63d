"""Words of a kernel's argument block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.ir.dims import evaluate

__all__ = ["Slot", "working_bytes"]


@dataclass(frozen=True)
class Slot:
    """One word of the argument block: the address of a buffer, a size, or a number such as a random stream."""

    kind: str  # "address" | "size" | "number" | "zeros" and "scratch" (the address of so many bytes: of zeros, or for each thread)
    value: Any


def working_bytes(slots: Iterable[Slot], dims: Mapping[str, int], threads: int) -> int:
    """Bytes of the memory that kernels with these slots use while they run, one after the other: for each thread, and zeros."""
    sizes = {"scratch": 0, "zeros": 0}
    for s in slots:
        if s.kind in sizes:
            sizes[s.kind] = max(sizes[s.kind], evaluate(s.value, dims))
    return sizes["scratch"] * threads + sizes["zeros"]
