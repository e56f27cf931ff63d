"""Small models of every kind, shared by the tests of one training step and by those that compile its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from graphc import nn, optim

RATE = 1024.0
"""So large a step that the difference of two weights is the gradient, to float32's last digit but one."""


class LeNet(nn.Module):
    """(N, 1, 12, 12) -> (N, 10)."""

    def __init__(self):
        self.a, self.b = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 10, 3)
        self.fc, self.head = nn.Linear(40, 24), nn.Linear(24, 10)

    def forward(self, x):
        h = self.a(x).relu().max_pool2d(2)
        h = self.b(h).relu().max_pool2d(2)
        return self.head(self.fc(h.flatten(1)).relu())


class Block(nn.Module):
    """Two normalised convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int):
        self.a, self.na = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(out)
        self.b, self.nb = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.short = nn.Conv2d(channels, out, 1, stride=stride, bias=False) if stride > 1 or channels != out else None

    def forward(self, x):
        h = self.nb(self.b(self.na(self.a(x)).relu()))
        return (h + (x if self.short is None else self.short(x))).relu()


class ResNet(nn.Module):
    """(N, 3, 8, 8) -> (N, 10): a stem and three blocks."""

    def __init__(self):
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 12, 2), Block(12, 12, 1))
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.blocks(self.norm(self.stem(x)).relu()).mean((2, 3)))


class Words(nn.Module):
    """(N, T) words -> (N, 10) through a recurrent layer."""

    def __init__(self, layer: Callable[..., nn.Module]):
        self.embedding, self.rnn, self.head = nn.Embedding(30, 12), layer(12, 20, num_layers=2, batch_first=True), nn.Linear(20, 10)

    def forward(self, x):
        return self.head(self.rnn(self.embedding(x))[0][:, -1])


class Attention(nn.Module):
    """(N, T) words -> (N, 10) through a Transformer block with dropout."""

    def __init__(self):
        self.embedding = nn.Embedding(30, 24)
        self.block = nn.TransformerEncoderLayer(24, 3, 40, dropout=0.1, activation="gelu", batch_first=True)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.block(self.embedding(x)).mean(1))


def _images(*shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.normal(size=(n, *shape)).astype(np.float32)


def _words(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 30, (n, 9))


MODELS: dict[str, tuple[Callable[[], nn.Module], Any, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(20, 70), nn.ReLU(), nn.Dropout(0.2), nn.Linear(70, 33), nn.Tanh(), nn.Linear(33, 10)),
        gc.spec("N", 20), _images(20),
    ),
    "lenet": (LeNet, gc.spec("N", 1, 12, 12), _images(1, 12, 12)),
    "resnet": (ResNet, gc.spec("N", 3, 8, 8), _images(3, 8, 8)),
    "lstm": (lambda: Words(nn.LSTM), gc.spec("N", 9, dtype="int64"), _words),
    "gru": (lambda: Words(nn.GRU), gc.spec("N", 9, dtype="int64"), _words),
    "transformer": (Attention, gc.spec("N", 9, dtype="int64"), _words),
}  # fmt: skip


def compiled(name: str, target: str, optimizer: Any = None, **options: Any) -> Any:
    """A model with equal initial values on every target."""
    gc.set_seed(3)
    make, spec, _ = MODELS[name]
    return gc.compile(make(), spec, loss="cross_entropy", optimizer=optimizer or optim.SGD(RATE), target=target, **options)


def batch(name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of a model."""
    rng = np.random.default_rng(0)
    return MODELS[name][2](rng, rows), rng.integers(0, 10, rows)
