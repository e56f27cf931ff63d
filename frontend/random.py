"""Counter-based random numbers on the host: the same values for the same seed and name, in any order of asking."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy

import numpy as np

from graphc.errors import ArgumentError
from graphc.locate import public
from graphc.ops.generate import philox_numpy

__all__ = ["Random", "get_seed", "set_seed", "stream_of"]

_seed = 0


def set_seed(seed: int) -> None:
    """Sets the seed (any int of 64 bits) of everything that is made from now on: initial values, dropout, shuffling.

    The values of a parameter depend on the seed and the parameter's name only. Raises :class:`ArgumentError` for others.
    """
    global _seed
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not -(2**63) <= seed < 2**64:
        raise ArgumentError(f"a seed is an int of 64 bits, not {seed!r}", hint="gc.set_seed(0)")
    _seed = int(seed) & (2**64 - 1)


def get_seed() -> int:
    """The seed in force (0 unless :func:`set_seed` was called)."""
    return _seed


def stream_of(text: str) -> int:
    """A 32-bit hash of a name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


class Random:
    """The random numbers of one name: Philox4x32-10, key = seed, counter = (index, hash of the name, ``step``, 2**32 - 1).

    The last word keeps them apart from those of the graph's ``random_bits``, where it is a scan's trip.

    >>> Random(0, "fc.weight").uniform((2,)) == Random(0, "fc.weight").uniform((2,))
    array([ True,  True])
    """

    def __init__(self, seed: int, name: str, step: int = 0):
        self.key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        self.stream, self.step = stream_of(name), step & 0xFFFFFFFF

    def other(self, step: int) -> Random:
        """More numbers of this name, independent of these: a maker of values that needs several draws takes others for each."""
        made = copy(self)
        made.step = step
        return made

    def words(self, count: int) -> np.ndarray:
        """``count`` uint32 words."""
        index = np.arange(-(-count // 4), dtype=np.uint64)
        rest = [np.full_like(index, c) for c in (self.stream, self.step, 0xFFFFFFFF)]
        return np.stack(philox_numpy([index, *rest], self.key), axis=-1).reshape(-1)[:count]

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """float64 values in [low, high), 53 random bits each."""
        count = int(np.prod(shape, dtype=int))
        pairs = self.words(2 * count).reshape(count, 2).astype(np.uint64)
        unit = ((pairs[:, 0] >> np.uint64(5)) * 2.0**26 + (pairs[:, 1] >> np.uint64(6))) * 2.0**-53
        return (low + (high - low) * unit).reshape(tuple(shape))

    def normal(self, shape: Sequence[int], mean: float = 0.0, std: float = 1.0) -> np.ndarray:
        """float64 normal values (Box-Muller)."""
        u = self.uniform((2, *shape))
        values: np.ndarray = np.sqrt(-2.0 * np.log1p(-u[0])) * np.cos(2.0 * np.pi * u[1])
        return mean + std * values

    def permutation(self, n: int) -> np.ndarray:
        """The numbers 0..n-1 in random order."""
        pairs = self.words(2 * n).reshape(n, 2).astype(np.uint64)
        return np.argsort(pairs[:, 0] << np.uint64(32) | pairs[:, 1], kind="stable")


public(globals())
