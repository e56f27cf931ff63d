"""Losses and metrics written to files, epoch by epoch."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from typing import Any

from graphc.errors import ArgumentError
from graphc.locate import public

from .base import Callback, Logs

__all__ = ["CSVLogger", "TensorBoard"]


class CSVLogger(Callback):
    """A row an epoch in a CSV file: epoch (from 0) and all that is logged; empty where an epoch has no validation.

    The file is complete after each epoch. ``append`` goes on with a file that is there, under its columns.
    """

    writes_files = True

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        self.filename, self.separator, self.append = os.fspath(filename), separator, append

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.columns: list[str] | None = None
        self.fresh = not (self.append and os.path.exists(self.filename))
        if not self.fresh:
            rows = self._rows()
            self.columns = rows[0] if rows else None

    def state_dict(self) -> dict[str, Any]:
        return {"columns": self.columns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """A resumed training goes on with the file, without the rows of epochs that it will do again."""
        if not state["columns"] or not os.path.exists(self.filename):
            return
        header, *rows = self._rows() or [state["columns"]]
        assert self.model.place is not None
        done = self.model.place.epoch
        self.columns, self.fresh = header, False
        with open(self.filename, "w", newline="") as f:
            at = header.index("epoch")
            csv.writer(f, delimiter=self.separator).writerows([header, *(r for r in rows if r[at].isdigit() and int(r[at]) < done)])

    def _rows(self) -> list[list[str]]:
        with open(self.filename, newline="") as f:
            return list(csv.reader(f, delimiter=self.separator))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        with open(self.filename, "w" if self.fresh else "a", newline="") as f:
            self.fresh = False
            writer = csv.writer(f, delimiter=self.separator)
            if self.columns is None:
                later = [f"val_{k}" for k in logs if k != "learning_rate" and not k.startswith("val_")] if self.params["do_validation"] else []
                self.columns = ["epoch", *logs, *(k for k in later if k not in logs)]
                writer.writerow(self.columns)
            unknown = [k for k in logs if k not in self.columns]
            if unknown:
                raise ArgumentError(f"{self.filename} has no column for {', '.join(unknown)}", hint="append=False starts a new file")
            writer.writerow([epoch if c == "epoch" else logs.get(c, "") for c in self.columns])


class TensorBoard(Callback):
    """Event files for TensorBoard, laid out as Keras does: ``log_dir/train`` and ``log_dir/validation`` hold ``epoch_loss`` and so on.

    ``update_freq`` "batch" or a number also writes ``batch_loss`` every so many batches. ``write_graph`` puts the graph of predictions
    into the graph tab, modules as name scopes; ``histogram_freq`` writes histograms of the parameters every so many epochs. Needs tensorboardX, which writes such files
    without TensorBoard itself: ``pip install 'graphc-dl[tensorboard]'``.
    """

    writes_files = True

    def __init__(
        self, log_dir: str | os.PathLike[str] = "logs", update_freq: str | int = "epoch", histogram_freq: int = 0, write_graph: bool = True
    ):
        if update_freq not in ("epoch", "batch") and (isinstance(update_freq, (bool, str)) or update_freq < 1):
            raise ArgumentError(f"update_freq = {update_freq!r}", hint='"epoch", "batch" or a number of batches')
        if isinstance(histogram_freq, bool) or not isinstance(histogram_freq, int) or histogram_freq < 0:
            raise ArgumentError(f"histogram_freq = {histogram_freq!r}", hint="a number of epochs, 0 for none")
        self.log_dir, self.histogram_freq, self.write_graph = os.fspath(log_dir), histogram_freq, write_graph
        self.every = {"epoch": 0, "batch": 1}[update_freq] if isinstance(update_freq, str) else update_freq
        _writer_class()  # a missing package shows here and not after the first epoch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._writers: dict[str, Any] = {}
        if self.write_graph:
            from tensorboardX.proto.event_pb2 import Event

            from graphc.inspect.drawing import to_tensorboard

            made = Event(graph_def=to_tensorboard(self.model.graph).SerializeToString())
            self._writer("train").file_writer.add_event(made)

    def _writer(self, run: str) -> Any:
        if run not in self._writers:
            self._writers[run] = _writer_class()(os.path.join(self.log_dir, run))
        return self._writers[run]

    def _write(self, run: str, prefix: str, logs: Logs, step: int) -> None:
        self._writer(run)
        for name, value in logs.items():
            self._writers[run].add_scalar(prefix + name, value, step)
        self._writers[run].flush()

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if self.every and self.model.steps % self.every == 0:
            self._write("train", "batch_", logs, self.model.steps)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        measured = {k[4:]: v for k, v in logs.items() if k.startswith("val_")}
        trained = {k: v for k, v in logs.items() if not k.startswith("val_")}
        self._write("train", "epoch_", {"learning_rate": self.model.learning_rate, **trained}, epoch)
        if measured:
            self._write("validation", "epoch_", measured, epoch)
        if self.histogram_freq and (epoch + 1) % self.histogram_freq == 0:
            writer = self._writer("train")
            for name, p in self.model.module.named_parameters():
                writer.add_histogram(name, p.numpy(), epoch)
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for w in self._writers.values():
            w.close()
        self._writers = {}


def _writer_class() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ArgumentError("TensorBoard needs the package tensorboardX", hint="pip install 'graphc-dl[tensorboard]'") from None
    return SummaryWriter


public(globals())
