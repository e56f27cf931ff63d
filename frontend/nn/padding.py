"""Layers that make tensors larger at their edges, by torch's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from graphc import ops
from graphc.errors import ShapeError, TraceError
from graphc.ir.node import Node

from ..module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
    "pad",
]

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""torch's names of padding modes, and NumPy's."""


def pad(x: Node, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Node:
    """torch's ``functional.pad``: ``pad`` is (before, after) of the last axis, then of the one before it, and so on.

    ``mode``: "constant" (``value``, or 0), "reflect", "replicate" or "circular". Negative pads cut away.
    """
    names = {"constant": "constant"} | {k: v for k, v in MODES.items() if k != "zeros"}
    if mode not in names:
        raise TraceError(f"pad: mode={mode!r}", hint=", ".join(names))
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ShapeError(
            f"pad: {tuple(pad)} must be a pair for each of at most {x.ndim} axes",
            hint="(left, right) of the last axis first, then of the one before it",
        )
    if value is not None and mode != "constant":
        raise TraceError(f"pad: value={value!r} has no meaning for mode={mode!r}", hint='mode="constant" takes a value')
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    cut = tuple(slice(max(-lo, 0), -max(-hi, 0) or None) for lo, hi in pairs)
    pairs = [(max(lo, 0), max(hi, 0)) for lo, hi in pairs]
    if mode in ("constant", "circular"):  # these continue what is left, the others continue all and then cut
        return ops.pad_nd(x[cut], pairs, names[mode], value or 0.0)  # type: ignore[no-any-return]
    return ops.pad_nd(x, pairs, names[mode])[cut]  # type: ignore[no-any-return]


class _Pad(Module):
    """``padding``: an int for every side, or (before, after) of the last axis, then of the one before it, and so on."""

    rank: ClassVar[int]
    mode: ClassVar[str] = "constant"
    value: float | None = None

    def __init__(self, padding: int | Sequence[int]):
        self.padding = (padding,) * (2 * self.rank) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self.rank:
            raise ShapeError(
                f"{type(self).__name__}: padding={padding!r} must be an int or {2 * self.rank} of them",
                hint="one number for all sides, or (left, right, top, bottom)",
            )

    def forward(self, x: Node) -> Node:
        if x.ndim not in (self.rank + 1, self.rank + 2):
            raise ShapeError(
                f"{type(self).__name__}: {self.rank + 2} axes (or {self.rank + 1}) expected, not {x.ndim}",
                hint="(N, C, ...), or without the batch",
            )
        return pad(x, self.padding, self.mode, self.value)

    def describe(self) -> dict[str, Any]:
        return {"padding": self.padding} | ({} if self.value is None else {"value": self.value})


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float):
        super().__init__(padding)
        self.value = float(value)


class ConstantPad1d(_ConstantPad):
    """``value`` around (N, C, L); ``padding`` is an int or (left, right), negative to cut away."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """``value`` around (N, C, H, W); ``padding`` is an int or (left, right, top, bottom), negative to cut away."""

    rank = 2


class ConstantPad3d(_ConstantPad):
    """``value`` around (N, C, D, H, W); ``padding`` is an int or (left, right, top, bottom, front, back)."""

    rank = 3


class ZeroPad1d(_Pad):
    """Zeros around (N, C, L); ``padding`` is an int or (left, right), negative to cut away."""

    rank = 1


class ZeroPad2d(_Pad):
    """Zeros around (N, C, H, W); ``padding`` is an int or (left, right, top, bottom), negative to cut away."""

    rank = 2


class ZeroPad3d(_Pad):
    """Zeros around (N, C, D, H, W); ``padding`` is an int or (left, right, top, bottom, front, back)."""

    rank = 3


class ReflectionPad1d(_Pad):
    """(N, C, L) mirrored at its first and last element, which are not repeated."""

    rank, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """(N, C, H, W) mirrored at its outer rows and columns, which are not repeated."""

    rank, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """(N, C, D, H, W) mirrored at its outer planes, which are not repeated."""

    rank, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """(N, C, L) with its first and last element repeated."""

    rank, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """(N, C, H, W) with its outer rows and columns repeated."""

    rank, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """(N, C, D, H, W) with its outer planes repeated."""

    rank, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """(N, C, L) continued from its other end."""

    rank, mode = 1, "circular"


class CircularPad2d(_Pad):
    """(N, C, H, W) continued from its other sides."""

    rank, mode = 2, "circular"


class CircularPad3d(_Pad):
    """(N, C, D, H, W) continued from its other sides."""

    rank, mode = 3, "circular"
