"""Batches of a data set, in an order that depends on (seed, epoch) only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.locate import guarded, public

from ..random import Random, get_seed
from .ahead import Ahead, converted
from .fetch import END, Fetcher, Read, Stream
from .samplers import LengthBuckets, RandomSampler, Sampler, SequentialSampler

if TYPE_CHECKING:
    from .workers import Pool

__all__ = ["DataLoader"]


class DataLoader:
    """Batches of a :class:`Dataset`, of anything with ``__len__`` and ``__getitem__``, or of a stream (``__iter__`` only).

    ``shuffle`` reorders the samples in each epoch, from (``seed``, epoch); the seed is that of :func:`graphc.set_seed` unless it is
    given. ``sampler`` gives another order (a :class:`Sampler`, or any iterable of sample numbers), ``batch_sampler`` whole batches
    of sample numbers (:class:`LengthBuckets`, or any iterable of lists). ``batch_size=None`` takes each sample as a batch.
    ``collate_fn`` puts samples together: :func:`collate` unless it is given, :class:`Pad` for unequal lengths.

    ``num_workers`` threads or processes (``workers="thread"``, ``"process"``) read ahead, ``prefetch_factor`` batches each; the
    batches are the same for any number. Processes start by ``multiprocessing_context``, "forkserver" unless it is given, which
    is safe whatever threads run ("fork" is not); the data set is pickled for them once, and they live as long as the loader, or
    for one epoch with ``persistent_workers=False``. A stream is read by one worker.

    An iteration is an epoch, and one that was left is over: the next begins a new epoch. :meth:`state_dict` is the place in the
    data, with which another loader goes on in the middle of an epoch.

    >>> loader = DataLoader(range(5), batch_size=2, shuffle=True, seed=1)
    >>> first, second = list(loader), list(loader)
    >>> sorted(np.concatenate(first).tolist()), len(first), np.concatenate(first).tolist() != np.concatenate(second).tolist()
    ([0, 1, 2, 3, 4], 3, True)
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 32,
        shuffle: bool = False,
        *,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        seed: int | None = None,
        workers: str = "process",
        multiprocessing_context: str = "forkserver",
        prefetch_factor: int = 2,
        persistent_workers: bool = True,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
    ):
        self.dataset, self.batch_size, self.drop_last, self.collate_fn = dataset, batch_size, drop_last, collate_fn
        self.streams = not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"))
        if self.streams and not hasattr(dataset, "__iter__"):
            raise ArgumentError(f"{type(dataset).__name__} is no data set", hint="it needs __len__ and __getitem__, or __iter__")
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("prefetch_factor", prefetch_factor, 1)):
            if value is None and name == "batch_size":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ArgumentError(
                    f"{name} = {value!r} is not a whole number of {least} or more", hint="DataLoader says what each argument is"
                )
        if workers not in ("process", "thread"):
            raise ArgumentError(f"workers = {workers!r}", hint='"process" or "thread", and num_workers their number')
        if sum((bool(shuffle), sampler is not None, batch_sampler is not None)) > 1:
            raise ArgumentError("only one of shuffle, sampler and batch_sampler says the order", hint="leave the others out")
        if self.streams and (shuffle or sampler is not None or batch_sampler is not None):
            raise ArgumentError("a stream has an order of its own", hint="shuffle inside it, with data.rng()")
        if self.streams and num_workers > 1:
            raise ArgumentError(f"a stream is read by one worker, not {num_workers}", hint="a Dataset with __getitem__ is read by many")
        if batch_size is None and drop_last:
            raise ArgumentError(
                "drop_last without a batch_size", hint="batch_size=None takes each sample as a batch: there is nothing to drop"
            )
        self.batch_sampler = batch_sampler
        self.sampler = sampler
        if not self.streams and sampler is None and batch_sampler is None:
            self.sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        self.seed = (get_seed() if seed is None else int(seed)) & (2**64 - 1)
        self.num_workers, self.persistent_workers = int(num_workers), persistent_workers
        self._options = (workers, dataset, collate_fn, worker_init_fn, multiprocessing_context, int(prefetch_factor), timeout or None)
        self.epoch, self.batch = 0, 0
        self._resumed = False
        self._pool: Pool | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of batches of an epoch; a TypeError for a stream without a length."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        n = len(self.dataset if self.streams else self.sampler)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its beginning."""
        self.epoch, self.batch, self._resumed = int(epoch), 0, True

    # -- the place in the data -------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, int]:
        """The place in the data: the epoch and how many of its batches were handed out (what is only read ahead does not count).

        ``size`` is the number of samples, by which another data set is known.
        """
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch, "size": self._size(), "batch_size": self.batch_size or 0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on at this place. Raises :class:`ArgumentError` for that of other data."""
        here = self.state_dict()
        differs = [f"{k} was {state.get(k)} and is {here[k]}" for k in ("size", "batch_size") if state.get(k) != here[k]]
        if differs:
            raise ArgumentError(
                "the place in the data belongs to another loader: " + ", ".join(differs),
                hint="the same data set and batch_size as when it was saved",
            )
        self.seed, self.epoch, self.batch = int(state["seed"]), int(state["epoch"]), int(state["batch"])
        self._resumed = True

    def _size(self) -> int:
        try:
            return len(self.dataset)
        except TypeError:
            return -1

    # -- iteration -------------------------------------------------------------------------------------------------
    def __iter__(self) -> Iterator[Any]:
        return guarded(self._deliver(self._begin()))

    def ahead(self, size: int = 2, convert: Callable[[Any], Any] | None = None) -> Iterator[Any]:
        """An epoch like ``iter(loader)``, with a thread that reads (and converts) the next batches meanwhile."""
        batches = self._begin()
        return guarded(self._deliver(Ahead(batches if convert is None else converted(batches, convert), size)))

    def _begin(self) -> Iterator[Any]:
        if not self._resumed and self.batch:  # an epoch that was left is over
            self.epoch, self.batch = self.epoch + 1, 0
        self._resumed = False
        return self._read(self._tasks(self.epoch, self.batch))

    def _deliver(self, batches: Any) -> Iterator[Any]:
        try:
            for batch in batches:
                self.batch += 1
                yield batch
            self.epoch, self.batch = self.epoch + 1, 0
        finally:
            batches.close()

    def _read(self, tasks: Iterator[Any]) -> Iterator[Any]:
        if not self.num_workers:
            fetch = Fetcher(self.dataset, self.collate_fn)
            for task in tasks:
                batch = fetch(task)
                if batch is END:
                    return
                yield batch
            return
        with self._lock:  # one iteration at a time uses the workers that stand ready; another gets its own
            pool, self._pool = self._pool, None
        try:
            if pool is None or not pool.usable:
                from .workers import Pool  # and with it multiprocessing: only for those who have workers

                pool = Pool(self.num_workers, *self._options)
            yield from pool.run(tasks)
        finally:
            with self._lock:
                if self.persistent_workers and self._pool is None and pool is not None and pool.usable:
                    self._pool, pool = pool, None
            if pool is not None:
                pool.close()

    def _tasks(self, epoch: int, first: int) -> Iterator[Any]:
        if self.streams:
            for number in count(first):
                yield Stream(self.seed, epoch, number, self.batch_size, self.drop_last, start=number == first)
        for number, rows in enumerate(self._rows(epoch)):
            if number >= first:
                yield Read(self.seed, epoch, number, rows)

    def _rows(self, epoch: int) -> Sequence[Any] | Iterator[Any]:
        """The sample numbers of each batch."""
        random = Random(self.seed, "data.order", epoch)
        if isinstance(self.batch_sampler, LengthBuckets):
            return self.batch_sampler.batches(random)
        own = self.batch_sampler if self.batch_sampler is not None else self.sampler
        if hasattr(own, "set_epoch"):
            own.set_epoch(epoch)
        if self.batch_sampler is not None:
            return (np.asarray(rows, dtype=np.int64) for rows in own)
        order = own.order(random) if isinstance(own, Sampler) else np.fromiter(own, dtype=np.int64)
        if self.batch_size is None:
            return order.tolist()  # type: ignore[no-any-return]
        size = self.batch_size
        stop = len(order) - len(order) % size if self.drop_last else len(order)
        return (order[i : i + size] for i in range(0, stop, size))

    def close(self) -> None:
        """Ends the workers; a later iteration starts others."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_pool", "_lock")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._pool, self._lock = None, threading.Lock()


public(globals())
