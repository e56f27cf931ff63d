"""Data sets that worker processes can import."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from graphc.frontend.data import Dataset, IterableDataset, rng


class Numbers(Dataset):
    """The numbers 0, 1, ... with a random number each."""

    def __init__(self, count: int = 23):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        return np.array([index]), rng().normal(size=2)


class Pairs(Numbers):
    """(x, y) with x random."""

    def __getitem__(self, index):
        x = rng().normal(size=2).astype(np.float32)
        return x, x.sum(keepdims=True)


class Tells(Numbers):
    """Which process reads."""

    def __getitem__(self, index):
        return os.getpid()


class Fails(Numbers):
    """Sample 7 is broken."""

    def __getitem__(self, index):
        if index == 7:
            raise LookupError("the file of sample 7 is empty")
        return index


class OwnError(Exception):
    """One that cannot be made again from its text."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class FailsOddly(Numbers):
    def __getitem__(self, index):
        raise OwnError(1, 2)


class Dies(Numbers):
    """Reading sample 7 kills the process that does it."""

    def __getitem__(self, index):
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Hangs(Numbers):
    def __getitem__(self, index):
        time.sleep(60)


class Slow(Numbers):
    """Half of the samples take longer."""

    def __getitem__(self, index):
        time.sleep(0.02 if index % 4 < 2 else 0.0)
        return index


class Large(Numbers):
    """Samples of a megabyte: more than a pipe holds."""

    def __getitem__(self, index):
        return np.full((512, 256), index, dtype=np.float64)


class Unsendable(Numbers):
    """Answers cannot be pickled."""

    def __getitem__(self, index):
        return lambda: index


class Counts(IterableDataset):
    """A stream with random numbers."""

    def __init__(self, count: int = 10):
        self.count = count

    def __iter__(self):
        for i in range(self.count):
            yield i, rng().integers(1000)


def as_given(samples):
    return samples


def refuses(index):
    raise OSError(f"no licence for worker {index}")


class NotHere:
    """Can be pickled here and not be made again there."""

    def __reduce__(self):
        return NotHere.refuse, ()

    @staticmethod
    def refuse():
        raise AttributeError("Can't get attribute 'Thing' on <module '__main__' (built-in)>")

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return i
