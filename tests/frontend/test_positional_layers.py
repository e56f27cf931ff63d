"""Positional encodings: their formulas, and that lengths may be named."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops


def sines(length, dim):
    """Vaswani et al. 2017, section 3.5, element by element."""
    out = np.zeros((length, dim))
    for p in range(length):
        for i in range(dim // 2):
            out[p, 2 * i], out[p, 2 * i + 1] = np.sin(p / 10000 ** (2 * i / dim)), np.cos(p / 10000 ** (2 * i / dim))
    return out


def test_sines(target):
    f = gc.compile(lambda x: ops.sinusoidal_positions(x.shape[0], 6), gc.spec("T"), target=target)
    for t in (1, 37, 0):
        np.testing.assert_allclose(f(np.zeros(t, np.float32)), sines(t, 6), atol=1e-7)
    far = gc.compile(lambda x: ops.sinusoidal_positions(x.shape[0], 4), gc.spec("T"), target=target)(np.zeros(20_000, np.float32))
    np.testing.assert_allclose(far, sines(20_000, 4), atol=1e-7)  # an angle in float32 would be off by 1e-3


@pytest.mark.parametrize("batch_first", [False, True])
def test_sines_are_added(batch_first, target):
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    model = gc.compile(nn.SinusoidalPositionalEncoding(4, batch_first=batch_first), gc.spec("A", "B", 4), target=target)
    want = x + (sines(3, 4) if batch_first else sines(5, 4)[:, None])
    np.testing.assert_allclose(model.predict(x), want, atol=1e-6)
    assert model.state_dict() == {}
    alone = gc.compile(nn.SinusoidalPositionalEncoding(4, batch_first=batch_first), gc.spec(5, 4), target=target)
    np.testing.assert_allclose(alone.predict(x[:, 0]), x[:, 0] + sines(5, 4), atol=1e-6)


def test_learned_positions(target):
    layer = nn.LearnedPositionalEncoding(4, 6, batch_first=True)
    model = gc.compile(layer, gc.spec("N", "T", 4), loss="mse", optimizer=gc.optim.SGD(1.0), target=target)
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    rows = model.state_dict()["weight"]
    assert rows.shape == (6, 4) and 0.01 < rows.std() < 0.03
    np.testing.assert_allclose(model.predict(x), x + rows[:3], rtol=1e-6)
    model.train_on_batch(x, x)
    moved = model.state_dict()["weight"]
    np.testing.assert_allclose(moved[:3], rows[:3] * (1 - 2 / 12), rtol=1e-5)
    np.testing.assert_array_equal(moved[3:], rows[3:])
    with pytest.raises(gc.GuardError, match="longer than max_len = 6"):
        model.predict(np.zeros((1, 7, 4), np.float32))
    with pytest.raises(gc.ShapeError, match="longer than max_len = 6"):
        gc.trace(nn.LearnedPositionalEncoding(4, 6), gc.spec(7, 1, 4))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_products_depend_on_the_distance_only(interleaved, target):
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 6))
    layer = nn.RotaryEmbedding(interleaved=interleaved)
    spec = [gc.spec(1, 6, dtype="float64"), gc.spec(1, dtype="int32")]
    f = gc.compile(lambda q, k, p, r: (layer(q, p) * layer(k, r)).sum(), spec[0], spec[0], spec[1], spec[1], target=target)

    def product(p, r):
        return f(q, k, np.array([p], np.int32), np.array([r], np.int32))

    assert product(3, 3) == pytest.approx((q * k).sum(), rel=1e-12)
    assert product(7, 2) == pytest.approx(product(1005, 1000), rel=1e-9)
    assert product(7, 2) != pytest.approx(product(7, 3), rel=1e-3)


def test_rotary_with_named_lengths(target):
    f = gc.compile(nn.RotaryEmbedding(), gc.spec("N", 2, "T", 4), target=target)
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype(np.float32)
    z = (x[..., :2] + 1j * x[..., 2:]) * np.exp(1j * np.arange(5)[:, None] * np.array([1, 0.01]))  # the paper's complex form
    np.testing.assert_allclose(f.predict(x), np.concatenate([z.real, z.imag], -1), rtol=1e-5, atol=1e-6)
    assert f.predict(x[:, :, :0]).shape == (3, 2, 0, 4)


def test_linear_biases_as_a_mask(target):
    """A head with biases looks at what is near; the mask is added to the scores."""
    def fn(q, k, v):
        return ops.multi_head_attention(q, k, v, ops.alibi(2, q.shape[-2], k.shape[-2]), num_heads=2, is_causal=True)

    f = gc.compile(fn, *[gc.spec("N", "T", 4)] * 3, target=target)
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype(np.float32)
    found = f(*x)
    scores = np.einsum("nlhe,nshe->nhls", *(t.reshape(2, 5, 2, 2) for t in x[:2])) / np.sqrt(2)
    place = np.arange(5)
    scores = scores - np.array([2.0**-4, 2.0**-8])[:, None, None] * (place[:, None] - place)
    scores[..., place[:, None] < place] = -np.inf
    e = np.exp(scores)
    want = np.einsum("nhls,nshe->nlhe", e / e.sum(-1, keepdims=True), x[2].reshape(2, 5, 2, 2)).reshape(2, 5, 4)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: gc.trace(nn.SinusoidalPositionalEncoding(4), gc.spec(5, 2, 6)), r"\(5, 2, 6\) is not \(L, N, 4\)"),
        (lambda: gc.trace(nn.SinusoidalPositionalEncoding(5), gc.spec(5, 2, 5)), "must be an even number, not 5"),
        (lambda: gc.trace(lambda x: ops.alibi(0, 2), gc.spec(1)), "0 heads"),
    ],
)
def test_misuse(make, message):
    with pytest.raises(gc.ShapeError, match=message):
        make()
