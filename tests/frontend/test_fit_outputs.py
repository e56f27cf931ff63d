"""Several inputs, outputs and losses."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim


class Heads(nn.Module):
    """Two inputs; a value and three classes, as a dict or a tuple."""

    def __init__(self, kind):
        self.a, self.b = nn.Linear(2, 1, dtype="float64"), nn.Linear(3, 3, dtype="float64")
        self.kind = kind

    def forward(self, left, right):
        value, classes = self.a(left), self.b(right)
        return {"value": value, "class": classes} if self.kind is dict else (value, classes)


SPECS = (gc.spec("N", 2, dtype="float64"), gc.spec("N", 3, dtype="float64"))


def data(n=11):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 2)), rng.normal(size=(n, 3))), rng.normal(size=(n, 1)), rng.integers(0, 3, n)


def expected(model, x, value, label, wv=None, wc=None):
    """(mean squared error, cross entropy), weighted."""
    state, n = model.state_dict(), len(label)
    squares = ((x[0] @ state["a.weight"].T + state["a.bias"] - value) ** 2)[:, 0]
    z = x[1] @ state["b.weight"].T + state["b.bias"]
    terms = np.log(np.exp(z).sum(1)) - z[np.arange(n), label]
    return (squares * (1 if wv is None else wv)).mean(), (terms * (1 if wc is None else wc)).mean(), (z.argmax(1) == label).mean()


def test_a_dict_of_losses(target):
    x, value, label = data()
    model = gc.compile(
        Heads(dict), *SPECS, loss={"value": "mse", "class": "cross_entropy"}, loss_weights={"class": 0.25}, optimizer=optim.SGD(0.0),
        metrics={"class": ["accuracy"], "value": "mae"}, target=target,
    )  # fmt: skip
    mse, entropy, accuracy = expected(model, x, value, label)
    history = model.fit(x, {"value": value, "class": label}, batch_size=4, validation_split=3 / 11)
    assert list(history)[:5] == ["loss", "value_loss", "class_loss", "value_mae", "class_accuracy"]
    found = model.evaluate(x, {"value": value, "class": label}, batch_size=4)
    assert found["value_loss"] == pytest.approx(mse, rel=1e-9) and found["class_loss"] == pytest.approx(entropy, rel=1e-9)
    assert found["loss"] == pytest.approx(mse + 0.25 * entropy, rel=1e-9) and found["class_accuracy"] == pytest.approx(accuracy)
    assert {"val_class_accuracy", "val_value_loss", "val_loss"} <= set(history)
    w = np.linspace(0, 2, 11)
    for weights, parts in ((w, (w, w)), ({"class": w}, (None, w))):
        mse, entropy, _ = expected(model, x, value, label, *parts)
        found = model.evaluate(x, {"value": value, "class": label}, sample_weight=weights)
        assert found["loss"] == pytest.approx(mse + 0.25 * entropy, rel=1e-9)


def test_a_list_of_losses():
    x, value, label = data()
    model = gc.compile(
        Heads(tuple), *SPECS, loss=["mse", nn.CrossEntropyLoss()], loss_weights=[2.0, 1.0], optimizer=optim.SGD(0.1),
        metrics=[None, ["accuracy"]], target="reference",
    )  # fmt: skip
    mse, entropy, _ = expected(model, x, value, label)
    found = model.evaluate(x, (value, label))
    assert found["loss"] == pytest.approx(2 * mse + entropy, rel=1e-9)
    assert set(found) == {"loss", "output_1_loss", "output_2_loss", "output_2_accuracy"}
    w = np.linspace(0, 2, 11)
    mse, entropy, _ = expected(model, x, value, label, None, w)
    assert model.evaluate(x, (value, label), sample_weight=(None, w))["loss"] == pytest.approx(2 * mse + entropy, rel=1e-9)


def test_the_gradient_is_that_of_the_weighted_sum():
    """Training on 2 a + b is training on the function that says so."""
    x, value, label = data()

    def both(p, y):
        return gc.ops.mse_loss(p[0], y[0]) * 2.0 + gc.ops.cross_entropy(p[1], y[1])

    gc.set_seed(4)
    a = gc.compile(Heads(tuple), *SPECS, loss=["mse", "cross_entropy"], loss_weights=[2.0, 1.0], optimizer=optim.SGD(0.3), target="reference")
    gc.set_seed(4)
    spec = (gc.spec("N", 1, dtype="float64"), gc.spec("N", dtype="int64"))
    b = gc.compile(Heads(tuple), *SPECS, loss=both, optimizer=optim.SGD(0.3), target_spec=spec, target="reference")
    for m in (a, b):
        m.fit(x, (value, label), batch_size=5, epochs=2)
    for k, v in a.state_dict().items():
        np.testing.assert_allclose(v, b.state_dict()[k], rtol=1e-12)


def test_an_output_without_a_loss_needs_no_target():
    x, value, label = data()
    net = Heads(dict)
    with pytest.raises(gc.GradientError, match=r"does not depend on parameter 'b\.weight'"):  # what nothing trains is frozen by hand
        gc.compile(net, *SPECS, loss={"value": "mse"}, optimizer=optim.SGD(0.1), target="reference")
    net = Heads(dict)
    net.b.freeze()
    model = gc.compile(net, *SPECS, loss={"value": "mse"}, optimizer=optim.SGD(0.1), target="reference")
    assert set(model.fit(x, {"value": value}).history) == {"loss", "value_loss"}
    net = Heads(tuple)
    net.a.freeze()
    second = gc.compile(net, *SPECS, loss=[None, "cross_entropy"], optimizer=optim.SGD(0.1), target="reference")
    assert set(second.train_on_batch(x, (None, label))) == {"loss", "output_2_loss"}
    assert "output_2: cross_entropy" in second.summary(print_fn=None)


def test_misuse_is_told():
    def build(kind, **how):
        return gc.compile(Heads(kind), *SPECS, target="reference", **how)

    for kind, how, text in (
        (dict, {"loss": {"values": "mse"}}, "'values', but forward gives value, class"),
        (tuple, {"loss": ["mse"]}, "1 losses for 2 outputs"),
        (tuple, {"loss": {"value": "mse"}}, "forward gives no dict"),
        (dict, {"loss": {"value": "mse"}, "loss_weights": {"class": 1.0}}, "loss_weights"),
        (tuple, {"loss": ["mse", "cross_entropy"], "metrics": ["accuracy"]}, "a list of 2"),
        (tuple, {"loss": ["mse", None], "metrics": [None, ["accuracy"]]}, "metrics but no loss"),
        (tuple, {"loss": [None, None]}, "no output has a loss"),
        (dict, {"loss": "mse", "loss_weights": [1.0]}, "go with several losses"),
        (dict, {"loss": {"value": "mse", "class": "cross_entropy"}, "loss_weights": {"value": -1.0}}, "loss_weights of value"),
    ):
        with pytest.raises(gc.ArgumentError, match=text):
            build(kind, **how)
    model = build(dict, loss={"value": "mse"})
    x, value, _ = data()
    with pytest.raises(gc.ArgumentError, match="outputs: value"):
        model.evaluate(x, {"value": value}, sample_weight={"class": np.ones(11)})
