"""Where the batches of ``fit``, ``evaluate`` and ``predict`` come from: whole arrays, or anything that gives batches.

A feed gives one epoch after the other as arrays that are checked and converted, and knows its place in the data, so that a
training that was interrupted goes on in the middle of an epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError, GraphcError, ShapeError
from graphc.ir.dims import Expr, sym, symbols
from graphc.ir.types import TensorType

from .arguments import Arguments
from .data import DataLoader, Dataset, IterableDataset, ahead, batches
from .random import Random
from .specs import Spec
from .tree import tree_map

if TYPE_CHECKING:
    from .model import Model

__all__ = ["ArrayFeed", "CutFeed", "Feed", "StreamFeed", "gives_batches", "open_feed"]

Batch = dict[str, np.ndarray]
State = dict[str, Any]


class Feed:
    """Batches for one executable, epoch by epoch.

    ``steps`` is the number of batches of an epoch, None where nobody knows; ``fixed`` is the size of all batches where the model
    takes one only.
    """

    steps: int | None = None
    fixed: int | None = None
    first: str

    def epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch, or of the rest of one that :meth:`load_state_dict` has put back."""
        raise NotImplementedError

    def count(self, batch: Mapping[str, np.ndarray]) -> int:
        """The number of samples in a batch."""
        return len(batch[self.first])

    def state_dict(self) -> State:
        """The place in the data: what has been handed out, and what the order depends on (numbers only)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next :meth:`epoch` goes on from this place."""

    def end_epoch(self) -> None:
        """The epoch has ended, perhaps early; all batches that were handed out were used."""

    def close(self) -> None:
        """Frees threads and processes."""


class ArrayFeed(Feed):
    """Whole arrays, checked and converted once. ``shuffle`` gives the random numbers of an epoch that starts at a step."""

    def __init__(
        self,
        arguments: Arguments,
        values: Sequence[Any],
        batch_size: int,
        shuffle: Callable[[int], Random] | None = None,
        clock: Callable[[], int] = lambda: 0,
    ):
        self.fixed = _fixed(arguments)
        rows = Arguments({k: tree_map(_any_rows, tree) for k, tree in arguments.structure.items()})
        self.batch_size, self.shuffle, self.clock = batch_size, shuffle, clock
        self.start, self.done = 0, 0
        self._resumed = False
        self._hold(rows.bind(values))

    def _hold(self, arrays: Batch) -> None:
        self.arrays = arrays
        self.first = next(iter(arrays))
        self.rows = len(arrays[self.first])
        if self.fixed is not None and self.rows % max(self.fixed, 1):
            raise ShapeError(
                f"{self.rows} samples do not divide into batches of {self.fixed}",
                hint='a named batch axis takes any number: gc.spec("N", ...)',
            )
        self.resize(self.batch_size)

    def resize(self, batch_size: int) -> None:
        """Batches of another size from now on."""
        self.batch_size, self.steps = batch_size, -(-self.rows // batch_size)

    def epoch(self) -> Iterator[Batch]:
        if not self._resumed:
            self.start, self.done = self.clock(), 0
        self._resumed = False
        order = None if self.shuffle is None else self.shuffle(self.start).permutation(self.rows)
        for batch in batches(self.arrays, self.batch_size, order, skip=self.done):
            self.done += 1
            yield batch

    def rows_from(self, start: int, stop: int) -> ArrayFeed:
        """A feed of some of the samples, without a copy."""
        made = copy.copy(self)
        made._hold({k: a[start:stop] for k, a in self.arrays.items()})
        return made

    def state_dict(self) -> State:
        return {"start": self.start, "batch": self.done, "rows": self.rows, "batch_size": self.batch_size, "shuffle": self.shuffle is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        here = self.state_dict()
        differs = [k for k in ("rows", "batch_size", "shuffle") if state.get(k) != here[k]]
        if differs:
            said = ", ".join(f"{k} was {state.get(k)} and is {here[k]}" for k in differs)
            raise ArgumentError(
                f"the place in the data belongs to other data: {said}", hint="the same data, batch_size and shuffle as when it was saved"
            )
        self.start, self.done = int(state["start"]), int(state["batch"])
        self._resumed = self.done > 0


class StreamFeed(Feed):
    """Anything that can be iterated over for batches: a data loader, a list, a generator, an object with ``__iter__``.

    The next batch is fetched, checked and converted in a thread while a step runs. A source with ``state_dict`` and
    ``load_state_dict`` is resumed by them, another one by leaving out the batches that were used. What can be iterated over only
    once (a generator) goes on where the last epoch stopped. ``clock`` gives the number of an epoch that starts, for a loader whose
    order is to depend on it.
    """

    def __init__(
        self,
        arguments: Arguments,
        source: Any,
        unpack: Callable[[Any], Sequence[Any]],
        clock: Callable[[], int] | None = None,
    ):
        self.arguments, self.source, self.unpack, self.clock = arguments, source, unpack, clock
        self.fixed = _fixed(arguments)
        self.first = next(iter(arguments.flat))
        try:
            self.steps = len(source)
        except TypeError:
            self.steps = None
        self.done = 0
        self._skip = 0
        self._resumed = False
        self._open: Any = None
        self._once = hasattr(source, "__next__")  # an iterator keeps what was made ahead for the next epoch
        self._state: Any = None

    def epoch(self) -> Iterator[Batch]:
        if self.clock is not None and not self._resumed:
            self.source.set_epoch(self.clock())
        self.done, self._skip, self._resumed = self._skip, 0, False
        if self._open is None:
            own = hasattr(self.source, "state_dict")
            source = self.source if own or not self.done else islice(self.source, self.done, None)
            self._open = ahead(source, convert=self._converter(self.done, own and not hasattr(self.source, "ahead")))
        try:
            for bound, state in self._open:
                self.done += 1
                self._state = state
                yield bound
            self._open = None
        finally:
            if not self._once:
                self.close()

    def _converter(self, first: int, stateful: bool) -> Callable[[Any], tuple[Batch, Any]]:
        """Runs in the thread, so that the place of a source is kept with the batch that it belongs to."""
        number = count(first + 1)

        def convert(batch: Any) -> tuple[Batch, Any]:
            i = next(number)
            try:
                bound = self.arguments.bind(self.unpack(batch))
                if not self.count(bound):
                    raise ShapeError("no samples", hint="a batch needs one row at least")
            except GraphcError as e:
                e.message = f"batch {i}: {e.message}"
                raise
            return bound, self.source.state_dict() if stateful else None

        return convert

    def state_dict(self) -> State:
        if hasattr(self.source, "ahead"):
            return {"batch": self.done, "source": self.source.state_dict()}
        return {"batch": self.done, **({} if self._state is None else {"source": self._state})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._skip, self._resumed = int(state["batch"]), True
        if "source" in state:
            self.source.load_state_dict(state["source"])

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class CutFeed(Feed):
    """Epochs of a given number of batches, whatever the data's own is: each goes on where the last one stopped, over and over."""

    def __init__(self, feed: Feed, steps: int):
        self.feed, self.steps, self.size, self.fixed, self.first = feed, steps, steps, feed.fixed, feed.first
        self.drawn, self._skip = 0, 0
        self._pass: Iterator[Batch] | None = None

    def epoch(self) -> Iterator[Batch]:
        self.drawn, self._skip = self._skip, 0
        empty = 0  # passes in a row: one may be the rest of a pass that ended where a training was resumed
        while self.drawn < self.size and empty < 2:
            if self._pass is None:
                self._pass, empty = self.feed.epoch(), empty + 1
            batch = next(self._pass, None)
            if batch is None:
                self._pass = None
                continue
            empty = 0
            self.drawn += 1
            yield batch

    def end_epoch(self) -> None:
        self.drawn = 0

    def state_dict(self) -> State:
        return {"drawn": self.drawn, "pass": self.feed.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own, self._skip = state["pass"], int(state["batch"])
        unused = int(state["drawn"]) - self._skip  # a batch may have been handed out and not used
        self.feed.load_state_dict({**own, "batch": int(own["batch"]) - unused})

    def close(self) -> None:
        self.feed.close()


def gives_batches(x: Any) -> bool:
    """Whether ``x`` is a source of batches rather than an array or a structure of arrays."""
    if isinstance(x, (np.ndarray, np.generic, list, tuple, Mapping, str, bytes)) or any(hasattr(x, n) for n in ("__array__", "__dlpack__")):
        return False
    return hasattr(x, "__iter__") or isinstance(x, Dataset)


def open_feed(
    model: Model,
    arguments: Arguments,
    x: Any,
    y: Any,
    batch_size: int,
    shuffle: Callable[[int], Random] | None = None,
    weigh: Callable[[Any, Any], Any] | None = None,
) -> Feed:
    """The feed for ``fit(x, y)``, ``evaluate(x, y)``, or, where ``arguments`` take no target, ``predict(x)``.

    ``weigh(y, weights that came with the batch)`` gives the sample weights, where ``arguments`` take some.
    """
    labelled = len(arguments.structure) > len(model.names)
    clock: Callable[[], int] | None = None
    if isinstance(x, (Dataset, IterableDataset)):
        seed = model.store.numpy("random.seed")
        mixed = shuffle is not None and isinstance(x, Dataset)
        x, clock = DataLoader(x, batch_size, mixed, seed=int(seed[0]) | int(seed[1]) << 32), lambda: model.steps
    if gives_batches(x) or (labelled and y is None and isinstance(x, list)):
        if y is not None:
            raise ArgumentError(f"x gives batches of its own ({type(x).__name__}), so y must be left out", hint="each batch is (x, y)")
        return StreamFeed(arguments, x, _pairs(model, weigh) if labelled else _inputs(model), clock)
    if labelled and y is None:
        raise ArgumentError(f"{model.label} is missing", hint="fit(x, y), or fit(batches) where each batch is (x, y)")
    values = (*model._args(x), *((y,) if labelled else ()), *(() if weigh is None else (weigh(y, None),)))
    return ArrayFeed(arguments, values, batch_size, shuffle, lambda: model.steps)


def _pairs(model: Model, weigh: Callable[[Any, Any], Any] | None) -> Callable[[Any], Sequence[Any]]:
    def unpack(batch: Any) -> Sequence[Any]:
        count = len(batch) if isinstance(batch, (tuple, list)) else 0
        if count != 2 and (count != 3 or weigh is None):
            three = "fit(batches, sample_weight=True) takes (x, y, sample_weight)"
            hint = three if count == 3 else "a tuple of inputs and targets, a value for each sample"
            raise ArgumentError(f"expected (x, y), got {_said(batch)}", hint=hint)
        x, y, *weight = batch
        return (*model._args(x), y, *(() if weigh is None else (weigh(y, weight[0] if weight else None),)))

    return unpack


def _inputs(model: Model) -> Callable[[Any], Sequence[Any]]:
    """Batches to predict from are inputs, or pairs whose targets are left out."""

    def unpack(batch: Any) -> Sequence[Any]:
        several = len(model.names) > 1
        if isinstance(batch, (tuple, list)) and len(batch) in (1, 2):
            if not several or isinstance(batch[0], (tuple, list, Mapping)):
                batch = batch[0]
        return model._args(batch)

    return unpack


def _said(batch: Any) -> str:
    return f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list, Mapping)) else type(batch).__name__


def _fixed(arguments: Arguments) -> int | None:
    for name, spec in arguments.flat.items():
        if not spec.shape:
            raise ArgumentError(f"{name}: {spec} has no batch axis", hint="train_on_batch takes any arguments")
    return next((s.shape[0] for s in arguments.flat.values() if isinstance(s.shape[0], int)), None)


def _any_rows(spec: Spec) -> Spec:
    """The spec for any number of samples: the batch axis gets a name of its own."""
    size = spec.shape[0]
    name = str(size) if isinstance(size, Expr) and str(size) in symbols(size) else "samples"
    return Spec(TensorType((sym(name), *spec.shape[1:]), spec.dtype))
