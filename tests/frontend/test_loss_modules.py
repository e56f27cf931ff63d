"""Loss modules against torch's, and losses by name in a compiled model."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops, optim
from graphc.ir.types import TensorType
from tests.frontend.torch_layers import check

torch = pytest.importorskip("torch")
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
P, Q = rng.uniform(0.05, 0.95, (6, 5)), rng.uniform(0.05, 0.95, (6, 5))
SIGNS = rng.choice([-1.0, 1.0], (6, 5))
LABELS, W = np.array([0, 4, 2, 2, 1, 3]), rng.uniform(0.2, 2.0, 5)
IGNORED = np.array([0, -100, 2, 2, -100, 3])
SETS = np.array([[1, 3, -1, 0, 2], [0, -1, 2, 2, 2], [4, 3, 2, 1, 0], [-1, 0, 1, 2, 3], [2, 2, -1, -1, -1], [1, 0, -1, 4, 4]])
IMAGE, MAP = rng.normal(size=(2, 5, 3, 4)), rng.integers(0, 5, (2, 3, 4))

# name, settings, arguments; weights are made into tensors for torch
CASES = [
    ("MSELoss", {}, (X, Y)),
    ("L1Loss", {}, (X, Y)),
    ("SmoothL1Loss", {}, (X, Y)),
    ("SmoothL1Loss", {"beta": 0.3}, (X, Y)),
    ("SmoothL1Loss", {"beta": 0.0}, (X, Y)),
    ("HuberLoss", {}, (X, Y)),
    ("HuberLoss", {"delta": 0.3}, (X, Y)),
    ("PoissonNLLLoss", {}, (X, P * 4)),
    ("PoissonNLLLoss", {"log_input": False, "full": True}, (P, P * 4)),
    ("GaussianNLLLoss", {}, (X, Y, P)),
    ("GaussianNLLLoss", {"full": True, "eps": 0.5}, (X, Y, P[:, :1])),
    ("CrossEntropyLoss", {}, (X, LABELS)),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, (X, IGNORED)),
    ("CrossEntropyLoss", {"weight": W}, (X, IGNORED)),
    ("CrossEntropyLoss", {"weight": W, "label_smoothing": 0.1, "ignore_index": 2}, (X, LABELS)),
    ("CrossEntropyLoss", {"weight": W, "label_smoothing": 0.1}, (X, P)),
    ("CrossEntropyLoss", {"weight": W, "ignore_index": 1}, (IMAGE, MAP)),
    ("CrossEntropyLoss", {}, (X[0], np.array(3))),
    ("NLLLoss", {}, (X, LABELS)),
    ("NLLLoss", {"weight": W}, (X, IGNORED)),
    ("NLLLoss", {"weight": W}, (IMAGE, MAP)),
    ("BCELoss", {}, (P, Q)),
    ("BCELoss", {"weight": W}, (P, Q)),
    ("BCEWithLogitsLoss", {}, (X, Q)),
    ("BCEWithLogitsLoss", {"weight": W, "pos_weight": W[::-1].copy()}, (X, Q)),
    ("KLDivLoss", {}, (X, P)),
    ("KLDivLoss", {"log_target": True}, (X, Y)),
    ("SoftMarginLoss", {}, (X, SIGNS)),
    ("HingeEmbeddingLoss", {"margin": 0.5}, (X, SIGNS)),
    ("MarginRankingLoss", {"margin": 0.3}, (X, Y, SIGNS)),
    ("MultiMarginLoss", {}, (X, LABELS)),
    ("MultiMarginLoss", {"p": 2, "margin": 0.5, "weight": W}, (X, LABELS)),
    ("MultiLabelMarginLoss", {}, (X, SETS)),
    ("MultiLabelSoftMarginLoss", {"weight": W}, (X, Q)),
    ("CosineEmbeddingLoss", {"margin": -0.2}, (X, Y, SIGNS[:, 0])),
    ("TripletMarginLoss", {}, (X, Y, P)),
    ("TripletMarginLoss", {"p": 1.0, "margin": 0.4, "swap": True}, (X, Y, P)),
]
# torch gives a gradient to a target where nobody asks for one, or refuses to: those are checked as arguments of the function
CONSTANT = {"PoissonNLLLoss": (1,), "KLDivLoss": (), "SoftMarginLoss": (1,), "HingeEmbeddingLoss": (1,), "MarginRankingLoss": (2,), "CosineEmbeddingLoss": (2,)}


def names(case):
    return f"{case[0]}-{'-'.join(case[1])}" if isinstance(case, tuple) else None


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_values_gradients_and_state_are_torchs(case, reduction):
    name, settings, arrays = case
    made = [
        getattr(module, name)(**{k: wrap(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}, reduction=reduction)
        for module, wrap in ((nn, lambda v: v), (torch.nn, torch.tensor))
    ]
    fixed = CONSTANT.get(name, ())
    free = [a for i, a in enumerate(arrays) if i not in fixed]

    def call(module, *xs):
        it, like = iter(xs), torch.tensor if isinstance(module, torch.nn.Module) else ops.const
        return module(*(like(a) if i in fixed else next(it) for i, a in enumerate(arrays)))

    check(*made, *free, call=call, steps=1)


@pytest.mark.parametrize("name,arrays", [("CrossEntropyLoss", (X, IGNORED)), ("HuberLoss", (X, Y)), ("TripletMarginLoss", (X, Y, P)), ("BCEWithLogitsLoss", (X, Q))])
def test_a_named_batch_on_the_cpu(name, arrays):
    check(getattr(nn, name)(), getattr(torch.nn, name)(), *arrays, steps=1, named=True, target="cpu")


def test_weights_are_buffers_under_torchs_names():
    for name, settings, _ in CASES:
        weights = {k: v for k, v in settings.items() if isinstance(v, np.ndarray)}
        state = getattr(nn, name)(**settings).state_dict()
        assert sorted(state) == sorted(weights) == sorted(getattr(torch.nn, name)(**{**settings, **{k: torch.tensor(v) for k, v in weights.items()}}).state_dict())
        for k, v in weights.items():
            np.testing.assert_array_equal(state[k], v)


def test_batchmean_is_the_divergence_of_a_row():
    check(nn.KLDivLoss("batchmean"), torch.nn.KLDivLoss(reduction="batchmean"), X, P, steps=1)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_distances(p):
    check(nn.PairwiseDistance(p, keepdim=True), torch.nn.PairwiseDistance(p, keepdim=True), X, Y, steps=1)
    check(nn.CosineSimilarity(dim=0), torch.nn.CosineSimilarity(dim=0), X, Y, steps=1)


# -- numerics --------------------------------------------------------------------------------------------------------------
def slope(fn, *arrays, target):
    specs = [gc.spec(*a.shape, dtype=str(a.dtype)) for a in arrays]
    return gc.compile(lambda *xs: gc.grad(fn)(*xs), *specs, target=target)(*arrays)


def test_saturated_probabilities_stay_finite_as_in_torch(target):
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-300]), np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    x = torch.tensor(p, requires_grad=True)
    theirs = torch.nn.functional.binary_cross_entropy(x, torch.tensor(t), reduction="none")
    theirs.sum().backward()
    found = gc.compile(lambda a, b: ops.binary_cross_entropy(a, b, reduction="none"), *[gc.spec(5, dtype="float64")] * 2, target=target)(p, t)
    np.testing.assert_allclose(found, theirs.detach().numpy(), rtol=1e-12)
    assert found[0] == found[1] == 100
    np.testing.assert_allclose(slope(lambda a, b: ops.binary_cross_entropy(a, b, reduction="sum"), p, t, target=target), x.grad.numpy(), rtol=1e-8)  # its 1e-12 is a float32


@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "soft_margin_loss", "log_cosh_loss", "focal_loss", "huber_loss"])
def test_large_values_neither_overflow_nor_lose_the_gradient(name, target):
    x = np.array([-800.0, -90.0, 90.0, 800.0], np.float32)
    y = np.array([1.0, 1.0, 1.0, 1.0], np.float32)
    fn = getattr(ops, name)
    value = gc.compile(lambda a, b: fn(a, b, reduction="none"), gc.spec(4), gc.spec(4), target=target)(x, y)
    assert np.isfinite(value).all() and value[0] > 90
    g = slope(lambda a, b: fn(a, b, reduction="sum"), x, y, target=target)
    assert np.isfinite(g).all() and abs(g[0]) > 0.1


def test_zero_vectors_have_finite_gradients(target):
    zero, other = np.zeros((2, 3)), np.ones((2, 3))
    for fn in (ops.cosine_similarity, lambda a, b: ops.pairwise_distance(a, b, eps=0.0), lambda a, b: ops.contrastive_loss(a, b, ops.const(np.ones(2)))):
        for pair in ((zero, other), (zero, zero)):
            assert np.isfinite(slope(lambda a, b, f=fn: f(a, b).sum(), *pair, target=target)).all()


def test_every_row_ignored_is_no_number():
    f = gc.compile(lambda x, y: ops.cross_entropy(x, y), gc.spec("N", 3), gc.spec("N", dtype="int64"), target="reference")
    assert np.isnan(f(np.ones((2, 3), np.float32), np.array([-100, -100])))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_narrow_labels_hold_many_classes(dtype, target):
    """128 classes and a label type that cannot count to 128."""
    x = rng.normal(size=(4, 300)).astype(np.float32)
    y = np.array([3, 100, 0, 127])
    f = gc.compile(lambda a, b: ops.cross_entropy(a, b), gc.spec(4, 300), gc.spec(4, dtype=dtype), target=target)
    assert f(x, y.astype(dtype)) == pytest.approx(float(torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(y))), rel=1e-5)


# -- by name ---------------------------------------------------------------------------------------------------------------
SOFT = np.exp(X) / np.exp(X).sum(1, keepdims=True)
TARGETS = P / P.sum(1, keepdims=True)


def row_mean(terms):
    return float(terms.sum(1).mean())


BY_NAME = {
    "mse": (X, Y, ((X - Y) ** 2).mean()),
    "sse": (X, Y, ((X - Y) ** 2).sum()),
    "mae": (X, Y, np.abs(X - Y).mean()),
    "mean_absolute_percentage_error": (P, Q, 100 * np.abs((P - Q) / Q).mean()),
    "msle": (P, Q, ((np.log1p(P) - np.log1p(Q)) ** 2).mean()),
    "log_cosh": (X, Y, np.log(np.cosh(X - Y)).mean()),
    "quantile": (X, Y, np.abs(X - Y).mean() / 2),
    "cosine": (X, Y, 1 - ((X * Y).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Y, axis=1)).mean()),
    "poisson": (P, Q * 3, (P - Q * 3 * np.log(P + 1e-7)).mean()),
    "kl_divergence": (SOFT, TARGETS, row_mean(TARGETS * np.log(TARGETS / SOFT))),
    "categorical_crossentropy": (SOFT, TARGETS, -row_mean(TARGETS * np.log(SOFT))),
    "sparse_categorical_crossentropy": (SOFT, LABELS, -np.log(SOFT[range(6), LABELS]).mean()),
    "nll": (np.log(SOFT), LABELS, -np.log(SOFT[range(6), LABELS]).mean()),
    "cross_entropy": (X, LABELS, -np.log(SOFT[range(6), LABELS]).mean()),
    "bce": (P, Q, -(Q * np.log(P) + (1 - Q) * np.log(1 - P)).mean()),
    "bce_with_logits": (X, Q, (np.log1p(np.exp(X)) - X * Q).mean()),
    "hinge": (X, SIGNS, np.maximum(0, 1 - X * SIGNS).mean()),
    "squared_hinge": (X, SIGNS, (np.maximum(0, 1 - X * SIGNS) ** 2).mean()),
}


class Same(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize("name", BY_NAME)
def test_a_loss_by_name(name):
    x, y, wanted = BY_NAME[name]
    model = gc.compile(Same(), gc.spec("N", 5, dtype="float64"), loss=name, target="reference")
    assert model.evaluate(x, y, batch_size=6)["loss"] == pytest.approx(wanted, rel=1e-6)


def test_every_loss_by_name_has_a_target_and_trains():
    for name in gc.losses.LOSSES:
        net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
        model = gc.compile(net, gc.spec("N", 3), loss=name, optimizer=optim.SGD(0.05), target="reference")
        integer = model.target_spec.dtype.is_int
        x = rng.normal(size=(8, 3)).astype(np.float32)
        y = rng.integers(0, 4, 8) if integer else rng.uniform(0.1, 0.9, (8, 4)).astype(np.float32)
        before = model.evaluate(x, y)["loss"]
        for _ in range(5):
            model.train_on_batch(x, y)
        assert model.evaluate(x, y)["loss"] < before, name


def test_a_module_as_the_loss_of_a_model(tmp_path, target):
    """Its target follows, its weight is state of the model that files keep, and no optimiser touches it."""
    weight = np.array([1.0, 5.0, 1.0], np.float32)
    net, x, y = nn.Linear(4, 3), rng.normal(size=(9, 4)).astype(np.float32), np.tile([0, 1, 2], 3)
    model = gc.compile(net, gc.spec("N", 4), loss=nn.CrossEntropyLoss(weight=weight), optimizer=optim.Adam(1e-2), metrics=["accuracy"], target=target)
    model.fit(x, y, batch_size=9, epochs=2, verbose=0)
    logits = torch.tensor(model.predict(x))
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(y), torch.tensor(weight))
    assert model.evaluate(x, y)["loss"] == pytest.approx(float(wanted), rel=1e-5)
    model.save(tmp_path / "m.graphc")
    model.load(tmp_path / "m.graphc")
    assert model.evaluate(x, y)["loss"] == pytest.approx(float(wanted), rel=1e-5)


def test_penalties():
    net = nn.Linear(3, 2)

    def fn(x, y):
        plain = ops.mse_loss(net(x), y)
        return plain, plain + 0.1 * gc.losses.l2_penalty(net) + 0.2 * gc.losses.l1_penalty([net.weight])

    x, y = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 2)).astype(np.float32)
    plain, penalised = gc.compile(fn, gc.spec("N", 3), gc.spec("N", 2), target="reference")(x, y)
    w, b = (net.state_dict()[k] for k in ("weight", "bias"))
    extra = 0.1 * ((w**2).sum() + (b**2).sum()) + 0.2 * np.abs(w).sum()
    assert penalised - plain == pytest.approx(extra, rel=1e-5)
    model = gc.compile(net, gc.spec("N", 3), loss=gc.losses.with_penalty("mse", net, l2=0.1), target="reference")
    assert model.evaluate(x, y)["loss"] == pytest.approx(plain + 0.1 * ((w**2).sum() + (b**2).sum()), rel=1e-5)


def test_the_gradient_of_an_l2_penalty_is_twice_the_weight():
    """Not the weight: frameworks often write lambda / 2."""
    w = np.array([1.0, -2.0, 3.0])
    np.testing.assert_allclose(slope(lambda v: gc.losses.l2_penalty(v) * 0.5, w, target="reference"), w)
    np.testing.assert_allclose(slope(lambda v: gc.losses.l1_penalty(v), w, target="reference"), np.sign(w))


def test_misuse_is_told():
    with pytest.raises(gc.ArgumentError, match="MSELoss is a class"):
        gc.losses.as_loss(nn.MSELoss)
    with pytest.raises(gc.ArgumentError, match="is not a loss"):
        gc.losses.as_loss("crossentropy")
    with pytest.raises(gc.ShapeError, match="not a scalar"):
        gc.compile(nn.Linear(2, 2), gc.spec("N", 2), loss=nn.MSELoss(reduction="none"), optimizer="sgd", target="reference")
    with pytest.raises(gc.ArgumentError, match="reduction='avg'"):
        gc.compile(nn.Linear(2, 2), gc.spec("N", 2), loss=nn.MSELoss(reduction="avg"), optimizer="sgd", target="reference")
    with pytest.raises(gc.ShapeError, match="no class axis"):
        nn.CrossEntropyLoss().target_spec(TensorType((3,), ops.const(0.0).dtype))
