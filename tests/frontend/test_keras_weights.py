"""``nn.from_keras`` against Keras itself, which runs in a process of its own on JAX."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import nn

THEIRS = """
import sys
import numpy as np
import keras
from keras import layers

LAYERS = {
    "dense": ((8, 8), [layers.Dense(5), layers.Dense(3, use_bias=False)]),
    "conv1": ((8, 8), [layers.Conv1D(4, 3, padding="same")]),
    "conv2": ((8, 8, 1), [layers.Conv2D(4, (3, 5), use_bias=False), layers.Conv2D(6, 3, groups=2), layers.Flatten(), layers.Dense(3)]),
    "norms": ((8, 8), [layers.LayerNormalization(epsilon=1e-5), layers.BatchNormalization(), layers.Dense(2)]),
    "rnn": ((8, 8), [layers.SimpleRNN(6)]),
    "lstm": ((8, 8), [layers.LSTM(6)]),
    "gru": ((8, 8), [layers.GRU(6)]),
    "gru, reset before": ((8, 8), [layers.GRU(6, reset_after=False)]),
    "both ways": ((8, 8), [layers.Bidirectional(layers.LSTM(6, return_sequences=True)), layers.Bidirectional(layers.LSTM(6))]),
    "embedding": ((8,), [layers.Embedding(10, 4)]),
}
x = np.load("x.npz")
for name, (shape, stack) in LAYERS.items():
    model = keras.Sequential([keras.Input(shape), *stack])
    random = np.random.default_rng(1)
    weights = [random.uniform(0.1, 0.5, w.shape).astype("float32") for w in model.get_weights()]
    model.set_weights(weights)
    given = x["ids"] if name == "embedding" else x["x"].reshape(-1, *shape)
    np.savez(f"{name}.npz", *weights, out=model.predict(given, verbose=0))
"""


class Last(nn.Module):
    """The last states of a recurrent layer's last direction or directions."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        _, h = self.layer(x)
        h = h[0] if isinstance(h, tuple) else h
        return h[-2 if self.layer.bidirectional else -1 :].permute(1, 0, 2).flatten(1)


class Images(nn.Module):
    def __init__(self):
        self.a = nn.Conv2d(1, 4, (3, 5), bias=False)
        self.b = nn.Conv2d(4, 6, 3, groups=2)
        self.out = nn.Linear(4 * 2 * 6, 3)

    def forward(self, x):
        return self.out(self.b(self.a(x)).permute(0, 2, 3, 1).flatten(1))


class Rows(nn.Module):
    """What acts on the channels of Keras' (N, length, channels)."""

    def __init__(self, *layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            turned = isinstance(layer, (nn.Conv1d, nn.BatchNorm1d))
            x = layer(x.permute(0, 2, 1)).permute(0, 2, 1) if turned else layer(x)
        return x


OURS = {
    "dense": lambda: nn.Sequential(nn.Linear(8, 5), nn.Linear(5, 3, bias=False)),
    "conv1": lambda: Rows(nn.Conv1d(8, 4, 3, padding=1)),
    "conv2": Images,
    "norms": lambda: Rows(nn.LayerNorm(8), nn.BatchNorm1d(8, eps=1e-3), nn.Linear(8, 2)),
    "rnn": lambda: Last(nn.RNN(8, 6, batch_first=True)),
    "lstm": lambda: Last(nn.LSTM(8, 6, batch_first=True)),
    "gru": lambda: Last(nn.GRU(8, 6, batch_first=True)),
    "gru, reset before": lambda: Last(nn.GRU(8, 6, batch_first=True, reset_after=False)),
    "both ways": lambda: Last(nn.LSTM(8, 6, num_layers=2, batch_first=True, bidirectional=True)),
    "embedding": lambda: nn.Embedding(10, 4),
}
RANDOM = np.random.default_rng(0)
X, IDS = RANDOM.normal(size=(5, 8, 8)).astype(np.float32), RANDOM.integers(0, 10, (5, 8))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The folder with Keras' weights and outputs."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed: pip install -r tests/oracles.txt")
    folder = tmp_path_factory.mktemp("keras")
    np.savez(folder / "x.npz", x=X, ids=IDS)
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", THEIRS], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", OURS)
def test_the_weights_mean_the_same(name, theirs):
    held = np.load(theirs / f"{name}.npz")
    net = OURS[name]()
    net.load_state_dict(nn.from_keras(net, [held[k] for k in held if k != "out"]))
    spec, x = gc.spec("N", 8, 8), X
    if name == "embedding":
        spec, x = gc.spec("N", 8, dtype="int64"), IDS
    elif name == "conv2":
        spec, x = gc.spec("N", 1, 8, 8), X[:, None]
    out = gc.compile(net, spec, target="reference").predict(x)
    np.testing.assert_allclose(out, held["out"], rtol=2e-5, atol=2e-6)


def test_what_does_not_fit_is_told():
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.BatchNorm1d(2))
    arrays = [np.ones((3, 2)), *(np.ones(2) for _ in range(5))]
    assert nn.from_keras(net, arrays)["2.num_batches_tracked"] == 0
    with pytest.raises(gc.ParameterError, match="more parameters than the 5 arrays"):
        nn.from_keras(net, arrays[:5])
    with pytest.raises(gc.ParameterError, match="takes 6 of the 7 arrays"):
        nn.from_keras(net, [*arrays, np.ones(2)])
    with pytest.raises(gc.ParameterError, match=r"no layer of Keras is known for 1 \(PReLU\)"):
        nn.from_keras(nn.Sequential(nn.Linear(3, 2), nn.PReLU()), arrays)
    with pytest.raises(gc.ParameterError, match="shape"):
        net.load_state_dict(nn.from_keras(net, [np.ones((4, 2)), *arrays[1:]]))
