"""The training loop: batches, logs, progress, history."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError, CheckpointError, NonFiniteError, ShapeError

from .feed import Feed, gives_batches, open_feed
from .history import History
from .metrics import Tally
from .place import Place
from .random import Random
from .saving import Checkpoint

if TYPE_CHECKING:
    from .model import Model

__all__ = ["fit_model"]

Logs = dict[str, float]


def fit_model(
    model: Model,
    x: Any,
    y: Any,
    batch_size: int,
    epochs: int,
    validation_data: Any,
    callbacks: Sequence[Any],
    shuffle: bool,
    verbose: int | str,
    resume: Any = None,
) -> History:
    """See :meth:`Model.fit`."""
    if verbose not in (0, 1, "auto", True, False):
        raise ArgumentError(f"verbose = {verbose!r}", hint='0, 1 or "auto"')
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < (name == "batch_size"):
            raise ArgumentError(f"{name} = {value!r}")

    def order(step: int) -> Random:  # depends on the seed and the steps taken, so that a resumed training goes on alike
        seed = model.store.numpy("random.seed")
        return Random(int(seed[0]) | int(seed[1]) << 32, "fit.shuffle", step)

    feed = open_feed(model, model._function("train_step").arguments, x, y, batch_size, order if shuffle else None)
    if feed.steps == 0:
        raise ShapeError("fit: no samples")
    if validation_data is not None and not gives_batches(validation_data):
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise ArgumentError("validation_data must be (x, y), or give batches of them")
    callbacks = sorted(callbacks, key=lambda c: c.turn)
    for c in callbacks:
        c.model = model
    place = Place(callbacks, feed, first=model.steps)
    model.stop_training = False
    with closing(feed), _progress(verbose, feed.steps) as show:
        _begin(model, place, resume)
        model.place = place
        try:
            while place.epoch < epochs and not model.stop_training:
                epoch, started = place.epoch, time.perf_counter() - place.seconds
                if not place.batch:
                    for c in callbacks:
                        c.on_epoch_begin(epoch)
                logs = _epoch(model, feed, place, started, show, f"epoch {epoch + 1}/{epochs}")
                if validation_data is not None:
                    xv, yv = (validation_data, None) if gives_batches(validation_data) else validation_data
                    measured = model.evaluate(xv, yv, batch_size=max(batch_size, 256) if feed.fixed is None else batch_size)
                    logs |= {f"val_{k}": v for k, v in measured.items()}
                seconds = time.perf_counter() - started
                place.history.add(logs, seconds)
                place.next_epoch(model.steps)
                show.epoch(f"epoch {epoch + 1}/{epochs}  {seconds:6.2f} s  " + _words(logs))
                for c in callbacks:
                    c.on_epoch_end(epoch, dict(logs))
            for c in callbacks:
                c.on_train_end()
        finally:
            place.leave(model.steps)
    return place.history


def _begin(model: Model, place: Place, resume: Any) -> None:
    """Tells the callbacks that training begins, and goes to the place of ``resume`` (a path, a checkpoint, or what a callback has)."""
    if resume is None:
        resume = next((found for found in (c.resume_from() for c in place.callbacks) if found is not None), None)
    checkpoint = model.load_checkpoint(resume) if isinstance(resume, (str, os.PathLike)) else resume
    if checkpoint is None:
        for c in place.callbacks:
            c.on_train_begin()
        return
    if not isinstance(checkpoint, Checkpoint):
        raise ArgumentError(f"resume = {resume!r}", hint="the path of a checkpoint, or what load_checkpoint gave")
    if checkpoint.place is None:
        raise CheckpointError(
            f"{checkpoint.path} has no place in a training to go on from",
            hint="model.load_checkpoint(path), then fit without resume=: it begins with epoch 1",
        )
    place.go_to(checkpoint.place, Tally(model.metrics, model._function("train_step").traced.output))
    model.place = place
    for c in place.callbacks:
        c.on_train_begin()
    if place.batch:  # callbacks may count on it; what they change is put back below
        for c in place.callbacks:
            c.on_epoch_begin(place.epoch)
    place.restore_callbacks(checkpoint.place)
    model.store.write(checkpoint.values)
    model.stop_training = checkpoint.place.get("stopped") is True


def _epoch(model: Model, feed: Feed, place: Place, started: float, show: _Silent, title: str) -> Logs:
    function = model._function("train_step")
    tally = place.tally = place.tally or Tally(model.metrics, function.traced.output)
    for i, batch in enumerate(feed.epoch(), start=place.batch):
        try:
            tally.add(function.run(batch), feed.count(batch))
        except NonFiniteError as e:
            e.message = f"the loss is not finite at step {model.steps + 1} ({title}, batch {i + 1}); nothing of this step was written"
            raise
        place.batch = i + 1
        show.step(title, tally)
        if place.callbacks:
            place.seconds = time.perf_counter() - started
            logs = tally.batch()
            for c in place.callbacks:
                c.on_batch_end(i, logs)
            function = model._function("train_step")  # a callback may have frozen something
    if not place.batch:
        raise ShapeError(f"{title}: no batches are left", hint="a generator gives its batches once: a DataLoader, or an object whose __iter__ starts anew")
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

    def __init__(self, progress: Any, total: int | None):
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
def _progress(verbose: int | str, total: int | None) -> Iterator[_Silent]:
    if verbose in ("auto", 1) and sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True, refresh_per_second=8) as progress:
            yield _Bar(progress, total)
    else:
        yield _Lines() if verbose != "auto" and verbose else _Silent()
