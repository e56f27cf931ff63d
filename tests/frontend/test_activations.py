"""Activation modules against torch's of the same name and arguments; operators and methods of tensors."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops

CASES = [
    ("CELU", {"alpha": 1.3}, (5, 7)), ("ELU", {"alpha": 0.7}, (5, 7)), ("GELU", {"approximate": "tanh"}, (5, 7)), ("GELU", {}, (5, 7)), ("GLU", {"dim": 1}, (5, 8)),
    ("Hardshrink", {"lambd": 0.3}, (5, 7)), ("Hardsigmoid", {}, (5, 7)), ("Hardswish", {}, (5, 7)), ("Hardtanh", {"min_val": -0.5, "max_val": 2.0}, (5, 7)),
    ("LeakyReLU", {"negative_slope": 0.2}, (5, 7)), ("LogSigmoid", {}, (5, 7)), ("LogSoftmax", {"dim": 0}, (5, 7)), ("Mish", {}, (5, 7)), ("PReLU", {}, (5, 7)),
    ("PReLU", {"num_parameters": 3, "init": 0.1}, (2, 3, 4)), ("ReLU", {}, (5, 7)), ("ReLU6", {}, (5, 7)), ("SELU", {}, (5, 7)), ("SiLU", {}, (5, 7)),
    ("Sigmoid", {}, (5, 7)), ("Softmax", {"dim": 1}, (5, 7)), ("Softmax2d", {}, (2, 3, 4, 5)), ("Softmin", {"dim": -1}, (5, 7)), ("Softplus", {"beta": 2.0, "threshold": 3.0}, (5, 7)),
    ("Softshrink", {}, (5, 7)), ("Softsign", {}, (5, 7)), ("Tanh", {}, (5, 7)), ("Tanhshrink", {}, (5, 7)), ("Threshold", {"threshold": 0.1, "value": 20.0}, (5, 7)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "shape"), CASES)
def test_modules_equal_torchs(name, arguments, shape):
    torch = pytest.importorskip("torch")
    from tests.frontend.torch_layers import check

    x = np.random.default_rng(0).uniform(-4, 8, shape)
    x.flat[0] = 0.0  # a kink of most
    ours = getattr(nn, name)(**arguments, **({"dtype": "float64"} if name == "PReLU" else {}))
    # torch keeps some constants of these two in float32, also for float64 operands
    tolerance = 1e-7 if name in ("CELU", "Hardsigmoid") else 1e-9
    check(ours, getattr(torch.nn, name)(**arguments), x, named=True, steps=1, tolerance=tolerance)


def test_settings_are_shown():
    assert repr(nn.Softplus()) == "Softplus(beta=1.0, threshold=20.0)"
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.Softmax(dim=1)) == "Softmax(dim=1)"


@pytest.mark.parametrize("module", [lambda: nn.Hardtanh(2.0, 1.0), lambda: nn.RReLU(0.5, 0.1)])
def test_bad_bounds_are_refused(module):
    with pytest.raises(gc.ShapeError, match=r"is not below|is above"):
        module()


def test_rrelu_draws_slopes_in_training_and_takes_their_mean_otherwise():
    x = np.linspace(-3, 3, 1000).astype(np.float32)
    mean = gc.compile(nn.RReLU(0.1, 0.3), gc.spec("N"), target="reference")(x)
    np.testing.assert_allclose(mean, np.where(x > 0, x, 0.2 * x), rtol=1e-6)
    drawn = gc.step(nn.RReLU(0.1, 0.3), gc.spec("N"), target="reference")(x)
    slopes = (drawn / x)[x < 0]
    assert (slopes >= 0.0999).all() and (slopes <= 0.3001).all() and slopes.std() > 0.03
    np.testing.assert_array_equal(drawn[x > 0], x[x > 0])


@pytest.mark.parametrize("name", ["softplus", "logsigmoid", "elu", "selu", "celu", "mish", "silu", "sigmoid", "tanh", "gelu", "hardswish"])
def test_huge_arguments_stay_finite_also_in_gradients(name):
    x = np.array([-1e30, -1e4, -100.0, -1e-30, 0.0, 1e-30, 100.0, 1e4, 1e10], np.float32)
    both = gc.value_and_grad(lambda v: getattr(ops, name)(v).sum(), wrt=0)
    each = gc.compile(lambda v: (getattr(ops, name)(v), both(v)[1]), gc.spec("N"), target="reference")
    value, slope = each(x)
    assert np.isfinite(value).all() and np.isfinite(slope).all(), (value, slope)


def test_small_arguments_keep_their_digits():
    x = np.array([-1e-6, 1e-6], np.float32)
    elu, logsigmoid = gc.compile(lambda v: (ops.elu(v), ops.logsigmoid(v * 3e7)), gc.spec("N"), target="reference")(x)
    np.testing.assert_allclose(elu, np.where(x > 0, x, np.expm1(x.astype(float))), rtol=1e-7)
    np.testing.assert_allclose(logsigmoid, -np.logaddexp(0, -x.astype(float) * 3e7), rtol=1e-6)


# -- tensors as numbers ------------------------------------------------------------------------------------------------------
def run(fn, *arrays):
    return gc.compile(fn, *(gc.spec(*a.shape, dtype=str(a.dtype)) for a in arrays), target="reference")(*arrays)


def test_operators_of_tensors_are_pythons():
    x, y = np.array([7.5, -7.5, 2.0, -0.3]), np.array([2.0, 2.0, -3.0, 0.5])
    for fn in (lambda a, b: a // b, lambda a, b: a % b, lambda a, b: abs(a) - b, lambda a, b: 2.0**b, lambda a, b: a > b, lambda a, b: a >= b, lambda a, b: 7 % b, lambda a, b: -9 // b):
        np.testing.assert_allclose(run(fn, x, y), fn(x, y))
    np.testing.assert_array_equal(run(lambda a: round(a), x), np.round(x))
    i, j = np.array([12, -7, 5, 0], np.int32), np.array([3, 2, 1, 4], np.int32)
    for fn in (lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a ^ b, lambda a, b: ~a, lambda a, b: a << b, lambda a, b: a >> b, lambda a, b: 6 & a, lambda a, b: a % b, lambda a, b: a // b):
        np.testing.assert_array_equal(run(fn, i, j), fn(i, j))
    np.testing.assert_array_equal(run(lambda a, b: (a > 0) & ~(b > 0) | (a > b), x, y), (x > 0) & ~(y > 0) | (x > y))


def test_division_by_zero_of_integers_is_zero():
    i = np.array([5, -5, 0], np.int32)
    for fn in (lambda a: a % 0, lambda a: a // 0):
        np.testing.assert_array_equal(run(fn, i), 0)


def test_parameters_take_operators_too():
    class M(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(np.array([1.5, -2.5], np.float32))

        def forward(self, x):
            return abs(self.w) + self.w // 2.0 + 7.0 % self.w + 2.0**self.w + round(self.w) + x

    w = np.array([1.5, -2.5], np.float32)
    found = gc.compile(M(), gc.spec(2), target="reference")(np.zeros(2, np.float32))
    np.testing.assert_allclose(found, abs(w) + w // 2 + 7 % w + 2**w + np.round(w), rtol=1e-6)


def test_methods_understand_torchs_keywords():
    x = np.random.default_rng(0).uniform(-1, 1, (4, 5))
    np.testing.assert_allclose(run(lambda a: a.softmax(dim=0), x), np.exp(x) / np.exp(x).sum(0))
    np.testing.assert_allclose(run(lambda a: a.std(dim=1, keepdim=True, correction=1), x), x.std(1, ddof=1, keepdims=True))
    np.testing.assert_allclose(run(lambda a: a.clip(-0.5, 0.5).sin().prod(dim=1), x), np.sin(np.clip(x, -0.5, 0.5)).prod(1))
    np.testing.assert_allclose(run(lambda a: nn.functional.log_softmax(a, dim=1), x), x - np.log(np.exp(x).sum(1, keepdims=True)))
    with pytest.raises(TypeError, match="dim"):
        run(lambda a: a.sin(dim=1), x)
