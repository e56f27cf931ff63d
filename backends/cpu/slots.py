"""Words of a kernel's argument block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Slot"]


@dataclass(frozen=True)
class Slot:
    """One word of the argument block: the address of a buffer, a size, or a number such as a random stream."""

    kind: str  # "address" | "size" | "number" | "zeros" and "scratch" (the address of so many bytes: of zeros, or for each thread)
    value: Any
