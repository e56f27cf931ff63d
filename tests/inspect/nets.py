"""Networks whose reports are tested, and their programs: lowered, so that no kernel is compiled, except for the small one that is measured."""

from __future__ import annotations

import os
from functools import cache
from typing import Any
from unittest import mock

import numpy as np

import graphc as gc
from graphc import nn, optim
from graphc.inspect.data import report_data


class DigitsMLP(nn.Module):
    def __init__(self) -> None:
        self.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.body(x)
        return self.head(x)


class Block(nn.Module):
    """A basic block of ResNet-18."""

    def __init__(self, channels: int, out: int, stride: int = 1):
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        plain = stride == 1 and channels == out
        self.down = None if plain else nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        return (y + (x if self.down is None else self.down(x))).relu()


class Bottleneck(nn.Module):
    """A block of ResNet-50."""

    def __init__(self, channels: int, width: int, stride: int = 1):
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        plain = stride == 1 and channels == out
        self.down = None if plain else nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.down is None else self.down(x))).relu()


class ResNet(nn.Module):
    def __init__(self, block: type, counts: tuple[int, ...], classes: int = 1000):
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64)
        channels, stages = 64, []
        for i, count in enumerate(counts):
            blocks = []
            for j in range(count):
                blocks.append(block(channels, 64 * 2**i, 2 if i and not j else 1))
                channels = 64 * 2**i * (4 if block is Bottleneck else 1)
            stages.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu().max_pool2d(3, stride=2, padding=1)
        x = self.layers(x)
        return self.fc(x.mean((2, 3)))


class Reader(nn.Module):
    """An LSTM over 7 steps."""

    def __init__(self) -> None:
        self.lstm = nn.LSTM(6, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


class Translator(nn.Module):
    """Four equal blocks of a Transformer."""

    def __init__(self, blocks: int = 4):
        self.embedding = nn.Embedding(50, 32)
        self.blocks = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True), blocks)
        self.head = nn.Linear(32, 50)

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = self.blocks(x)
        return self.head(x[:, 0])


def plain_stack() -> Any:
    """The graph of six activations in a row, each a module of its own."""

    class Stack(nn.Module):
        def __init__(self) -> None:
            self.layers = nn.Sequential(*(nn.ReLU() for _ in range(6)))

        def forward(self, x):
            return self.layers(x)

    return gc.trace(Stack(), gc.spec("N", 4))


def _model(name: str, **options: Any) -> Any:
    rows = gc.Dim("N", hint=8)
    nets: dict[str, tuple[Any, Any]] = {
        "mlp": (DigitsMLP, gc.spec(gc.Dim("N", hint=64), 64)),
        "resnet18": (lambda: ResNet(Block, (2, 2, 2, 2)), gc.spec(rows, 3, 64, 64)),
        "resnet50": (lambda: ResNet(Bottleneck, (3, 4, 6, 3)), gc.spec(rows, 3, 224, 224)),
        "lstm": (Reader, gc.spec(rows, 7, 6)),
        "transformer": (Translator, gc.spec(rows, 12, dtype="int64")),
    }
    make, spec = nets[name]
    return gc.compile(make(), spec, loss="cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"], **options)


@cache
def lowered(name: str, modes: tuple[str, ...] = ("train_step", "predict")) -> tuple[Any, dict[str, Any]]:
    """The model, and its programs by mode."""
    gc.set_seed(0)
    model = _model(name)
    return model, {m: model.graphs[m].lower() for m in modes}


@cache
def data_of(name: str) -> dict[str, Any]:
    """The data of a model's report."""
    from graphc.frontend.summary import module_rows

    model, programs = lowered(name)
    return report_data(programs, type(model.module).__name__, modules=module_rows(model))


@cache
def measured(name: str = "mlp") -> tuple[Any, Any]:
    """A compiled model, and the profile of some training steps and predictions on two threads."""
    gc.set_seed(0)
    model = _model(name, threads=2)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 64)).astype("float32"), rng.integers(0, 10, 64)
    with mock.patch.dict(os.environ, GRAPHC_SMALL_WORK="0"):  # small programs take two threads only when they are told to
        for _ in range(2):  # once to compile
            with gc.profile() as p:
                for _ in range(5):
                    model.train_on_batch(x, y)
                    model.predict(x)
    return model, p


def record_of(mode: str = "train_step") -> dict[str, Any]:
    """The record that a profile has of the small network."""
    model, p = measured()
    return p.of(model.executables[mode]).record()
