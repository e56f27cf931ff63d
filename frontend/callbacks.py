"""What ``fit`` calls between batches and epochs."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError, FileFormatError

from .files import older, read_file, remove_stale
from .saving import save_model

if TYPE_CHECKING:
    from .model import Model

__all__ = ["BackupAndRestore", "Callback", "EarlyStopping", "LambdaCallback", "ModelCheckpoint", "ReduceLROnPlateau"]

Logs = dict[str, float]


class Callback:
    """Base: every method does nothing. ``self.model`` is the model; ``self.model.stop_training = True`` ends ``fit``.

    A resumed training (``fit(..., resume=...)``) calls ``on_train_begin`` with ``self.model.place`` at the place where it goes on, and then
    :meth:`load_state_dict`. In the middle of an epoch ``on_epoch_begin`` is called again before that, and what it changes in the model is
    put back.
    """

    model: Model
    turn = 0
    """Callbacks are called in this order, equal ones in the list's: what saves comes after what it saves."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: numbers, texts, arrays, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""

    def resume_from(self) -> str | None:
        """A checkpoint that ``fit`` shall go on from, asked before everything else."""
        return None

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

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self.wait = float(state["best"]), int(state["best_epoch"]), int(state["wait"])
        self.weights = state["weights"]

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


class _Saves(Callback):
    """Calls :meth:`save` after each epoch, or after every ``save_freq`` training steps."""

    turn = 1

    def __init__(self, save_freq: int | str):
        if save_freq != "epoch" and (isinstance(save_freq, bool) or not isinstance(save_freq, int) or save_freq < 1):
            raise ArgumentError(f"save_freq = {save_freq!r}", hint='"epoch", or a number of batches')
        self.save_freq = save_freq

    def save(self, epoch: int, batch: int, logs: Logs) -> None:
        """``epoch`` counts from 0; ``batch`` is the number of batches done of it, 0 at its end."""
        raise NotImplementedError

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if isinstance(self.save_freq, int) and self.model.steps % self.save_freq == 0:
            assert self.model.place is not None
            self.save(self.model.place.epoch, batch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.save_freq == "epoch":
            self.save(epoch, 0, logs)


class ModelCheckpoint(_Saves):
    """Saves the model after each epoch (or every ``save_freq`` batches), or only when ``monitor`` got better. Names and rules are Keras'.

    The path may hold ``{epoch}`` and ``{batch}``, which count from 1, and measured values: ``"run/{epoch:02d}-{val_loss:.3f}.graphc"``. The
    files are checkpoints, with ``save_weights_only`` only parameters and buffers. Of files under different names the last ``keep`` ones
    stay (None: all); of a file that is written again and again, so many older versions (``name.1.graphc``...).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: int | str = "epoch",
        keep: int | None = None,
    ):
        super().__init__(save_freq)
        if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
            raise ArgumentError(f"keep = {keep!r}", hint="the number of files to have, or None for all")
        self.path, self.monitor, self.keep = os.fspath(path), monitor, keep
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.better = _better(monitor, mode)

    def on_train_begin(self) -> None:
        self.best = math.nan
        self.written: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "written": self.written} if self.save_best_only or self.keep else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            self.best, self.written = float(state["best"]), [str(p) for p in state["written"]]

    def save(self, epoch: int, batch: int, logs: Logs) -> None:
        if self.save_best_only:
            value = _value(logs, self.monitor, "ModelCheckpoint")
            if not (math.isnan(self.best) or self.better(value, self.best, 0.0)):
                return
            self.best = value
        path = self._path({"epoch": epoch + 1, "batch": batch, **logs})
        self.written = [p for p in self.written if p != path] + [path]
        keep = self.keep if self.keep and "{" not in self.path else 1
        save_model(self.model, path, "weights" if self.save_weights_only else "checkpoint", keep=keep)
        old = self.written[: -self.keep] if self.keep else []
        for p in old:
            with suppress(FileNotFoundError):
                os.unlink(p)
        self.written = self.written[len(old) :]

    def _path(self, values: Mapping[str, Any]) -> str:
        try:
            return self.path.format(**values)
        except (KeyError, IndexError, ValueError) as e:
            known = "one of " + ", ".join(f"{{{k}}}" for k in values)
            raise ArgumentError(f"ModelCheckpoint: the path {self.path!r} asks for {e}", hint=known) from None


class BackupAndRestore(_Saves):
    """Makes ``fit`` survive the end of its process: the same call again goes on where the last one was. Names and rules are Keras'.

    A checkpoint is written into ``folder`` after each epoch, or every ``save_freq`` batches, and deleted when training ends. When a
    file there is damaged, the one before it is taken.
    """

    turn = 2

    def __init__(self, folder: str | os.PathLike[str], save_freq: int | str = "epoch", delete_checkpoint: bool = True):
        super().__init__(save_freq)
        self.folder, self.delete_checkpoint = os.fspath(folder), delete_checkpoint
        self.path = os.path.join(self.folder, "training.graphc")

    def resume_from(self) -> str | None:
        os.makedirs(self.folder, exist_ok=True)
        remove_stale(self.path)
        damage = None
        for path in (self.path, older(self.path, 1)):
            try:
                read_file(path)
            except FileNotFoundError:
                continue
            except FileFormatError as e:
                damage = e
                continue
            if damage is not None:
                warnings.warn(f"{damage.message}; going on from {path}", stacklevel=2)
            return path
        if damage is not None:
            raise damage
        return None

    def save(self, epoch: int, batch: int, logs: Logs) -> None:
        self.model.save_checkpoint(self.path, keep=2)

    def on_train_end(self) -> None:
        if self.delete_checkpoint:
            for path in (older(self.path, 1), self.path):
                with suppress(FileNotFoundError):
                    os.unlink(path)


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

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "pause": self.pause}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.wait, self.pause = float(state["best"]), int(state["wait"]), int(state["pause"])

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
