"""Data sets: samples by number, or samples in a stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.locate import public

from ..tree import leaves, tree_map

__all__ = ["ConcatDataset", "Dataset", "IterableDataset", "Mapped", "Subset", "TensorDataset", "from_generator"]


class Dataset:
    """Samples by number: a subclass has ``__len__`` and ``__getitem__``. A sample is an array, a number, or a tuple, list or dict
    of such; ``fit`` takes pairs ``(x, y)``.

    Any object with these two methods will do (a list of samples does); this class adds ``+`` and :meth:`map`. A subclass may
    define ``batch(rows)``, which gives the samples of several rows at once, already put together.
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])

    def map(self, fn: Callable[[Any], Any]) -> Mapped:
        """``fn`` of each sample, when it is read: ``dataset.map(augment)``. Random numbers come from :func:`graphc.data.rng`."""
        return Mapped(self, fn)


class TensorDataset(Dataset):
    """Arrays, or trees of arrays, whose rows are samples.

    >>> d = TensorDataset(np.arange(6).reshape(3, 2), np.array([[7], [8], [9]]))
    >>> len(d), d[1]
    (3, (array([2, 3]), array([8])))
    """

    def __init__(self, *tensors: Any):
        if not tensors:
            raise ArgumentError("a TensorDataset without arrays", hint="TensorDataset(x, y)")
        self.tensors = tree_map(np.asarray, tensors)
        sizes = {path: a.shape[0] if a.ndim else None for path, a in leaves(self.tensors, "")}
        if len(set(sizes.values())) != 1 or None in sizes.values():
            raise ShapeError(
                "arrays of different numbers of rows: " + ", ".join(f"{p}: {n}" for p, n in sizes.items()),
                hint="one row of each array for a sample",
            )
        self._rows: int = next(iter(sizes.values()))  # type: ignore[assignment]

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: Any) -> Any:
        return tree_map(lambda a: a[index], self.tensors)

    def batch(self, rows: Any) -> Any:
        """Several samples, put together."""
        return tree_map(lambda a: a.take(rows, axis=0), self.tensors)


class Subset(Dataset):
    """Chosen samples of a data set, in the order given."""

    def __init__(self, dataset: Any, indices: Iterable[int]):
        self.dataset = dataset
        self.indices = np.asarray(indices if isinstance(indices, (np.ndarray, Sequence)) else list(indices), dtype=np.int64)
        wrong = self.indices[(self.indices < -len(dataset)) | (self.indices >= len(dataset))]
        if wrong.size:
            raise ShapeError(f"sample {wrong[0]} of {len(dataset)}", hint="indices from 0 to len(dataset) - 1")
        if hasattr(dataset, "batch"):
            self.batch = self._batch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[int(self.indices[index])]

    def _batch(self, rows: Any) -> Any:
        return self.dataset.batch(self.indices[rows])


class ConcatDataset(Dataset):
    """Data sets one after the other.

    >>> both = TensorDataset(np.arange(2)) + TensorDataset(np.arange(10, 12))
    >>> [int(both[i][0]) for i in range(len(both))]
    [0, 1, 10, 11]
    """

    def __init__(self, datasets: Iterable[Any]):
        self.datasets: list[Any] = []
        for d in datasets:
            self.datasets += d.datasets if type(d) is ConcatDataset else [d]
        if not self.datasets:
            raise ArgumentError("a ConcatDataset of nothing", hint="ConcatDataset([first, second])")
        self._ends = list(accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Any) -> Any:
        i = int(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        i %= len(self)
        which = bisect_right(self._ends, i)
        return self.datasets[which][i - (self._ends[which - 1] if which else 0)]


class Mapped(Dataset):
    """A function of each sample of a data set."""

    def __init__(self, dataset: Any, fn: Callable[[Any], Any]):
        self.dataset, self.fn = dataset, fn

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return self.fn(self.dataset[index])


class IterableDataset:
    """Samples in a stream: a subclass has ``__iter__``, which starts anew each time, and may have ``__len__``."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no __iter__")


class _Generated(IterableDataset):
    def __init__(self, fn: Callable[..., Iterable[Any]], args: tuple[Any, ...]):
        self.fn, self.args = fn, args

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fn(*self.args))


def from_generator(fn: Callable[..., Iterable[Any]], *args: Any) -> IterableDataset:
    """A stream of the samples that ``fn(*args)`` yields; it is called anew for each epoch.

    >>> stream = from_generator(range, 3)
    >>> list(stream), list(stream)
    ([0, 1, 2], [0, 1, 2])
    """
    return _Generated(fn, args)


public(globals())
