"""What a training leaves behind: losses and metrics, epoch by epoch."""

from __future__ import annotations

import csv
import html
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphc.errors import ArgumentError

__all__ = ["History"]


class History:
    """Means of loss and metrics, one value an epoch: ``history["val_loss"][-1]``.

    ``rows`` holds the logs of each epoch, ``epoch`` their numbers (from 0), ``seconds`` how long each took; ``history.history`` is the
    dict of lists (as in Keras). With ``validation_freq`` the lists of ``val_...`` are shorter; :meth:`to_dict`, :meth:`to_csv` and
    :meth:`plot` keep them in place.
    """

    def __init__(self, columns: Mapping[str, Sequence[float | None]] | None = None, seconds: Sequence[float] = (), first: int = 0) -> None:
        self.seconds = list(seconds)
        self.epoch = list(range(first, first + len(self.seconds)))
        self.rows: list[dict[str, float]] = [
            {k: v for k, values in (columns or {}).items() if (v := values[i]) is not None} for i in range(len(self.seconds))
        ]

    @property
    def history(self) -> dict[str, list[float]]:
        """Values by name, of the epochs that have them."""
        out: dict[str, list[float]] = {}
        for row in self.rows:
            for k, v in row.items():
                out.setdefault(k, []).append(v)
        return out

    def __getitem__(self, name: str) -> list[float]:
        known = self.history
        if name not in known:
            raise ArgumentError(f"the history has no {name!r}", hint=", ".join(known) or "no epoch has ended")
        return known[name]

    def __contains__(self, name: object) -> bool:
        return name in self.history

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    @property
    def epochs(self) -> int:
        """How many epochs have ended."""
        return len(self.epoch)

    def add(self, epoch: int, logs: dict[str, float], seconds: float) -> None:
        """Takes up an epoch. What callbacks add to ``logs`` afterwards is in it too."""
        self.epoch.append(epoch)
        self.seconds.append(seconds)
        self.rows.append(logs)

    def columns(self) -> dict[str, list[float | None]]:
        """Equally long lists by name, None where an epoch has no value."""
        return {k: [row.get(k) for row in self.rows] for k in self.history}

    def to_dict(self) -> dict[str, list[Any]]:
        """Equally long lists: epoch, seconds, and each value, None where an epoch has none."""
        return {"epoch": list(self.epoch), "seconds": list(self.seconds), **self.columns()}

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """A row an epoch, under a header."""
        columns = self.to_dict()
        with open(path, "w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(columns)
            writer.writerows(["" if v is None else v for v in row] for row in zip(*columns.values(), strict=True))

    def plot(self, names: Sequence[str] | None = None, path: str | os.PathLike[str] | None = None) -> Any:
        """A figure with the loss and each metric against the epoch, training and validation in one panel.

        ``names`` chooses ("loss", "accuracy"; their ``val_`` come along); ``path`` also writes it to a file, whose ending gives the
        format. Needs matplotlib: ``pip install 'graphc-dl[plot]'``.
        """
        chosen = [k for k in self.history if not k.startswith("val_")] if names is None else list(names)
        for name in chosen:
            self[name]
        if not chosen:
            raise ArgumentError("the history is empty: no epoch has ended", hint="model.fit(..., epochs=1) first")
        figure = new_figure(4.2 * len(chosen), 3.2)
        axes = figure.subplots(1, len(chosen), squeeze=False)[0]
        for ax, name in zip(axes, chosen, strict=True):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                if key in self.history:
                    at = [(e + 1, row[key]) for e, row in zip(self.epoch, self.rows, strict=True) if key in row]
                    ax.plot(*zip(*at, strict=True), marker="o" if len(at) < 15 else None, markersize=3, label=label)
            ax.set_title(name)
            ax.set_xlabel("epoch")
            ax.grid(alpha=0.3)
            if f"val_{name}" in self.history:
                ax.legend()
        if path is not None:
            figure.savefig(path)
        return figure

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v:.4g}" for k, v in (self.rows[-1] if self.rows else {}).items())
        return f"<History of {self.epochs} epoch{'s' * (self.epochs != 1)}{': ' + last if last else ''}>"

    def _repr_html_(self) -> str:
        columns = self.to_dict()
        shown = range(self.epochs) if self.epochs <= 12 else [*range(5), None, *range(self.epochs - 6, self.epochs)]
        head = "".join(f"<th>{html.escape(k)}</th>" for k in columns)

        def cell(name: str, i: int) -> str:
            v = columns[name][i]
            return "" if v is None else str(v + 1) if name == "epoch" else f"{v:.4g}"

        rows = (
            f'<tr><td colspan="{len(columns)}">&hellip;</td></tr>' if i is None
            else "<tr>" + "".join(f"<td>{cell(k, i)}</td>" for k in columns) + "</tr>"
            for i in shown
        )  # fmt: skip
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure, apart from any window; an error that says how to get matplotlib where it is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError("a plot needs the package matplotlib", hint="pip install 'graphc-dl[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")
