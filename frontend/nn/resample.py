"""Layers that change sizes: interpolation, pixels out of channels and back, patches as columns and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc import ops
from graphc.ir.node import Node

from ..module import Module

__all__ = [
    "ChannelShuffle",
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
]

Sizes = int | Sequence[int]


class Upsample(Module):
    """Images (N, C, *spatial) at another size, as torch's ``Upsample``: exactly one of ``size`` and ``scale_factor``.

    ``mode``: "nearest", "linear", "bilinear", "trilinear" or "bicubic" (and "nearest-exact", "area").
    """

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, x: Node) -> Node:
        return ops.interpolate(  # type: ignore[no-any-return]
            x, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def describe(self) -> dict[str, Any]:
        return ({"size": self.size} if self.scale_factor is None else {"scale_factor": self.scale_factor}) | {"mode": self.mode}


class UpsamplingNearest2d(Upsample):
    """(N, C, H, W) at another size by the nearest pixel; as torch's."""

    def __init__(self, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """(N, C, H, W) at another size, bilinear with aligned corners; as torch's."""

    def __init__(self, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None):
        super().__init__(size, scale_factor, "bilinear", align_corners=True)


class PixelShuffle(Module):
    """(..., C r^2, H, W) -> (..., C, H r, W r) with r = ``upscale_factor``; as torch's."""

    def __init__(self, upscale_factor: int):
        self.upscale_factor = upscale_factor

    def forward(self, x: Node) -> Node:
        return ops.pixel_shuffle(x, self.upscale_factor)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        return {"upscale_factor": self.upscale_factor}


class PixelUnshuffle(Module):
    """(..., C, H r, W r) -> (..., C r^2, H, W) with r = ``downscale_factor``; as torch's."""

    def __init__(self, downscale_factor: int):
        self.downscale_factor = downscale_factor

    def forward(self, x: Node) -> Node:
        return ops.pixel_unshuffle(x, self.downscale_factor)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        return {"downscale_factor": self.downscale_factor}


class ChannelShuffle(Module):
    """Channels of (N, C, ...) dealt out over ``groups``; as torch's."""

    def __init__(self, groups: int):
        self.groups = groups

    def forward(self, x: Node) -> Node:
        return ops.channel_shuffle(x, self.groups)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        return {"groups": self.groups}


class Unfold(Module):
    """Patches of (N, C, H, W) as columns (N, C kh kw, patches); as torch's ``Unfold``."""

    def __init__(self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1):
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Node) -> Node:
        return ops.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "stride": self.stride}


class Fold(Unfold):
    """Columns (N, C kh kw, patches) summed into images (N, C, *output_size); as torch's ``Fold``."""

    def __init__(self, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1):
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, x: Node) -> Node:
        return ops.fold(  # type: ignore[no-any-return]
            x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def describe(self) -> dict[str, Any]:
        return {"output_size": self.output_size, **super().describe()}
