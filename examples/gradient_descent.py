"""Gradient descent on a bowl: what the learning rate does, and what momentum does.

    python examples/gradient_descent.py

On f = (x^2 + y^2) / 2 the gradient is (x, y), so each step multiplies the point by 1 - eta: it creeps for small rates, arrives at
once for 1, jumps from side to side between 1 and 2, and runs away above 2. In a valley that is 20 times steeper one way than the
other, the steep direction limits the rate and the flat one is slow; momentum goes on in the direction that steps agree on.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, GREEN, ORANGE, RED, figure, options, table

import graphc as gc
from graphc import nn, optim

EPSILON = 1e-3  # the descent ends where the gradient is shorter than this
LIMIT = 5.0  # or where the point has left the picture


def descend(steepness: tuple[float, float], start: tuple[float, float], optimizer: optim.Optimizer, steps: int, target: str) -> np.ndarray:
    """The points (steps + 1, 2) on the way down f = (a x^2 + b y^2) / 2, with steepness (a, b)."""
    point = nn.Parameter(list(start), name="point")

    def fn(steep):
        p = point.node
        optimizer.minimize((steep * p * p).sum() / 2, [point])
        return ((steep * p) ** 2).sum().sqrt()  # the length of the gradient

    step = gc.step(fn, gc.spec(2), target=target)
    path = [np.array(start)]
    while len(path) <= steps and np.abs(path[-1]).max() < LIMIT:
        if step(steepness) <= EPSILON:
            break
        path.append(point.numpy())
    return np.array(path)


def steps_to(path: np.ndarray, distance: float = 0.05) -> int | str:
    """After how many steps the point is, and stays, that near to the minimum."""
    far = np.flatnonzero(np.linalg.norm(path, axis=1) > distance)
    return int(far[-1]) + 1 if len(far) and far[-1] + 1 < len(path) else "never"


def contours(ax, steepness: tuple[float, float], reach: tuple[float, float]) -> None:
    x, y = (np.linspace(-r, r, 120) for r in reach)
    f = (steepness[0] * x**2 + steepness[1] * y[:, None] ** 2) / 2
    ax.contour(x, y, f, levels=np.linspace(0.02, 1, 9) ** 2 * f.max(), colors="#999999", linewidths=0.7)
    ax.plot(0, 0, "+", color=BLACK, ms=9)
    ax.grid(False)


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "gradient_descent", argv)
    steps = 25 if args.quick else 60
    # rate -> (start, all equally far from the minimum; colour; line)
    rates = {
        0.1: ((0.0, 2.0), BLUE, "o-"),
        0.5: ((1.9, 0.62), GREEN, "o-"),
        1.0: ((1.18, -1.62), BLACK, "o-"),
        1.9: ((-1.18, -1.62), ORANGE, "s:"),
        2.1: ((-1.9, 0.62), RED, "o-"),
    }
    paths = {rate: descend((1.0, 1.0), start, optim.SGD(rate), steps, args.target) for rate, (start, _, _) in rates.items()}
    error = max(np.abs(p - p[0] * (1 - rate) ** np.arange(len(p))[:, None]).max() for rate, p in paths.items())
    table(
        ("bowl, learning rate", "factor 1 - eta", "steps to 0.05", "last distance"),
        [(f"{rate}", 1 - rate, steps_to(p), float(np.linalg.norm(p[-1]))) for rate, p in paths.items()],
    )
    print(f"largest difference from start * (1 - eta)^k: {error:.1e}\n")

    valley, start = (1.0, 20.0), (1.8, 1.2)
    ways = {
        "plain": (optim.SGD(0.09), BLUE),
        "momentum 0.7": (optim.SGD(0.09, momentum=0.7), ORANGE),
        "plain, 0.101": (optim.SGD(0.101), RED),
    }
    walks = {name: descend(valley, start, optimizer, steps, args.target) for name, (optimizer, _) in ways.items()}
    table(
        ("valley, learning rate 0.09", "steps to 0.05", "last distance"),
        [(name, steps_to(p), float(np.linalg.norm(p[-1]))) for name, p in walks.items()],
    )

    with figure(args, 1, 3, size=(11, 3.8)) as (_, (left, middle, right)):
        contours(left, (1.0, 1.0), (2.6, 2.6))
        for rate, path in paths.items():
            _, colour, line = rates[rate]
            left.plot(*path.T, line, ms=3.5, lw=1.2, color=colour, label=f"{rate}")
            middle.semilogy(np.linalg.norm(path, axis=1), line, ms=3.5, lw=1.2, color=colour, label=f"{rate}")
        left.set(title="Paths on (x² + y²) / 2", xlabel="x", ylabel="y", xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
        middle.set(title="Each step multiplies by 1 - η", xlabel="step", ylabel="distance from the minimum", ylim=(3e-4, 20))
        middle.annotate("0.1 and 1.9", (20, np.linalg.norm(paths[0.1], axis=1)[20]), xytext=(7, 3), textcoords="offset points")
        middle.legend(title="learning rate η", loc="upper right", bbox_to_anchor=(1.0, 0.97))
        contours(right, valley, (2.1, 1.6))
        for name in ("plain", "momentum 0.7"):
            right.plot(*walks[name].T, "o-", ms=3.5, lw=1.2, color=ways[name][1], label=name)
        right.set(title="A valley, (x² + 20 y²) / 2, η = 0.09", xlabel="x", ylabel="y", xlim=(-1.0, 2.1), ylim=(-1.6, 1.6))
        right.legend(loc="lower left", facecolor="white", framealpha=1, frameon=True, edgecolor="none")
    return {
        "difference": float(error),
        "fast": float(np.linalg.norm(paths[1.0][-1])),
        "too fast": float(np.linalg.norm(paths[2.1][-1])),
        "plain": float(np.linalg.norm(walks["plain"][-1])),
        "momentum": float(np.linalg.norm(walks["momentum 0.7"][-1])),
    }


if __name__ == "__main__":
    main()
