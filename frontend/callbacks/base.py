"""The hooks, and how ``fit`` calls those of several callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError, NonFiniteError, did_you_mean
from graphc.locate import public

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Callback", "CallbackList", "LambdaCallback", "Logs", "better", "watched"]

Logs = Mapping[str, float]


class Callback:
    """Base: every hook does nothing. ``self.model`` is the model; ``self.model.stop_training = True`` ends ``fit`` after this batch.

    ``self.params`` holds "epochs" (the number at which training ends), "steps" (batches an epoch, None where nobody knows),
    "verbose" and "do_validation". The order of an epoch is ``on_epoch_begin``, then for each batch ``on_train_batch_begin`` and
    ``on_train_batch_end``, then the validation (``on_test_begin``, ``on_test_batch_begin``, ``on_test_batch_end``,
    ``on_test_end``), then ``on_epoch_end``. Batches and epochs count from 0.

    A resumed training (``fit(..., resume=...)``) calls ``on_train_begin`` with ``self.model.place`` at the place where it goes on, and then
    :meth:`load_state_dict`. In the middle of an epoch ``on_epoch_begin`` is called again before that, and what it changes in the model is
    put back.
    """

    model: Model
    params: dict[str, Any]
    writes_files: bool = False
    """``fast_dev_run`` leaves such a callback out."""
    needs_gradient_norm: bool = False
    """``fit`` then computes "gradient_norm" in its steps."""
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

    def set_params(self, params: dict[str, Any]) -> None:
        """Called first."""
        self.params = params

    def set_model(self, model: Model) -> None:
        """Called second."""
        self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, also when training was stopped early; not after an error."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before each epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After each epoch; ``logs`` holds means, those of the validation data as ``val_...``."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each training step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After each training step; ``logs`` holds the loss and metrics of this batch."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_begin``."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """Another name of ``on_train_batch_end``."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation."""

    def on_test_end(self, logs: Logs) -> None:
        """After an evaluation; ``logs`` holds its means."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs) -> None:
        """After each batch of an evaluation."""

    def on_nonfinite(self, batch: int, error: NonFiniteError) -> bool | None:
        """When the loss of a training step is not finite; nothing of that step was written.

        True goes on with the next batch (or ends, after ``self.model.stop_training = True``); otherwise ``fit`` raises the error.
        """
        return None


_ALIASES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
_HOOKS = tuple(n for n in vars(Callback) if n.startswith("on_") and n not in _ALIASES.values())


class CallbackList:
    """Calls each hook of those callbacks that define it."""

    def __init__(self, callbacks: Sequence[Callback], model: Model, params: dict[str, Any]):
        for c in callbacks:
            if not isinstance(c, Callback):
                hint = f"callbacks.{c.__name__}(...)" if isinstance(c, type) else "class MyCallback(callbacks.Callback)"
                raise ArgumentError(f"{f'the class {c.__name__}' if isinstance(c, type) else repr(c)} is not a callback", hint=hint)
        self.callbacks = sorted(callbacks, key=lambda c: c.turn)
        for c in self.callbacks:
            c.set_params(params)
            c.set_model(model)
        self._hooks = {h: [getattr(c, h) for c in self.callbacks if _defines(c, h)] for h in _HOOKS}

    def has(self, hook: str) -> bool:
        """Whether any callback defines a hook."""
        return bool(self._hooks[hook])

    def __call__(self, hook: str, *args: Any) -> bool:
        """Calls a hook; True when one of them returned True."""
        answers = [f(*args) for f in self._hooks[hook]]  # every one of them is asked
        return any(a is True for a in answers)


def _defines(callback: Callback, hook: str) -> bool:
    names = (hook, *([_ALIASES[hook]] if hook in _ALIASES else []))
    return any(n in vars(callback) or getattr(type(callback), n) is not getattr(Callback, n) for n in names)


class BatchLogs(Mapping[str, float]):
    """The loss and metrics of a batch, computed when they are first asked for: a metric of many statistics costs something."""

    def __init__(self, make: Callable[[], dict[str, float]]):
        self._make: Callable[[], dict[str, float]] | None = make
        self._values: dict[str, float] = {}

    def _known(self) -> dict[str, float]:
        if self._make is not None:
            self._values, self._make = self._make(), None
        return self._values

    def __getitem__(self, name: str) -> float:
        return self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __repr__(self) -> str:
        return repr(self._known())


UPWARDS = ("acc", "auc", "precision", "recall", "specificity", "f1", "f_score", "iou", "jaccard", "dice", "kappa", "matthews", "r2", "cosine_similarity")


def better(monitor: str, mode: str) -> Callable[[float, float, float], bool]:
    """``better(new, old, min_delta)`` for a logged value. ``mode`` "auto" knows the metrics that rise (accuracies, AUC, F1...)."""
    if mode not in ("auto", "min", "max"):
        raise ArgumentError(f"mode {mode!r}", hint="auto, min or max")
    upwards = mode == "max" or (mode == "auto" and not monitor.endswith("loss") and any(w in monitor for w in UPWARDS))
    return (lambda new, old, d: new > old + d) if upwards else (lambda new, old, d: new < old - d)


def watched(logs: Logs, monitor: str, owner: Callback) -> float | None:
    """The monitored value; None in an epoch without a validation. Raises ArgumentError for one that is never measured."""
    if monitor in logs:
        return logs[monitor]
    if monitor.startswith("val_") and monitor[4:] in logs and owner.params["do_validation"]:
        return None  # validation_freq leaves this epoch out
    hint = did_you_mean(monitor, logs)
    if monitor.startswith("val_") and monitor[4:] in logs:
        hint = f"fit(..., validation_data=(x, y)), or monitor={monitor[4:]!r}"
    raise ArgumentError(f"{type(owner).__name__} watches {monitor!r}, which is not measured", hint=hint)


class LambdaCallback(Callback):
    """Functions as callbacks: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``, by the hooks' names."""

    def __init__(self, **functions: Callable[..., Any]):
        for name, fn in functions.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise ArgumentError(f"no callback {name!r}", hint=", ".join(n for n in dir(Callback) if n.startswith("on_")))
            setattr(self, name, fn)


public(globals())
