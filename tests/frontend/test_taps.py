"""Outputs of inner modules by name."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim


class Net(nn.Module):
    def __init__(self):
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.twice = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(2, 2)
        self.unused.freeze()

    def forward(self, x):
        x = self.encoder(x)
        return self.head(self.drop(self.twice(self.twice(x))))


X = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)


def by_hand(state, x):
    def lin(name, v):
        return v @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    first = lin("encoder.0", x)
    hidden = np.tanh(first)
    a = lin("twice", hidden)
    b = lin("twice", a)
    return {"encoder.0": first, "encoder": hidden, "twice": [a, b], "head": lin("head", b), "output": lin("head", b)}


def check(found, expected):
    for k, v in found.items():
        for got, want in zip(v, expected[k], strict=True) if isinstance(v, list) else [(v, expected[k])]:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_taps(target):
    model = gc.compile(Net(), gc.spec("N", 3), loss="mse", optimizer=optim.SGD(0.1), target=target)
    names = ["encoder.0", "twice", "encoder", "head", "output"]
    tap = model.tap(*names)
    assert list(tap(X)) == names and tap is model.tap(*names)
    check(tap(X), by_hand(model.state_dict(), X))
    model.fit(X, np.zeros((5, 2)), epochs=2)  # the same parameters, also later
    found = model.predict(X, outputs=names, batch_size=2)
    assert isinstance(found["twice"], list)
    check(found, by_hand(model.state_dict(), X))
    np.testing.assert_allclose(model.predict(X, outputs="encoder"), by_hand(model.state_dict(), X)["encoder"], rtol=1e-4, atol=1e-5)
    assert model.predict(X).shape == (5, 2)


def test_outputs_of_compile():
    model = gc.compile(Net(), gc.spec("N", 3), loss="mse", target="reference", outputs=["encoder.0", "output"])
    assert list(model.predict(X)) == ["encoder.0", "output"] and model.predict(X, outputs="head").shape == (5, 2)
    assert model.evaluate(X, np.zeros((5, 2)))["loss"] > 0


def test_only_what_is_needed_is_computed():
    model = gc.compile(Net(), gc.spec("N", 3), target="reference")
    graph = model.tap("encoder.0").graph
    assert sorted(i.name for i in graph.inputs if i.role == "param") == ["encoder.0.bias", "encoder.0.weight"]


def test_names_that_are_not_there():
    model = gc.compile(Net(), gc.spec("N", 3), target="reference")
    with pytest.raises(gc.ArgumentError, match=r"no module 'conv1'(.|\n)*encoder, encoder.0, encoder.1, twice, drop, head"):
        model.tap("conv1")
    with pytest.raises(gc.TraceError, match="'unused' is not called"):
        model.predict(X, outputs=["unused"])
    with pytest.raises(gc.ArgumentError, match="names of modules"):
        model.predict(X, outputs=[])
    with pytest.raises(gc.ArgumentError, match="go with a module"):
        gc.compile(lambda x: x, gc.spec(2), outputs=["a"])


def test_a_module_in_a_loop():
    class Loop(nn.Module):
        def __init__(self):
            self.cell = nn.Linear(3, 3)

        def forward(self, x):
            def step(h, v):
                h = self.cell(h) + v
                return h, h

            return gc.ops.scan(step, x[0] * 0.0, x)[1]

    model = gc.compile(Loop(), gc.spec(4, 3), target="reference")
    with pytest.raises(gc.TraceError, match="runs inside a loop"):
        model.tap("cell")
