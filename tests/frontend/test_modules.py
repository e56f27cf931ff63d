"""Modules: names, values, initialisation, sharing."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn


class Everything(nn.Module):
    def __init__(self):
        self.w = nn.Parameter((2, 3), init="normal")
        self.layers = [nn.Linear(3, 3), nn.Linear(3, 3, bias=False)]
        self.named = {"a": nn.Parameter([1.0, 2.0, 3.0])}
        self.count = nn.Buffer(np.zeros((), np.float32))
        self.size = (3, 3)

    def forward(self, x):
        if self.training:
            self.count = self.count + 1.0
        for layer in self.layers:
            x = layer(x)
        return (x + self.named["a"]) @ self.w.transpose(1, 0)


NAMES = ["w", "layers.0.weight", "layers.0.bias", "layers.1.weight", "named.a"]


def test_names():
    m = Everything()
    assert [n for n, _ in m.named_parameters()] == NAMES
    assert [n for n, _ in m.named_buffers()] == ["count"]
    assert [n for n, _ in m.named_modules()] == ["layers.0", "layers.1"]
    assert [n for n, _ in nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))).named_parameters()] == [
        "0.weight",
        "0.bias",
        "1.0.weight",
        "1.0.bias",
    ]
    assert "Linear(in_features=3, out_features=3, bias=False)" in repr(m)


def test_forward_agrees_with_numpy(target):
    model = gc.compile(Everything(), gc.spec("N", 3), target=target)
    v = model.state_dict()
    assert sorted(v) == sorted([*NAMES, "count"])
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    h = x @ v["layers.0.weight"].T + v["layers.0.bias"]
    want = (h @ v["layers.1.weight"].T + v["named.a"]) @ v["w"].T
    np.testing.assert_allclose(model.predict(x), want, rtol=1e-5, atol=1e-6)


def test_buffers_are_written_by_training_only(target):
    model = gc.compile(Everything(), gc.spec("N", 3), loss="mse", optimizer="sgd", target=target)
    x, y = np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32)
    model.predict(x)
    model.evaluate(x, y)
    assert model.state_dict()["count"] == 0
    model.train_on_batch(x, y)
    model.train_on_batch(x, y)
    assert model.state_dict()["count"] == 2

    class Wrong(nn.Module):
        def __init__(self):
            self.n = nn.Buffer([0.0])

        def forward(self, x):
            self.n = self.n + 1.0
            return x

    with pytest.raises(gc.TraceError, match="written outside of training"):
        gc.compile(Wrong(), gc.spec(1), target=target)


def test_a_parameter_cannot_be_assigned_a_tensor():
    class Wrong(nn.Module):
        def __init__(self):
            self.w = nn.Parameter([0.0])

        def forward(self, x):
            self.w = x
            return x

    with pytest.raises(gc.TraceError, match="cannot be assigned a tensor"):
        gc.trace(Wrong(), gc.spec(1))


def test_initial_values_depend_on_seed_and_name_only(target, mlp):
    def values(seed, module):
        gc.set_seed(seed)
        return gc.compile(module, gc.spec("N", 6), target=target).state_dict()

    class Longer(mlp):
        def __init__(self):
            self.extra = nn.Parameter((7,), init="normal")
            super().__init__()

        def forward(self, x):
            return super().forward(x) + self.extra.sum()

    a, b, c, d = values(1, mlp()), values(1, mlp()), values(2, mlp()), values(1, Longer())
    for k in a:
        np.testing.assert_array_equal(a[k], b[k])
        assert not np.array_equal(a[k], c[k])
        np.testing.assert_array_equal(a[k], d[k])
    assert not np.array_equal(a["fc.0.weight"].ravel()[:8], a["fc.3.weight"].ravel()[:8])


def test_default_initialisation_is_torchs(target):
    v = gc.compile(nn.Linear(400, 300), gc.spec("N", 400), target=target).state_dict()
    bound = 1 / np.sqrt(400)
    for k in ("weight", "bias"):
        assert np.abs(v[k]).max() <= bound and np.abs(v[k]).max() > 0.95 * bound
        assert abs(v[k].mean()) < 4 * bound / np.sqrt(3 * v[k].size)
    assert abs(v["weight"].std() - bound / np.sqrt(3)) < 0.01 * bound


@pytest.mark.parametrize(
    ("init", "low", "high", "std"),
    [
        ("zeros", 0, 0, 0),
        ("ones", 1, 1, 0),
        (0.5, 0.5, 0.5, 0),
        ("uniform", 0, 1, 12**-0.5),
        (gc.init.uniform(-3, 1), -3, 1, 4 * 12**-0.5),
        (gc.init.normal(2.0, 0.1), 1, 3, 0.1),
        (gc.init.kaiming_normal(), -1, 1, (2 / 200) ** 0.5),
        ("xavier_uniform", -0.15, 0.15, (2 / 300) ** 0.5),
        (gc.init.xavier_normal(), -1, 1, (2 / 300) ** 0.5),
        ("kaiming_uniform", -0.18, 0.18, (2 / 200) ** 0.5),
    ],
)
def test_initialisers(init, low, high, std):
    value = nn.Parameter((100, 200), init=init).initial(0, "w")
    assert value.shape == (100, 200) and value.dtype == np.float32
    assert value.min() >= low and value.max() <= high
    assert abs(value.std() - std) <= 0.03 * std


def test_bad_initialisers():
    with pytest.raises(gc.ShapeError, match="no fan"):
        nn.Parameter((3,), init="kaiming_uniform").initial(0, "w")
    with pytest.raises(gc.ShapeError, match="is not an initialiser"):
        nn.Parameter((3,), init="lecun")
    with pytest.raises(gc.ShapeError, match="the initialiser gave shape"):
        nn.Parameter((3,), init=lambda shape, random: np.zeros(4)).initial(0, "w")


class Tied(nn.Module):
    """One weight used twice: (N, 4) -> (N, 4)."""

    def __init__(self):
        self.encode = nn.Linear(4, 4, bias=False)
        self.decode = nn.Linear(4, 4, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(self.encode(x).tanh())


def test_tied_weights_are_one_parameter(target):
    m = Tied()
    model = gc.compile(m, gc.spec("N", 4), loss="mse", optimizer=gc.optim.SGD(0.5), target=target)
    assert list(model.state_dict()) == ["encode.weight"]
    assert [i.name for i in model.graph.inputs] == ["x", "encode.weight"]
    x = np.random.default_rng(0).normal(size=(3, 4))
    w = model.state_dict()["encode.weight"].astype(np.float64)

    def loss(w):
        return np.mean((np.tanh(x @ w.T) @ w.T - x) ** 2)

    grad = np.zeros_like(w)
    for i in np.ndindex(w.shape):
        e = np.zeros_like(w)
        e[i] = 1e-6
        grad[i] = (loss(w + e) - loss(w - e)) / 2e-6
    logs = model.train_on_batch(x, x)
    assert logs["loss"] == pytest.approx(loss(w), rel=1e-5)
    np.testing.assert_allclose(model.state_dict()["encode.weight"], w - 0.5 * grad, atol=1e-5)


def test_a_module_used_twice(target):
    class Twice(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = gc.compile(Twice(), gc.spec("N", 3), target=target)
    v = model.state_dict()
    x = np.ones((2, 3), np.float32)
    h = x @ v["layer.weight"].T + v["layer.bias"]
    np.testing.assert_allclose(model.predict(x), h @ v["layer.weight"].T + v["layer.bias"], rtol=1e-5)


def test_state_dict_round_trip_and_copies(target, mlp):
    model = gc.compile(mlp(), gc.spec("N", 6), target=target)
    v = model.state_dict()
    v["fc.0.weight"][:] = 7
    assert not (model.state_dict()["fc.0.weight"] == 7).any()
    model.load_state_dict(v)
    assert (model.state_dict()["fc.0.weight"] == 7).all()
    assert (model.module.fc[0].weight.numpy() == 7).all()


def test_load_state_dict_is_all_or_nothing(target, mlp):
    model = gc.compile(mlp(), gc.spec("N", 6), target=target)
    before = model.state_dict()
    bad = {k: v + 1 for k, v in before.items()}
    bad["fc.0.weight"] = bad["fc.0.weight"].T
    bad["fc.3.bias"] = bad["fc.3.bias"].astype(np.int64)
    del bad["fc.0.bias"]
    bad["other"] = np.zeros(3)
    with pytest.raises(gc.ParameterError) as e:
        model.load_state_dict(bad)
    text = str(e.value)
    for line in (
        "missing: fc.0.bias",
        "unexpected: other",
        "fc.0.weight: shape (6, 8), expected (8, 6)",
        "fc.3.bias: dtype int64, expected float32",
    ):
        assert line in text
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_loading_before_compiling(target, mlp):
    m = mlp()
    with pytest.raises(gc.ParameterError, match="no values yet"):
        m.state_dict()
    values = {n: np.full(p.shape, 0.5, np.float32) for n, p in m.named_parameters()}
    m.load_state_dict(values)
    model = gc.compile(m, gc.spec("N", 6), target=target)
    for v in model.state_dict().values():
        assert (v == 0.5).all()


def test_bad_names():
    class Bad(nn.Module):
        def __init__(self):
            self.parts = {"a b": nn.Linear(2, 2)}

        def forward(self, x):
            return x

    with pytest.raises(gc.TraceError, match="cannot be part of a name"):
        gc.trace(Bad(), gc.spec("N", 2))


LAYERS = [
    (nn.ReLU(), lambda x: np.maximum(x, 0)),
    (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    (nn.Tanh(), np.tanh),
    (nn.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    (nn.LogSoftmax(0), lambda x: x - np.log(np.exp(x).sum(0))),
    (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    (nn.Softplus(), lambda x: np.log1p(np.exp(x))),
    (nn.LeakyReLU(0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    (nn.ELU(), lambda x: np.where(x > 0, x, np.expm1(x))),
    (nn.Identity(), lambda x: x),
    (nn.Flatten(), lambda x: x),
    (nn.Dropout(0.5), lambda x: x),
    (nn.LayerNorm(7), lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)),
    (nn.LayerNorm((5, 7)), lambda x: (x - x.mean()) / np.sqrt(x.var() + 1e-5)),
]


@pytest.mark.parametrize(
    ("layer", "oracle"), LAYERS, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else ""
)
def test_layers(layer, oracle, target):
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    np.testing.assert_allclose(
        gc.compile(layer, gc.spec(5, 7), target=target).predict(x), oracle(x.astype(np.float64)), rtol=2e-5, atol=2e-6
    )


def test_gelu(target):
    import math

    x = np.linspace(-3, 3, 13)
    want = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(
        gc.compile(nn.GELU(), gc.spec("N"), target=target).predict(x), want, rtol=1e-5, atol=1e-6
    )


def test_embedding(target):
    model = gc.compile(nn.Embedding(10, 4), gc.spec("N", "T", dtype="int64"), target=target)
    index = np.array([[1, 9, 0], [3, 3, 3]])
    np.testing.assert_array_equal(model.predict(index), model.state_dict()["weight"][index])
    with pytest.raises(gc.DTypeError, match="indices must be integers"):
        gc.compile(nn.Embedding(10, 4), gc.spec("N"), target=target)


def test_layer_norm_of_another_size():
    with pytest.raises(gc.ShapeError, match="the last axes"):
        gc.trace(nn.LayerNorm(4), gc.spec("N", 5))


def test_functions_in_sequential_and_functional(target):
    model = gc.compile(nn.Sequential(lambda x: x * 2, nn.functional.relu), gc.spec(2), target=target)
    assert model.predict([-1.0, 2.0]).tolist() == [0, 4]
