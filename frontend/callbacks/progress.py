"""What ``fit`` shows while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from graphc.locate import public

from .base import Callback, Logs

__all__ = ["ProgressBar", "words"]


def words(logs: Logs) -> str:
    """``loss 0.1234  accuracy 0.9876``; small numbers keep their digits."""
    return "  ".join(f"{k} {v:.4f}" if not v or abs(v) >= 1e-3 else f"{k} {v:.3e}" for k, v in logs.items())


class ProgressBar(Callback):
    """A progress bar, redrawn a few times a second, and a line an epoch above it; without a terminal the lines alone.

    ``fit(verbose=...)`` adds one by itself. ``bar=False`` prints the lines only.
    """

    def __init__(self, bar: bool = True):
        self.bar = bar
        self._progress: Any = None

    @staticmethod
    def is_terminal() -> bool:
        """Whether a bar can be drawn."""
        return sys.stdout.isatty()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.next = 0.0
        if self.bar and self.is_terminal():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            above = self.above

            class Shown(Progress):
                def get_renderables(self) -> Iterator[Any]:
                    yield from above()
                    yield from super().get_renderables()

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Shown(*columns, transient=True, refresh_per_second=8)
            self._task = self._progress.add_task("", total=self.params["steps"])
            self._progress.start()

    def above(self) -> Iterator[Any]:
        """What is drawn above the bar: nothing."""
        return iter(())

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.title = f"epoch {epoch + 1}/{self.params['epochs']}"
        self.started = time.perf_counter()
        if self._progress is not None:
            self._progress.update(self._task, completed=0, description=self.title)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if self._progress is None:
            return
        now = time.perf_counter()
        if now >= self.next:  # drawing must not slow training down
            self.next = now + 0.1
            self._progress.update(self._task, completed=batch + 1, description=f"{self.title}  {words(logs)}")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        line = f"{self.title}  {time.perf_counter() - self.started:6.2f} s  {words(logs)}"
        if self._progress is not None:
            self._progress.console.print(line, highlight=False)
        else:
            print(line, flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar away: ``fit`` calls this after an error too."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


public(globals())
