"""Initialisers: the distributions of torch.nn.init (and of Keras where torch has none), exact properties, reproducibility."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import graphc as gc
from graphc import init, nn
from graphc.frontend.random import Random

SHAPE = (300, 200, 3)
FAN_IN, FAN_OUT = 600, 900


def draw(maker, shape=SHAPE, name="w", seed=0):
    return np.asarray(init.as_init(maker)(shape, Random(seed, name)))


def is_from(values, distribution):
    """Kolmogorov and Smirnov's test: the values of this seed are far from being refused, a scale 5 % off is refused."""
    flat = values.reshape(-1)
    assert stats.kstest(flat, distribution.cdf).pvalue > 0.01
    assert stats.kstest(flat * 1.05, distribution.cdf).pvalue < 1e-6


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


DISTRIBUTIONS = [
    (init.uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    (init.normal(0.5, 2.0), stats.norm(0.5, 2)),
    ("kaiming_uniform", uniform(math.sqrt(6 / FAN_IN))),
    (init.kaiming_uniform(math.sqrt(5)), uniform(math.sqrt(1 / FAN_IN))),
    (init.kaiming_uniform(mode="fan_out", nonlinearity="tanh"), uniform(5 / 3 * math.sqrt(3 / FAN_OUT))),
    ("kaiming_normal", stats.norm(0, math.sqrt(2 / FAN_IN))),
    (init.kaiming_normal(0.2, "fan_out"), stats.norm(0, math.sqrt(2 / (1 + 0.04) / FAN_OUT))),
    (init.kaiming_normal(nonlinearity="relu"), stats.norm(0, math.sqrt(2 / FAN_IN))),
    ("he_normal", stats.norm(0, math.sqrt(2 / FAN_IN))),
    (init.xavier_uniform(2.0), uniform(2 * math.sqrt(6 / (FAN_IN + FAN_OUT)))),
    ("glorot_uniform", uniform(math.sqrt(6 / (FAN_IN + FAN_OUT)))),
    ("xavier_normal", stats.norm(0, math.sqrt(2 / (FAN_IN + FAN_OUT)))),
    ("lecun_uniform", uniform(math.sqrt(3 / FAN_IN))),
    ("truncated_normal", stats.truncnorm(-2, 2)),
    (init.truncated_normal(1.0, 0.5, 0.0, 1.2), stats.truncnorm(-2, 0.4, 1, 0.5)),
    (init.truncated_normal(0.0, 1.0, 3.0, 4.0), stats.truncnorm(3, 4)),
    (init.variance_scaling(3.0, "fan_avg", "normal"), stats.norm(0, math.sqrt(6 / (FAN_IN + FAN_OUT)))),
]


@pytest.mark.parametrize(("maker", "distribution"), DISTRIBUTIONS)
def test_distributions(maker, distribution):
    values = draw(maker)
    assert values.shape == SHAPE
    is_from(values, distribution)


def test_truncation_keeps_the_variance_of_lecun():
    values = draw("lecun_normal")
    std = math.sqrt(1 / FAN_IN)
    assert values.std() == pytest.approx(std, rel=0.01) and abs(values.mean()) < 0.01 * std
    cut = 2 * std / stats.truncnorm(-2, 2).std()
    assert np.abs(values).max() <= cut
    is_from(values, stats.truncnorm(-2, 2, 0, cut / 2))


def test_moments_against_torch():
    torch = pytest.importorskip("torch")
    for ours, theirs in [
        (init.kaiming_uniform(0.3, "fan_out"), lambda t: torch.nn.init.kaiming_uniform_(t, 0.3, "fan_out")),
        (init.kaiming_normal(nonlinearity="selu"), lambda t: torch.nn.init.kaiming_normal_(t, nonlinearity="selu")),
        (init.xavier_uniform(1.7), lambda t: torch.nn.init.xavier_uniform_(t, 1.7)),
        (init.xavier_normal(0.4), lambda t: torch.nn.init.xavier_normal_(t, 0.4)),
        (init.truncated_normal(0.1, 0.7, -0.5, 1.0), lambda t: torch.nn.init.trunc_normal_(t, 0.1, 0.7, -0.5, 1.0)),
        (init.sparse(0.3, 0.5), lambda t: torch.nn.init.sparse_(t.view(300, 600), 0.3, 0.5)),
    ]:
        a = draw(ours, (300, 600) if "sparse" in ours.__qualname__ else SHAPE)
        b = theirs(torch.zeros(SHAPE, dtype=torch.float64)).numpy()
        scale = b.std()
        assert a.std() == pytest.approx(scale, rel=0.01) and a.mean() == pytest.approx(b.mean(), abs=0.02 * scale)
        assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.25)


def test_gains_against_torch():
    torch = pytest.importorskip("torch")
    for name, param in [("linear", None), ("conv2d", None), ("conv_transpose3d", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("leaky_relu", None), ("leaky_relu", 0.3), ("selu", None)]:  # fmt: skip
        assert init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param), rel=1e-15)
    with pytest.raises(gc.ArgumentError, match="no gain for 'gelu'"):
        init.calculate_gain("gelu")


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3), (40, 2, 3), (1, 4), (0, 3)])
def test_orthogonal(shape):
    flat = draw(init.orthogonal(2.0), shape).reshape(shape[0], math.prod(shape[1:]))
    product = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(product, 4 * np.eye(min(flat.shape)), atol=1e-13)


def test_orthogonal_is_uniformly_distributed():
    """Signs of the diagonal are fair only with the correction by R's diagonal: LAPACK's Q has negative ones mostly."""
    made = np.array([draw("orthogonal", (2, 2), f"w{i}") for i in range(2000)])
    assert abs(np.sign(made[:, 0, 0]).mean()) < 0.1
    assert abs(np.linalg.det(made).mean()) < 0.1


def test_exact_values():
    np.testing.assert_array_equal(draw("eye", (2, 3)), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(draw(0.5, (2,)), [0.5, 0.5])
    np.testing.assert_array_equal(draw(init.constant(3), (1, 2)), [[3, 3]])
    np.testing.assert_array_equal(draw("zeros", (2,)), [0, 0])
    np.testing.assert_array_equal(draw("ones", (2,)), [1, 1])


@pytest.mark.parametrize(("shape", "groups"), [((4, 4, 3), 1), ((4, 3, 3, 3), 1), ((2, 5, 3, 2), 1), ((6, 2, 3, 3), 3), ((2, 2, 1, 3, 2), 2)])
def test_dirac_against_torch(shape, groups):
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(draw(init.dirac(groups), shape), torch.nn.init.dirac_(torch.empty(shape), groups).numpy())


def test_dirac_passes_images_through():
    class Pass(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(x)

    m = Pass()
    m.conv.weight.init, m.conv.bias.init = init.dirac(), init.zeros
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(gc.compile(m, gc.spec("N", 3, 5, 4), target="reference").predict(x), x)


def test_sparse_columns():
    values = draw(init.sparse(0.31, 2.0), (10, 50))
    assert ((values == 0).sum(axis=0) == 4).all()
    assert len({tuple(c) for c in (values == 0).T.tolist()}) > 10, "every column draws its own zeros"


def test_the_same_seed_and_name_give_the_same_values():
    for maker in ("truncated_normal", "orthogonal", "lecun_normal", init.sparse(0.5)):
        first = draw(maker, (20, 30))
        np.testing.assert_array_equal(first, draw(maker, (20, 30)))
        assert not np.array_equal(first, draw(maker, (20, 30), "v")) and not np.array_equal(first, draw(maker, (20, 30), seed=1))


def test_redrawn_values_are_not_those_that_were_refused():
    """The second draw has numbers of its own: with the first's, small uniforms would repeat where normals were large."""
    random = Random(0, "w")
    first, second = random.uniform((4000,)), random.other(1).uniform((4000,))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    np.testing.assert_array_equal(first, random.uniform((4000,)))


def test_sizes_0_and_1():
    for maker in ("kaiming_normal", "lecun_normal", "xavier_uniform", "truncated_normal", init.sparse(0.5)):
        assert draw(maker, (0, 4)).shape == (0, 4) and draw(maker, (4, 0)).shape == (4, 0)
        assert np.isfinite(draw(maker, (1, 1))).all()


def test_mistakes():
    for make, text in [
        (lambda: init.kaiming_normal(mode="fan"), "mode 'fan'"),
        (lambda: init.variance_scaling(distribution="cauchy"), "distribution 'cauchy'"),
        (lambda: init.truncated_normal(0, 1, 2, 2), "no values"),
        (lambda: draw("eye", (2,)), "no matrix"),
        (lambda: draw("orthogonal", (2,)), "orthogonal"),
        (lambda: draw(init.dirac(2), (3, 3, 3)), "2 groups"),
        (lambda: draw("xavier_normal", (3,)), "no fan"),
        (lambda: init.as_init("xavier"), "not an initialiser"),
    ]:
        with pytest.raises(gc.GraphcError, match=text):
            make()
