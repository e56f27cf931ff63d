"""What ``fit`` calls between batches and epochs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Callback", "EarlyStopping", "LambdaCallback", "ModelCheckpoint", "ReduceLROnPlateau"]

Logs = dict[str, float]


class Callback:
    """Base: every method does nothing. ``self.model`` is the model; ``self.model.stop_training = True`` ends ``fit``."""

    model: Model

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before each epoch, which counts from 0."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """After each training step; ``logs`` holds its loss and metrics."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After each epoch; ``logs`` holds means, those of the validation data as ``val_...``."""

    def on_train_end(self) -> None:
        """After the last epoch."""


def _better(monitor: str, mode: str) -> Callable[[float, float, float], bool]:
    if mode not in ("auto", "min", "max"):
        raise ArgumentError(f"mode {mode!r}", hint="auto, min or max")
    upwards = mode == "max" or (mode == "auto" and "acc" in monitor)
    return (lambda new, old, d: new > old + d) if upwards else (lambda new, old, d: new < old - d)


def _value(logs: Logs, monitor: str, owner: str) -> float:
    if monitor not in logs:
        raise ArgumentError(f"{owner} watches {monitor!r}, which is not measured", hint="one of " + ", ".join(logs))
    return logs[monitor]


class EarlyStopping(Callback):
    """Ends training after ``patience`` epochs without an improvement of ``monitor`` by more than ``min_delta``.

    ``restore_best`` puts the best epoch's parameters back. ``mode`` "auto" means larger is better for accuracies only.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        restore_best: bool = False,
        mode: str = "auto",
    ):
        self.monitor, self.patience, self.min_delta, self.restore_best = monitor, patience, min_delta, restore_best
        self.better = _better(monitor, mode)

    def on_train_begin(self) -> None:
        self.best, self.best_epoch, self.wait = math.nan, -1, 0
        self.weights: dict[str, Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = _value(logs, self.monitor, "EarlyStopping")
        if math.isnan(self.best) or self.better(value, self.best, self.min_delta):
            self.best, self.best_epoch, self.wait = value, epoch, 0
            if self.restore_best:
                self.weights = self.model.state_dict()
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.model.stop_training = True

    def on_train_end(self) -> None:
        if self.weights is not None:
            self.model.load_state_dict(self.weights)


class ModelCheckpoint(Callback):
    """Saves the model after each epoch, or only when ``monitor`` got better; ``{epoch}`` in the path is its number from 1."""

    def __init__(
        self, path: str | os.PathLike[str], monitor: str = "val_loss", save_best_only: bool = False, mode: str = "auto"
    ):
        self.path, self.monitor, self.save_best_only = os.fspath(path), monitor, save_best_only
        self.better = _better(monitor, mode)

    def on_train_begin(self) -> None:
        self.best = math.nan

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.save_best_only:
            value = _value(logs, self.monitor, "ModelCheckpoint")
            if not (math.isnan(self.best) or self.better(value, self.best, 0.0)):
                return
            self.best = value
        self.model.save(self.path.replace("{epoch}", str(epoch + 1)))


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rates (those of groups too) by ``factor`` after ``patience`` epochs without an improvement of ``monitor``
    by more than ``min_delta``, down to ``min_lr``; for ``cooldown`` epochs after that nothing is counted. Names and rules are Keras'.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        if not 0.0 <= factor < 1.0:
            raise ArgumentError(f"ReduceLROnPlateau: factor = {factor!r} does not reduce")
        self.monitor, self.factor, self.patience = monitor, factor, patience
        self.min_delta, self.cooldown, self.min_lr = min_delta, cooldown, min_lr
        self.better = _better(monitor, mode)

    def on_train_begin(self) -> None:
        self.best, self.wait, self.pause = math.nan, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = _value(logs, self.monitor, "ReduceLROnPlateau")
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


class LambdaCallback(Callback):
    """Functions as callbacks: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(self, **functions: Callable[..., Any]):
        for name, fn in functions.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise ArgumentError(
                    f"no callback {name!r}", hint=", ".join(n for n in dir(Callback) if n.startswith("on_"))
                )
            setattr(self, name, fn)
