"""Where a training is, between two of its batches: everything that going on from there needs besides the model's values."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphc.errors import CheckpointError

from .files import printable
from .history import History

if TYPE_CHECKING:
    from .metrics import Tally
    from .model import Model

__all__ = ["Place"]


@dataclass
class Place:
    """The place of one ``fit``: ``model.place`` while it runs, and afterwards until the model is trained by other means."""

    callbacks: Sequence[Any]
    data: Any
    """Gives and takes the place in the data: ``state_dict()`` and ``load_state_dict(state)``."""
    history: History = field(default_factory=History)
    epoch: int = 0
    """Whole epochs done."""
    batch: int = 0
    """Batches done of the epoch that has begun."""
    first: int = 0
    """The model's steps when that epoch began."""
    seconds: float = 0.0
    """What that epoch has taken in trainings before this one."""
    tally: Tally | None = None
    """Loss and metrics of that epoch so far."""
    handed: bool = False
    """A batch was handed out and is not done."""
    running: bool = True
    end: int = 0
    """The model's steps when the fit ended."""

    def next_epoch(self, steps: int) -> None:
        """The epoch is done; ``steps`` is the model's count."""
        self.epoch, self.batch, self.first, self.seconds, self.tally = self.epoch + 1, 0, steps, 0.0, None

    def leave(self, steps: int) -> None:
        """The fit ends here, by itself or by an exception. An interrupt may come after a step and before it was counted."""
        if steps == self.first + self.batch + 1:
            self.batch += 1
        self.running, self.end = False, steps

    def state_dict(self, model: Model) -> dict[str, Any] | None:
        """For a file; None if the model was trained on since the fit ended."""
        if not self.running and model.steps != self.end:
            return None
        data = self.data.state_dict()
        if self.handed and not self.running and "source" in data.get("pass", data):
            warnings.warn("the batch at which fit ended counts as used: a source with a state of its own cannot give it again", stacklevel=4)
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "first": self.first,
            "seconds": self.seconds,
            "stopped": bool(model.stop_training),
            "history": self.history.columns(),
            "epoch_seconds": self.history.seconds,
            "tally": self.tally.state_dict() if self.batch and self.tally is not None and self.tally.rows else None,
            "data": {**data, "batch": self.batch},
            "callbacks": [[type(c).__name__, c.state_dict()] for c in self.callbacks],
        }

    def go_to(self, state: Mapping[str, Any], tally: Tally) -> None:
        """Takes over what concerns the training itself. Raises CheckpointError for what is no state, or one of other data."""
        try:
            columns = {str(k): [None if v is None else float(v) for v in values] for k, values in state["history"].items()}
            seconds = [float(v) for v in state["epoch_seconds"]]
            self.epoch, self.batch, self.first = (int(state[k]) for k in ("epoch", "batch", "first"))
            self.history = History(columns, seconds, self.epoch - len(seconds))
            self.seconds = float(state["seconds"])
            if self.batch or "source" in state["data"] or "pass" in state["data"]:
                self.data.load_state_dict(state["data"])
            if self.batch:
                if state["tally"] is not None:
                    tally.load_state_dict(state["tally"])
                self.tally = tally
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError) as e:
            raise CheckpointError(f"the place in the training does not fit this fit: {printable(e)}") from None

    def restore_callbacks(self, state: Mapping[str, Any]) -> None:
        """Gives each callback the state of the one of its class, in order; warns about state that nobody takes."""
        left: dict[str, list[Any]] = {}
        try:
            for name, own in state["callbacks"]:
                left.setdefault(name, []).append(own)
            for c in self.callbacks:
                if left.get(type(c).__name__):
                    c.load_state_dict(left[type(c).__name__].pop(0))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise CheckpointError(f"a callback's state cannot be restored: {printable(e)}") from None
        lost = [name for name, states in left.items() if any(states)]
        if lost:
            names = printable(", ".join(map(str, lost)))
            warnings.warn(f"the checkpoint has state of callbacks that this fit does not have: {names}", stacklevel=2)
