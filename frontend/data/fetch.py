"""Reading one batch: what a loader does itself without workers, and each of its workers does for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from .collate import collate
from .randomness import reading

__all__ = ["END", "Fetcher", "Read", "Stream"]

END = None  # instead of a batch: the stream is over


@dataclass(frozen=True)
class Read:
    """Read these samples (or, where ``rows`` is one number, the batch of that number), as batch ``number`` of an epoch."""

    seed: int
    epoch: int
    number: int
    rows: Any


@dataclass(frozen=True)
class Stream:
    """Read the next ``size`` samples of a stream (None: what it gives is a batch); ``start`` begins it anew and leaves out what
    comes before batch ``number``."""

    seed: int
    epoch: int
    number: int
    size: int | None
    drop_last: bool = False
    start: bool = False


class Fetcher:
    """Reads batches of a data set. ``own_process`` says that the process's global random numbers are free to be seeded."""

    def __init__(self, dataset: Any, collate_fn: Callable[[Any], Any] | None, own_process: bool = False):
        self.dataset, self.own_process = dataset, own_process
        self.together = collate_fn or collate
        self.whole = getattr(dataset, "batch", None) if collate_fn is None else None
        self.stream: Iterator[Any] | None = None

    def __call__(self, task: Read | Stream) -> Any:
        if self.own_process:
            seed = [task.seed & 0xFFFFFFFF, task.seed >> 32, task.epoch & 0xFFFFFFFF, task.number & 0xFFFFFFFF]
            random.seed(repr(seed))
            np.random.seed(seed)
        try:
            return self.read(task) if isinstance(task, Read) else self.next(task)
        except Exception as e:
            e.add_note(f"while batch {task.number} of epoch {task.epoch} was read")
            raise
        finally:
            reading(None)

    def read(self, task: Read) -> Any:
        if not isinstance(task.rows, np.ndarray):
            return self.sample(task, int(task.rows))
        if self.whole is not None:
            return self.whole(task.rows)
        return self.together([self.sample(task, i) for i in task.rows.tolist()])

    def sample(self, task: Read, index: int) -> Any:
        reading((task.seed, task.epoch, index))
        try:
            return self.dataset[index]
        except Exception as e:
            e.add_note(f"while sample {index} was read")
            raise

    def next(self, task: Stream) -> Any:
        if task.start:
            reading((task.seed, task.epoch, 0))
            self.stream = iter(self.dataset)
            for number in range(task.number):
                self.some(task, number)
        if self.stream is None:
            return END
        samples = self.some(task, task.number)
        if not samples or (task.drop_last and len(samples) < (task.size or 1)):
            self.stream = None
            return END
        return samples[0] if task.size is None else self.together(samples)

    def some(self, task: Stream, number: int) -> list[Any]:
        assert self.stream is not None
        reading((task.seed, task.epoch, number + 1))
        return list(islice(self.stream, task.size or 1))
