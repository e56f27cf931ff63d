"""Normalisation layers, with torch's names, arguments and state.

Statistics are the biased ones where values are normalised and the unbiased ones where a variance is kept for later, as in
torch. Parameters are ``weight`` (ones) and ``bias`` (zeros).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.dims import Size, prod
from graphc.ir.node import Node
from graphc.ops.define import as_node, show

from ..module import Module
from ..parameter import Buffer, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


# -- over the last axes --------------------------------------------------------------------------------------------------
def _shape(value: int | Sequence[int]) -> tuple[int, ...]:
    return (int(value),) if isinstance(value, (int, np.integer)) else tuple(int(v) for v in value)


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last axes, then ``weight`` and ``bias`` (Ba et al. 2016).

    ``normalized_shape`` is the size of the last axis, or the sizes of the last axes.

    >>> LayerNorm(4)
    LayerNorm(normalized_shape=(4,), eps=1e-05)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "float32",
    ):
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        self.weight = Parameter(self.normalized_shape, init="ones", dtype=dtype) if elementwise_affine else None
        self.bias = Parameter(self.normalized_shape, init="zeros", dtype=dtype) if elementwise_affine and bias else None

    def forward(self, x: Node) -> Node:
        _check_last(x, self.normalized_shape, "layer_norm: ", "nn.LayerNorm(sizes of the last axes)")
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps, axes=len(self.normalized_shape))

    def describe(self) -> dict[str, Any]:
        return {"normalized_shape": self.normalized_shape, "eps": self.eps} | (
            {"elementwise_affine": False} if self.weight is None else {}
        )


class RMSNorm(Module):
    """The last axes divided by the root of their mean square, then ``weight`` (Zhang and Sennrich 2019).

    ``eps`` is the rounding unit of the input's dtype unless given.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = "float32",
    ):
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        self.weight = Parameter(self.normalized_shape, init="ones", dtype=dtype) if elementwise_affine else None

    def forward(self, x: Node) -> Node:
        _check_last(x, self.normalized_shape, "rms_norm: ", "nn.RMSNorm(sizes of the last axes)")
        return ops.rms_norm(x, self.weight, eps=self.eps, axes=len(self.normalized_shape))

    def describe(self) -> dict[str, Any]:
        return {"normalized_shape": self.normalized_shape, "eps": self.eps} | (
            {"elementwise_affine": False} if self.weight is None else {}
        )


def _check_last(x: Node, shape: tuple[int, ...], name: str, hint: str) -> None:
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(f"{name}the last axes of {show(x.shape)} are not {show(shape)}", hint=hint)


# -- over the batch ------------------------------------------------------------------------------------------------------
class _Tracked(Module):
    """What batch and instance norm share: channels, an affine map, running statistics."""

    ranks: tuple[int, ...] = ()
    expected = ""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = "float32",
    ):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        shape = (num_features,)
        self.weight = Parameter(shape, init="ones", dtype=dtype) if affine else None
        self.bias = Parameter(shape, init="zeros", dtype=dtype) if affine else None
        self.running_mean: Any = Buffer(shape, init="zeros", dtype=dtype) if track_running_stats else None
        self.running_var: Any = Buffer(shape, init="ones", dtype=dtype) if track_running_stats else None
        self.num_batches_tracked: Any = Buffer(np.zeros((), np.int64)) if track_running_stats else None

    def _check(self, x: Node) -> None:
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: {show(x.shape)} is not {self.expected.format(self.num_features)}",
                hint="the number of channels comes second",
            )

    def _track(self, mean: Node, var: Node, count: Size, momentum: Any) -> None:
        """Moves the running statistics by ``momentum`` towards those of a batch; ``var`` is corrected to the unbiased one."""
        n = as_node(count).cast(var.dtype)
        for name, new in (("running_mean", mean), ("running_var", var * (n / (n - 1.0)))):
            old = getattr(self, name)
            setattr(self, name, old * (1.0 - momentum) + new.cast(old.dtype) * momentum)

    def describe(self) -> dict[str, Any]:
        own: dict[str, Any] = {"num_features": self.num_features, "eps": self.eps, "momentum": self.momentum}
        own |= {"affine": self.weight is not None, "track_running_stats": self.running_mean is not None}
        return own


class _BatchNorm(_Tracked):
    def forward(self, x: Node) -> Node:
        self._check(x)
        tracked = self.running_mean is not None
        if not self.training and tracked:
            return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        y, mean, var = ops.batch_norm_train(x, self.weight, self.bias, eps=self.eps)
        if tracked and self.training:
            self.num_batches_tracked = self.num_batches_tracked + 1
            seen = self.num_batches_tracked.cast(self.running_mean.dtype)
            momentum = 1.0 / seen if self.momentum is None else self.momentum
            self._track(mean, var, prod((x.shape[0], *x.shape[2:])), momentum)
        return y


class BatchNorm1d(_BatchNorm):
    """Mean 0 and variance 1 of each channel over the batch, then ``weight`` and ``bias`` (Ioffe and Szegedy 2015).

    x is (N, C) or (N, C, L). Training uses the statistics of the batch and moves ``running_mean`` and ``running_var`` (the
    unbiased variance) by ``momentum`` towards them, or keeps the plain average of all batches with ``momentum=None``; otherwise
    the running statistics are used. Without ``track_running_stats`` there are none, and every batch uses its own.
    A layer that is used twice in one step updates them twice, the second time from what the first left.

    >>> [name for name, _ in BatchNorm1d(3).named_buffers()]
    ['running_mean', 'running_var', 'num_batches_tracked']
    """

    ranks, expected = (2, 3), "(N, {0}) or (N, {0}, L)"


class BatchNorm2d(_BatchNorm):
    """Batch norm of images (N, C, H, W); see :class:`BatchNorm1d`."""

    ranks, expected = (4,), "(N, {0}, H, W)"


class BatchNorm3d(_BatchNorm):
    """Batch norm of volumes (N, C, D, H, W); see :class:`BatchNorm1d`."""

    ranks, expected = (5,), "(N, {0}, D, H, W)"


# -- over each sample ----------------------------------------------------------------------------------------------------
class _InstanceNorm(_Tracked):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = "float32",
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def forward(self, x: Node) -> Node:
        rank = self.ranks[0]
        alone = x.ndim == rank - 1  # one sample without an axis for the batch
        x = ops.expand_dims(x, 0) if alone else x
        self._check(x)
        tracked = self.running_mean is not None
        if tracked and not self.training:
            y = ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        else:
            y = ops.instance_norm(x, self.weight, self.bias, eps=self.eps)
            if tracked:
                axes = tuple(range(2, rank))
                mean, var = ops.mean(x, axes), ops.variance(x, axes)
                self._track(ops.mean(mean, 0), ops.mean(var, 0), prod(x.shape[2:]), self.momentum or 0.0)
        return ops.squeeze(y, 0) if alone else y


class InstanceNorm1d(_InstanceNorm):
    """Mean 0 and variance 1 of each channel of each sample (Ulyanov et al. 2016): x is (N, C, L) or (C, L).

    With ``track_running_stats`` training keeps the batch's mean of the samples' statistics as batch norm does, and inference
    uses them. As in torch, ``num_batches_tracked`` stays 0.
    """

    ranks, expected = (3,), "(N, {0}, L) or ({0}, L)"


class InstanceNorm2d(_InstanceNorm):
    """Instance norm of images (N, C, H, W) or (C, H, W); see :class:`InstanceNorm1d`."""

    ranks, expected = (4,), "(N, {0}, H, W) or ({0}, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of volumes (N, C, D, H, W) or (C, D, H, W); see :class:`InstanceNorm1d`."""

    ranks, expected = (5,), "(N, {0}, D, H, W) or ({0}, D, H, W)"


class GroupNorm(Module):
    """Mean 0 and variance 1 over groups of neighbouring channels of each sample (Wu and He 2018): x is (N, C, ...)."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = "float32"
    ):
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(
                f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups",
                hint="num_channels must be a multiple of num_groups",
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = Parameter((num_channels,), init="ones", dtype=dtype) if affine else None
        self.bias = Parameter((num_channels,), init="zeros", dtype=dtype) if affine else None

    def forward(self, x: Node) -> Node:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"GroupNorm: {show(x.shape)} is not (N, {self.num_channels}, ...)", hint="the number of channels comes second")
        return ops.group_norm(x, self.weight, self.bias, num_groups=self.num_groups, eps=self.eps)

    def describe(self) -> dict[str, Any]:
        return {"num_groups": self.num_groups, "num_channels": self.num_channels, "eps": self.eps} | (
            {"affine": False} if self.weight is None else {}
        )


class LocalResponseNorm(Module):
    """Each value divided by a power of the squares of ``size`` neighbouring channels (Krizhevsky et al. 2012)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Node) -> Node:
        return ops.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def describe(self) -> dict[str, Any]:
        return {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
