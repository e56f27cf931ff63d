"""Parts of a model in eval mode while it is trained, and other habits of users of torch and Keras."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim

X = np.random.default_rng(0).normal(1.0, 2.0, (16, 4)).astype(np.float32)
Y = np.zeros((16, 4), np.float32)


class Body(nn.Module):
    def __init__(self):
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(self.norm(x))
        return nn.functional.dropout(x, 0.5) if self.training else x


class Net(nn.Module):
    def __init__(self):
        self.body = Body()
        self.scale = nn.Parameter(np.ones(4, np.float32))

    def forward(self, x):
        return self.body(x) * self.scale


def compiled(net):
    return gc.compile(net, gc.spec("N", 4), loss="mse", optimizer=optim.SGD(0.1), target="reference")


def test_a_part_in_eval_mode_behaves_in_training_as_in_a_prediction():
    net = Net()
    assert net.body.eval() is net.body
    model = compiled(net)
    expected = model.evaluate(X, Y)["loss"]
    assert model.train_on_batch(X, Y)["loss"] == pytest.approx(expected, rel=1e-6)
    after = model.state_dict()
    assert after["body.norm.num_batches_tracked"] == 0 and not after["body.norm.running_mean"].any()
    assert (after["body.norm.weight"] != 1.0).all() and (after["scale"] != 1.0).all()  # still trained


def test_it_can_be_changed_between_steps_and_for_a_child_alone():
    net = Net()
    model = compiled(net)

    def moved():
        before = model.state_dict()["body.norm.running_mean"]
        loss = model.train_on_batch(X, Y)["loss"]
        return loss, bool((model.state_dict()["body.norm.running_mean"] != before).any())

    _, changed = moved()
    assert changed
    net.eval()
    assert not moved()[1]
    net.train()
    net.body.norm.eval()  # dropout still drops
    loss, changed = moved()
    assert not changed and loss != pytest.approx(model.evaluate(X, Y)["loss"], rel=1e-3)
    net.body.eval().norm.train()  # the child's own mode counts, as in torch
    assert moved()[1]


def test_random_numbers_in_a_part_in_eval_mode_still_differ_from_step_to_step():
    class Noise(nn.Module):
        def forward(self, x):
            return x + gc.random.normal(x.shape)

    noise = Noise().eval()
    step = gc.step(lambda x: noise(x), gc.spec("N", 4), target="reference")
    assert (step(X) != step(X)).any()


def test_a_buffer_is_not_written_by_a_part_in_eval_mode():
    class Counts(nn.Module):
        def __init__(self):
            self.count = nn.Buffer(np.zeros((), np.float32))

        def forward(self, x):
            self.count = self.count + 1.0
            return x

    counts = Counts().eval()
    with pytest.raises(gc.TraceError, match="written outside of training"):
        gc.step(lambda x: counts(x), gc.spec("N", 4), target="reference")


def test_habits_of_torch_and_keras():
    net = Net()
    for p in net.body.parameters():
        p.requires_grad = False
    assert net.trainable and not net.body.trainable and net.scale.requires_grad
    model = compiled(net)
    model.train_on_batch(X, Y)
    assert (model.state_dict()["body.norm.weight"] == 1.0).all()
    net.trainable = True
    model.train_on_batch(X, Y)
    assert (model.state_dict()["body.norm.weight"] != 1.0).any()
    net.body.trainable = False
    assert not net.body.norm.weight.trainable

    f = gc.compile(gc.grad(lambda x: (x * x.detach()).sum()), gc.spec(3), target="reference")
    assert f([1.0, 2.0, 3.0]).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("habit", "error", "told"),
    [
        (lambda net: optim.Adam(net.parameters(), lr=1e-3), gc.ArgumentError, r"optim.Adam\(lr=1e-3\)"),
        (lambda net: optim.SGD(p for p in net.parameters()), gc.ArgumentError, "what is trained is said later"),
        (lambda net: optim.Adam(learning_rate=0.01), gc.ArgumentError, r"optim.Adam\(lr=0.01\)"),
        (lambda net: net.to("cpu"), gc.UnknownNameError, r"(?s)Net has no attribute 'to'.*target="),
        (lambda net: net.zero_grad(), gc.UnknownNameError, "nothing is kept"),
        (lambda net: net.fit(X, Y), gc.UnknownNameError, "model = gc.compile"),
        (lambda net: net.register_buffer("a", X), gc.UnknownNameError, "nn.Buffer"),
        (lambda net: net.nothing_like_that, gc.UnknownNameError, "Net has no attribute 'nothing_like_that'"),
    ],
)
def test_other_habits_are_told_where_to_go(habit, error, told):
    with pytest.raises(error, match=told) as e:
        habit(Net())
    assert e.type is error
