"""What is measured: sizes, data, floating-point work, and the results that every peer must agree on."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]
LEARNING_RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron with ReLU between its layers, float32, trained with Adam on softmax cross-entropy."""

    name: str
    dims: tuple[int, ...]
    batch: int
    cases: tuple[str, ...]

    def jittered(self, seed: int) -> MLP:
        """The same with every size but the number of outputs changed by up to a fifth."""
        rng = random.Random(seed)
        vary = [max(1, round(n * rng.uniform(0.8, 1.2))) for n in (self.batch, *self.dims[:-1])]
        return replace(self, batch=vary[0], dims=(*vary[1:], self.dims[-1]))

    def describe(self) -> str:
        return f"MLP {'-'.join(map(str, self.dims))}, batch {self.batch}, float32"

    def weights(self) -> Weights:
        """(in, out) matrices and biases, the same in every process."""
        rng = np.random.default_rng(0)
        pairs = zip(self.dims, self.dims[1:])
        return [
            (
                rng.normal(scale=(2 / i) ** 0.5, size=(i, o)).astype(np.float32),
                rng.normal(scale=0.1, size=o).astype(np.float32),
            )
            for i, o in pairs
        ]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, integer labels)."""
        rng = np.random.default_rng(1)
        x = rng.normal(size=(self.batch, self.dims[0])).astype(np.float32)
        return x, rng.integers(0, self.dims[-1], self.batch)

    def flops(self, case: str) -> int:
        """Multiplications and additions of the matrix products; the first layer needs no gradient of its input."""
        products = [2 * self.batch * i * o for i, o in zip(self.dims, self.dims[1:])]
        return sum(products) if case == "forward" else 3 * sum(products) - products[0]

    def expected(self, case: str, steps: int = 3) -> list[float]:
        """What a peer must report, computed in float64: a sum over the outputs, or the losses of the first steps."""
        weights = [(w.astype(np.float64), b.astype(np.float64)) for w, b in self.weights()]
        x, labels = self.data()
        if case == "forward":
            return [float(np.abs(self._layers(weights, x)[-1]).sum())]
        losses = []
        moments = [[np.zeros_like(p) for p in (w, b, w, b)] for w, b in weights]
        for t in range(1, steps + 1):
            values = self._layers(weights, x)
            p = np.exp(values[-1] - values[-1].max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            rows = np.arange(self.batch)
            losses.append(float(-np.log(p[rows, labels]).mean()))
            p[rows, labels] -= 1
            delta = p / self.batch
            for layer in reversed(range(len(weights))):
                w, b = weights[layer]
                grads = values[layer].T @ delta, delta.sum(0)
                delta = (delta @ w.T) * (values[layer] > 0)
                for i, (value, grad) in enumerate(zip((w, b), grads)):
                    m, v = moments[layer][i], moments[layer][i + 2]
                    m += (1 - BETA1) * (grad - m)
                    v += (1 - BETA2) * (grad * grad - v)
                    value -= LEARNING_RATE * (m / (1 - BETA1**t)) / (np.sqrt(v / (1 - BETA2**t)) + EPS)
        return losses

    def _layers(self, weights: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> list[np.ndarray]:
        values = [x.astype(np.float64)]
        for i, (w, b) in enumerate(weights):
            y = values[-1] @ w + b
            values.append(y if i == len(weights) - 1 else np.maximum(y, 0))
        return values


WORKLOADS = {
    w.name: w
    for w in (
        MLP("mlp", (784, 512, 512, 10), 128, ("forward", "train")),
        MLP("small", (16, 32, 1), 1, ("forward",)),
    )
}
