"""Random numbers for a sample that is being read: they depend on the loader's seed, the epoch and the sample, on nothing else."""

from __future__ import annotations

import threading

import numpy as np

from graphc.errors import ArgumentError
from graphc.locate import public

__all__ = ["reading", "rng"]


class _Here(threading.local):
    key: tuple[int, int, int] | None = None
    made: np.random.Generator | None = None


_here = _Here()


def reading(key: tuple[int, int, int] | None) -> None:
    """From now on this thread reads the sample (seed, epoch, number); None: none."""
    _here.key, _here.made = key, None


def rng() -> np.random.Generator:
    """The random numbers of the sample that is being read, for augmentation in ``__getitem__``, ``map`` or a stream.

    They are the same for any number of workers and after a restart, and others in each epoch. Raises :class:`ArgumentError`
    where no :class:`DataLoader` is reading a sample.
    """
    if _here.key is None:
        raise ArgumentError("rng() outside of the reading of a sample", hint="it belongs into __getitem__ or map; elsewhere: np.random.default_rng(seed)")
    if _here.made is None:
        _here.made = np.random.default_rng([*_here.key, 0x6763])
    return _here.made


public(globals())
