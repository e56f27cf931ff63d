"""Universal approximation: one hidden layer, wide enough, comes as close as you like to a continuous function.

    python examples/universal_approximation.py

A network f(x) = b2 + sum_i w2_i sigmoid(b1_i + w1_i x) adds up H bent lines (Hornik 1991: sigmoid units and a linear output). With
more of them the error shrinks. The theorem says that good weights exist, not that training finds them: networks start from a few
random seeds here, and the table shows the median of their errors.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, GREEN, ORANGE, RED, amount, figure, options, table

import graphc as gc
from graphc import nn, optim


def wave(x: np.ndarray) -> np.ndarray:
    """A continuous function with a corner."""
    return np.sin(3 * x) + 0.5 * np.sin(7 * x) * (x > 0) + 0.4 * np.abs(x)


def fit(x: np.ndarray, y: np.ndarray, hidden: int, steps: int, target: str) -> np.ndarray:
    """The values of a trained network with ``hidden`` units at ``x``."""
    # steep units whose bends, at x = -b/w, lie all over the interval: units that bend nowhere on the data hardly learn
    first = nn.Linear(1, hidden, init=gc.init.normal(std=6.0))
    first.bias = nn.Parameter((hidden,), init=gc.init.uniform(-8.0, 8.0))
    net = nn.Sequential(first, nn.Sigmoid(), nn.Linear(hidden, 1))
    model = gc.compile(net, gc.spec("N", 1), loss="mse", optimizer=optim.Adam(0.03, schedule=optim.schedules.Cosine(steps)), target=target)
    model.fit(x, y, batch_size=len(x), epochs=steps)
    return model.predict(x)


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "universal_approximation", argv)
    widths, seeds, steps = amount(args, ((1, 2, 4, 8, 16, 32, 64), 3, 4000), ((1, 4, 16), 1, 800), ((1, 16), 1, 500))
    x = np.linspace(-2, 2, 256)[:, None]
    y = wave(x)
    curves = {}
    for hidden in widths:
        for seed in range(args.seed, args.seed + seeds):
            gc.set_seed(seed)
            curves.setdefault(hidden, []).append(fit(x, y, hidden, steps, args.target))
    errors = {hidden: np.sqrt([np.mean((c - y) ** 2) for c in found]) for hidden, found in curves.items()}
    middle = {hidden: float(np.median(e)) for hidden, e in errors.items()}
    table(
        ("hidden units", "root of MSE, median", "least", "largest"),
        [(str(hidden), middle[hidden], float(e.min()), float(e.max())) for hidden, e in errors.items()],
    )

    with figure(args, 1, 2, size=(10, 4)) as (_, (left, right)):
        left.plot(x, y, color=BLACK, lw=4, alpha=0.25, label="the function")
        shown = (widths[0], widths[len(widths) // 3], widths[len(widths) // 2], widths[-1])
        for hidden, colour, line in zip(dict.fromkeys(shown), (RED, ORANGE, GREEN, BLUE), (":", "-.", "--", "-")):
            best = curves[hidden][int(np.argmin(errors[hidden]))]
            left.plot(x, best, line, color=colour, label=f"{hidden} hidden unit{'s' * (hidden > 1)}")
        left.set(title="Sums of sigmoids (the best of the seeds)", xlabel="x", ylabel="f(x)", ylim=(-1.7, 3.0))
        left.legend(ncols=2, loc="upper left")
        for hidden, found in errors.items():
            right.plot([hidden] * len(found), found, "o", color=BLUE, ms=4, alpha=0.5, label="each seed" if hidden == widths[0] else None)
        right.plot(list(middle), list(middle.values()), color=BLACK, lw=1.2, label="median")
        right.set(title="More units, smaller error", xlabel="hidden units", ylabel="root of the mean squared error", yscale="log")
        right.set_xscale("log", base=2)
        right.set_xticks(widths, [str(w) for w in widths])
        right.legend()
    return {f"{hidden} hidden": error for hidden, error in middle.items()}


if __name__ == "__main__":
    main()
