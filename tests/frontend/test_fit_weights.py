"""Sample and class weights: sum_i w_i l_i / N in the compiled loss, against torch and hand computations."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import losses, nn, optim

torch = pytest.importorskip("torch")
F = torch.nn.functional

WEIGHTS = np.array([0.0, 0.5, 1.0, 2.0, 3.5, 1.0, 0.25])


def linear(target, loss, outputs=3, dtype="float64", lr=0.5, metrics=(), **how):
    gc.set_seed(3)
    return gc.compile(
        nn.Linear(4, outputs, dtype=dtype), gc.spec("N", 4, dtype=dtype), loss=loss, optimizer=optim.SGD(lr), metrics=metrics, target=target, **how
    )


def rows(count=7, outputs=3):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, 4)), rng.integers(0, outputs, count)


def torch_step(model, x, y, loss, lr=0.5):
    """(loss, weights after one step) of a torch layer with the model's weights."""
    layer = torch.nn.Linear(4, len(model.state_dict()["bias"]), dtype=torch.float64)
    layer.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    value = loss(layer(torch.tensor(x)), torch.tensor(y))
    value.backward()
    with torch.no_grad():
        return value.item(), {k: (p - lr * p.grad).numpy() for k, p in layer.named_parameters()}


def check(model, x, y, expected, **weights):
    value, after = expected
    if "class_weight" not in weights:
        assert model.evaluate(x, y, **weights)["loss"] == pytest.approx(value, rel=1e-9)
    assert model.train_on_batch(x, y, **weights)["loss"] == pytest.approx(value, rel=1e-9)
    for k, v in model.state_dict().items():
        np.testing.assert_allclose(v, after[k], rtol=1e-9, atol=1e-12)


def test_a_weighted_step_is_torchs(target):
    x, y = rows()
    model = linear(target, "cross_entropy")
    w = torch.tensor(WEIGHTS)
    expected = torch_step(model, x, y, lambda p, t: (w * F.cross_entropy(p, t, reduction="none")).sum() / 7)
    check(model, x, y, expected, sample_weight=WEIGHTS)


def test_class_weights_are_sample_weights_and_divide_by_the_number_of_samples():
    """Keras' sum(w l) / N; torch's CrossEntropyLoss(weight=...) divides by sum(w) instead, which is that times N / sum(w)."""
    x, y = rows()
    by_class = {0: 2.0, 2: 0.5}
    table = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    model = linear("reference", "cross_entropy")
    total = float(table[y].sum())
    expected = torch_step(model, x, y, lambda p, t: F.cross_entropy(p, t, weight=table) * total / 7)
    check(model, x, y, expected, class_weight=by_class)
    both = linear("reference", "cross_entropy").train_on_batch(x, y, sample_weight=WEIGHTS, class_weight=by_class)["loss"]
    product = linear("reference", "cross_entropy").train_on_batch(x, y, sample_weight=WEIGHTS * table.numpy()[y])["loss"]
    assert both == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize("name", sorted({loss.name for loss in losses.LOSSES.values()}))
def test_weights_of_one_change_nothing_and_zero_leaves_a_sample_out(name):
    """Also that a loss's rows and total are those of its plain value."""
    x, y = rows(6)
    record = losses.LOSSES[name]
    if record.target_spec is not losses.same_spec:
        target = y
    elif name in ("hinge", "squared_hinge"):
        target = np.sign(np.random.default_rng(0).normal(size=(6, 3)))
    else:
        target = np.random.default_rng(0).uniform(0.1, 0.9, (6, 3))
        if "categorical" in name or name == "kl_divergence":
            target /= target.sum(1, keepdims=True)

    class Net(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(4, 3, dtype="float64")

        def forward(self, v):
            v = self.fc(v)
            return v.log_softmax(-1) if name == "nll" else v if name == "cross_entropy" or "logits" in name else v.softmax(-1)

    gc.set_seed(1)
    model = gc.compile(Net(), gc.spec("N", 4, dtype="float64"), loss=name, target="reference")
    plain = model.evaluate(x, target)["loss"]
    assert model.evaluate(x, target, sample_weight=np.ones(6))["loss"] == pytest.approx(plain, rel=1e-12)
    kept = np.array([1.0, 1, 1, 0, 1, 0])
    some = model.evaluate(x[kept > 0], target[kept > 0])["loss"]
    share = 1.0 if name == "sse" else 4 / 6
    assert model.evaluate(x, target, sample_weight=kept)["loss"] == pytest.approx(some * share, rel=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.CrossEntropyLoss(weight=np.array([1.0, 2.0, 0.5]), ignore_index=1),
        lambda: nn.CrossEntropyLoss(label_smoothing=0.2),
        lambda: nn.CrossEntropyLoss(reduction="sum"),
        lambda: nn.NLLLoss(weight=np.array([1.0, 2.0, 0.5])),
        lambda: nn.MultiMarginLoss(),
    ],
)
def test_loss_modules_keep_their_divisor(make):
    """Weights of 1 give the plain loss; with others the divisor stays what it was, so the loss is linear in the weights."""
    x, y = rows()
    model = linear("reference", make())
    plain = model.evaluate(x, y)["loss"]
    one = model.evaluate(x, y, sample_weight=np.ones(7))["loss"]
    assert one == pytest.approx(plain, rel=1e-9)
    a, b = WEIGHTS, WEIGHTS[::-1].copy()
    apart = model.evaluate(x, y, sample_weight=a)["loss"] + model.evaluate(x, y, sample_weight=b)["loss"]
    assert model.evaluate(x, y, sample_weight=a + b)["loss"] == pytest.approx(apart, rel=1e-9)


def test_a_batch_of_a_class_is_weighed_as_torch_weighs_it():
    x, y = rows()
    weight = np.array([1.0, 2.0, 0.5])
    model = linear("reference", nn.CrossEntropyLoss(weight=weight, ignore_index=1))
    w, c = torch.tensor(WEIGHTS), torch.tensor(weight)

    def loss(p, t):
        terms = F.cross_entropy(p, t, weight=c, ignore_index=1, reduction="none")
        return (w * terms).sum() / c[t][t != 1].sum()

    check(model, x, y, torch_step(model, x, y, loss), sample_weight=WEIGHTS)


def test_the_epochs_loss_does_not_depend_on_the_batches():
    x, y = rows(40)
    w = np.random.default_rng(5).uniform(0, 3, 40)
    model = linear("reference", "cross_entropy", lr=0.0)
    values = [model.fit(x, y, batch_size=b, sample_weight=w)["loss"][0] for b in (1, 7, 40)]
    np.testing.assert_allclose(values, values[0], rtol=1e-9)
    assert model.evaluate(x, y, sample_weight=w, batch_size=7)["loss"] == pytest.approx(values[0], rel=1e-9)


def test_a_weight_of_two_is_the_sample_twice():
    x, y = rows(8)
    w = np.array([1.0, 2, 1, 1, 2, 1, 1, 1])
    once = linear("reference", "cross_entropy")
    once.train_on_batch(x, y, sample_weight=w * 8 / 10)
    twice = linear("reference", "cross_entropy")
    twice.train_on_batch(np.concatenate([x, x[[1, 4]]]), np.concatenate([y, y[[1, 4]]]))
    for k, v in once.state_dict().items():
        np.testing.assert_allclose(v, twice.state_dict()[k], rtol=1e-9)


def test_validation_weights_and_metrics(target):
    """Weights enter the loss, not the metrics; class weights are for training only."""
    x, y = rows(20)
    w = np.linspace(0, 2, 20)
    model = linear(target, "cross_entropy", lr=0.0, metrics=["accuracy"])
    history = model.fit(x, y, validation_data=(x, y, w), class_weight={0: 3.0, 1: 0.0, 2: 1.0})
    logits = x @ model.state_dict()["weight"].T + model.state_dict()["bias"]
    terms = np.log(np.exp(logits).sum(1)) - logits[np.arange(20), y]
    assert history["val_loss"][0] == pytest.approx((w * terms).sum() / 20, rel=1e-9)
    assert history["loss"][0] == pytest.approx((np.array([3.0, 0, 1])[y] * terms).sum() / 20, rel=1e-9)
    accuracy = (logits.argmax(1) == y).mean()
    assert history["accuracy"][0] == history["val_accuracy"][0] == pytest.approx(accuracy)


def test_weights_of_a_split_go_with_their_samples():
    x, y = rows(10)
    w = np.arange(10.0)
    model = linear("reference", "cross_entropy", lr=0.0)
    history = model.fit(x, y, sample_weight=w, validation_split=0.3, batch_size=4)
    assert history["val_loss"][0] == pytest.approx(model.evaluate(x[7:], y[7:], sample_weight=w[7:])["loss"], rel=1e-9)
    assert history["loss"][0] == pytest.approx(model.evaluate(x[:7], y[:7], sample_weight=w[:7])["loss"], rel=1e-9)


def test_weights_that_come_with_batches():
    x, y = rows(10)
    w = np.arange(10.0)
    batches = [(x[i : i + 4], y[i : i + 4], w[i : i + 4]) for i in (0, 4, 8)]
    a, b = linear("reference", "cross_entropy"), linear("reference", "cross_entropy")
    a.fit(batches, sample_weight=True)
    b.fit(x, y, batch_size=4, shuffle=False, sample_weight=w)
    np.testing.assert_array_equal(a.state_dict()["weight"], b.state_dict()["weight"])
    c, d = linear("reference", "cross_entropy"), linear("reference", "cross_entropy")
    c.fit([b[:2] for b in batches], class_weight={1: 4.0})
    d.fit(x, y, batch_size=4, shuffle=False, class_weight={1: 4.0})
    np.testing.assert_array_equal(c.state_dict()["weight"], d.state_dict()["weight"])
    with pytest.raises(gc.ArgumentError, match=r"fit\(batches, sample_weight=True\)"):
        a.fit(batches)


def test_a_function_of_one_value_a_sample_can_be_weighted():
    x = rows()[0]
    y = np.random.default_rng(2).normal(size=(7, 3))
    per_row = linear("reference", lambda p, t: ((p - t) ** 2).mean(1), target_spec=gc.spec("N", 3, dtype="float64"))
    mse = linear("reference", "mse")
    assert per_row.evaluate(x, y)["loss"] == pytest.approx(mse.evaluate(x, y)["loss"], rel=1e-12)
    assert per_row.evaluate(x, y, sample_weight=WEIGHTS)["loss"] == pytest.approx(mse.evaluate(x, y, sample_weight=WEIGHTS)["loss"], rel=1e-12)
    scalar = linear("reference", lambda p, t: ((p - t) ** 2).mean(), target_spec=gc.spec("N", 3, dtype="float64"))
    with pytest.raises(gc.ArgumentError, match="cannot be weighted by samples"):
        scalar.fit(x, y, sample_weight=WEIGHTS)


def test_a_penalty_is_not_weighted():
    x = rows()[0]
    y = np.zeros((7, 3))
    gc.set_seed(3)
    net = nn.Linear(4, 3, dtype="float64")
    model = gc.compile(net, gc.spec("N", 4, dtype="float64"), loss=losses.with_penalty("mse", net, l2=0.1), target="reference")
    penalty = 0.1 * sum((v**2).sum() for v in model.state_dict().values())
    assert model.evaluate(x, y, sample_weight=np.zeros(7))["loss"] == pytest.approx(penalty)


def test_misuse_of_weights_is_told():
    x, y = rows()
    model = linear("reference", "cross_entropy")
    for how, text in (
        ({"sample_weight": -WEIGHTS}, "negative or not finite"),
        ({"sample_weight": WEIGHTS[:, None]}, "one weight a sample"),
        ({"sample_weight": WEIGHTS[:-1]}, "N is 6"),
        ({"class_weight": {"a": 1.0}}, "a dict from labels to weights"),
        ({"class_weight": {0: -1.0}}, r"class_weight\[0\]"),
        ({"class_weight": {0: 1.0}, "sample_weight": WEIGHTS[:-1]}, "7 samples"),
    ):
        with pytest.raises(gc.GraphcError, match=text):
            model.fit(x, y, **how)
    with pytest.raises(gc.ArgumentError, match="one label a sample"):
        linear("reference", "mse", 1).fit(x, x[:, :1], class_weight={0: 2.0})
