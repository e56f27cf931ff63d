"""Convolution and pooling over images (N, C, H, W)."""

from __future__ import annotations

import math
from typing import Any

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.node import Node
from graphc.ops.define import show

from .. import init as initial
from ..module import Module
from ..parameter import Parameter

__all__ = ["AvgPool2d", "Conv2d", "MaxPool2d", "pair"]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both axes, or one for each."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


class Conv2d(Module):
    """Cross-correlation: (N, in_channels, H, W) -> (N, out_channels, H', W'); ``weight`` is (out, in, kh, kw).

    Raises :class:`ShapeError` for another rank or number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        dtype: Any = "float32",
    ):
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = pair(kernel_size), pair(stride), pair(padding)
        self.weight = Parameter(
            (out_channels, in_channels, *self.kernel_size), init=initial.kaiming_uniform(math.sqrt(5.0)), dtype=dtype
        )
        bound = 1.0 / math.sqrt(max(in_channels * math.prod(self.kernel_size), 1))
        self.bias = Parameter((out_channels,), init=initial.uniform(-bound, bound), dtype=dtype) if bias else None

    def forward(self, x: Node) -> Node:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            channels = x.shape[1] if x.ndim == 4 else "C"
            raise ShapeError(
                f"conv: {show(x.shape)} does not fit {self.in_channels} input channels: expected (N, {self.in_channels}, H, W)",
                hint=f"nn.Conv2d({channels}, {self.out_channels}, {self.kernel_size})" if x.ndim == 4 else "",
            )
        out = ops.conv(x, self.weight, stride=self.stride, padding=self.padding)
        return out if self.bias is None else out + self.bias.reshape(self.out_channels, 1, 1)

    def describe(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
        }


class MaxPool2d(Module):
    """The maximum of each window; ``stride`` is the window unless given."""

    def __init__(self, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] | None = None):
        self.kernel_size = pair(kernel_size)
        self.stride = self.kernel_size if stride is None else pair(stride)

    def forward(self, x: Node) -> Node:
        return ops.max_pool2d(x, self.kernel_size, self.stride)

    def describe(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "stride": self.stride}


class AvgPool2d(MaxPool2d):
    """The mean of each window; ``stride`` is the window unless given."""

    def forward(self, x: Node) -> Node:
        return ops.avg_pool2d(x, self.kernel_size, self.stride)
