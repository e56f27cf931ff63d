"""Curves of a training in the terminal, drawn while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError
from graphc.locate import public

from .base import Logs
from .progress import ProgressBar

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["LivePlot", "drawn"]

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille characters are 2 x 4 dots, each a bit above U+2800."""
STYLES = ("cyan", "yellow")
MARGIN = 10
"""Columns for the numbers of the axis."""


class LivePlot(ProgressBar):
    """The loss and other values of each epoch as curves in the terminal, redrawn after every epoch, with the progress bar below; it stands
    in for the bar that ``fit`` would show. Without a terminal: a line an epoch, and the curves once at the end.

    ``names`` chooses what is drawn ("loss", "accuracy": the values of the validation data come along); ``height`` is that of a panel in lines.

        model.fit(x, y, epochs=50, validation_split=0.1, callbacks=[callbacks.LivePlot(["loss", "accuracy"])])
    """

    def __init__(self, names: Sequence[str] = ("loss",), height: int = 8):
        super().__init__()
        if isinstance(names, str) or not names:
            raise ArgumentError(f"names = {names!r}", hint='names=["loss", "accuracy"]')
        if isinstance(height, bool) or not isinstance(height, int) or height < 2:
            raise ArgumentError(f"height = {height!r}", hint="the lines of a panel, 2 or more")
        self.names, self.height = list(names), height
        self.rows: list[tuple[int, dict[str, float]]] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.rows = []
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        unknown = [n for n in self.names if n not in logs]
        if unknown:
            raise ArgumentError(f"LivePlot: no {unknown[0]!r} in the logs", hint=", ".join(k for k in logs if not k.startswith("val_")))
        self.rows.append((epoch + 1, dict(logs)))
        if self._progress is None:
            super().on_epoch_end(epoch, logs)
        else:
            self._progress.refresh()

    def above(self) -> Iterator[Any]:
        """What stands above the bar: a panel for each name."""
        width = min(shutil.get_terminal_size().columns, 100) - MARGIN - 2
        for name in self.names if self.rows else ():
            curves = {key: [(e, row[key]) for e, row in self.rows if key in row] for key in (name, f"val_{name}")}
            yield drawn({k: v for k, v in curves.items() if v}, max(width, 10), self.height)

    def close(self) -> None:
        shown, self._progress = self._progress, None
        if shown is not None:
            shown.stop()
        if self.rows:
            from rich.console import Console

            for panel in self.above():
                Console().print(panel)
            self.rows = []


def drawn(curves: Mapping[str, Sequence[tuple[int, float]]], width: int, height: int) -> Text:
    """Curves of (epoch, value) in so many characters, with the largest and smallest value, the epochs, and the last values."""
    from rich.text import Text

    points = [(e, v) for curve in curves.values() for e, v in curve if v - v == 0]  # nan and infinity have no place
    low, high = min((v for _, v in points), default=0.0), max((v for _, v in points), default=1.0)
    first, last = min((e for e, _ in points), default=0), max((e for e, _ in points), default=1)
    cells: dict[tuple[int, int], int] = {}
    owner: dict[tuple[int, int], int] = {}
    for number, curve in enumerate(curves.values()):
        at = [
            (round((e - first) / max(last - first, 1) * (2 * width - 1)), round((high - v) / (high - low or 1.0) * (4 * height - 1)))
            for e, v in curve if v - v == 0
        ]  # fmt: skip
        for x, y in _line(at):
            cell = y // 4, x // 2
            cells[cell] = cells.get(cell, 0) | DOTS[y % 4][x % 2]
            owner[cell] = number
    out = Text()
    for key, style in zip(curves, STYLES, strict=False):
        out.append(f"{'':{MARGIN}} {key} {curves[key][-1][1]:.4g}" if not out else f"   {key} {curves[key][-1][1]:.4g}", style=style)
    for y in range(height):
        label = f"{high:.4g}" if y == 0 else f"{low:.4g}" if y == height - 1 else ""
        out.append(f"\n{label:>{MARGIN}} ")
        for x in range(width):
            cell = y, x
            out.append(chr(0x2800 + cells.get(cell, 0)), style=STYLES[owner[cell]] if cell in owner else "")
    end = f"epoch {last}"
    out.append(f"\n{'':{MARGIN}} {first:<{max(width - len(end), 0)}}{end}")
    return out


def _line(at: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The dots from each point to the next."""
    yield from at[:1]
    for (x, y), (to_x, to_y) in pairwise(at):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for i in range(1, steps + 1):
            yield x + round(i * (to_x - x) / steps), y + round(i * (to_y - y) / steps)


public(globals())
