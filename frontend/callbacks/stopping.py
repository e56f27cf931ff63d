"""Ending a training before its last epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graphc.errors import ArgumentError, NonFiniteError
from graphc.locate import public

from .base import Callback, Logs, better, watched

__all__ = ["EarlyStopping", "GradientNormStopping", "TerminateOnNaN"]


class EarlyStopping(Callback):
    """Ends training after ``patience`` epochs without an improvement of ``monitor`` by more than ``min_delta``.

    With a ``baseline`` an epoch counts as an improvement only if it beats that too. The first ``start_from_epoch`` epochs are not
    looked at. ``restore_best_weights`` puts the parameters and buffers of the best epoch back at the end. ``mode`` "auto" knows
    which metrics rise. Names, order and rules are Keras' (so ``patience=0`` stops at the first epoch that is no better).
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        self.monitor, self.min_delta, self.patience, self.verbose = monitor, abs(min_delta), patience, verbose
        self.baseline, self.restore_best_weights, self.start_from_epoch = baseline, restore_best_weights, start_from_epoch
        self.better = better(monitor, mode)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best, self.best_epoch, self.wait, self.stopped_epoch = math.nan, 0, 0, 0
        self.best_weights: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait, "weights": self.best_weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self.wait = float(state["best"]), int(state["best_epoch"]), int(state["wait"])
        self.best_weights = state["weights"]
        if self.best_weights is not None:
            self.model.module.check_state_dict(self.best_weights)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = watched(logs, self.monitor, self)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.state_dict(), epoch
        self.wait += 1
        if math.isnan(self.best) or self.better(value, self.best, self.min_delta):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.state_dict()
            if self.baseline is None or self.better(value, self.baseline, self.min_delta):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"early stopping: {self.monitor} was best ({self.best:.4g}) in epoch {self.best_epoch + 1}", flush=True)
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)


class TerminateOnNaN(Callback):
    """Ends training quietly where ``fit`` would raise :class:`NonFiniteError`: when the loss of a step is not finite.

    The step that failed wrote nothing, so the model is as it was before; ``skip=True`` leaves out such batches and goes on.
    ``self.errors`` keeps the errors, each with the first operator that failed.
    """

    def __init__(self, skip: bool = False):
        self.skip = skip

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.errors: list[NonFiniteError] = []

    def on_nonfinite(self, batch: int, error: NonFiniteError) -> bool:
        self.errors.append(error)
        if not self.skip:
            print(f"{error.message}; training ends", flush=True)
            self.model.stop_training = True
        return True


class GradientNormStopping(Callback):
    """Ends training at the first step whose gradient is small: ``||grad L|| <= eps``, the Euclidean norm over all parameters.

    The norm is computed inside the compiled step, of the gradient at the parameters *before* that step's update, of this batch,
    with the optimiser's penalties (``l1``, ``l2``) and before clipping. The usual criterion of gradient descent, on the whole
    data, is a ``batch_size`` of all samples. The logs get "gradient_norm" (see :attr:`Model.gradient_norm`).
    """

    needs_gradient_norm = True

    def __init__(self, eps: float = 1e-6, verbose: int = 0):
        if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not eps > 0:
            raise ArgumentError(
                f"GradientNormStopping: eps = {eps!r} is not positive", hint="the norm of the gradient below which training ends, as 1e-4"
            )
        self.eps, self.verbose = float(eps), verbose
        self.converged = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.converged = False

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if logs["gradient_norm"] <= self.eps:
            self.converged = self.model.stop_training = True
            if self.verbose:
                print(f"the gradient's norm is {logs['gradient_norm']:.3g} <= {self.eps:g} at step {self.model.steps}", flush=True)


public(globals())
