"""Convolution over one, two or three spatial axes, and its transposed; one class a direction, whatever the number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from graphc import ops
from graphc.errors import ShapeError, TraceError
from graphc.ir.node import Node
from graphc.ops.convolution import padding_of
from graphc.ops.define import show
from graphc.ops.windows import per_axis

from .. import init as initial
from ..module import Module
from ..parameter import Parameter
from .padding import MODES

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


class _Convolution(Module):
    """What both directions share: parameters as torch's, uniform with bound 1/sqrt(fan in)."""

    rank: ClassVar[int]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]

    def _build(
        self,
        shape: Sequence[int],
        channels: tuple[int, int],
        settings: dict[str, Any],
        groups: int,
        bias: bool,
        padding_mode: str,
        dtype: Any,
    ) -> None:
        self.in_channels, self.out_channels = channels
        self.groups, self.padding_mode = groups, padding_mode
        name = type(self).__name__
        for what, value in settings.items():
            setattr(self, what, value if isinstance(value, str) else per_axis(value, self.rank, f"{name}: {what}"))
        if groups < 1 or any(c % groups for c in channels):
            raise ShapeError(
                f"{name}: {channels[0]} and {channels[1]} channels do not divide into {groups} groups",
                hint="both must be multiples of groups",
            )
        self.weight = Parameter(tuple(shape), init=initial.kaiming_uniform(math.sqrt(5.0)), dtype=dtype)
        bound = 1.0 / math.sqrt(max(initial.fans(shape)[0], 1))
        self.bias = Parameter((channels[1],), init=initial.uniform(-bound, bound), dtype=dtype) if bias else None

    def _check(self, x: Node) -> None:
        at = x.ndim - self.rank - 1
        if at in (0, 1) and x.shape[at] == self.in_channels:
            return
        hint = ""
        if at == 0 and not isinstance(x.shape[0], int):
            hint = f"the axis of channels is missing: gc.spec({x.shape[0]}, {self.in_channels}, {', '.join(map(str, x.shape[1:]))})"
        elif at in (0, 1) and x.shape[-1] == self.in_channels:
            order = ", ".join(map(str, [*range(at), x.ndim - 1, *range(at, x.ndim - 1)]))
            hint = f"channels come before the pixels: x.transpose({order})"
        elif at in (0, 1):
            hint = f"nn.{type(self).__name__}({x.shape[at]}, {self.out_channels}, {self.kernel_size})"
        raise ShapeError(
            f"conv: {show(x.shape)} does not fit {self.in_channels} input channels: expected (N, {self.in_channels}, {AXES[self.rank]})",
            hint=hint,
        )

    def describe(self) -> dict[str, Any]:
        always = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
        unless = {"dilation": (1,) * self.rank, "groups": 1, "padding_mode": "zeros"}
        return {k: getattr(self, k) for k in always} | {k: getattr(self, k) for k, v in unless.items() if getattr(self, k) != v}


class _Conv(_Convolution):
    """Cross-correlation over the last axes: (N, C, *S) or (C, *S); see the subclasses."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = "float32",
    ):
        if padding_mode not in MODES:
            raise TraceError(f"{type(self).__name__}: padding_mode={padding_mode!r}", hint=", ".join(MODES))
        shape = (out_channels, in_channels // max(groups, 1), *per_axis(kernel_size, self.rank, f"{type(self).__name__}: kernel_size"))
        settings = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        self._build(shape, (in_channels, out_channels), settings, groups, bias, padding_mode, dtype)

    def forward(self, x: Node) -> Node:
        self._check(x)
        padding = self.padding
        if self.padding_mode != "zeros":
            pads = padding_of(padding, self.kernel_size, self.stride, self.dilation)
            x = ops.pad_nd(x, [(0, 0)] * (x.ndim - self.rank) + list(pads), MODES[self.padding_mode])
            padding = 0
        fn = getattr(ops, f"conv{self.rank}d")
        return fn(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)  # type: ignore[no-any-return]


class Conv1d(_Conv):
    """Cross-correlation: (N, in_channels, L) -> (N, out_channels, L'); ``weight`` is (out, in/groups, k). As torch's ``Conv1d``.

    ``padding`` is an int, "valid", "same" (stride 1), or "causal" (graphc's own: all of it before x, so that an output sees nothing later).
    ``padding_mode``: "zeros", "reflect", "replicate" or "circular". L' = floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1.
    Raises :class:`ShapeError` for another rank or number of channels.
    """

    rank = 1


class Conv2d(_Conv):
    """Cross-correlation: (N, in_channels, H, W) -> (N, out_channels, H', W'); ``weight`` is (out, in/groups, kh, kw). As torch's ``Conv2d``.

    ``padding`` is an int, one for each axis, "valid" or "same" (stride 1); ``padding_mode``: "zeros", "reflect", "replicate" or
    "circular". H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.
    Raises :class:`ShapeError` for another rank or number of channels.

    >>> Conv2d(3, 8, 5, padding=2)
    Conv2d(in_channels=3, out_channels=8, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))
    """

    rank = 2


class Conv3d(_Conv):
    """Cross-correlation: (N, in_channels, D, H, W) -> (N, out_channels, D', H', W'); as torch's ``Conv3d``, see :class:`Conv2d`."""

    rank = 3


class _ConvTranspose(_Convolution):
    """The transposed convolution: sizes of a convolution with the same arguments, undone; see the subclasses."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        dtype: Any = "float32",
    ):
        if padding_mode != "zeros":
            raise TraceError(f"{type(self).__name__}: padding_mode={padding_mode!r}", hint="only 'zeros' has a transposed convolution")
        shape = (in_channels, out_channels // max(groups, 1), *per_axis(kernel_size, self.rank, f"{type(self).__name__}: kernel_size"))
        settings = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "output_padding": output_padding}
        self._build(shape, (in_channels, out_channels), settings | {"dilation": dilation}, groups, bias, padding_mode, dtype)

    output_padding: tuple[int, ...]

    def forward(self, x: Node, output_size: Sequence[int] | None = None) -> Node:
        self._check(x)
        extra = self.output_padding if output_size is None else self._extra(x, list(output_size))
        fn = getattr(ops, f"conv_transpose{self.rank}d")
        return fn(x, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)  # type: ignore[no-any-return]

    def _extra(self, x: Node, wanted: list[int]) -> tuple[int, ...]:
        """The output padding that gives these spatial sizes."""
        wanted = wanted[len(wanted) - self.rank :]
        spatial = x.shape[x.ndim - self.rank :]
        plain = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(spatial, self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        ]
        extra = tuple(w - n for w, n in zip(wanted, plain, strict=False))
        if len(extra) != self.rank or not all(isinstance(e, int) and 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = [n + s - 1 for n, s in zip(plain, self.stride, strict=True)]
            raise ShapeError(
                f"conv_transpose: output_size={tuple(wanted)} must lie between {show(tuple(plain))} and {show(tuple(most))}",
                hint="the sizes between which a stride cannot tell",
            )
        return extra  # type: ignore[return-value]


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution: (N, in_channels, L) -> (N, out_channels, L'); as torch's, see :class:`ConvTranspose2d`."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed (up-) convolution: (N, in_channels, H, W) -> (N, out_channels, H', W'); ``weight`` is (in, out/groups, kh, kw). As torch's.

    H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1. ``forward(x, output_size)`` chooses H' and W' among the sizes
    that a convolution with these arguments would bring to H and W.
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution: (N, in_channels, D, H, W) -> (N, out_channels, D', H', W'); as torch's, see :class:`ConvTranspose2d`."""

    rank = 3
