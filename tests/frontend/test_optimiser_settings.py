"""What every optimiser can do: groups, clipping, penalties, accumulation, averages; its state in files; nothing compiles twice."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, nn, ops, optim

# mostly with the settings of test_optimisers.py, so that the kernels are compiled once
ALL = [
    optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9, weight_decay=0.01),
    optim.Adagrad(),
    optim.Adadelta(),
    optim.RMSprop(centered=True),
    optim.Adam(),
    optim.AdamW(),
    optim.NAdam(),
    optim.RAdam(),
    optim.Adamax(),
    optim.Lion(1e-3, (0.8, 0.95), 0.1),
    optim.LAMB(1e-2, (0.8, 0.95), 1e-4, 0.1),
]


def data(rows=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 6)), rng.integers(0, 3, rows)


@pytest.fixture
def compiled(monkeypatch):
    """Counts the programs that are compiled."""
    from graphc.frontend import function

    graphs, real = [], function.compile_graph
    monkeypatch.setattr(function, "compile_graph", lambda graph, *a, **k: graphs.append(graph.name) or real(graph, *a, **k))
    return graphs


@pytest.fixture
def torch_net():
    """``torch_net(model)``: the same network in torch, in float64, with the model's weights."""
    torch = pytest.importorskip("torch")

    def make(model):
        net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Linear(8, 3)).double()
        net.load_state_dict({k.removeprefix("fc."): torch.tensor(a) for k, a in model.state_dict().items()})
        return net

    return make


def torch_train(net, optimizer, batches, before=lambda net: None, after=lambda: None):
    import torch

    for x, y in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y)).backward()
        before(net)
        optimizer.step()
        after()


def assert_equal_weights(model, net, rtol=1e-9):
    theirs = {f"fc.{k}": v.numpy() for k, v in net.state_dict().items()}
    for k, a in model.state_dict().items():
        np.testing.assert_allclose(a, theirs[k], rtol=rtol, atol=1e-12, err_msg=k)


# -- groups ----------------------------------------------------------------------------------------------------------------
def test_groups_against_torch(classifier, torch_net):
    import torch

    model = classifier(
        optim.Adam(
            1e-2,
            weight_decay=0.1,
            groups=[optim.Group("fc.0", lr=1e-3, betas=(0.5, 0.9)), optim.Group(lambda name, p: p.ndim == 1, weight_decay=0.0)],
        ),
        dtype="float64",
    )
    net = torch_net(model)
    opt = torch.optim.Adam(
        [
            {"params": net[0].parameters(), "lr": 1e-3, "betas": (0.5, 0.9)},
            {"params": [net[3].bias], "weight_decay": 0.0},
            {"params": [net[3].weight]},
        ],
        lr=1e-2,
        weight_decay=0.1,
    )
    x, y = data()
    torch_train(net, opt, [(x, y)] * 10)
    for _ in range(10):
        model.train_on_batch(x, y)
    assert_equal_weights(model, net)
    assert model.learning_rates == pytest.approx({"lr": 1e-2, "lr_1": 1e-3})


def test_rates_of_groups_change_without_compiling(classifier, compiled):
    model = classifier(optim.SGD(0.1, groups=[optim.Group("*.bias", lr=0.0)]))
    x, y = data()
    before = model.state_dict()
    model.train_on_batch(x, y)
    after = model.state_dict()
    assert np.array_equal(before["fc.0.bias"], after["fc.0.bias"]) and not np.array_equal(before["fc.0.weight"], after["fc.0.weight"])
    model.learning_rates = {"lr": 0.0, "lr_1": 0.1}
    model.train_on_batch(x, y)
    last = model.state_dict()
    assert not np.array_equal(last["fc.0.bias"], after["fc.0.bias"]) and np.array_equal(last["fc.0.weight"], after["fc.0.weight"])
    assert compiled == ["MLP_train_step"]
    with pytest.raises(gc.ArgumentError, match="lr_2"):
        model.learning_rates = {"lr_2": 1.0}


def test_the_first_group_that_takes_a_parameter_has_it(mlp):
    m = mlp()
    gc.compile(m, gc.spec("N", 6), target="reference")
    opt = optim.SGD(0.1, groups=[optim.Group(m.fc[0].bias, lr=1.0), optim.Group(["fc.0", m.fc[3]], lr=2.0)])
    assert [(p.name, view.lr, rate) for p, view, rate in opt.assign(m.parameters())] == [
        ("fc.0.weight", 2.0, "lr_2"),
        ("fc.0.bias", 1.0, "lr_1"),
        ("fc.3.weight", 2.0, "lr_2"),
        ("fc.3.bias", 2.0, "lr_2"),
    ]


def test_torchs_list_of_groups_in_a_step(target):
    a, b = nn.Parameter([1.0, 1.0], name="a"), nn.Parameter([1.0, 1.0], name="b")
    opt = optim.SGD(0.5)

    def fn(x):
        loss = ((a + b) * x).sum()
        opt.minimize(loss, [{"params": [a], "lr": 0.25}, {"params": b}])
        return loss

    gc.step(fn, gc.spec(2), target=target)([1.0, 2.0])
    np.testing.assert_allclose(a.numpy(), [0.75, 0.5])
    np.testing.assert_allclose(b.numpy(), [0.5, 0.0])


def test_mistakes_in_groups(classifier, mlp):
    for make, text in [
        (lambda: classifier(optim.SGD(0.1, groups=[optim.Group("decoder", lr=1.0)])), "takes no parameter"),
        (lambda: optim.SGD(0.1, groups=[optim.Group("a", beta=1.0)]), "no setting 'beta'"),
        (lambda: optim.SGD(0.1, groups=[optim.Group("a", clip_norm=1.0)]), "no setting 'clip_norm'"),
        (lambda: optim.SGD(0.1, groups=[optim.Group("a", lr=-1.0)]), "lr = -1.0"),
        (lambda: optim.SGD(0.1, groups=["a"]), "is not a group"),
        (lambda: optim.Group(3), "a group of 3"),
        (lambda: optim.SGD().assign([{"lr": 1.0}]), "without params"),
        (lambda: optim.SGD().assign([nn.Linear(2, 2)]), "minimize over a Linear"),
    ]:
        with pytest.raises(gc.ArgumentError, match=text):
            make()
    p = nn.Parameter([1.0], name="p")
    with pytest.raises(gc.ArgumentError, match="'p' is in two groups"):
        optim.SGD().assign([{"params": [p]}, {"params": [p], "lr": 1.0}])
    assert len(optim.SGD().assign([p, p])) == 1, "a parameter given twice is updated once"


def test_frozen_parameters_have_no_state_and_stay(classifier, mlp):
    m = mlp()
    m.fc[0].freeze()
    model = classifier(optim.Adam(1e-2, accumulate=2, ema=0.9), module=m)
    before = model.state_dict()
    for _ in range(2):
        model.train_on_batch(*data())
    assert np.array_equal(before["fc.0.weight"], model.state_dict()["fc.0.weight"])
    assert not np.array_equal(before["fc.3.weight"], model.state_dict()["fc.3.weight"])
    assert not [n for n in model.store.names("state") if n.endswith("fc.0.weight")]
    np.testing.assert_array_equal(model.averages()["fc.0.weight"], before["fc.0.weight"])


# -- clipping and penalties --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["value", "global", "each", "all"])
def test_clipping_against_torch(classifier, torch_net, how):
    import torch
    from torch.nn.utils import clip_grad_norm_, clip_grad_value_

    settings = {}
    if how in ("value", "all"):
        settings["clip_value"] = 0.02
    if how in ("each", "all"):
        settings["clip_norm_each"] = 0.05
    if how in ("global", "all"):
        settings["clip_norm"] = 0.06

    def clip(net):
        if "clip_value" in settings:
            clip_grad_value_(net.parameters(), 0.02)
        if "clip_norm_each" in settings:
            for p in net.parameters():
                clip_grad_norm_([p], 0.05)
        if "clip_norm" in settings:
            clip_grad_norm_(net.parameters(), 0.06)

    model = classifier(optim.SGD(0.5, momentum=0.9, **settings), dtype="float64")
    net = torch_net(model)
    x, y = data()
    torch_train(net, torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9), [(x, y)] * 5, clip)
    for _ in range(5):
        model.train_on_batch(x, y)
    assert_equal_weights(model, net)


def test_penalties_are_those_of_the_penalised_loss(target):
    """L + lambda |W|^2 has the gradient 2 lambda W (not lambda W, which is torch's weight_decay); |W| has sign(W), 0 at 0."""
    w = nn.Parameter(np.array([1.0, -2.0, 0.0]), name="w")
    v = nn.Parameter(np.array([1.0, -2.0, 0.0]), name="v")
    a, b = optim.SGD(0.1, l1=0.3, groups=[optim.Group("w", l2=0.25)]), optim.SGD(0.1)

    def fn():
        first, second = (w * 1.0).sum(), (v * 1.0).sum() + optim.penalty([v], l1=0.3, l2=0.25)
        a.minimize(first, [w])
        b.minimize(second, [v])
        return first, second

    first, second = gc.step(fn, target=target)()
    assert second == pytest.approx(first + 0.3 * 3 + 0.25 * 5)
    by_hand = np.array([1.0, -2.0, 0.0]) - 0.1 * (1.0 + 0.3 * np.array([1, -1, 0]) + 2 * 0.25 * np.array([1.0, -2.0, 0.0]))
    np.testing.assert_allclose(w.numpy(), by_hand, rtol=1e-12)
    np.testing.assert_allclose(v.numpy(), by_hand, rtol=1e-12)
    with pytest.raises(gc.ArgumentError, match="penalty of nothing"):
        optim.penalty([])


def test_weight_decay_is_half_of_l2(classifier):
    x, y = data()

    def run(optimizer):
        model = classifier(optimizer, dtype="float64")
        for _ in range(3):
            model.train_on_batch(x, y)
        return model.state_dict()

    one, two = run(optim.SGD(0.1, weight_decay=0.2)), run(optim.SGD(0.1, l2=0.1))
    for k in one:
        np.testing.assert_allclose(one[k], two[k], rtol=1e-12)


# -- accumulation ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.NAdam(), optim.LAMB(1e-2), optim.Adam(1e-2, clip_norm=0.05, l2=0.01)], ids=str)
def test_accumulated_batches_are_one_large_batch(classifier, optimizer, compiled):
    import dataclasses

    one = classifier(optimizer, dtype="float64")
    many = classifier(dataclasses.replace(optimizer, accumulate=3), dtype="float64")
    start = one.state_dict()
    many.load_state_dict(start)
    for epoch in range(3):
        x, y = data(24, epoch)
        one.train_on_batch(x, y)
        held = many.state_dict()
        for i in range(3):
            for k, v in many.state_dict().items():
                np.testing.assert_array_equal(v, held[k])
            many.train_on_batch(x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8])
    ours, wanted = many.state_dict(), one.state_dict()
    for k, v in wanted.items():
        assert not np.array_equal(v, start[k])
        np.testing.assert_allclose(ours[k], v, rtol=1e-9, atol=1e-12)
    assert (many.steps, one.steps) == (9, 3)
    assert compiled == ["MLP_train_step"] * 2
    for n in many.store.names("state"):
        if ".gradient." in n:
            np.testing.assert_array_equal(many.store.numpy(n), 0.0)


def test_dropout_differs_between_accumulated_calls(classifier):
    """The random numbers follow the calls, not the updates."""
    model = classifier(optim.SGD(0.1, accumulate=4), dropout=0.5)
    x, y = data()
    assert len({model.train_on_batch(x, y)["loss"] for _ in range(4)}) == 4


def test_accumulation_in_fit_goes_on_over_epochs(classifier):
    x, y = data(20)
    model = classifier(optim.SGD(0.1, accumulate=4))
    before = model.state_dict()
    model.fit(x, y, batch_size=10, epochs=1)
    assert np.array_equal(before["fc.0.weight"], model.state_dict()["fc.0.weight"])
    model.fit(x, y, batch_size=10, epochs=1)
    assert not np.array_equal(before["fc.0.weight"], model.state_dict()["fc.0.weight"])


# -- averages ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("accumulate", [1, 2])
def test_averages_against_torch(classifier, torch_net, accumulate):
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = classifier(optim.SGD(0.5, ema=0.8, accumulate=accumulate), dtype="float64")
    net = torch_net(model)
    mean = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    x, y = data()
    torch_train(net, torch.optim.SGD(net.parameters(), lr=0.5), [(x, y)] * 6, after=lambda: mean.update_parameters(net))
    for _ in range(6 * accumulate):
        model.train_on_batch(x, y)
    assert_equal_weights(model, net)
    averages = model.averages()
    assert not np.allclose(averages["fc.0.weight"], model.state_dict()["fc.0.weight"])
    model.load_state_dict(averages)
    assert_equal_weights(model, mean.module)
    with pytest.raises(gc.ArgumentError, match="no averages"):
        classifier(optim.SGD(0.1)).averages()


# -- plateaus ----------------------------------------------------------------------------------------------------------------
LOSSES = [1.0, 0.9, 0.9, 0.95, 0.9, 0.899, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4]


class Rates:
    """What the callback sees of a model."""

    def __init__(self):
        self.learning_rates = {"lr": 1.0, "lr_1": 0.1}


@pytest.mark.parametrize(("patience", "cooldown", "min_lr", "delta"), [(1, 0, 0.0, 0.0), (2, 0, 0.0, 1e-4), (3, 2, 0.0, 0.01), (2, 3, 0.2, 0.0)])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateaus_against_torch(patience, cooldown, min_lr, delta, mode):
    """Keras counts an epoch less than torch: its patience of n is torch's of n - 1, and so is its cooldown."""
    torch = pytest.importorskip("torch")
    callback = callbacks.ReduceLROnPlateau("loss", 0.5, patience, 0, mode, delta, cooldown, min_lr)
    callback.model = Rates()
    callback.on_train_begin()
    a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.1}], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience - 1, delta, "abs", max(cooldown - 1, 0), [min_lr, min(min_lr, 0.1)], eps=0.0
    )
    for epoch, loss in enumerate(LOSSES):
        value = loss if mode == "min" else -loss
        callback.on_epoch_end(epoch, {"loss": value})
        theirs.step(value)
        assert list(callback.model.learning_rates.values()) == pytest.approx([g["lr"] for g in optimizer.param_groups], rel=1e-12)
    assert callback.model.learning_rates["lr"] < 1.0


def test_plateaus_in_fit(classifier):
    x, y = np.zeros((8, 6)), np.zeros(8, int)
    model = classifier(optim.SGD(0.0, groups=[optim.Group("fc.0", lr=0.5)]))
    model.learning_rates = {"lr": 1e-9}
    model.fit(x, y, epochs=5, callbacks=[callbacks.ReduceLROnPlateau("loss", 0.1, patience=2, min_delta=10.0)])
    assert model.learning_rates == pytest.approx({"lr": 1e-11, "lr_1": 0.005})
    with pytest.raises(gc.ArgumentError, match="does not reduce"):
        callbacks.ReduceLROnPlateau(factor=1.0)


# -- files, programs ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "optimizer", [*ALL, optim.Adam(1e-2, accumulate=2, ema=0.9, groups=[optim.Group("*.bias", lr=0.1)])], ids=str
)
def test_training_goes_on_from_a_file(classifier, optimizer, tmp_path):
    x, y = data()
    model, other = (classifier(optimizer, dtype="float64") for _ in range(2))
    for _ in range(3):
        model.train_on_batch(x, y)
    model.save(tmp_path / "model")
    other.load(tmp_path / "model")
    for m in (model, other):
        for _ in range(3):
            m.train_on_batch(x, y)
    for n in model.store.names():
        np.testing.assert_array_equal(model.store.numpy(n), other.store.numpy(n), n)


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_one_program_for_every_rate_and_step(classifier, optimizer, compiled):
    model = classifier(optimizer, dtype="float64")
    x, y = data()
    for rate in (0.0, 0.1, 0.2):
        before = model.state_dict()
        model.learning_rate = rate
        for _ in range(2):
            model.train_on_batch(x, y)
        assert np.array_equal(before["fc.0.weight"], model.state_dict()["fc.0.weight"]) == (rate == 0.0)
    assert compiled == ["MLP_train_step"]


@pytest.mark.parametrize("rows", [1, 37])
def test_batches_of_any_size(classifier, rows):
    model = classifier(optim.LAMB(1e-2, clip_norm=1.0, accumulate=2))
    for _ in range(2):
        model.train_on_batch(*data(rows))
    assert all(np.isfinite(v).all() for v in model.state_dict().values())


def test_mistakes_in_settings():
    for make, text in [
        (lambda: optim.Adam(betas=0.9), "betas = 0.9"),
        (lambda: optim.Adam(betas=(0.9, 1.0)), r"betas\[1\] = 1.0"),
        (lambda: optim.SGD(accumulate=0), "accumulate = 0"),
        (lambda: optim.SGD(ema=1.0), "ema = 1.0"),
        (lambda: optim.SGD(clip_norm=-1.0), "clip_norm = -1.0"),
        (lambda: optim.SGD(l2=-1.0), "l2 = -1.0"),
        (lambda: optim.SGD(schedule=3), "schedule = 3"),
        (lambda: optim.SGD(0.1, 0.9, 0.1, nesterov=True), "no dampening"),
        (lambda: optim.Adadelta(rho=1.0), "rho = 1.0"),
    ]:
        with pytest.raises(gc.ArgumentError, match=text):
            make()


def test_optimisers_by_name(classifier):
    for name in ("sgd", "Adagrad", "adadelta", "rmsprop", "adam", "adamw", "nadam", "radam", "adamax", "lion", "lamb"):
        assert type(optim.as_optimizer(name)).__name__.lower() == name.lower()


def test_an_optimiser_of_ones_own(target):
    class SignDescent(optim.Optimizer):
        slots = ("count",)

        def update(self, param, grad, state, lr, step):
            moved = ops.where(ops.lt(0.0, grad), param - lr, param + lr)
            return moved, state["count"] + 1.0

    w = nn.Parameter([1.0, 1.0], name="w")
    opt = SignDescent(0.5, groups=[optim.Group("w", lr=0.25)])

    def fn(x):
        loss = (w * x).sum()
        opt.minimize(loss, [w])
        return loss

    step = gc.step(fn, gc.spec(2), target=target)
    step([1.0, -1.0])
    np.testing.assert_allclose(w.numpy(), [0.75, 1.25])
    np.testing.assert_allclose(step.store.numpy("optimizer.count.w"), [1, 1])


def test_an_optimiser_without_state(target):
    class Plain(optim.Optimizer):
        def update(self, param, grad, state, lr, step):
            return param - grad * lr

    w = nn.Parameter([1.0, 1.0], name="w")
    opt = Plain(0.5)

    def fn(x):
        loss = (w * x).sum()
        opt.minimize(loss, [w])
        return loss

    gc.step(fn, gc.spec(2), target=target)([1.0, -1.0])
    np.testing.assert_allclose(w.numpy(), [0.5, 1.5])
