"""``gc.random`` in models and functions: streams, steps, named sizes, equality between targets."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import graphc as gc
from graphc import nn, ops
from graphc.errors import GraphcError, ShapeError, TraceError

KINDS = {
    "uniform": lambda n: gc.random.uniform((n, 7)),
    "normal": lambda n: gc.random.normal((n, 7)),
    "truncated_normal": lambda n: gc.random.truncated_normal((n, 7), -1.0, 2.0),
    "exponential": lambda n: gc.random.exponential((n, 7)),
    "gumbel": lambda n: gc.random.gumbel((n, 7)),
    "bernoulli": lambda n: gc.random.bernoulli(0.3, (n, 7)),
    "integers": lambda n: gc.random.integers(-5, 100, (n, 7)),
    "permutation": lambda n: gc.random.permutation(n),
    "categorical": lambda n: gc.random.categorical(ops.iota((n, 5), -1, "float32") * 0.5),
    "choice": lambda n: gc.random.choice(n, (9,)),
    "normal64": lambda n: gc.random.normal((n, 7), dtype="float64"),
}


def everything(x):
    return {k: f(x.shape[0]) for k, f in KINDS.items()}


@pytest.fixture(scope="module")
def compiled():
    return {t: gc.compile(everything, gc.spec("N", 2), target=t) for t in ("reference", "cpu")}


@pytest.mark.parametrize("n", [1, 37])
def test_targets_agree(compiled, n):
    reference, cpu = (compiled[t](np.zeros((n, 2), np.float32)) for t in ("reference", "cpu"))
    for k, wanted in reference.items():
        if wanted.dtype.kind == "f" and k != "uniform":
            np.testing.assert_array_max_ulp(cpu[k], wanted, 2 if wanted.dtype == np.float32 else 16)
        else:
            np.testing.assert_array_equal(cpu[k], wanted, k)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_an_empty_batch(target):
    f = gc.compile(lambda x: [gc.random.normal((x.shape[0], 7)), gc.random.permutation(x)], gc.spec("N", 2), target=target)
    a, b = f(np.zeros((0, 2), np.float32))
    assert a.shape == (0, 7) and b.shape == (0, 2)


def test_bits_do_not_depend_on_the_number_of_threads(compiled, monkeypatch):
    monkeypatch.setenv("GRAPHC_THREADS", "3")
    monkeypatch.setenv("GRAPHC_SMALL_WORK", "0")
    e = gc.compile(everything, gc.spec("N", 2), target="cpu")
    results = []
    for threads in (1, 2, 3):
        e.executable.threads = threads
        e.executable._bindings.clear()
        results.append(e(np.zeros((37, 2), np.float32)))
    for k in KINDS:
        assert results[0][k].tobytes() == results[1][k].tobytes() == results[2][k].tobytes(), k


class Noise(nn.Module):
    def forward(self, x):
        return x + gc.random.normal(x.shape) + gc.random.normal(x.shape)


class Net(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(4, 4)
        self.a, self.b, self.drop = Noise(), Noise(), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.b(self.a(self.fc(x)) + gc.random.uniform(x.shape)))


def streams(graph):
    from graphc.passes.decompose import decompose

    return [n.attrs["stream"] for n in decompose(graph).nodes if n.op.name == "random_bits"]


def test_no_two_calls_share_a_stream():
    found = streams(gc.trace(Net(), gc.spec("N", 4), training=True))
    assert len(found) == len(set(found)) == 6
    twice = streams(gc.trace(lambda x: gc.random.normal(x.shape) - gc.random.normal(x.shape), gc.spec(3)))
    assert len(set(twice)) == 2


def test_training_goes_on_and_prediction_stands():
    class Model(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(1, 1)

        def forward(self, x):
            return self.fc(x) * 0.0 + gc.random.normal((x.shape[0], 1))

    model = gc.compile(Model(), gc.spec("N", 1), loss="mse", optimizer=gc.optim.SGD(0.0), target="reference")
    x = np.zeros((8, 1), np.float32)
    np.testing.assert_array_equal(model.predict(x), model.predict(x))
    losses = [model.train_on_batch(x, x) for _ in range(3)]
    values = {round(float(v["loss"] if isinstance(v, dict) else v), 6) for v in losses}
    assert len(values) == 3


def test_the_seed_is_the_one_in_force():
    def make(seed):
        gc.set_seed(seed)
        return gc.compile(lambda: gc.random.normal((5,)), target="reference")()

    try:
        np.testing.assert_array_equal(make(1), make(1))
        assert (make(1) != make(2)).all()
    finally:
        gc.set_seed(0)


def test_iterations_of_a_scan_differ():
    f = gc.compile(lambda: ops.scan(lambda c, _: (c, gc.random.normal((4,))), ops.const(0.0), None, length=5)[1], target="reference")
    assert len(np.unique(f())) == 20


def test_gradients_reach_mean_and_deviation():
    def loss(m, s):
        return gc.random.normal((1000,), m, s).sum()

    g = gc.compile(gc.grad(loss, wrt=(0, 1)), gc.spec(), gc.spec(), target="reference")
    z = gc.compile(lambda: gc.random.normal((1000,)), target="reference")()
    dm, ds = g(np.float32(0.5), np.float32(2.0))
    assert dm == 1000
    assert ds == pytest.approx(z.sum(), rel=1e-4)


def test_choice():
    def fn(p, t):
        return {
            "even": gc.random.choice(5, (4000,), step=t),
            "weighted": gc.random.choice(3, (4000,), p=p, step=t),
            "apart": gc.random.choice(9, (3, 3), replace=False, step=t),
            "rows": gc.random.choice(ops.iota((6, 2), 0), 6, replace=False, step=t),
            "first": gc.random.choice(3, 2, replace=False, p=p, step=t),
        }

    f = gc.compile(fn, gc.spec(3), gc.spec(dtype="int32"), target="reference")
    p = np.array([0.2, 0.0, 0.8], np.float32)
    found = f(p, np.int32(1))
    assert scipy.stats.chisquare(np.bincount(found["even"])).pvalue > 0.01
    counts = np.bincount(found["weighted"], minlength=3)
    assert counts[1] == 0 and scipy.stats.binomtest(int(counts[0]), 4000, 0.2).pvalue > 0.01
    np.testing.assert_array_equal(np.sort(found["apart"].reshape(-1)), np.arange(9))
    np.testing.assert_array_equal(np.sort(found["rows"][:, 0]), np.arange(6))
    firsts = [tuple(f(p, np.int32(t))["first"].tolist()) for t in range(200)]
    assert set(firsts) == {(0, 2), (2, 0)}  # nothing of probability 0, no element twice
    assert scipy.stats.binomtest(firsts.count((0, 2)), 200, 0.2).pvalue > 0.01


def test_misuse_is_explained():
    with pytest.raises(TraceError, match="outside of a trace"):
        gc.random.normal((3,))
    for fn, error, words in (
        (lambda: gc.random.choice(3, 4, replace=False), ShapeError, "4 different elements of 3"),
        (lambda: gc.random.choice(ops.const(1.0)), ShapeError, "scalar"),
        (lambda: gc.random.choice(4, p=np.ones(3)), ShapeError, "for 4 elements"),
        (lambda: gc.random.integers(0), GraphcError, "0 numbers"),
    ):
        with pytest.raises(error, match=words):
            gc.trace(fn)
