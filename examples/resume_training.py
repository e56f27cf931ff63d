"""A training that is killed in the middle of an epoch, and goes on as if nothing had happened.

    python examples/resume_training.py

A process of its own trains a network on digits and writes a checkpoint every few batches (``callbacks.BackupAndRestore``). It ends by
force in the middle of an epoch. The same call of ``fit`` in this process finds the checkpoint: weights, Adam's moments, the place in
the shuffled data, the seed of dropout, and what callbacks remember. The end is, bit for bit, that of a training without a break.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from common import BLUE, ORANGE, RED, digits, figure, options, table

import graphc as gc
from graphc import callbacks, nn, optim

BATCH, SAVE_EVERY = 64, 7


class Losses(callbacks.Callback):
    """The loss of every step; ``state_dict`` puts it into the checkpoint, ``load_state_dict`` takes it back."""

    def __init__(self, end_at: int | None = None):
        self.losses: list[float] = []
        self.end_at = end_at
        self.first = 0

    def on_train_begin(self, logs=None):
        self.first = self.model.steps

    def on_train_batch_end(self, batch, logs):
        self.losses.append(logs["loss"])
        if self.model.steps == self.end_at:
            os._exit(9)  # like kill -9: nothing is written, nothing is closed

    def state_dict(self):
        return {"losses": self.losses}

    def load_state_dict(self, state):
        self.losses = list(state["losses"])


def train(args, epochs: int, backup: Path | None, end_at: int | None = None):
    """One process's part of the training: (model, history, losses)."""
    gc.set_seed(args.seed)
    x, y, x_test, y_test = digits(args.seed)
    network = nn.Sequential(nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, 10))
    schedule = optim.schedules.Cosine(epochs * -(-len(x) // BATCH))
    model = gc.compile(
        network,
        gc.spec("N", 64),
        loss="cross_entropy",
        optimizer=optim.Adam(3e-3, schedule=schedule),
        metrics=["accuracy"],
        target=args.target,
    )
    losses = Losses(end_at)
    savers = [callbacks.BackupAndRestore(backup, save_freq=SAVE_EVERY)] if backup else []
    history = model.fit(x, y, batch_size=BATCH, epochs=epochs, validation_data=(x_test, y_test), callbacks=[losses, *savers])
    return model, history, losses


def end_in_another_process(args, end_at: int) -> None:
    """Starts this script once more, to train until it ends itself by force at a step."""
    again = ["--target", args.target, "--seed", str(args.seed), "--out", str(args.out), *(["--quick"] if args.quick else [])]
    done = subprocess.run([sys.executable, __file__, *again, "--end-at", str(end_at)], capture_output=True, text=True)
    if done.returncode != 9:
        raise SystemExit(f"the other process was to end by force:\n{done.stderr}")


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "resume_training", argv, lambda p: p.add_argument("--end-at", type=int, help="a step to end at by force"))
    epochs, backup = 3 if args.quick else 12, args.out / "backup"
    if args.end_at is not None:
        train(args, epochs, backup, args.end_at)
    shutil.rmtree(backup, ignore_errors=True)

    whole, expected, one = train(args, epochs, None)
    end_at = int(0.6 * whole.steps)
    end_in_another_process(args, end_at)
    model, history, two = train(args, epochs, backup)

    a, b = whole.state_dict(), model.state_dict()
    different = sum(int(np.sum(a[k] != b[k])) for k in a)
    per_epoch = whole.steps // epochs
    table(
        ("", "steps", "loss", "test accuracy"),
        [
            (name, m.steps, h["loss"][-1], h["val_accuracy"][-1])
            for name, m, h in (("without a break", whole, expected), ("killed and resumed", model, history))
        ],
    )
    print(f"\nkilled after step {end_at}, batch {end_at % per_epoch} of {per_epoch}; went on from the checkpoint of step {two.first}")
    print(f"the weights are {'equal' if not different else 'NOT equal'}: {different} of {sum(v.size for v in a.values())} numbers differ")
    print(f"the histories are {'equal' if history.history == expected.history else 'NOT equal'}")

    with figure(args) as (_, ax):
        ax.plot(range(1, whole.steps + 1), one.losses, color=BLUE, label="without a break")
        steps = range(1, len(two.losses) + 1)
        ax.plot(steps, two.losses, ".", color=ORANGE, markersize=4, label="killed and resumed")
        ax.axvline(end_at, color=RED, linestyle="--", label="killed here")
        ax.axvspan(two.first, end_at, color=RED, alpha=0.15, label="done a second time")
        ax.set(title="The same losses, step by step", xlabel="step", ylabel="loss of the batch", yscale="log")
        ax.legend()
    return {
        "different": different,
        "histories": float(history.history == expected.history),
        "losses": float(one.losses == two.losses),
        "first": two.first,
        "end": end_at,
        "accuracy": history["val_accuracy"][-1],
    }


if __name__ == "__main__":
    main()
