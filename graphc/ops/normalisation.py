"""Normalisations: composites on ``standardize``, whose gradient rule serves all that subtract a mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..ir.dims import prod
from ..ir.node import Node
from ..ir.op import Sample, lookup
from ..ir.types import Shape
from .define import composite, normal_axes, normal_axis, operands, rand, show
from .elementwise import absolute, maximum, ne, pow, sqrt
from .reductions import max as reduce_max
from .reductions import mean, moments, variance
from .reductions import sum as reduce_sum
from .views import reshape
from .windows import reduce_window

__all__ = [
    "batch_norm",
    "batch_norm_train",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
    "standardize",
]

_tolerance = {"float32": 5e-6, "float64": 1e-12}


def _float(x: Node) -> None:
    if not x.dtype.is_float:
        raise DTypeError(f"x must be float, not {x.type}", hint="x.cast('float32')")


def _channels(x: Node) -> None:
    """The shape that batch, group and instance norm want."""
    _float(x)
    if x.ndim < 2:
        raise ShapeError(f"x (N, C, ...) expected, not {show(x.shape)}")


def _affine(x: Node, wanted: Shape, **given: Node | None) -> None:
    for what, p in given.items():
        if p is not None and p.shape != wanted:
            raise ShapeError(f"{what} {show(p.shape)} does not fit x {show(x.shape)}: it must be {show(wanted)}")


def _by_channel(x: Node, p: Node) -> Node:
    """A vector of the channels of x (N, C, ...), ready to broadcast."""
    return reshape(p, (p.shape[0], *(1,) * (x.ndim - 2)))


def _scaled(x: Node, weight: Node | None, bias: Node | None) -> Node:
    if weight is not None:
        x = x * _by_channel(x, weight)
    return x if bias is None else x + _by_channel(x, bias)


# -- mean and variance of axes -------------------------------------------------------------------------------------------
def _standardize_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    _float(x)
    attrs["axis"] = normal_axes(attrs["axis"], x.ndim)
    attrs["eps"] = float(attrs["eps"])


def _standardize_grad(n: Node, g: Node) -> tuple[Node]:
    x, axes = n.inputs[0], n.attrs["axis"]
    r = 1.0 / sqrt(variance(x, axes, keepdims=True) + n.attrs["eps"])
    return ((g - mean(g, axes, keepdims=True) - n * mean(g * n, axes, keepdims=True)) * r,)


@composite(
    "standardize",
    inputs=1,
    prepare=_standardize_prepare,
    grad=_standardize_grad,
    samples=lambda: [
        Sample((rand(5, 7),)), Sample((rand(2, 3, 19),), {"axis": (0, 2)}), Sample((rand(130),), {"axis": 0}), Sample((rand(4, 1),), {"eps": 1e-3}),
        Sample((rand(0, 7),)), Sample((rand(3, 5, 2),), {"axis": None}),
    ],
    tolerance=_tolerance,
)  # fmt: skip
def standardize(x: Node, axis: Any = -1, eps: float = 1e-5) -> Node:
    """``(x - mean) / sqrt(var + eps)`` over ``axis`` (all axes if None), ``var`` without correction: JAX's ``standardize``.

    The statistics are those of ``moments``. With ``y`` the result the gradient is ``(g - mean(g) - y mean(g y)) / sqrt(var + eps)``:
    it keeps ``y`` and one number a row.
    """
    center, var = moments(x, axis, keepdims=True)
    return (x - center) * (1.0 / sqrt(var + eps))


def _last_axes(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, *given = ins
    assert x is not None
    _float(x)
    for p in given:
        if p is not None:
            attrs["axes"] = p.ndim
            if not 0 < p.ndim <= x.ndim or p.shape != x.shape[x.ndim - p.ndim :]:
                raise ShapeError(f"weight or bias {show(p.shape)} is not the shape of the last axes of x {show(x.shape)}")
    shapes = {p.shape for p in given if p is not None}
    if len(shapes) > 1:
        raise ShapeError(f"weight and bias differ: {' and '.join(map(show, shapes))}")
    if not 0 < attrs["axes"] <= x.ndim:
        raise ShapeError(f"axes={attrs['axes']} for x {show(x.shape)}")


def _layer_norm_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _last_axes(ins, attrs)
    attrs["eps"] = float(attrs["eps"])


@composite(
    "layer_norm",
    inputs=3,
    prepare=_layer_norm_prepare,
    samples=lambda: [
        Sample((rand(5, 7), rand(7, seed=1), rand(7, seed=2))), Sample((rand(2, 3, 19),)), Sample((rand(2, 3, 4), rand(3, 4, seed=1), rand(3, 4, seed=2))),
        Sample((rand(4, 33), rand(33, seed=1))), Sample((rand(4, 9), None, rand(9, seed=1))), Sample((rand(0, 7), rand(7), rand(7))), Sample((rand(3, 5, 2),), {"axes": 2}),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(5)), error="last axes")],
    tolerance=_tolerance,
    onnx="LayerNormalization",
)  # fmt: skip
def layer_norm(x: Node, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5, axes: int = 1) -> Node:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last ``axes`` axes (Ba et al. 2016), as torch's ``layer_norm``.

    ``weight`` and ``bias`` have the shape of those axes, which then says how many they are; ``var`` is without correction.
    """
    y = standardize(x, tuple(range(x.ndim - axes, x.ndim)), eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _rms_norm_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    _last_axes(ins, attrs)
    assert ins[0] is not None
    attrs["eps"] = float(ins[0].dtype.arithmetic.finfo.eps if attrs["eps"] is None else attrs["eps"])


def _rms_norm_grad(n: Node, g: Node) -> tuple[Node | None, ...]:
    x, weight = operands(n)
    k = n.attrs["axes"]
    axes, lead = tuple(range(x.ndim - k, x.ndim)), tuple(range(x.ndim - k))
    r = 1.0 / sqrt(mean(x * x, axes, keepdims=True) + n.attrs["eps"])
    y, h = x * r, g if weight is None else g * weight
    return (h - y * mean(h * y, axes, keepdims=True)) * r, None if weight is None else reduce_sum(g * y, lead)


@composite(
    "rms_norm",
    inputs=2,
    prepare=_rms_norm_prepare,
    grad=_rms_norm_grad,
    samples=lambda: [
        Sample((rand(5, 7), rand(7, seed=1))), Sample((rand(2, 3, 19),)), Sample((rand(2, 3, 4), rand(3, 4, seed=1)), {"eps": 1e-5}), Sample((rand(4, 33), rand(33, seed=1))),
        Sample((rand(0, 7), rand(7))), Sample((rand(3, 5, 2),), {"axes": 2}), Sample((rand(3, 1),)),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(5)), error="last axes"), Sample((rand(5, 7),), {"axes": 3}, error="axes=3")],
    tolerance=_tolerance,
    onnx="RMSNormalization",
)  # fmt: skip
def rms_norm(x: Node, weight: Node | None = None, eps: float | None = None, axes: int = 1) -> Node:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last ``axes`` axes (Zhang & Sennrich 2019), as torch's ``rms_norm``.

    ``eps`` is the dtype's rounding unit unless given. With ``y`` the normalised values and ``h = g * weight`` the gradient is
    ``(h - y mean(h y)) / sqrt(mean(x^2) + eps)``, without the third power of the divisor that the chain rule would form.
    """
    assert eps is not None
    y = x * (1.0 / sqrt(mean(x * x, tuple(range(x.ndim - axes, x.ndim)), keepdims=True) + eps))
    return y if weight is None else y * weight


# -- channels (N, C, ...) ------------------------------------------------------------------------------------------------
def _batch_norm_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, mean_, var, weight, bias = ins
    assert x is not None
    _channels(x)
    _affine(x, x.shape[1:2], mean=mean_, var=var, weight=weight, bias=bias)
    attrs["eps"] = float(attrs["eps"])


@composite(
    "batch_norm",
    inputs=5,
    prepare=_batch_norm_prepare,
    samples=lambda: [
        Sample((rand(5, 7), rand(7, seed=1), rand(7, low=0.2, seed=2), rand(7, seed=3), rand(7, seed=4))), Sample((rand(2, 3, 19), rand(3, seed=1), rand(3, low=0.2, seed=2))),
        Sample((rand(2, 3, 4, 5), rand(3, seed=1), rand(3, low=0.2, seed=2), rand(3, seed=3)), {"eps": 1e-3}), Sample((rand(0, 7), rand(7), rand(7, low=0.2))),
        Sample((rand(1, 2, 3), rand(2, seed=1), rand(2, low=0.2, seed=2), None, rand(2, seed=4))),
    ],
    errors=lambda: [Sample((rand(5, 7), rand(5), rand(5)), error="must be (7,)"), Sample((rand(7), rand(7), rand(7)), error="(N, C, ...)")],
    tolerance=_tolerance,
    onnx="BatchNormalization",
)  # fmt: skip
def batch_norm(x: Node, mean: Node, var: Node, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5) -> Node:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with given statistics of the channels: x (N, C, ...), the others (C,).

    Batch norm (Ioffe & Szegedy 2015) at inference: torch's ``batch_norm`` with ``training=False``.
    """
    r = 1.0 / sqrt(var + eps)
    return _scaled(x - _by_channel(x, mean), r if weight is None else weight * r, bias)


def _batch_norm_train_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, weight, bias = ins
    assert x is not None
    _channels(x)
    _affine(x, x.shape[1:2], weight=weight, bias=bias)
    ins[0] = lookup("at_least").call(x, prod((x.shape[0], *x.shape[2:])), 2, "values of a channel in training, else their variance says nothing")
    attrs["eps"] = float(attrs["eps"])


@composite(
    "batch_norm_train",
    inputs=3,
    prepare=_batch_norm_train_prepare,
    samples=lambda: [
        Sample((rand(5, 7), rand(7, seed=1), rand(7, seed=2))), Sample((rand(2, 3, 19),)), Sample((rand(2, 3, 4, 5), rand(3, seed=1)), {"eps": 1e-3}),
        Sample((rand(1, 2, 3), None, rand(2, seed=4))), Sample((rand(2, 1, 2, 3, 2), rand(1, seed=1), rand(1, seed=2))), Sample((rand(4, 33),)),
    ],
    errors=lambda: [Sample((rand(1, 7),), error="at least 2"), Sample((rand(5, 7), rand(5)), error="must be (7,)"), Sample((rand(7),), error="(N, C, ...)")],
    tolerance=_tolerance,
)  # fmt: skip
def batch_norm_train(x: Node, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5) -> tuple[Node, Node, Node]:
    """Batch norm in training (Ioffe & Szegedy 2015): ``(y, mean, var)`` with the statistics of this batch, each channel's own.

    x (N, C, ...) is normalised over all axes but the channels', then scaled by ``weight`` (C,) and shifted by ``bias`` (C,).
    ``var`` is the mean squared distance, without correction. Raises an error where a channel has one value only.
    """
    axes = (0, *range(2, x.ndim))
    return _scaled(standardize(x, axes, eps), weight, bias), *moments(x, axes)


def _group_norm_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, weight, bias = ins
    assert x is not None
    _channels(x)
    _affine(x, x.shape[1:2], weight=weight, bias=bias)
    groups, channels = attrs["num_groups"], x.shape[1]
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise ShapeError(f"{channels} channels do not divide into {groups} groups")
    if prod((x.shape[0], channels // groups, *x.shape[2:])) == 1:
        raise ShapeError(f"x {show(x.shape)} has one value a group: their variance says nothing")
    attrs["eps"] = float(attrs["eps"])


@composite(
    "group_norm",
    inputs=3,
    prepare=_group_norm_prepare,
    samples=lambda: [
        Sample((rand(5, 6, 7), rand(6, seed=1), rand(6, seed=2)), {"num_groups": 3}), Sample((rand(2, 4, 3, 5),), {"num_groups": 2}), Sample((rand(3, 8), rand(8, seed=1)), {"num_groups": 2}),
        Sample((rand(0, 4, 3),), {"num_groups": 2}), Sample((rand(2, 3, 11), None, rand(3)), {"num_groups": 1, "eps": 1e-3}), Sample((rand(1, 2, 2, 3, 2),), {"num_groups": 2}),
    ],
    errors=lambda: [Sample((rand(5, 7, 2),), {"num_groups": 3}, error="do not divide"), Sample((rand(1, 7),), {"num_groups": 7}, error="one value")],
    tolerance=_tolerance,
    onnx="GroupNormalization",
)  # fmt: skip
def group_norm(x: Node, weight: Node | None = None, bias: Node | None = None, num_groups: int = 1, eps: float = 1e-5) -> Node:
    """x (N, C, ...) normalised over groups of C / ``num_groups`` neighbouring channels (Wu & He 2018), as torch's ``group_norm``.

    Each sample by itself, over its group's channels and all axes behind them; ``weight`` and ``bias`` are (C,).
    """
    n, channels, *rest = x.shape
    assert isinstance(channels, int)
    split = reshape(x, (n, num_groups, channels // num_groups, *rest))
    return _scaled(reshape(standardize(split, tuple(range(2, split.ndim)), eps), x.shape), weight, bias)


def _instance_norm_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, weight, bias = ins
    assert x is not None
    _channels(x)
    _affine(x, x.shape[1:2], weight=weight, bias=bias)
    ins[0] = lookup("at_least").call(x, prod(x.shape[2:]), 2, "values of a channel in each sample, else their variance says nothing")
    attrs["eps"] = float(attrs["eps"])


@composite(
    "instance_norm",
    inputs=3,
    prepare=_instance_norm_prepare,
    samples=lambda: [
        Sample((rand(5, 3, 7), rand(3, seed=1), rand(3, seed=2))), Sample((rand(2, 4, 3, 5),)), Sample((rand(0, 4, 3),)), Sample((rand(2, 3, 11), rand(3)), {"eps": 1e-3}),
        Sample((rand(1, 2, 2, 3, 2), None, rand(2))),
    ],
    errors=lambda: [Sample((rand(5, 7, 1),), error="at least 2"), Sample((rand(5, 7),), error="at least 2")],
    tolerance=_tolerance,
    onnx="InstanceNormalization",
)  # fmt: skip
def instance_norm(x: Node, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5) -> Node:
    """x (N, C, ...) normalised over the axes behind the channels, each sample and channel by itself (Ulyanov et al. 2016)."""
    return _scaled(standardize(x, tuple(range(2, x.ndim)), eps), weight, bias)


def _local_response_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    _float(x)
    if x.ndim < 3:
        raise ShapeError(f"x (N, C, ...) of rank 3 or more expected, not {show(x.shape)}")
    if attrs["size"] < 1:
        raise ShapeError(f"size={attrs['size']} must be positive")
    attrs |= {k: float(attrs[k]) for k in ("alpha", "beta", "k")}


@composite(
    "local_response_norm",
    inputs=1,
    prepare=_local_response_prepare,
    samples=lambda: [
        Sample((rand(2, 7, 3), 5)), Sample((rand(2, 7, 3, 2), 4), {"alpha": 0.5, "beta": 0.5, "k": 2.0}), Sample((rand(1, 1, 3), 3), {"alpha": 1.0}),
        Sample((rand(0, 4, 3), 3)), Sample((rand(1, 19, 4), 1), {"alpha": 1.0}),
    ],
    errors=lambda: [Sample((rand(5, 7), 2), error="rank 3"), Sample((rand(5, 7, 2), 0), error="positive")],
    tolerance={"float32": 2e-5, "float64": 1e-11},
    onnx="LRN",
)  # fmt: skip
def local_response_norm(x: Node, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Node:
    """``x / (k + alpha / size * s)^beta`` with ``s`` the sum of squares over ``size`` neighbouring channels (Krizhevsky et al. 2012).

    The window reaches ``size // 2`` channels back and ``(size - 1) // 2`` ahead; what lies outside counts as 0. The paper does
    not divide ``alpha`` by the size of the window; torch does, and so does this.
    """
    rest = (1,) * (x.ndim - 2)
    pads = ((0, 0), (size // 2, (size - 1) // 2), *((0, 0),) * (x.ndim - 2))
    squares = reduce_window(x * x, "add", (1, size, *rest), padding=pads)
    return x * pow(squares * (alpha / size) + k, -beta)


# -- unit length -----------------------------------------------------------------------------------------------------------
def _normalize_prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x = ins[0]
    assert x is not None
    _float(x)
    attrs["axis"] = normal_axis(attrs["axis"], x.ndim)
    attrs["p"], attrs["eps"] = float(attrs["p"]), float(attrs["eps"])
    if math.isnan(attrs["p"]) or attrs["p"] == -math.inf:
        raise ShapeError(f"p={attrs['p']} is no norm", hint="a number, or math.inf for the largest size")


@composite(
    "normalize",
    inputs=1,
    prepare=_normalize_prepare,
    samples=lambda: [
        Sample((rand(5, 7),)), Sample((rand(2, 3, 19),), {"axis": -1}), Sample((np.zeros((3, 4)),), {"eps": 0.5}, smooth=False), Sample((rand(0, 7),)), Sample((rand(5, 7),), {"p": 1, "axis": 0}),
        Sample((rand(4, 9),), {"p": math.inf}), Sample((rand(4, 9, low=0.3),), {"p": 3}), Sample((rand(5, 1),), {"p": 2.5}), Sample((rand(4, 9, low=0.3),), {"p": -1}),
        Sample((rand(4, 9),), {"p": 0}),
    ],
    errors=lambda: [Sample((rand(5, 7),), {"axis": 2}, error="axis 2"), Sample((rand(5, 7),), {"p": math.nan}, error="p=nan")],
    tolerance={"float32": 2e-5, "float64": 1e-11},
    onnx="LpNormalization",
)  # fmt: skip
def normalize(x: Node, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Node:
    """``x / max(|x|_p, eps)`` along ``axis``, ``|x|_p = (sum |x|^p)^(1/p)``: rows of length 1, as torch's ``normalize``.

    ``p=inf`` divides by the largest size, ``p=0`` by how many are not 0. A zero vector stays 0 and its gradient is ``g / eps``:
    the bound is put below the power sum, before its root, whose slope at 0 is infinite.
    """
    if p == 2.0:
        return x * (1.0 / sqrt(maximum(reduce_sum(x * x, axis, keepdims=True), eps * eps)))
    size = absolute(x)
    if p == math.inf:
        return x / maximum(reduce_max(size, axis, keepdims=True), eps)
    if p in (0.0, 1.0):
        terms = size if p else ne(x, 0.0).cast(x.dtype)
        return x / maximum(reduce_sum(terms, axis, keepdims=True), eps)
    powers = reduce_sum(pow(size, p), axis, keepdims=True)
    if p < 0:
        return x / maximum(pow(powers, 1.0 / p), eps)
    bound = max(eps**p, float(np.finfo(np.float32).tiny))  # a power that float32 would round to 0
    return x * pow(maximum(powers, bound), -1.0 / p)
