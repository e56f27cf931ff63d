"""The order in which samples are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.locate import public

from ..random import Random

__all__ = ["LengthBuckets", "RandomSampler", "Sampler", "SequentialSampler", "WeightedRandomSampler"]


class Sampler:
    """The sample numbers of an epoch: a subclass has ``order(random)`` and ``__len__``.

    ``random`` depends on the loader's seed and the epoch, so that an order can be made again after a restart.
    """

    def order(self, random: Random) -> np.ndarray:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class SequentialSampler(Sampler):
    """0, 1, 2, ..."""

    def __init__(self, dataset: Any):
        self.size = len(dataset)

    def order(self, random: Random) -> np.ndarray:
        return np.arange(self.size)

    def __len__(self) -> int:
        return self.size


class RandomSampler(SequentialSampler):
    """All samples in random order."""

    def order(self, random: Random) -> np.ndarray:
        return random.permutation(self.size)


class WeightedRandomSampler(Sampler):
    """``num_samples`` samples (as many as there are weights, otherwise), drawn with probabilities in proportion to ``weights``.

    Without ``replacement`` no sample comes twice. For classes of unequal sizes: ``weights = 1 / counts[y]``.
    """

    def __init__(self, weights: Any, num_samples: int | None = None, replacement: bool = True):
        w = np.asarray(weights, dtype=np.float64)
        if w.ndim != 1 or not np.isfinite(w).all() or (w < 0).any() or not w.sum() > 0:
            raise ArgumentError(
                "weights must be a row of numbers >= 0 that are not all 0",
                hint="one number for each sample, larger for those that come more often",
            )
        self.weights, self.replacement = w / w.sum(), replacement
        self.num_samples = len(w) if num_samples is None else int(num_samples)
        if not replacement and self.num_samples > np.count_nonzero(w):
            raise ArgumentError(
                f"{self.num_samples} samples without replacement from {np.count_nonzero(w)} of weight > 0",
                hint="replacement=True, or fewer samples",
            )

    def order(self, random: Random) -> np.ndarray:
        if self.replacement:
            ends = np.cumsum(self.weights)
            drawn = random.uniform((self.num_samples,)) * ends[-1]
            return np.searchsorted(ends, drawn, side="right")
        with np.errstate(divide="ignore"):  # the smallest of exponential times are a draw without replacement
            times = -np.log1p(-random.uniform(self.weights.shape)) / self.weights
        return np.argsort(np.where(self.weights > 0, times, np.inf), kind="stable")[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class LengthBuckets:
    """Batches of samples of similar lengths, so that little is filled up: a ``batch_sampler``.

    ``lengths`` holds a number for each sample. Shuffled samples are sorted by length within windows of ``window`` batches, and the
    batches come in random order. Without ``shuffle`` all samples are sorted once, stably.
    """

    def __init__(self, lengths: Any, batch_size: int, shuffle: bool = True, drop_last: bool = False, window: int = 50):
        self.lengths = np.asarray(lengths)
        if self.lengths.ndim != 1:
            raise ShapeError(f"lengths: a number for each sample, not {self.lengths.shape}", hint="[len(sample) for sample in dataset]")
        if batch_size < 1 or window < 1:
            raise ArgumentError(f"batch_size = {batch_size}, window = {window}", hint="whole numbers of 1 or more")
        self.batch_size, self.shuffle, self.drop_last, self.window = batch_size, shuffle, drop_last, window

    @classmethod
    def of(cls, dataset: Any, length: Callable[[Any], int], batch_size: int, **options: Any) -> LengthBuckets:
        """Reads each sample once to ask ``length(sample)``."""
        return cls([length(dataset[i]) for i in range(len(dataset))], batch_size, **options)

    def batches(self, random: Random) -> Sequence[np.ndarray]:
        """The sample numbers of each batch."""
        n, size = len(self.lengths), self.batch_size
        order = random.permutation(n) if self.shuffle else np.arange(n)
        step = self.window * size if self.shuffle else max(n, 1)
        parts: list[np.ndarray] = []
        for start in range(0, n, step):
            rows = order[start : start + step]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            parts += [rows[i : i + size] for i in range(0, len(rows), size)]
        if self.drop_last:
            parts = [p for p in parts if len(p) == size]
        return [parts[i] for i in random.other(1).permutation(len(parts))] if self.shuffle else parts

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full + (rest > 0 and not self.drop_last)


public(globals())
