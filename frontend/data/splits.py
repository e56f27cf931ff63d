"""Samples divided into parts: training and test, several parts, folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.locate import public

from ..random import Random
from .samples import Subset

__all__ = ["k_fold", "random_split", "split"]


def split(*arrays: Any, fraction: float = 0.2, seed: int = 0, stratify: Any = None) -> tuple[np.ndarray, ...]:
    """Each array as (train, test), rows shuffled alike: ``x, xt, y, yt = split(x, y)``.

    With ``stratify=y`` each class has its share of the test rows.
    """
    first = np.asarray(arrays[0])
    order = Random(seed, "split").permutation(len(first))
    test = round(len(first) * fraction)
    if stratify is not None:
        order = _last_has_its_share(order, _labels(stratify, len(first)), test)
    cut = len(first) - test
    out: list[np.ndarray] = []
    for a in arrays:
        array = np.asarray(a)
        if len(array) != len(first):
            raise ArgumentError(f"arrays of {len(first)} and {len(array)} rows", hint="all arrays need the same number of rows")
        out += [array[order[:cut]], array[order[cut:]]]
    return tuple(out)


def _last_has_its_share(order: np.ndarray, labels: np.ndarray, last: int) -> np.ndarray:
    """The order with rows moved so that its last ones hold each class in proportion (largest remainders first)."""
    shuffled = labels[order]
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * (last / max(len(labels), 1))
    take = np.floor(exact).astype(int)
    for c in np.argsort(take - exact, kind="stable")[: last - take.sum()]:
        take[c] += 1
    chosen = np.zeros(len(order), bool)
    for c, n in zip(classes, take, strict=True):
        chosen[np.flatnonzero(shuffled == c)[:n]] = True
    return np.concatenate([order[~chosen], order[chosen]])


def random_split(dataset: Any, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Parts of a data set at random, without overlap: ``lengths`` are numbers of samples, or fractions whose sum is 1.

    >>> [len(part) for part in random_split(range(10), [0.75, 0.25])]
    [8, 2]
    """
    n = len(dataset)
    if all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) and s >= 0 for s in lengths):
        sizes = [int(s) for s in lengths]
        if sum(sizes) != n:
            raise ShapeError(
                f"parts of {sum(sizes)} samples in all, but there are {n}",
                hint="whole numbers whose sum is the number of samples, or fractions whose sum is 1",
            )
    else:
        if any(not 0 <= s <= 1 for s in lengths) or abs(sum(lengths) - 1) > 1e-9:
            raise ArgumentError(f"lengths = {list(lengths)!r}", hint="numbers of samples, or fractions whose sum is 1")
        sizes = [int(n * s + 1e-9) for s in lengths]
        for i in range(n - sum(sizes)):  # what is left goes round, as in torch
            sizes[i % len(sizes)] += 1
    order = Random(seed, "random_split").permutation(n)
    ends = np.cumsum(sizes)
    return [Subset(dataset, order[e - s : e]) for s, e in zip(sizes, ends, strict=True)]


def k_fold(data: Any, k: int = 5, *, shuffle: bool = True, seed: int = 0, stratify: Any = None) -> Iterator[tuple[Any, Any]]:
    """``k`` pairs (training, test) in which each sample is a test sample once.

    Of a number of samples or an array the parts are row numbers in ascending order, of a data set they are :class:`Subset`. Sizes differ by one at most. ``stratify=labels`` deals the classes evenly over the folds.

    >>> for train, test in k_fold(5, 2, shuffle=False):
    ...     print(train, test)
    [3 4] [0 1 2]
    [0 1 2] [3 4]
    """
    n = int(data) if isinstance(data, (int, np.integer)) else len(data)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 2 <= k <= n:
        raise ArgumentError(f"k = {k!r} folds of {n} samples", hint="at least 2, at most one for each sample")
    order = Random(seed, "k_fold").permutation(n) if shuffle else np.arange(n)
    fold = np.empty(n, dtype=np.int64)
    if stratify is None:
        fold[order] = np.repeat(np.arange(k), [n // k + (i < n % k) for i in range(k)])
    else:
        labels = _labels(stratify, n)[order]
        classes, counts = np.unique(labels, return_counts=True)
        if counts.min() < k:
            few = classes[counts.argmin()]
            raise ArgumentError(f"class {few} has {counts.min()} samples for {k} folds", hint="fewer folds")
        # dealt out class after class, so that folds differ by one sample in each class and in all
        fold[order[np.argsort(labels, kind="stable")]] = np.arange(n) % k
    return _parts(data, fold, int(k))


def _parts(data: Any, fold: np.ndarray, k: int) -> Iterator[tuple[Any, Any]]:
    for i in range(k):
        train, test = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        if hasattr(data, "__getitem__") and not isinstance(data, np.ndarray):
            yield Subset(data, train), Subset(data, test)
        else:
            yield train, test


def _labels(stratify: Any, n: int) -> np.ndarray:
    labels = np.asarray(stratify)
    if labels.shape != (n,):
        raise ShapeError(f"stratify: a label for each of {n} samples, not {labels.shape}", hint="stratify=y, one integer a sample")
    return labels


public(globals())
