"""Initial values: functions of a shape and a stream of random numbers.

An initialiser is any ``fn(shape, random) -> array``; those with arguments are made by calling them:
``nn.Parameter((3, 4), init=gc.init.normal(std=0.02))``. Shapes follow torch: (out, in, *kernel).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError, did_you_mean
from graphc.locate import public

from .random import Random

__all__ = [
    "Init",
    "as_init",
    "calculate_gain",
    "constant",
    "dirac",
    "eye",
    "fans",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "sparse",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Init = Callable[[Sequence[int], Random], np.ndarray]


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight in torch's layout. Raises ShapeError for rank below 2."""
    if len(shape) < 2:
        raise ShapeError(f"a weight of shape {tuple(shape)} has no fan", hint="use init.uniform or init.normal")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def zeros(shape: Sequence[int], random: Random) -> np.ndarray:
    """All 0."""
    return np.zeros(tuple(shape))


def ones(shape: Sequence[int], random: Random) -> np.ndarray:
    """All 1."""
    return np.ones(tuple(shape))


def constant(value: float) -> Init:
    """All ``value``."""
    return lambda shape, random: np.full(tuple(shape), float(value))


def uniform(low: float = 0.0, high: float = 1.0) -> Init:
    """Uniform in [low, high)."""
    return lambda shape, random: random.uniform(shape, low, high)


def normal(mean: float = 0.0, std: float = 1.0) -> Init:
    """Normal with the given mean and standard deviation."""
    return lambda shape, random: random.normal(shape, mean, std)


def truncated_normal(mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Init:
    """Normal, but only values in [a, b], as ``torch.nn.init.trunc_normal_``: the bounds are values, not multiples of ``std``."""
    usual = NormalDist()
    low, high = (usual.cdf((x - mean) / std) for x in (a, b))
    if not low < high:
        raise ArgumentError(
            f"truncated_normal: no values of mean {mean:g} and std {std:g} lie in [{a:g}, {b:g}]", hint="a wider interval [a, b]"
        )

    def make(shape: Sequence[int], random: Random) -> np.ndarray:
        values = random.normal(shape, mean, std)
        outside = (values < a) | (values > b)
        # the others are drawn again by the inverse distribution function, which is exact but slow
        again = random.other(1).uniform((int(outside.sum()),), low, high)
        values[outside] = [mean + std * usual.inv_cdf(min(max(u, 1e-300), 1.0 - 2.0**-53)) for u in again]
        return values.clip(a, b)

    return make


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance behind an activation, as ``torch.nn.init.calculate_gain``.

    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    known = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "relu": math.sqrt(2.0), "selu": 0.75}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + (0.01 if param is None else param) ** 2))
    if nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity not in known:
        raise ArgumentError(f"no gain for {nonlinearity!r}", hint=", ".join(["leaky_relu", *known]))
    return known[nonlinearity]


def _fan(shape: Sequence[int], mode: str) -> float:
    fan_in, fan_out = fans(shape)
    return max({"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode], 1)


def variance_scaling(scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal") -> Init:
    """Variance ``scale / fan``, of mean 0: what the initialisers below are cases of (Keras' ``VarianceScaling``).

    ``mode`` is "fan_in", "fan_out" or "fan_avg"; ``distribution`` "normal", "uniform" or "truncated_normal" (at two standard deviations
    of the normal that is cut, whose own is larger so that the variance is right).
    """
    if mode not in ("fan_in", "fan_out", "fan_avg"):
        raise ArgumentError(f"mode {mode!r}", hint="fan_in, fan_out or fan_avg")
    if distribution not in ("normal", "uniform", "truncated_normal"):
        raise ArgumentError(f"distribution {distribution!r}", hint="normal, uniform or truncated_normal")

    def make(shape: Sequence[int], random: Random) -> np.ndarray:
        std = math.sqrt(scale / _fan(shape, mode))
        if distribution == "uniform":
            return random.uniform(shape, -math.sqrt(3.0) * std, math.sqrt(3.0) * std)
        if distribution == "normal":
            return random.normal(shape, 0.0, std)
        std /= 0.87962566103423978  # the standard deviation of a normal cut at -2 and 2
        return truncated_normal(0.0, std, -2.0 * std, 2.0 * std)(shape, random)

    return make


def kaiming_uniform(a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Init:
    """Uniform with bound gain * sqrt(3 / fan) (He et al. 2015), where the gain is :func:`calculate_gain` of the nonlinearity and ``a``;
    torch's layers take a = sqrt(5). Keras' "he_uniform"."""
    return variance_scaling(calculate_gain(nonlinearity, a) ** 2, mode, "uniform")


def kaiming_normal(a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Init:
    """Normal with standard deviation gain / sqrt(fan) (He et al. 2015), see :func:`kaiming_uniform`."""
    return variance_scaling(calculate_gain(nonlinearity, a) ** 2, mode, "normal")


def xavier_uniform(gain: float = 1.0) -> Init:
    """Uniform with bound gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010); Keras' "glorot_uniform"."""
    return variance_scaling(gain * gain, "fan_avg", "uniform")


def xavier_normal(gain: float = 1.0) -> Init:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return variance_scaling(gain * gain, "fan_avg", "normal")


def lecun_uniform() -> Init:
    """Uniform with bound sqrt(3 / fan_in) (LeCun et al. 1998), as Keras and JAX have it."""
    return variance_scaling(1.0, "fan_in", "uniform")


def lecun_normal() -> Init:
    """Truncated normal of variance 1 / fan_in (LeCun et al. 1998; Klambauer et al. 2017 for SELU), as Keras and JAX have it."""
    return variance_scaling(1.0, "fan_in", "truncated_normal")


def orthogonal(gain: float = 1.0) -> Init:
    """``gain`` times a random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014); further axes
    count as columns."""

    def make(shape: Sequence[int], random: Random) -> np.ndarray:
        if len(shape) < 2:
            raise ShapeError(f"a weight of shape {tuple(shape)} cannot be orthogonal", hint="a parameter with two axes or more")
        rows, cols = shape[0], math.prod(shape[1:])
        flat = random.normal((max(rows, cols), min(rows, cols)))
        q, r = np.linalg.qr(flat)
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # without it q is not uniformly distributed
        return gain * (q if rows >= cols else q.T).reshape(tuple(shape))

    return make


def eye(shape: Sequence[int], random: Random) -> np.ndarray:
    """The identity: 1 on the diagonal of a matrix."""
    if len(shape) != 2:
        raise ShapeError(f"a weight of shape {tuple(shape)} is no matrix", hint="a parameter with two axes")
    return np.eye(shape[0], shape[1])


def dirac(groups: int = 1) -> Init:
    """A convolution that passes its input channels through, as many as there are, in each group: ``torch.nn.init.dirac_``."""

    def make(shape: Sequence[int], random: Random) -> np.ndarray:
        if len(shape) < 3 or shape[0] % groups:
            raise ShapeError(f"a weight of shape {tuple(shape)} is no convolution's of {groups} groups", hint="(out, in / groups, *kernel)")
        out = np.zeros(tuple(shape))
        centre = tuple(s // 2 for s in shape[2:])
        for g in range(groups):
            for d in range(min(shape[0] // groups, shape[1])):
                out[(g * (shape[0] // groups) + d, d, *centre)] = 1.0
        return out

    return make


def sparse(sparsity: float, std: float = 0.01) -> Init:
    """A normal matrix with ``ceil(sparsity * rows)`` zeros in each column (Martens 2010)."""

    def make(shape: Sequence[int], random: Random) -> np.ndarray:
        if len(shape) != 2:
            raise ShapeError(f"a weight of shape {tuple(shape)} is no matrix", hint="a parameter with two axes")
        values = random.normal(shape, 0.0, std)
        order = np.argsort(random.other(1).uniform(shape), axis=0)
        np.put_along_axis(values, order[: math.ceil(sparsity * shape[0])], 0.0, axis=0)
        return values

    return make


_plain = {"eye": eye, "ones": ones, "zeros": zeros}
_made: dict[str, Callable[[], Init]] = {
    "dirac": dirac,
    "glorot_normal": xavier_normal,
    "glorot_uniform": xavier_uniform,
    "he_normal": kaiming_normal,
    "he_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "normal": normal,
    "orthogonal": orthogonal,
    "truncated_normal": truncated_normal,
    "uniform": uniform,
    "variance_scaling": variance_scaling,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
}


def as_init(value: Any) -> Init:
    """An initialiser by name, by number (a constant) or as it is. Raises ShapeError for others."""
    if isinstance(value, str) and value in _plain:
        return _plain[value]
    if isinstance(value, str) and value in _made:
        return _made[value]()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return constant(value)
    if callable(value):
        return value  # type: ignore[no-any-return]
    raise ShapeError(f"{value!r} is not an initialiser", hint=did_you_mean(value, [*_plain, *_made]))


public(globals())
