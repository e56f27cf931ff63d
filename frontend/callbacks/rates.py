"""Learning rates that follow the epochs or a measured value. What depends on the step alone is an ``optim.schedules``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.locate import public

from .base import Callback, Logs, better, watched

__all__ = ["LearningRateScheduler", "ReduceLROnPlateau"]


class LearningRateScheduler(Callback):
    """Before each epoch ``schedule(epoch, lr)`` (or ``schedule(epoch)``) gives the learning rate; the logs get it as "learning_rate".

    Rates of groups keep their ratio to it. A rate that changes from step to step is the optimiser's ``schedule``.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        if not callable(schedule):
            raise ArgumentError(f"schedule = {schedule!r}", hint="a function of (epoch, lr)")
        self.schedule, self.verbose = schedule, verbose
        try:
            self._arguments = len(inspect.signature(schedule).parameters)
        except (TypeError, ValueError):
            self._arguments = 2

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        old = self.model.learning_rate
        new = self.schedule(epoch, old) if self._arguments > 1 else self.schedule(epoch)
        if isinstance(new, bool) or not isinstance(new, (int, float, np.number)):
            raise ArgumentError(
                f"the schedule gave {new!r} for epoch {epoch}, not a number", hint="a function of (epoch, lr) that returns the new rate"
            )
        self.model.learning_rates = {k: new if k == "lr" or not old else v * new / old for k, v in self.model.learning_rates.items()}
        if self.verbose:
            print(f"epoch {epoch + 1}: learning rate {new:g}", flush=True)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if isinstance(logs, dict):
            logs["learning_rate"] = self.model.learning_rates["lr"]


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rates (those of groups too) by ``factor`` after ``patience`` epochs without an improvement of ``monitor``
    by more than ``min_delta``, down to ``min_lr``; for ``cooldown`` epochs after that nothing is counted. Names and rules are Keras'.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        if not 0.0 <= factor < 1.0:
            raise ArgumentError(f"ReduceLROnPlateau: factor = {factor!r} does not reduce", hint="a factor between 0 and 1, as 0.1")
        self.monitor, self.factor, self.patience, self.verbose = monitor, factor, patience, verbose
        self.min_delta, self.cooldown, self.min_lr = min_delta, cooldown, min_lr
        self.better = better(monitor, mode)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best, self.wait, self.pause = math.nan, 0, 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "pause": self.pause}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.wait, self.pause = float(state["best"]), int(state["wait"]), int(state["pause"])

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if isinstance(logs, dict):
            logs["learning_rate"] = self.model.learning_rates["lr"]
        value = watched(logs, self.monitor, self)
        if value is None:
            return
        if self.pause:
            self.pause, self.wait = self.pause - 1, 0
        if math.isnan(self.best) or self.better(value, self.best, self.min_delta):
            self.best, self.wait = value, 0
        elif not self.pause:
            self.wait += 1
            if self.wait >= self.patience:
                rates = self.model.learning_rates
                self.model.learning_rates = {k: min(v, max(v * self.factor, self.min_lr)) for k, v in rates.items()}
                self.pause, self.wait = self.cooldown, 0
                if self.verbose:
                    print(f"epoch {epoch + 1}: learning rate reduced to {self.model.learning_rate:g}", flush=True)


public(globals())
