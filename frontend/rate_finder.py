"""The learning-rate range test (L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017)."""

from __future__ import annotations

import csv
import math
import os
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError, NonFiniteError
from graphc.locate import boundary

from .feed import CutFeed, open_feed
from .history import new_figure
from .random import Random
from .training import weigher

if TYPE_CHECKING:
    from .model import Model

__all__ = ["RateCurve", "lr_finder"]


@dataclass
class RateCurve:
    """The losses of training steps at growing learning rates: what :func:`lr_finder` gives."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of each step's batch, before its update."""
    smoothed: list[float] = field(default_factory=list)
    """Their moving averages, which the suggestion is made from."""
    diverged: bool = False

    @property
    def suggestion(self) -> float:
        """The rate at which the smoothed loss falls fastest, against the logarithm of the rate, before its minimum."""
        end = int(np.argmin(self.smoothed)) + 1
        start = len(self.rates) // 10  # the first averages are of few values
        if end - start < 3:
            raise ArgumentError("the loss hardly fell: no rate to suggest", hint="a smaller start=, or more steps=")
        slope = np.gradient(np.array(self.smoothed[:end]), np.log(self.rates[:end]))
        return self.rates[start + int(np.argmin(slope[start:]))]

    @property
    def best(self) -> float:
        """The rate with the smallest smoothed loss; a good one is about ten times smaller."""
        return self.rates[int(np.argmin(self.smoothed))]

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The loss against the rate, with the suggestion; needs matplotlib (``pip install 'graphc-dl[plot]'``)."""
        figure = new_figure(5.2, 3.6)
        ax = figure.subplots()
        ax.plot(self.rates, self.losses, color="0.75", linewidth=1, label="each batch")
        ax.plot(self.rates, self.smoothed, label="smoothed")
        ax.axvline(self.suggestion, color="C3", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        ax.set_xscale("log")
        low, high = min(self.smoothed), self.smoothed[0]
        ax.set_ylim(low - 0.15 * abs(high - low), high + 0.5 * abs(high - low))
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.legend()
        if path is not None:
            figure.savefig(path)
        return figure

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """A row a step."""
        with open(path, "w", newline="") as f:
            csv.writer(f).writerows([("rate", "loss", "smoothed"), *zip(self.rates, self.losses, self.smoothed, strict=True)])


@boundary
def lr_finder(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    start: float = 1e-6,
    end: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    smoothing: float = 0.9,
    diverge: float = 4.0,
    sample_weight: Any = None,
    class_weight: Any = None,
) -> RateCurve:
    """Trains for up to ``steps`` batches while the learning rate grows from ``start`` to ``end``, each step by the same factor.

    Ends early when the smoothed loss is ``diverge`` times its minimum so far, or not finite. ``smoothing`` is the decay of the
    moving average (with the bias correction of Adam). Rates of groups keep their ratio to the first; a schedule of the optimiser
    goes on multiplying. Afterwards parameters, buffers, optimiser, steps and rates are exactly what they were.

    >>> import graphc as gc
    >>> from graphc import nn, optim
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> model = gc.compile(nn.Linear(1, 1), gc.spec("N", 1), loss="mse", optimizer=optim.SGD(0.1), target="reference")
    >>> curve = lr_finder(model, x, 3 * x, start=1e-3, steps=30)
    >>> 1e-3 < curve.suggestion < curve.best
    True
    """
    for name, value in (("start", start), ("end", end)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ArgumentError(f"{name} = {value!r} is not a learning rate", hint="a positive number, start below end")
    if not start < end or not isinstance(steps, int) or steps < 3 or not 0 <= smoothing < 1 or not diverge > 1:
        raise ArgumentError(f"start = {start}, end = {end}, steps = {steps}, smoothing = {smoothing}, diverge = {diverge}",
                            hint="start < end, steps >= 3, 0 <= smoothing < 1, diverge > 1")  # fmt: skip
    weigh = weigher(model, sample_weight, class_weight)
    function = model._function("train_step", weigh is not None)
    seed = model.store.numpy("random.seed")
    feed = open_feed(
        model, function.arguments, x, y, batch_size, lambda step: Random(int(seed[0]) | int(seed[1]) << 32, "lr_finder", step), weigh
    )
    curve = RateCurve()
    before = {n: model.store.numpy(n) for n in model.store.names()}
    rates = model.learning_rates
    ratios = {k: v / rates["lr"] if rates["lr"] else 1.0 for k, v in rates.items()}
    mean = 0.0
    try:
        with closing(CutFeed(feed, steps)) as batches:
            for i, batch in enumerate(batches.epoch()):
                rate = start * (end / start) ** (i / (steps - 1))
                model.learning_rates = {k: rate * r for k, r in ratios.items()}
                try:
                    loss = float(function.run(batch)["loss"])
                except NonFiniteError:
                    curve.diverged = True
                    break
                mean = smoothing * mean + (1 - smoothing) * loss
                curve.rates.append(rate)
                curve.losses.append(loss)
                curve.smoothed.append(mean / (1 - smoothing ** (i + 1)))
                lowest = min(curve.smoothed)
                if i and lowest > 0 and curve.smoothed[-1] > diverge * lowest:
                    curve.diverged = True
                    break
    finally:
        model.store.write(before)
    if not curve.rates:
        raise ArgumentError(f"the loss is not finite at the first rate, {start:g}", hint="a smaller start=, and data without NaN")
    return curve
