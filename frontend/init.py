"""Initial values: functions of a shape and a stream of random numbers.

An initialiser is any ``fn(shape, random) -> array``; those with arguments are made by calling them:
``nn.Parameter((3, 4), init=gc.init.normal(std=0.02))``. Shapes follow torch: (out, in, *kernel).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import ShapeError

from .random import Random

__all__ = [
    "Init",
    "as_init",
    "constant",
    "fans",
    "kaiming_normal",
    "kaiming_uniform",
    "normal",
    "ones",
    "uniform",
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


def kaiming_uniform(a: float = 0.0) -> Init:
    """Uniform with bound sqrt(6 / ((1 + a^2) fan_in)) (He et al. 2015); torch's layers take a = sqrt(5)."""

    def make(shape: Sequence[int], random: Random) -> np.ndarray:
        bound = math.sqrt(6.0 / ((1.0 + a * a) * max(fans(shape)[0], 1)))
        return random.uniform(shape, -bound, bound)

    return make


def kaiming_normal(a: float = 0.0) -> Init:
    """Normal with standard deviation sqrt(2 / ((1 + a^2) fan_in)) (He et al. 2015)."""
    return lambda shape, random: random.normal(shape, 0.0, math.sqrt(2.0 / ((1.0 + a * a) * max(fans(shape)[0], 1))))


def xavier_uniform(gain: float = 1.0) -> Init:
    """Uniform with bound gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    def make(shape: Sequence[int], random: Random) -> np.ndarray:
        bound = gain * math.sqrt(6.0 / max(sum(fans(shape)), 1))
        return random.uniform(shape, -bound, bound)

    return make


def xavier_normal(gain: float = 1.0) -> Init:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return lambda shape, random: random.normal(shape, 0.0, gain * math.sqrt(2.0 / max(sum(fans(shape)), 1)))


_plain = {"zeros": zeros, "ones": ones}
_made = {
    "uniform": uniform,
    "normal": normal,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
}


def as_init(value: Any) -> Init:
    """An initialiser by name, by number (a constant) or as it is. Raises ShapeError for others."""
    if isinstance(value, str) and value in _plain:
        return _plain[value]
    if isinstance(value, str) and value in _made:
        return _made[value]()  # type: ignore[operator, no-any-return]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return constant(value)
    if callable(value):
        return value  # type: ignore[no-any-return]
    raise ShapeError(f"{value!r} is not an initialiser", hint="one of " + ", ".join([*_plain, *_made]))
