"""The training loop: batches, logs, progress, history."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError, NonFiniteError, ShapeError
from graphc.ir.dims import Expr, sym, symbols
from graphc.ir.types import TensorType

from .arguments import Arguments
from .data import batches
from .metrics import Tally
from .random import Random
from .specs import Spec
from .tree import tree_map

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Dataset", "History", "fit_model"]

Logs = dict[str, float]


@dataclass
class History:
    """Means of loss and metrics, one value an epoch: ``history["val_loss"][-1]``."""

    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    @property
    def epochs(self) -> int:
        return len(self.seconds)

    def add(self, logs: Logs, seconds: float) -> None:
        for k, v in logs.items():
            self.history.setdefault(k, []).append(v)
        self.seconds.append(seconds)


class Dataset:
    """Whole arrays for an executable that takes batches of them: checked and converted once."""

    def __init__(self, arguments: Arguments, values: Sequence[Any]):
        for name, spec in arguments.flat.items():
            if not spec.shape:
                raise ArgumentError(f"{name}: {spec} has no batch axis", hint="train_on_batch takes any arguments")
        rows = Arguments({k: tree_map(_any_rows, tree) for k, tree in arguments.structure.items()})
        self.arrays = rows.bind(values)
        self.first = next(iter(self.arrays))
        self.rows = len(self.arrays[self.first])
        self.fixed = next((s.shape[0] for s in arguments.flat.values() if isinstance(s.shape[0], int)), None)
        if self.fixed is not None and self.rows % max(self.fixed, 1):
            raise ShapeError(
                f"{self.rows} samples do not divide into batches of {self.fixed}",
                hint='a named batch axis takes any number: gc.spec("N", ...)',
            )

    def count(self, batch: Mapping[str, np.ndarray]) -> int:
        return len(batch[self.first])


def _any_rows(spec: Spec) -> Spec:
    """The spec for any number of samples: the batch axis gets a name of its own."""
    size = spec.shape[0]
    name = str(size) if isinstance(size, Expr) and str(size) in symbols(size) else "samples"
    return Spec(TensorType((sym(name), *spec.shape[1:]), spec.dtype))


def fit_model(
    model: Model,
    x: Any,
    y: Any,
    batch_size: int,
    epochs: int,
    validation_data: tuple[Any, Any] | None,
    callbacks: Sequence[Any],
    shuffle: bool,
    verbose: int | str,
) -> History:
    """See :meth:`Model.fit`."""
    if verbose not in (0, 1, "auto", True, False):
        raise ArgumentError(f"verbose = {verbose!r}", hint='0, 1 or "auto"')
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < (name == "batch_size"):
            raise ArgumentError(f"{name} = {value!r}")
    data = Dataset(model._function("train_step").arguments, (*model._args(x), y))
    if not data.rows:
        raise ShapeError("fit: no samples")
    if validation_data is not None and (not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2):
        raise ArgumentError("validation_data must be (x, y)")
    history = History()
    model.stop_training = False
    for c in callbacks:
        c.model = model
        c.on_train_begin()
    seed = model.store.numpy("random.seed")
    with _progress(verbose, -(-data.rows // batch_size)) as show:
        for epoch in range(epochs):
            started = time.perf_counter()
            for c in callbacks:
                c.on_epoch_begin(epoch)
            order = None
            if shuffle:  # depends on the seed and the steps taken, so that a resumed training goes on alike
                order = Random(int(seed[0]) | int(seed[1]) << 32, "fit.shuffle", model.steps).permutation(data.rows)
            logs = _epoch(model, data, batch_size, order, callbacks, show, f"epoch {epoch + 1}/{epochs}")
            if validation_data is not None:
                logs |= {
                    f"val_{k}": v
                    for k, v in model.evaluate(
                        *validation_data, batch_size=max(batch_size, 256) if data.fixed is None else batch_size
                    ).items()
                }
            seconds = time.perf_counter() - started
            history.add(logs, seconds)
            show.epoch(f"epoch {epoch + 1}/{epochs}  {seconds:6.2f} s  " + _words(logs))
            for c in callbacks:
                c.on_epoch_end(epoch, dict(logs))
            if model.stop_training:
                break
    for c in callbacks:
        c.on_train_end()
    return history


def _epoch(
    model: Model,
    data: Dataset,
    batch_size: int,
    order: np.ndarray | None,
    callbacks: Sequence[Any],
    show: _Silent,
    title: str,
) -> Logs:
    function = model._function("train_step")
    tally = Tally(model.metrics, function.traced.output)
    for i, batch in enumerate(batches(data.arrays, batch_size, order)):
        try:
            tally.add(function.run(batch), data.count(batch))
        except NonFiniteError as e:
            e.message = f"the loss is not finite at step {model.steps + 1} ({title}, batch {i + 1}); nothing of this step was written"
            raise
        show.step(title, tally)
        if callbacks:
            logs = tally.batch()
            for c in callbacks:
                c.on_batch_end(i, logs)
            function = model._function("train_step")  # a callback may have frozen something
    return tally.result()


def _words(logs: Logs) -> str:
    return "  ".join(f"{k} {v:.4f}" for k, v in logs.items())


class _Silent:
    """No output."""

    def step(self, title: str, tally: Tally) -> None:
        return None

    def epoch(self, line: str) -> None:
        return None


class _Lines(_Silent):
    """A line an epoch."""

    def epoch(self, line: str) -> None:
        print(line, flush=True)


class _Bar(_Silent):
    """A progress bar, redrawn a few times a second, and a line an epoch above it."""

    def __init__(self, progress: Any, total: int):
        self.progress = progress
        self.task = progress.add_task("", total=total)
        self.next = 0.0
        self.done = 0

    def step(self, title: str, tally: Tally) -> None:
        self.done += 1
        now = time.perf_counter()
        if now >= self.next:  # drawing must not slow training down
            self.next = now + 0.1
            self.progress.update(self.task, completed=self.done, description=f"{title}  {_words(tally.batch())}")

    def epoch(self, line: str) -> None:
        self.progress.console.print(line, highlight=False)
        self.done = 0
        self.progress.update(self.task, completed=0, description="")


@contextmanager
def _progress(verbose: int | str, total: int) -> Iterator[_Silent]:
    if verbose in ("auto", 1) and sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True, refresh_per_second=8) as progress:
            yield _Bar(progress, total)
    else:
        yield _Lines() if verbose != "auto" and verbose else _Silent()
