"""Back-propagation in the course notes: row 40 of the catalogue, and lines 1004 to 1988 in their right form.

The network is theirs: a1 = W1 x + b1, h1 = g(a1), a2 = W2 h1 + b2, f = o(a2). "delta" is the derivative of the loss by a pre-activation.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops, optim
from tests.ops.test_worked_examples import gradient, value

D, H, K = 3, 4, 2
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=D), np.array([0.0, 1.0])
W1, B1, W2, B2 = RNG.normal(size=(H, D)), RNG.normal(size=H), RNG.normal(size=(K, H)), RNG.normal(size=K)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def softmax(a):
    e = np.exp(a - a.max())
    return e / e.sum()


H1 = sigmoid(W1 @ X + B1)
F = softmax(W2 @ H1 + B2)
DELTA2 = F - Y
DELTA1 = (W2.T @ DELTA2) * H1 * (1 - H1)


class Net(nn.Module):
    """One hidden layer of sigmoids and scores for the classes, with the weights above."""

    def __init__(self):
        self.hidden, self.out = nn.Linear(D, H, dtype="float64"), nn.Linear(H, K, dtype="float64")
        self.load_state_dict({"hidden.weight": W1, "hidden.bias": B1, "out.weight": W2, "out.bias": B2})

    def forward(self, x):
        return self.out(self.hidden(x).sigmoid())


@pytest.fixture
def slopes(target):
    """``slopes(x, y)``: the gradient of the loss of a batch, summed over its samples, by parameter."""
    net = Net()
    names, params = zip(*net.named_parameters())
    loss = lambda x, y: ops.cross_entropy(net(x), y, reduction="sum")
    run = gc.compile(gc.grad(loss, wrt=params), gc.spec("N", D, dtype="float64"), gc.spec("N", K, dtype="float64"), target=target)
    return lambda x, y: dict(zip(names, run(x, y)))


# -- the chain rule ---------------------------------------------------------------------------------------------------------
def test_line_1004_the_derivative_by_a_hidden_unit_sums_over_all_paths(target, slopes):
    """dL/dh1 * dh1/da1 * da1/dW1 holds if dL/dh1 is the total derivative, through every unit of the next layer (1128)."""

    def loss(h, w, b, y):
        return ops.cross_entropy((w @ h + b).expand_dims(0), y.expand_dims(0))

    total = gradient(target, loss, H1, W2, B2, Y)
    paths = DELTA2[:, None] * W2
    np.testing.assert_allclose(total, paths.sum(0), rtol=1e-12)
    assert np.abs(total - paths).min(1).max() > 1e-2, "no single path is the derivative"
    found = slopes(X[None], Y[None])["hidden.weight"]
    np.testing.assert_allclose(found, (total * H1 * (1 - H1))[:, None] * X, rtol=1e-12)


def test_lines_1067_1075_each_hidden_unit_has_its_own_bias_in_layer_1(slopes):
    """b_i^[1], not b_i^[i]: one bias a unit, whose derivative is the unit's delta."""
    shapes = {name: p.shape for name, p in Net().named_parameters()}
    assert shapes == {"hidden.weight": (H, D), "hidden.bias": (H,), "out.weight": (K, H), "out.bias": (K,)}
    found = slopes(X[None], Y[None])
    np.testing.assert_allclose(found["hidden.bias"], DELTA1, rtol=1e-12)
    np.testing.assert_allclose(found["out.bias"], DELTA2, rtol=1e-12)


def test_line_1079_a_chain_that_ends_in_a_weight_is_the_derivative_by_the_weight(slopes):
    """da_i/dw_ij = x_j, so dL/dw_ij = dL/db_i x_j, one number for each weight."""
    found = slopes(X[None], Y[None])
    for i in range(H):
        for j in range(D):
            assert found["hidden.weight"][i, j] == pytest.approx(found["hidden.bias"][i] * X[j], rel=1e-12)


def test_line_1163_the_input_stands_outside_of_the_bracket(target):
    """d sigmoid(w x + b) / dw = s (1 - s) x; as printed, s (1 - s x)."""
    w, x = np.array(0.7), 2.5
    s = sigmoid(w * x - 0.4)
    found = gradient(target, lambda w: (w * x - 0.4).sigmoid(), w)
    assert found == pytest.approx(s * (1 - s) * x, rel=1e-12)
    assert abs(found - s * (1 - s * x)) > 0.1


# -- the error signal --------------------------------------------------------------------------------------------------------
def test_lines_1774_1787_1824_the_gradient_of_a_weight_is_an_outer_product(slopes, rng):
    """delta h^T for one sample, the sum of these for a batch; element by element, delta and h do not even fit."""
    one = slopes(X[None], Y[None])
    np.testing.assert_allclose(one["out.weight"], np.outer(DELTA2, H1), rtol=1e-12)
    np.testing.assert_allclose(one["hidden.weight"], np.outer(DELTA1, X), rtol=1e-12)
    xs, ys = rng.normal(size=(5, D)), np.eye(K)[rng.integers(0, K, 5)]
    each = [slopes(x[None], y[None]) for x, y in zip(xs, ys)]
    for name, batch in slopes(xs, ys).items():
        np.testing.assert_allclose(batch, sum(e[name] for e in each), rtol=1e-10, atol=1e-14)


def test_lines_1810_1842_the_derivative_of_the_activation_multiplies_element_by_element(target, slopes):
    """delta_l = (W_{l+1}^T delta_{l+1}) * g'(a_l), a vector; the dot product of the two would be a number."""
    found = slopes(X[None], Y[None])["hidden.bias"]
    back, slope = W2.T @ DELTA2, H1 * (1 - H1)
    np.testing.assert_allclose(found, back * slope, rtol=1e-12)
    jacobian = np.array([gradient(target, lambda a, e: (a.sigmoid() * e).sum(), W1 @ X + B1, e) for e in np.eye(H)])
    np.testing.assert_allclose(jacobian, np.diag(slope), rtol=1e-12)  # each unit depends on its own pre-activation only
    assert np.abs(found - back @ slope).max() > 1e-2


# -- the bias inside the matrix ------------------------------------------------------------------------------------------------
FOLDED1, FOLDED2 = np.column_stack([B1, W1]), np.column_stack([B2, W2])  # H x (d+1), K x (H+1)


def with_one(h):
    return ops.concat([ops.ones((1,), "float64"), h], 0)


def folded(w1, w2, x):
    """o(W2 (1, g(W1 (1, x)))): the constant 1 is put before the activations, not through g."""
    return w2 @ with_one((w1 @ with_one(x)).sigmoid())


def test_lines_1696_1706_the_constant_1_is_not_passed_through_the_activation(target):
    """W1 is H x (d+1). A row of its own that makes the 1, as (H+1) x (d+1) says, would put it through g."""
    layers = gc.compile(Net(), gc.spec("N", D, dtype="float64"), target=target)(X[None])[0]
    np.testing.assert_allclose(value(target, folded, FOLDED1, FOLDED2, X), layers, rtol=1e-12)
    wide = np.vstack([np.eye(1, D + 1), FOLDED1])
    through = value(target, lambda w1, w2, x: w2 @ (w1 @ with_one(x)).sigmoid(), wide, FOLDED2, X)
    np.testing.assert_allclose(through, layers + (sigmoid(1.0) - 1) * B2, rtol=1e-10)
    assert np.abs(through - layers).max() > 0.1


def test_lines_1836_1840_1866_1869_delta_has_an_entry_for_each_unit_and_none_for_the_1(target, slopes):
    """delta_l is H_l x 1 and (1, h)^T is 1 x (H_{l-1} + 1); their product has the shape of the folded matrix."""

    def loss(w, v, x, y, first):
        w1, w2 = (w, v) if first else (v, w)
        return ops.cross_entropy(folded(w1, w2, x).expand_dims(0), y.expand_dims(0))

    one_x, one_h = np.r_[1.0, X], np.r_[1.0, H1]
    found1 = gradient(target, loss, FOLDED1, FOLDED2, X, Y, True)
    found2 = gradient(target, loss, FOLDED2, FOLDED1, X, Y, False)
    assert DELTA1.shape == (H,) and DELTA2.shape == (K,)
    np.testing.assert_allclose(found1, DELTA1[:, None] @ one_x[None], rtol=1e-12)
    np.testing.assert_allclose(found2, DELTA2[:, None] @ one_h[None], rtol=1e-12)
    apart = slopes(X[None], Y[None])
    np.testing.assert_allclose(found1, np.column_stack([apart["hidden.bias"], apart["hidden.weight"]]), rtol=1e-12)


def test_lines_1880_1882_a_gradient_has_the_shape_of_its_matrix(slopes, rng):
    """H x (d+1) and K x (H+1) numbers with the biases, for any size of the batch."""
    params = dict(Net().named_parameters())
    for batch in (1, 7):
        found = slopes(rng.normal(size=(batch, D)), np.eye(K)[rng.integers(0, K, batch)])
        assert {n: g.shape for n, g in found.items()} == {n: p.shape for n, p in params.items()}
        assert sum(g.size for g in found.values()) == H * (D + 1) + K * (H + 1)


# -- the update ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [1, 4, 12])
def test_lines_1890_1896_1919_1988_training_subtracts_the_gradient(target, slopes, batch, rng):
    """W + eta DeltaW with DeltaW minus the gradient, for one sample, a mini-batch and all; adding the gradient raises the loss."""
    net, opt = Net(), optim.SGD(0.05)
    xs, ys = rng.normal(size=(12, D)), np.eye(K)[rng.integers(0, K, 12)]

    def train(x, y):
        loss = ops.cross_entropy(net(x), y)
        opt.minimize(loss, net.parameters())
        return loss

    specs = gc.spec("N", D, dtype="float64"), gc.spec("N", K, dtype="float64")
    step = gc.step(train, *specs, target=target)
    mean = slopes(xs[:batch], ys[:batch])
    before = Net().state_dict()
    first = step(xs[:batch], ys[:batch])
    for name, new in net.state_dict().items():
        np.testing.assert_allclose(new, before[name] - 0.05 * mean[name] / batch, rtol=1e-10)
    up = Net()
    up.load_state_dict({n: v + 0.05 * mean[n] / batch for n, v in before.items()})
    loss = gc.compile(lambda x, y: ops.cross_entropy(up(x), y), *specs, target=target)
    assert step(xs[:batch], ys[:batch]) < first < loss(xs[:batch], ys[:batch])


# -- vanishing gradients -------------------------------------------------------------------------------------------------------
def test_row_40_saturated_units_pass_nothing_and_products_vanish(target):
    a = np.array([0.0, 5.0, -20.0, 40.0])
    by_sigmoid, by_tanh = (gradient(target, lambda a, f=f: f(a).sum(), a) for f in (ops.sigmoid, ops.tanh))
    np.testing.assert_allclose(by_sigmoid[:3], sigmoid(a[:3]) * sigmoid(-a[:3]), rtol=1e-12)
    assert by_sigmoid[0] == 0.25 and by_tanh[0] == 1.0, "the largest that they get"
    assert by_sigmoid[1] < 7e-3 and by_tanh[1] < 2e-4 and (np.abs([by_sigmoid[2:], by_tanh[2:]]) < 3e-9).all()

    def deep(x, g, layers):
        for _ in range(layers):
            x = g(x)
        return x.sum()

    slopes = [gradient(target, deep, np.array([0.3]), ops.sigmoid, n).item() for n in (1, 5, 10)]
    assert all(0 < s <= 0.25**n for s, n in zip(slopes, (1, 5, 10)))
    np.testing.assert_array_equal(gradient(target, deep, np.array([0.3, -0.3]), ops.relu, 10), [1.0, 0.0])  # where it is positive
