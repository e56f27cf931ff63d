"""The training loop: batches, logs, validation, callbacks, history."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError, CheckpointError, NonFiniteError, ShapeError
from graphc.runtime.warming import warming

from .callbacks.base import BatchLogs, Callback, CallbackList
from .callbacks.progress import ProgressBar
from .feed import ArrayFeed, CutFeed, Feed, gives_batches, open_feed
from .history import History
from .metrics import Tally
from .objective import class_weights
from .place import Place
from .random import Random
from .saving import Checkpoint, load_checkpoint

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Plan", "evaluate_model", "fit_model", "weigher"]

Logs = dict[str, float]


def weigher(model: Model, sample_weight: Any, class_weight: Any) -> Callable[[Any, Any], Any] | None:
    """``weigh(y, weights of the batch)``: a weight for each output and sample; None where nothing is weighted.

    ``sample_weight`` True stands for those that come with the batches. Class weights multiply.
    """
    if sample_weight is None and class_weight is None:
        return None

    def weigh(y: Any, own: Any) -> Any:
        weight = own if sample_weight is None or sample_weight is True else sample_weight
        if weight is None and class_weight is None:
            raise ArgumentError("sample_weight=True, but the data brings no weights", hint="each batch is (x, y, sample_weight)")
        if class_weight is not None:
            by_class = class_weights(class_weight, y)
            if weight is None:
                weight = by_class
            elif np.shape(weight) != by_class.shape:
                raise ShapeError(
                    f"sample_weight has the shape {np.shape(weight)}, but there are {len(by_class)} samples", hint="one weight a sample"
                )
            else:
                weight = by_class * np.asarray(weight, float)
        first = next(v for v in y.values()) if isinstance(y, Mapping) else next(v for v in y if v is not None) if isinstance(y, tuple) else y
        return model.objective.weights(weight, len(first))

    return weigh


@dataclass
class Plan:
    """The settings of :meth:`Model.fit`."""

    batch_size: int
    epochs: int
    verbose: int | str
    callbacks: Sequence[Callback]
    validation_split: float
    validation_data: Any
    shuffle: bool
    class_weight: Any
    sample_weight: Any
    initial_epoch: int
    steps_per_epoch: int | None
    validation_steps: int | None
    validation_batch_size: int | None
    validation_freq: int | Sequence[int]
    fast_dev_run: bool | int
    resume: Any

    def check(self) -> None:
        """Raises ArgumentError for settings that make no sense; a quick run shrinks the others."""
        if (isinstance(self.verbose, str) and self.verbose != "auto") or self.verbose not in (0, 1, 2, "auto"):
            raise ArgumentError(f"verbose = {self.verbose!r}", hint='0, 1, 2 or "auto"')
        for name, least in (
            ("batch_size", 1), ("epochs", 0), ("initial_epoch", 0), ("steps_per_epoch", 1), ("validation_steps", 1), ("validation_batch_size", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None and name in ("steps_per_epoch", "validation_steps", "validation_batch_size"):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ArgumentError(
                    f"{name} = {value!r} is not a whole number of {least} or more", hint="Model.fit says what each argument is"
                )
        if isinstance(self.validation_freq, (int, np.integer)) and (isinstance(self.validation_freq, bool) or self.validation_freq < 1):
            raise ArgumentError(f"validation_freq = {self.validation_freq!r}", hint="every so many epochs, or a list of epochs (from 1)")
        if not isinstance(self.validation_split, (int, float)) or not 0 <= self.validation_split < 1:
            raise ArgumentError(
                f"validation_split = {self.validation_split!r} is not in [0, 1)", hint="the part of the samples to hold back, as 0.2"
            )
        if self.validation_data is not None and not gives_batches(self.validation_data):
            if not isinstance(self.validation_data, (tuple, list)) or len(self.validation_data) not in (2, 3):
                raise ArgumentError(
                    "validation_data must be (x, y) or (x, y, sample_weight), or give batches of them",
                    hint="validation_data=(x_val, y_val)",
                )
        if self.validation_data is not None and self.validation_split:
            raise ArgumentError("validation_split and validation_data exclude each other", hint="leave one of them out")
        self.callbacks = [] if self.callbacks is None else [self.callbacks] if isinstance(self.callbacks, Callback) else list(self.callbacks)
        if self.fast_dev_run or warming():
            quick = 1 if self.fast_dev_run is True else self.fast_dev_run or 1
            if not isinstance(quick, int) or quick < 1:
                raise ArgumentError(f"fast_dev_run = {self.fast_dev_run!r}", hint="True, or a number of batches")
            self.epochs, self.steps_per_epoch, self.validation_steps, self.validation_freq = self.initial_epoch + 1, quick, quick, 1
            self.callbacks = [c for c in self.callbacks if not getattr(c, "writes_files", False)]

    def validates(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, ends with a validation."""
        if isinstance(self.validation_freq, (int, np.integer)):
            return (epoch + 1) % self.validation_freq == 0
        return epoch + 1 in self.validation_freq


def fit_model(model: Model, x: Any, y: Any, plan: Plan) -> History:
    """See :meth:`Model.fit`."""
    plan.check()

    def order(step: int) -> Random:  # depends on the seed and the steps taken, so that a resumed training goes on alike
        seed = model.store.numpy("random.seed")
        return Random(int(seed[0]) | int(seed[1]) << 32, "fit.shuffle", step)

    weigh = weigher(model, plan.sample_weight, plan.class_weight)
    arguments = model._function("train_step", weigh is not None).arguments
    feed = open_feed(model, arguments, x, y, plan.batch_size, order if plan.shuffle else None, weigh)
    if feed.steps == 0:
        raise ShapeError("fit: there are no samples", hint="x has 0 rows, or a loader no batch")
    with ExitStack() as after:
        after.callback(feed.close)
        feed, validation = _validation(model, feed, plan, weigh is not None)
        if plan.steps_per_epoch is not None:
            feed = CutFeed(feed, plan.steps_per_epoch)
        callbacks = list(plan.callbacks)
        bars = [c for c in callbacks if isinstance(c, ProgressBar)]
        if not bars and (plan.verbose in (1, 2) or (plan.verbose == "auto" and ProgressBar.is_terminal())):
            bars = [ProgressBar(bar=plan.verbose != 2)]
            callbacks += bars
        for bar in bars:
            after.callback(bar.close)
        params = {"epochs": plan.epochs, "steps": feed.steps, "verbose": plan.verbose, "do_validation": validation is not None}
        hooks = CallbackList(callbacks, model, params)
        after.callback(setattr, model, "gradient_norm", model.gradient_norm)
        model.gradient_norm |= any(c.needs_gradient_norm for c in hooks.callbacks)
        place = Place(hooks.callbacks, feed, History(), plan.initial_epoch, first=model.steps)
        model.stop_training = False
        logs: Logs = {}
        _begin(model, place, hooks, plan.resume, weigh is not None)
        model.place, model.history = place, place.history
        try:
            with _whole_steps() as whole:
                while place.epoch < plan.epochs and not model.stop_training:
                    epoch, started = place.epoch, time.perf_counter() - place.seconds
                    if not place.batch:
                        hooks("on_epoch_begin", epoch)
                    logs = _epoch(model, feed, place, started, weigh is not None, hooks, f"epoch {epoch + 1}/{plan.epochs}", whole)
                    if validation is not None and plan.validates(epoch):
                        logs |= {f"val_{k}": v for k, v in validation(hooks).items()}
                    place.history.add(epoch, logs, time.perf_counter() - started)
                    place.next_epoch(model.steps)
                    hooks("on_epoch_end", epoch, logs)
            hooks("on_train_end", logs)
        finally:
            place.leave(model.steps)
    return place.history


def _validation(model: Model, feed: Feed, plan: Plan, weighted: bool) -> tuple[Feed, Callable[[CallbackList], Logs] | None]:
    """The data to train on, and a function that measures the model on the rest."""
    if plan.validation_split:
        if not isinstance(feed, ArrayFeed):
            raise ArgumentError("validation_split divides arrays", hint="validation_data=batches")
        cut = feed.rows - int(feed.rows * plan.validation_split)
        if cut in (0, feed.rows):
            raise ArgumentError(
                f"validation_split = {plan.validation_split} of {feed.rows} samples leaves one part empty",
                hint="a larger part, or more samples",
            )
        kept, held = feed.rows_from(cut, feed.rows), feed.rows_from(0, cut)
        kept.shuffle = None
        if feed.fixed is None:
            kept.resize(plan.validation_batch_size or max(plan.batch_size, 256))
        return held, lambda hooks: evaluate_feed(model, kept, weighted, plan.validation_steps, hooks)
    if plan.validation_data is None:
        return feed, None
    given = plan.validation_data
    xv, yv, *weight = (given, None) if gives_batches(given) else given
    size = plan.validation_batch_size or (plan.batch_size if feed.fixed is not None else max(plan.batch_size, 256))

    def measure(hooks: CallbackList) -> Logs:
        return evaluate_model(model, xv, yv, size, weight[0] if weight else None, plan.validation_steps, hooks)

    return feed, measure


def _begin(model: Model, place: Place, hooks: CallbackList, resume: Any, weighted: bool) -> None:
    """Tells the callbacks that training begins, and goes to the place of ``resume`` (a path, a checkpoint, or what a callback has)."""
    if resume is None:
        resume = next((found for found in (c.resume_from() for c in place.callbacks) if found is not None), None)
    checkpoint = load_checkpoint(model, resume, write=False) if isinstance(resume, (str, os.PathLike)) else resume
    if checkpoint is None:
        hooks("on_train_begin")
        return
    if not isinstance(checkpoint, Checkpoint):
        raise ArgumentError(f"resume = {resume!r}", hint="the path of a checkpoint, or what load_checkpoint gave")
    if checkpoint.place is None:
        raise CheckpointError(
            f"{checkpoint.path} has no place in a training to go on from",
            hint="model.load_checkpoint(path), then fit without resume=: it begins with epoch 1",
        )
    place.go_to(checkpoint.place, Tally(model.metrics, model._function("train_step", weighted).traced.output))
    model.place = place
    model.store.write(checkpoint.values)
    hooks("on_train_begin")
    if place.batch:  # callbacks may count on it; what they change is put back below
        hooks("on_epoch_begin", place.epoch)
    place.restore_callbacks(checkpoint.place)
    model.store.write(checkpoint.values)
    model.stop_training = checkpoint.place.get("stopped") is True


def _epoch(
    model: Model, feed: Feed, place: Place, started: float, weighted: bool, hooks: CallbackList, title: str, whole: _Whole
) -> Logs:
    function = model._function("train_step", weighted)
    function.executable  # noqa: B018 - compiled here, where Ctrl-C takes effect at once
    tally = place.tally = place.tally or Tally(model.metrics, function.traced.output)
    begins, ends = hooks.has("on_train_batch_begin"), hooks.has("on_train_batch_end")
    for i, batch in enumerate(feed.epoch(), start=place.batch):
        place.handed = True
        if begins:
            hooks("on_train_batch_begin", i)
        failed = None
        with whole:
            try:
                tally.add(function.run(batch), feed.count(batch))
            except NonFiniteError as e:
                failed = e
            else:
                place.batch, place.handed = i + 1, False
        if failed is not None:
            failed.message = f"the loss is not finite at step {model.steps + 1} ({title}, batch {i + 1}); nothing of this step was written"
            if not hooks("on_nonfinite", i, failed):
                raise failed
            place.batch, place.handed = i + 1, False
        elif ends:
            place.seconds = time.perf_counter() - started
            hooks("on_train_batch_end", i, BatchLogs(tally.last()))
        if model.stop_training:
            break
        if begins or ends:
            function = model._function("train_step", weighted)  # a callback may have frozen something
    feed.end_epoch()
    if not place.batch:
        raise ShapeError(
            f"{title}: no batches are left",
            hint="a generator gives its batches once: a DataLoader, or an object whose __iter__ starts anew",
        )
    return tally.result() if tally.rows else dict.fromkeys(function.traced.output, float("nan"))


def evaluate_model(
    model: Model, x: Any, y: Any, batch_size: int, sample_weight: Any = None, steps: int | None = None, hooks: CallbackList | None = None
) -> Logs:
    """See :meth:`Model.evaluate`."""
    weigh = weigher(model, sample_weight, None)
    if warming():
        steps = 1
    with closing(open_feed(model, model._function("evaluate", weigh is not None).arguments, x, y, batch_size, weigh=weigh)) as feed:
        return evaluate_feed(model, feed, weigh is not None, steps, hooks)


def evaluate_feed(model: Model, feed: Feed, weighted: bool, steps: int | None, hooks: CallbackList | None) -> Logs:
    """Loss and metrics over all batches, or the first ``steps`` of them."""
    f = model._function("evaluate", weighted)
    tally = Tally(model.metrics, f.traced.output)
    hooks = hooks or CallbackList((), model, {})
    begins, ends = hooks.has("on_test_batch_begin"), hooks.has("on_test_batch_end")
    hooks("on_test_begin")
    for i, batch in enumerate(islice(feed.epoch(), steps)):
        if begins:
            hooks("on_test_batch_begin", i)
        tally.add(f.run(batch), feed.count(batch))
        if ends:
            hooks("on_test_batch_end", i, BatchLogs(tally.last()))
    if not tally.rows:
        raise ShapeError("evaluate: no samples", hint="x has 0 rows, or a loader no batch")
    logs = tally.result()
    hooks("on_test_end", logs)
    return logs


class _Whole:
    """While its body runs, Ctrl-C waits for the end of the body; a second one does not wait."""

    def __init__(self) -> None:
        self.busy = self.pending = False

    def __enter__(self) -> None:
        self.busy = True

    def __exit__(self, *error: Any) -> None:
        self.busy = False
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt

    def interrupt(self, number: int, frame: Any) -> None:
        """The signal handler."""
        if self.busy and not self.pending:
            self.pending = True
        else:
            raise KeyboardInterrupt


@contextmanager
def _whole_steps() -> Iterator[_Whole]:
    """Makes Ctrl-C fall between training steps, where the model is whole. Leaves handlers alone that are not Python's own."""
    whole = _Whole()
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if mine:
        signal.signal(signal.SIGINT, whole.interrupt)
    try:
        yield whole
    finally:
        if mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
