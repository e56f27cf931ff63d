"""Regularisation: a large network, few images, and three labels in ten that are wrong.

    python examples/regularisation.py

The network has 85,000 weights and 300 images of digits, so it can learn every label by heart, the wrong ones too: its training
loss goes to 0 while it gets worse on new images. An L2 penalty makes weights small, an L1 penalty makes most of them 0, dropout
trains with a random part of the units (scaled up by 1 / (1 - p) then, so that nothing is to do afterwards), and early stopping
takes the weights of the best epoch. More data help as well, above all a network that does not learn by heart. How strong a penalty
is, and when to stop, is chosen by the validation loss; the test images are looked at once, at the end.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, GREEN, ORANGE, PINK, RED, amount, digits, figure, options, table

import graphc as gc
from graphc import nn, optim

WRONG = 0.3  # of the training labels
COLOURS = {"none": RED, "L2 penalty": BLUE, "L1 penalty": GREEN, "dropout": ORANGE, "early stopping": PINK}


def network(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
    )


class Task:
    """The data of one seed: some training images with wrong labels, validation and test images with right ones."""

    def __init__(self, seed: int, count: int):
        self.x, self.y, self.x_val, self.y_val, self.x_test, self.y_test = digits(seed, fraction=0.25, validation=0.2, count=count)
        random = np.random.default_rng(seed)
        wrong = random.random(len(self.y)) < WRONG
        self.y[wrong] = (self.y[wrong] + random.integers(1, 10, wrong.sum())) % 10


def train(task: Task, width: int, epochs: int, target: str, dropout: float = 0.0, patience: int = 0, **penalty: float) -> dict:
    """A network trained with one way of regularisation: its history, its test accuracy and how many of its weights are about 0."""
    model = gc.compile(
        network(width, dropout),
        gc.spec("N", 64),
        loss="cross_entropy",
        optimizer=optim.Adam(1e-3, groups=[optim.Group("*.bias", l1=0.0, l2=0.0)], **penalty),  # penalties are for weights
        metrics=["accuracy"],
        target=target,
    )
    stop = [gc.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)] if patience else []
    history = model.fit(task.x, task.y, batch_size=32, epochs=epochs, validation_data=(task.x_val, task.y_val), callbacks=stop)
    weights = np.concatenate([v.ravel() for k, v in model.state_dict().items() if k.endswith("weight")])
    return {
        "history": history,
        "validation loss": min(history["val_loss"]) if patience else history["val_loss"][-1],
        "accuracy": model.evaluate(task.x_test, task.y_test)["accuracy"],
        "zeros": float((np.abs(weights) < 1e-3).mean()),
    }


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "regularisation", argv)
    seeds, epochs, count, width = amount(args, (3, 100, 300, 256), (1, 20, 300, 256), (1, 25, 250, 128))
    ways = {
        "none": [{}],
        "L2 penalty": [{"l2": s} for s in (3e-3, 1e-2, 3e-2)],
        "L1 penalty": [{"l1": s} for s in (3e-4, 1e-3, 2e-3)],
        "dropout": [{"dropout": p} for p in (0.5, 0.7, 0.8)],
        "early stopping": [{"patience": 10}],
    }
    if args.quick:
        ways = {name: settings[1:2] or settings for name, settings in ways.items()}

    runs: dict[str, list[dict]] = {}
    for seed in range(args.seed, args.seed + seeds):
        gc.set_seed(seed)
        task = Task(seed, count)
        for name, settings in ways.items():
            tried = [(s, train(task, width, epochs, args.target, **s)) for s in settings]
            chosen, run = min(tried, key=lambda t: t[1]["validation loss"])
            runs.setdefault(name, []).append(run | {"chosen": chosen})
    mean = {name: float(np.mean([r["accuracy"] for r in found])) for name, found in runs.items()}
    table(
        (f"{count} images, {WRONG:.0%} labels wrong", "test accuracy", "training loss", "validation loss", "weights of 0", "chosen"),
        [
            (
                name,
                mean[name],
                float(np.mean([r["history"]["loss"][-1] for r in found])),
                float(np.mean([r["validation loss"] for r in found])),
                f"{np.mean([r['zeros'] for r in found]):.0%}",
                ", ".join(f"{k} {v:g}" for k, v in found[0]["chosen"].items()),
            )
            for name, found in runs.items()
        ],
    )

    sizes = amount(args, (100, 200, 400, 1000), (100, 300), (100,))
    gc.set_seed(args.seed)
    growth = {
        name: [train(Task(args.seed, n), width, epochs, args.target, **runs[name][0]["chosen"])["accuracy"] for n in sizes]
        for name in ("none", "dropout")
    }
    print()
    table(("test accuracy by training images", *map(str, sizes)), [(name, *a) for name, a in growth.items()])

    with figure(args, 1, 3, size=(11.5, 3.9)) as (_, (left, middle, right)):
        for name in ("none", "dropout"):
            history = runs[name][0]["history"]
            axis = range(1, len(history["loss"]) + 1)
            left.plot(axis, history["loss"], color=COLOURS[name], lw=1.2, ls="--", label=f"{name}, training")
            left.plot(axis, history["val_loss"], color=COLOURS[name], label=f"{name}, validation")
        best = int(np.argmin(runs["none"][0]["history"]["val_loss"])) + 1
        left.axvline(best, color=BLACK, lw=0.8, ls=":", label="best epoch: stop here")
        left.set(title="Learning wrong labels by heart", xlabel="epoch", ylabel="cross-entropy", ylim=(0, 2.6))
        left.legend(fontsize=8)

        for place, (name, found) in enumerate(reversed(runs.items())):
            middle.plot([r["accuracy"] for r in found], [place] * len(found), "o", color=COLOURS[name], alpha=0.6)
            middle.plot([mean[name]] * 2, [place - 0.3, place + 0.3], color=COLOURS[name], lw=3)
        middle.set_yticks(range(len(runs)), list(reversed(runs)))
        middle.set(title="Test accuracy (bar: mean of the seeds)", xlabel="accuracy")

        for (name, values), line in zip(growth.items(), ("o-", "s--")):
            right.plot(sizes, values, line, color=COLOURS[name], label=name)
        right.set_xscale("log")
        right.set_xticks(sizes, [str(s) for s in sizes])
        right.minorticks_off()
        right.set(title="The amount of data", xlabel="training images", ylabel="test accuracy")
        right.legend()
    return mean


if __name__ == "__main__":
    main()
