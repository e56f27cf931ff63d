"""Attention, normalisation and embeddings as in the course notes: the worked rows 31, 32 and 45, and the right form of what they print wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops
from graphc.errors import ShapeError
from tests.ops.test_worked_examples import gradient, value

RNG = np.random.default_rng(0)


# -- embeddings --------------------------------------------------------------------------------------------------------------
def test_row_45_a_document_of_20_tokens(target):
    tokens, table = RNG.integers(0, 16, 20), RNG.normal(size=(16, 5))
    one_hot = value(target, lambda i: ops.one_hot(i, 16, "float64"), tokens)
    assert one_hot.shape == (20, 16) and (one_hot.sum(1) == 1).all() and (one_hot.argmax(1) == tokens).all()
    rows = value(target, ops.embedding, tokens, table)
    assert rows.shape == (20, 5)
    np.testing.assert_array_equal(rows, one_hot @ table)


def test_row_31_the_sizes_of_skip_gram(target):
    """One-hot V -> h = N -> logits V: h = W^T x and z = W'^T h (the notes print W x and W' h, which do not fit)."""
    words, size = 10, 4
    w, w2 = RNG.normal(size=(words, size)), RNG.normal(size=(size, words))
    x = np.eye(words)[3]
    h = value(target, lambda w, x: w.transpose(1, 0) @ x, w, x)
    assert h.shape == (size,)
    np.testing.assert_array_equal(h, w[3])  # the product with a one-hot vector is the row
    np.testing.assert_array_equal(h, value(target, ops.embedding, np.array(3), w))
    assert value(target, lambda h, w2: w2.transpose(1, 0) @ h, h, w2).shape == (words,)
    with pytest.raises(ShapeError, match="inner dimensions differ"):
        ops.matmul(ops.input("w", (words, size), "float64"), ops.input("x", (words,), "float64"))


def test_the_gradient_of_a_lookup_reaches_the_rows_that_were_read(target):
    table, tokens = RNG.normal(size=(6, 3)), np.array([1, 4, 1])
    g = gradient(target, lambda w, i: (ops.embedding(i, w) * np.array([1.0, 2.0, 3.0])).sum(), table, tokens)
    np.testing.assert_array_equal(g, np.array([0, 2, 0, 0, 1, 0])[:, None] * [1.0, 2.0, 3.0])


def test_cbow_averages_the_rows_of_its_context(target):
    table, context = RNG.normal(size=(9, 4)), np.array([[1, 2, 4, 8], [0, 0, 3, 3]])
    want = table[context].mean(1)
    np.testing.assert_allclose(value(target, ops.embedding_bag, context, table), want, rtol=1e-14)
    one_hot = np.eye(9)[context]
    np.testing.assert_allclose(value(target, lambda x, w: (x @ w).mean(1), one_hot, table), want, rtol=1e-14)


def test_row_32_king_minus_man_plus_woman(target):
    """Vectors made of royalty, gender and something else: the nearest by cosine is the queen, and no longer vector."""
    words = ["king", "queen", "man", "woman", "apple"]
    table = np.array([[3.0, 1, 0.1], [3.1, -1, 0], [0.1, 1.1, 0], [0, -0.9, 0.1], [20, 40, 90]])
    query = table[0] - table[2] + table[3]
    near = value(target, lambda q, t: ops.cosine_similarity(ops.broadcast_to(q, t.shape), t), query, table)
    assert words[near.argmax()] == "queen"
    want = table @ query / np.linalg.norm(table, axis=1) / np.linalg.norm(query)
    np.testing.assert_allclose(near, want, rtol=1e-12)
    assert words[(table @ query).argmax()] == "apple"  # the dot product alone prefers what is long
    unit = value(target, ops.normalize, table)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(unit @ query / np.linalg.norm(query), want, rtol=1e-12)


# -- attention ---------------------------------------------------------------------------------------------------------------
def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_scaled_dot_product_by_hand(target):
    x, wq, wk, wv = RNG.normal(size=(5, 6)), *RNG.normal(size=(3, 6, 4))
    q, k, v = x @ wq, x @ wk, x @ wv
    out = value(target, lambda x, a, b, c: ops.scaled_dot_product_attention(x @ a, x @ b, x @ c), x, wq, wk, wv)
    np.testing.assert_allclose(out, softmax(q @ k.T / math.sqrt(4)) @ v, rtol=1e-12)


def test_two_tokens_by_hand(target):
    """d_k = 4, q.k = 2 ln 3 and 0: weights 3/4 and 1/4."""
    q, k, v = np.array([[2.0, 0, 0, 0]]), np.array([[math.log(3), 5, 5, 5], [0, 1, 1, 1]]), np.array([[8.0], [4.0]])
    np.testing.assert_allclose(value(target, ops.attention_weights, q, k), [[0.75, 0.25]], rtol=1e-14)
    np.testing.assert_allclose(value(target, ops.scaled_dot_product_attention, q, k, v), [[7.0]], rtol=1e-14)


def test_heads_are_slices_of_the_features_side_by_side(target):
    q, k, v = RNG.normal(size=(3, 2, 5, 6))
    heads = [softmax(q[..., s] @ k[..., s].swapaxes(-1, -2) / math.sqrt(2)) @ v[..., s] for s in (slice(0, 2), slice(2, 4), slice(4, 6))]
    out = value(target, lambda *x: ops.multi_head_attention(*x, num_heads=3), q, k, v)
    np.testing.assert_allclose(out, np.concatenate(heads, -1), rtol=1e-12)


def test_grouped_heads_share_keys_and_values(target):
    q, k, v = RNG.normal(size=(2, 6, 5, 4)), RNG.normal(size=(2, 2, 7, 4)), RNG.normal(size=(2, 2, 7, 3))
    out = value(target, lambda *x: ops.scaled_dot_product_attention(*x, enable_gqa=True), q, k, v)
    want = softmax(q @ k.repeat(3, 1).swapaxes(-1, -2) / 2) @ v.repeat(3, 1)
    np.testing.assert_allclose(out, want, rtol=1e-12)


def test_self_attention_knows_no_order_until_it_is_told(target):
    """A permutation of the tokens permutes the output; with positions added, or turned in, it does not."""
    x, order = RNG.normal(size=(6, 8)), np.array([3, 0, 5, 1, 4, 2])

    def attend(x):
        return ops.scaled_dot_product_attention(x, x, x)

    np.testing.assert_allclose(value(target, attend, x[order]), value(target, attend, x)[order], rtol=1e-12)
    for place in (lambda x: x + np.arange(6.0)[:, None], lambda x: ops.flip(x, 0) * 0.5 + x):
        moved, kept = (value(target, lambda x: attend(place(x)), v) for v in (x[order], x))  # noqa: B023
        assert not np.allclose(moved, kept[order])


def test_a_causal_query_sees_no_future(target):
    x = RNG.normal(size=(6, 4))
    later = x.copy()
    later[4:] += 10
    a, b = (value(target, lambda x: ops.scaled_dot_product_attention(x, x, x, is_causal=True), v) for v in (x, later))
    np.testing.assert_array_equal(a[:4], b[:4])
    assert not np.allclose(a[4:], b[4:])
    np.testing.assert_allclose(a[0], x[0])
    masked = value(target, lambda x: ops.scaled_dot_product_attention(x, x, x, ops.causal_mask(6)), x)
    np.testing.assert_allclose(masked, a, rtol=1e-14)


def test_masks_mean_what_they_mean(target):
    lengths = np.array([2, 0, 4])
    np.testing.assert_array_equal(value(target, lambda n: ops.padding_mask(n, 4), lengths), np.arange(4) >= lengths[:, None])
    np.testing.assert_array_equal(value(target, lambda x: ops.causal_mask(2, 3), np.zeros(1)), [[True, False, False], [True, True, False]])


def test_linear_biases(target):
    """Press et al. 2022: slopes 1/2, 1/4, ... 1/256 for 8 heads; for 12 also every second one of those for 16."""
    bias = value(target, lambda x: ops.alibi(8, 3, 4, "float64"), np.zeros(1))
    np.testing.assert_array_equal(bias[0], -0.5 * np.array([[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1]]))
    np.testing.assert_allclose(-bias[:, 0, 1], 2.0 ** -np.arange(1, 9))
    twelve = -value(target, lambda x: ops.alibi(12, 1, 2, "float64"), np.zeros(1))[:, 0, 1]
    np.testing.assert_allclose(twelve, [*2.0 ** -np.arange(1, 9), *2.0 ** -np.array([0.5, 1.5, 2.5, 3.5])])


def test_a_transformer_block(target):
    """Attention, then a feed-forward network, each with a residual connection y = F(x) + x and layer norm."""
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, dtype="float64")
    x = RNG.normal(size=(4, 1, 6))
    out = gc.compile(layer, gc.spec(4, 1, 6, dtype="float64"), target=target).predict(x)
    v = layer.state_dict()

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    h = x[:, 0]
    q, k, w = np.split(h @ v["self_attn.in_proj_weight"].T + v["self_attn.in_proj_bias"], 3, 1)
    heads = [softmax(q[:, s] @ k[:, s].T / math.sqrt(3)) @ w[:, s] for s in (slice(0, 3), slice(3, 6))]
    attended = np.concatenate(heads, 1) @ v["self_attn.out_proj.weight"].T + v["self_attn.out_proj.bias"]
    y = norm(h + attended)
    hidden = np.maximum(y @ v["linear1.weight"].T + v["linear1.bias"], 0)
    want = norm(y + hidden @ v["linear2.weight"].T + v["linear2.bias"])
    np.testing.assert_allclose(out[:, 0], want, rtol=1e-9, atol=1e-12)


# -- batch normalisation -------------------------------------------------------------------------------------------------------
def test_batch_norm_gives_mean_0_and_deviation_1(target):
    x = RNG.normal(3.0, 5.0, (50, 4))
    y = value(target, lambda x: ops.batch_norm_train(x, eps=0.0)[0], x)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-12)
    scale, shift = np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])
    z = value(target, lambda x, a, b: ops.batch_norm_train(x, a, b, eps=0.0)[0], x, scale, shift)
    np.testing.assert_allclose(z, y * scale + shift, rtol=1e-12)


def test_a_bias_before_batch_norm_does_nothing(target):
    """h = g(BN(b + W x)): BN takes the mean, and b with it; its gradient is 0."""
    x, w, b = RNG.normal(size=(9, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=4) * 10

    def layer(b, x, w):
        return ops.relu(ops.batch_norm_train(ops.linear(x, w, b))[0])

    np.testing.assert_allclose(value(target, layer, b, x, w), value(target, layer, b * 0, x, w), atol=1e-12)
    slope = gradient(target, lambda b, x, w: (layer(b, x, w) * np.arange(36.0).reshape(9, 4)).sum(), b, x, w)
    np.testing.assert_allclose(slope, 0, atol=1e-10)


def test_inference_uses_running_statistics(target):
    """A sample's output must not depend on its neighbours: the notes give no statistics for inference."""
    layer = nn.BatchNorm1d(3, dtype="float64")
    x = RNG.normal(2.0, 3.0, (64, 3))
    step = gc.step(lambda x: layer(x), gc.spec("N", 3, dtype="float64"), target="reference")
    for _ in range(200):
        step(x)
    v = layer.state_dict()
    np.testing.assert_allclose(v["running_mean"], x.mean(0), rtol=1e-8)
    np.testing.assert_allclose(v["running_var"], x.var(0, ddof=1), rtol=1e-8)
    model = gc.compile(layer, gc.spec("N", 3, dtype="float64"), target=target)
    np.testing.assert_allclose(model.predict(x[:1]), model.predict(x)[:1], rtol=1e-12)


def test_a_large_mean_costs_no_digits(target):
    """Var = mean of squared distances, not mean of squares minus square of the mean, which float32 would lose here."""
    x = (1000.0 + RNG.normal(size=(8, 64))).astype(np.float32)
    want = (x - x.astype(float).mean(1, keepdims=True)) / np.sqrt(x.astype(float).var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(value(target, ops.layer_norm, x), want, atol=2e-3)
    np.testing.assert_allclose(value(target, lambda x: ops.batch_norm_train(x)[0], x.T.copy()), want.T, atol=2e-3)


# -- torch's order of arguments -------------------------------------------------------------------------------------------------
def test_functions_take_torchs_arguments():
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.functional, nn.functional
    x, w, b = RNG.normal(size=(2, 4, 6)), RNG.normal(size=(4,)), RNG.normal(size=(4,))
    q, mask = RNG.normal(size=(2, 4, 4)), RNG.random((4, 4)) < 0.7
    table, offsets = RNG.normal(size=(5, 3)), np.array([0, 2])
    words = np.array([1, 4, 2])
    cases = [
        (lambda f, x, w, b: f.layer_norm(x, (4, 6), None, None, 1e-3), (x, w, b)),
        (lambda f, x, w: f.rms_norm(x, (4,), w, 1e-3), (q, w)),
        (lambda f, x, w, b: f.group_norm(x, 2, w, b, 1e-3), (x, w, b)),
        (lambda f, x, w, b: f.batch_norm(x, w, b * b, b, w, False, 0.1, 1e-3), (x, w, b)),
        (lambda f, x, w, b: f.batch_norm(x, None, None, w, b, True, 0.1, 1e-3), (x, w, b)),
        (lambda f, x, w, b: f.instance_norm(x, None, None, w, b, True, 0.1, 1e-3), (x, w, b)),
        (lambda f, x, w, b: f.instance_norm(x, w, b * b, b, w, False, 0.1, 1e-3), (x, w, b)),
        (lambda f, q, m: f.scaled_dot_product_attention(q, q, q, m, 0.0, False, scale=0.3), (q, mask)),
        (lambda f, i, t, o: f.embedding_bag(i, t, o, mode="max", padding_idx=1), (words, table, offsets)),
        (lambda f, x, w, b: f.normalize(x, dim=-1), (x, w, b)),
    ]
    for fn, arrays in cases:
        want = fn(theirs, *map(torch.tensor, arrays))
        np.testing.assert_allclose(value("reference", lambda *a: fn(ours, *a), *arrays), want, rtol=1e-10)  # noqa: B023
    with pytest.raises(gc.TraceError, match="cannot write running statistics"):
        ours.batch_norm(ops.input("x", (2, 3), "float64"), w, w, training=True)
    with pytest.raises(ShapeError, match="normalized_shape"):
        ours.layer_norm(ops.input("x", (2, 3), "float64"), 4)


def test_functional_dropout(target):
    x = np.ones((100, 10), np.float32)

    def fn(x):
        f = nn.functional
        return f.dropout(x, 0.5), f.dropout(x, 0.5), f.dropout(x, 0.5, training=False), f.scaled_dot_product_attention(x, x, x, dropout_p=1.0)

    a, b, c, d = gc.step(fn, gc.spec(100, 10), target=target)(x)
    assert 0.4 < (a == 0).mean() < 0.6 and set(np.unique(a)) == {0, 2} and not np.array_equal(a, b)
    assert (c == 1).all() and (d == 0).all()
    a, b, c, _ = gc.compile(fn, gc.spec(100, 10), target=target)(x)
    assert (a == 1).all() and (b == 1).all()
    with pytest.raises(gc.TraceError, match="outside of a trace"):
        nn.functional.dropout(ops.input("x", (3,), "float32"))
