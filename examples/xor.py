"""Why a network needs a hidden layer: XOR, and a class that lies in the middle of another.

    python examples/xor.py

A single sigmoid neuron, sigmoid(b + w1 x1 + w2 x2), says 1 on one side of a straight line. No line separates XOR: at most 3 of the
4 points can be right, and the least loss is that of saying 1/2 everywhere. With four hidden units the network bends and combines lines: it solves XOR, and it closes them
around the class in the middle.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, ORANGE, figure, options, table, two_colours

import graphc as gc
from graphc import nn, optim


def xor() -> tuple[np.ndarray, np.ndarray]:
    """The four points and x1 XOR x2."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    return x, (x[:, :1] != x[:, 1:]).astype(float)


def middle(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Class 1 in a disc, class 0 around it, and a gap between them."""
    random = np.random.default_rng(seed)
    inside = np.arange(count) % 2 == 0
    radius = np.where(inside, 0.9 * np.sqrt(random.random(count)), random.uniform(1.4, 2.2, count))
    angle = random.uniform(0, 2 * np.pi, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), inside[:, None].astype(float)


def network(hidden: int) -> nn.Module:
    """Two inputs, one logit; without hidden units it is the single neuron."""
    if not hidden:
        return nn.Linear(2, 1)
    return nn.Sequential(nn.Linear(2, hidden), nn.Sigmoid(), nn.Linear(hidden, 1))


def train(x: np.ndarray, y: np.ndarray, hidden: int, steps: int, target: str) -> tuple[gc.Model, float]:
    """A trained model and the share of points that it gets right. The loss takes logits: the sigmoid of the output is inside."""
    model = gc.compile(
        network(hidden), gc.spec("N", 2), loss="bce_with_logits", optimizer=optim.Adam(0.05), metrics=["accuracy"], target=target
    )
    model.fit(x, y, batch_size=len(x), epochs=steps)
    return model, model.evaluate(x, y)["accuracy"]


def draw(ax, model: gc.Model, x: np.ndarray, y: np.ndarray, title: str):
    """P(class 1) over the plane, the line where it is 1/2, and the points."""
    axis = np.linspace(x.min() - 0.5, x.max() + 0.5, 120)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1)
    probability = 1 / (1 + np.exp(-model.predict(plane.reshape(-1, 2)).reshape(120, 120)))
    shades = ax.contourf(axis, axis, probability, levels=np.linspace(0, 1, 11), cmap=two_colours())
    ax.contour(axis, axis, probability, levels=[0.5], colors=BLACK)
    for label, marker, colour in ((0, "o", BLUE), (1, "s", ORANGE)):
        points = x[y[:, 0] == label].T
        ax.scatter(
            *points, s=max(22, 320 / len(x)), marker=marker, color=colour, edgecolor=BLACK, linewidth=0.6, label=f"class {label}", zorder=3
        )
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.grid(False)
    return shades


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "xor", argv)
    steps = 300 if args.quick else 1500
    problems = {"XOR": xor(), "class 1 in the middle": middle(args.seed)}
    result, rows = {}, []
    with figure(args, 2, 2, size=(7.8, 7.0)) as (fig, axes):
        for line, (problem, (x, y)) in zip(axes, problems.items()):
            for ax, hidden in zip(line, (0, 4)):
                model, accuracy = train(x, y, hidden, steps, args.target)
                result[f"{problem}, {hidden} hidden"] = accuracy
                rows.append((problem, hidden, accuracy))
                name = f"{hidden} hidden units" if hidden else "a single neuron"
                shades = draw(ax, model, x, y, f"{problem}: {name}\naccuracy {accuracy:.2f}")
        fig.colorbar(shades, ax=axes, label="P(class 1), the line is 1/2", shrink=0.5)
        fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        table(("problem", "hidden units", "accuracy"), rows)
    return result


if __name__ == "__main__":
    main()
