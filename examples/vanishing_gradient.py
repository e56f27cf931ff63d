"""The vanishing gradient: how long the gradient is in each layer of a deep network, and what keeps it alive.

    python examples/vanishing_gradient.py

Backpropagation multiplies by W and by g'(a) once a layer. For the sigmoid g' is at most 1/4, and nearly 0 where a unit is
saturated, so after a few layers nothing is left; tanh does better (g' = 1 at 0) if its weights are neither too small nor so
large that it saturates, ReLU better still (g' = 1 wherever a unit is on; a unit that is never on is dead). Batch normalisation
puts the sums back where g' is large, and a skip connection h + g(Wh) gives the gradient a path that is not multiplied at all. The
right picture shows what that means for training.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, GREEN, ORANGE, PINK, RED, amount, digits, figure, options, table

import graphc as gc
from graphc import nn, optim


class Layer(nn.Module):
    """One hidden layer: g(W h), with a normalisation of the sums or a skip connection if asked for."""

    def __init__(self, width: int, activation: nn.Module, init, norm: bool = False, skip: bool = False):
        self.linear = nn.Linear(width, width, init=init)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.activation, self.skip = activation, skip

    def forward(self, h):
        g = self.activation(self.norm(self.linear(h)))
        return h + g if self.skip else g


class Deep(nn.Module):
    """(N, 64) pixels -> (N, 10) logits through ``depth`` hidden layers of equal width."""

    def __init__(self, depth: int, *args, **settings):
        self.hidden = nn.Sequential(*(Layer(64, *args, **settings) for _ in range(depth)))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.hidden(x))


def networks(depth: int) -> dict:
    """Each with the initialisation made for its activation (Xavier's for sigmoid and tanh, He's for ReLU), but one."""
    xavier, he = gc.init.xavier_normal(), gc.init.kaiming_normal()
    return {
        "sigmoid": Deep(depth, nn.Sigmoid(), xavier),
        "tanh": Deep(depth, nn.Tanh(), xavier),
        "tanh, small weights": Deep(depth, nn.Tanh(), gc.init.xavier_normal(gain=0.5)),
        "ReLU": Deep(depth, nn.ReLU(), he),
        "sigmoid, batch norm": Deep(depth, nn.Sigmoid(), xavier, norm=True),
        "tanh, residual": Deep(depth, nn.Tanh(), xavier, skip=True),
    }


def gradient_norms(net: Deep, x: np.ndarray, y: np.ndarray, target: str) -> np.ndarray:
    """The length of the loss's gradient by the weight matrix of each hidden layer, before any training."""
    weights = [layer.linear.weight for layer in net.hidden]

    def norms(x, y):
        gradients = gc.grad(lambda x, y: nn.functional.cross_entropy(net(x), y), weights)(x, y)
        return [(g * g).sum().sqrt() for g in gradients]

    # a step, not a function: batch norm uses the statistics of the batch in training only
    return np.array(gc.step(norms, gc.spec("N", 64), gc.spec("N", dtype="int64"), target=target)(x, y))


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "vanishing_gradient", argv)
    depth, epochs = amount(args, (20, 20), (10, 2), (8, 3))
    x, y, x_test, y_test = digits(args.seed, count=amount(args, None, None, 300))
    norms, losses, accuracy = {}, {}, {}
    for name, net in networks(depth).items():
        norms[name] = gradient_norms(net, x[:256], y[:256], args.target)
        model = gc.compile(
            net, gc.spec("N", 64), loss="cross_entropy", optimizer=optim.SGD(0.01, momentum=0.9), metrics=["accuracy"], target=args.target
        )
        losses[name] = model.fit(x, y, batch_size=32, epochs=epochs)["loss"]
        accuracy[name] = model.evaluate(x_test, y_test)["accuracy"]
    table(
        (f"{depth} hidden layers", "|gradient| first", "last layer", "first / last", f"accuracy, {epochs} epochs"),
        [(name, float(g[0]), float(g[-1]), float(g[0] / g[-1]), accuracy[name]) for name, g in norms.items()],
    )

    with figure(args, 1, 2, size=(10, 4.2)) as (fig, (left, right)):
        looks = zip((RED, BLUE, PINK, GREEN, ORANGE, BLACK), "osv^Dx", ("-", "-", "--", "-", "-.", ":"))
        for (name, g), (colour, marker, line) in zip(norms.items(), looks):
            left.semilogy(range(1, depth + 1), g, line, marker=marker, ms=4, color=colour, label=name)
            right.plot(range(1, epochs + 1), losses[name], line, marker=marker, ms=4, color=colour)
        left.set(title="Before training", xlabel="hidden layer (1 is next to the input)", ylabel="length of the weights' gradient")
        left.set_xticks(range(1, depth + 1, 3))
        right.axhline(np.log(10), color=BLACK, lw=0.8, ls=":")
        right.text(epochs, np.log(10) + 0.07, "no better than a guess (log 10)", ha="right")
        right.set(title="Training", xlabel="epoch", ylabel="cross-entropy", ylim=(0, 2.7))
        right.xaxis.get_major_locator().set_params(integer=True)
        fig.legend(loc="outside lower center", ncols=6)
    return {name: float(g[0] / g[-1]) for name, g in norms.items()} | {f"accuracy, {name}": a for name, a in accuracy.items()}


if __name__ == "__main__":
    main()
