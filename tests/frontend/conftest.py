"""Fixtures of the frontend's tests."""

from __future__ import annotations

import os

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim

TARGETS = os.environ.get("GRAPHC_TEST_TARGETS", "reference,cpu").split(",")


@pytest.fixture(params=TARGETS)
def target(request):
    """Each target that can run here."""
    return request.param


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from seed 0."""
    gc.set_seed(0)
    yield
    gc.set_seed(0)


class MLP(nn.Module):
    """(N, 6) -> (N, 3)."""

    def __init__(self, dropout: float = 0.0, dtype: str = "float32"):
        self.fc = nn.Sequential(
            nn.Linear(6, 8, dtype=dtype), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3, dtype=dtype)
        )

    def forward(self, x):
        return self.fc(x)


@pytest.fixture
def mlp():
    """The class of a small network."""
    return MLP


def _data(rows: int = 50, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6)).astype(dtype)
    return x, np.argmax(x[:, :3], axis=1)


@pytest.fixture
def data():
    """``data(rows)`` gives (x, y): three classes that a line separates."""
    return _data


@pytest.fixture
def classifier(target):
    """Makes compiled classifiers: ``classifier(dropout=0.1, optimizer=...)``."""

    def make(optimizer=None, dropout=0.0, dtype="float32", module=None, spec=None, **options):
        return gc.compile(
            module or MLP(dropout, dtype),
            spec or gc.spec("N", 6, dtype=dtype),
            loss="cross_entropy",
            optimizer=optimizer or optim.Adam(1e-2),
            metrics=["accuracy"],
            target=target,
            **options,
        )

    return make
