"""Saving the model while it is trained, and going on from there."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from graphc.errors import ArgumentError, FileFormatError
from graphc.locate import public

from ..files import older, read_file, remove_stale
from ..saving import save_model
from .base import Callback, Logs, better, watched

__all__ = ["BackupAndRestore", "ModelCheckpoint"]


class _Saves(Callback):
    """Calls :meth:`save` after each epoch, or after every ``save_freq`` training steps."""

    turn = 1
    writes_files = True

    def __init__(self, save_freq: int | str):
        if save_freq != "epoch" and (isinstance(save_freq, bool) or not isinstance(save_freq, int) or save_freq < 1):
            raise ArgumentError(f"save_freq = {save_freq!r}", hint='"epoch", or a number of batches')
        self.save_freq = save_freq

    def save(self, epoch: int, batch: int, logs: Logs) -> None:
        """``epoch`` counts from 0; ``batch`` is the number of batches done of it, 0 at its end."""
        raise NotImplementedError

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
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
        self.better = better(monitor, mode)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = math.nan
        self.written: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "written": self.written} if self.save_best_only or self.keep else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            self.best, self.written = float(state["best"]), [str(p) for p in state["written"]]

    def save(self, epoch: int, batch: int, logs: Logs) -> None:
        if self.save_best_only:
            value = watched(logs, self.monitor, self)
            if value is None or not (math.isnan(self.best) or self.better(value, self.best, 0.0)):
                return
            self.best = value
        path = self._path({"epoch": epoch + 1, "batch": batch, **logs})
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
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

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint:
            for path in (older(self.path, 1), self.path):
                with suppress(FileNotFoundError):
                    os.unlink(path)


public(globals())
