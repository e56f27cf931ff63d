"""Pooling layers over one, two or three spatial axes: one class a kind, whatever the number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from graphc import ops
from graphc.ir.node import Node

from ..module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]

Sizes = int | Sequence[int]


class _Pool(Module):
    """``kind`` and ``rank`` name the operator, ``settings`` are its arguments."""

    rank: ClassVar[int]
    kind: ClassVar[str]
    settings: dict[str, Any]

    def apply(self, *operands: Node, **more: Any) -> Any:
        out = getattr(ops, f"{self.kind}{self.rank}d")(*operands, **self.settings, **more)
        return tuple(out) if self.settings.get("return_indices") else out

    def forward(self, *args: Any) -> Any:
        return self.apply(*args)

    def describe(self) -> dict[str, Any]:
        shown = ("kernel_size", "stride", "output_size", "norm_type")
        return {k: v for k, v in self.settings.items() if k in shown or (v is not None and v not in (False, 0, 1))}


class _MaxPool(_Pool):
    kind = "max_pool"

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        self.settings = {
            "kernel_size": kernel_size,
            "stride": kernel_size if stride is None else stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": ceil_mode,
            "return_indices": return_indices,
        }


class MaxPool1d(_MaxPool):
    """The maximum of each window of (N, C, L); as torch's, see :class:`MaxPool2d`."""

    rank = 1


class MaxPool2d(_MaxPool):
    """The maximum of each window of (N, C, H, W); ``stride`` is the window unless given. As torch's ``MaxPool2d``.

    With ``return_indices`` also where each maximum stands in its plane (int32), for :class:`MaxUnpool2d`.
    """

    rank = 2


class MaxPool3d(_MaxPool):
    """The maximum of each window of (N, C, D, H, W); as torch's, see :class:`MaxPool2d`."""

    rank = 3


class _AvgPool(_Pool):
    kind = "avg_pool"

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        self.settings = {
            "kernel_size": kernel_size,
            "stride": kernel_size if stride is None else stride,
            "padding": padding,
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor_override": divisor_override,
        }


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L); as torch's, see :class:`AvgPool2d`."""

    rank = 1


class AvgPool2d(_AvgPool):
    """The mean of each window of (N, C, H, W); ``stride`` is the window unless given. As torch's ``AvgPool2d``.

    Padding counts unless ``count_include_pad=False``; ``divisor_override`` replaces the number of elements.
    """

    rank = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of (N, C, D, H, W); as torch's, see :class:`AvgPool2d`."""

    rank = 3


class _LPPool(_Pool):
    kind = "lp_pool"

    def __init__(self, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False):
        self.settings = {
            "norm_type": norm_type,
            "kernel_size": kernel_size,
            "stride": kernel_size if stride is None else stride,
            "ceil_mode": ceil_mode,
        }


class LPPool1d(_LPPool):
    """``(sum of x^p)^(1/p)`` of each window of (N, C, L) with p = ``norm_type``; as torch's ``LPPool1d``."""

    rank = 1


class LPPool2d(_LPPool):
    """``(sum of x^p)^(1/p)`` of each window of (N, C, H, W) with p = ``norm_type``: 2 is L2 pooling. As torch's ``LPPool2d``."""

    rank = 2


class LPPool3d(_LPPool):
    """``(sum of x^p)^(1/p)`` of each window of (N, C, D, H, W) with p = ``norm_type``; as torch's ``LPPool3d``."""

    rank = 3


class _AdaptiveAvgPool(_Pool):
    kind = "adaptive_avg_pool"

    def __init__(self, output_size: int | Sequence[int | None] | None):
        self.settings = {"output_size": output_size}


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of (N, C, L) over windows so chosen that L becomes ``output_size``; as torch's ``AdaptiveAvgPool1d``."""

    rank = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of (N, C, H, W) over windows so chosen that (H, W) becomes ``output_size``; 1 is the global mean. As torch's."""

    rank = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means of (N, C, D, H, W) over windows so chosen that (D, H, W) becomes ``output_size``; as torch's."""

    rank = 3


class _AdaptiveMaxPool(_Pool):
    kind = "adaptive_max_pool"

    def __init__(self, output_size: int | Sequence[int | None] | None, return_indices: bool = False):
        self.settings = {"output_size": output_size, "return_indices": return_indices}


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maxima of (N, C, L) over windows so chosen that L becomes ``output_size``; as torch's ``AdaptiveMaxPool1d``."""

    rank = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima of (N, C, H, W) over windows so chosen that (H, W) becomes ``output_size``; as torch's."""

    rank = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maxima of (N, C, D, H, W) over windows so chosen that (D, H, W) becomes ``output_size``; as torch's."""

    rank = 3


class _MaxUnpool(_Pool):
    kind = "max_unpool"

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0):
        self.settings = {
            "kernel_size": kernel_size,
            "stride": kernel_size if stride is None else stride,
            "padding": padding,
        }

    def forward(self, x: Node, indices: Node, output_size: Sequence[int] | None = None) -> Any:
        return self.apply(x, indices, output_size=output_size)


class MaxUnpool1d(_MaxUnpool):
    """Values put back where :class:`MaxPool1d` found them, 0 elsewhere; as torch's ``MaxUnpool1d``."""

    rank = 1


class MaxUnpool2d(_MaxUnpool):
    """Values put back where :class:`MaxPool2d` found them, 0 elsewhere; as torch's ``MaxUnpool2d``."""

    rank = 2


class MaxUnpool3d(_MaxUnpool):
    """Values put back where :class:`MaxPool3d` found them, 0 elsewhere; as torch's ``MaxUnpool3d``."""

    rank = 3


class GlobalAvgPool(Module):
    """The mean of each channel, (N, C, *spatial) -> (N, C), or (N, C, 1, ...) with ``keepdims`` (Keras' GlobalAveragePooling)."""

    def __init__(self, keepdims: bool = False):
        self.keepdims = keepdims

    def forward(self, x: Node) -> Node:
        return ops.global_avg_pool(x, self.keepdims)  # type: ignore[no-any-return]


class GlobalMaxPool(Module):
    """The maximum of each channel, (N, C, *spatial) -> (N, C), or (N, C, 1, ...) with ``keepdims``."""

    def __init__(self, keepdims: bool = False):
        self.keepdims = keepdims

    def forward(self, x: Node) -> Node:
        return ops.global_max_pool(x, self.keepdims)  # type: ignore[no-any-return]
