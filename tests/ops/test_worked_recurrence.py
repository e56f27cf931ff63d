"""Worked examples of the course notes on recurrence (rows 24-26, 34, 35 of the catalogue), and what the notes get wrong."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.graph import Graph
from graphc.testing import build_graph

rng = np.random.default_rng(0)


def values(target, fn, *args):
    graph, arrays = build_graph(fn, *args)
    return list(compile_graph(graph, target)(arrays).values())


def slopes(target, fn, *args, wrt=(0,)):
    """Gradients of a scalar function by some of its arguments."""
    graph, arrays = build_graph(fn, *args)
    found = gradients([graph.outputs[0][1]], None, [graph.inputs[i].node for i in wrt])
    return list(compile_graph(Graph("g", graph.inputs, tuple((f"g{i}", g) for i, g in enumerate(found))), target)(arrays).values())


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def split(w, hidden):
    """One W on [h, x], as the notes write it, as torch's pair: (weight_ih, weight_hh)."""
    return w[:, hidden:], w[:, :hidden]


# -- rows 24 and 25: one matrix on [h, x] ---------------------------------------------------------------------------------
@pytest.mark.parametrize("hidden,features", [(4, 3), (3, 3)])
def test_rows_24_25_and_line_4610_one_matrix_on_the_joined_vector(target, hidden, features):
    w, b = rng.normal(size=(hidden, hidden + features)), rng.normal(size=hidden)
    h, x = rng.normal(size=hidden), rng.normal(size=features)
    (found,) = values(target, lambda x, h, u, v, b: ops.rnn_cell(x, h, u, v, b), x, h, *split(w, hidden), b)
    assert np.concatenate([h, x]).shape == (hidden + features,)
    assert found.shape == (hidden,), "h_t has d_h rows: the notes draw two of four (4610)"
    np.testing.assert_allclose(found, np.tanh(w @ np.concatenate([h, x]) + b), rtol=1e-12)


def test_row_24_parameters_of_the_three_cells():
    """One W and one b a gate: 32, 128, 96 for d_h = 4, d_x = 3. (torch's layers have a second bias: 36, 144, 108.)"""
    from graphc import nn

    for cell, gates, one_bias in ((nn.RNNCell, 1, 32), (nn.LSTMCell, 4, 128), (nn.GRUCell, 3, 96)):
        sizes = {name: np.prod(p.shape) for name, p in cell(3, 4).named_parameters()}
        assert sum(sizes.values()) - sizes["bias_hh"] == one_bias
        assert sizes["bias_hh"] == 4 * gates


def test_lstm_gates_by_hand(target):
    """Products with gates are element-wise (4225 writes a dot for both kinds), and the cell state takes tanh, not sigma (4210)."""
    hidden, features = 4, 3
    w = {k: rng.normal(size=(hidden, hidden + features)) for k in "ifgo"}
    b = {k: rng.normal(size=hidden) for k in "ifgo"}
    h, c, x = rng.normal(size=hidden), rng.normal(size=hidden), rng.normal(size=features)
    z = {k: w[k] @ np.concatenate([h, x]) + b[k] for k in "ifgo"}
    new_c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"])
    new_h = sigmoid(z["o"]) * np.tanh(new_c)
    joined = np.concatenate([w[k] for k in "ifgo"])
    found = values(target, lambda x, h, c, u, v, b: tuple(ops.lstm_cell(x, h, c, u, v, b)), x, h, c, *split(joined, hidden), np.concatenate([b[k] for k in "ifgo"]))
    np.testing.assert_allclose(found[0], new_h, rtol=1e-12)
    np.testing.assert_allclose(found[1], new_c, rtol=1e-12)


def notes_gru(x, h, w, b):
    """Equations 5087-5120: the reset before the contraction, z near 1 takes the candidate."""
    r, z = (sigmoid(w[k] @ np.concatenate([h, x]) + b[k]) for k in "rz")
    candidate = np.tanh(w["n"] @ np.concatenate([r * h, x]) + b["n"])
    return (1 - z) * h + z * candidate


def test_gru_of_the_notes_and_of_torch(target):
    hidden, features = 4, 3
    w = {k: rng.normal(size=(hidden, hidden + features)) for k in "rzn"}
    b = {k: rng.normal(size=hidden) for k in "rzn"}
    h, x = rng.normal(size=hidden), rng.normal(size=features)
    weights = (*split(np.concatenate([w[k] for k in "rzn"]), hidden), np.concatenate([b[k] for k in "rzn"]))

    def cell(weights, **convention):
        return values(target, lambda x, h, u, v, b: ops.gru_cell(x, h, u, v, b, **convention), x, h, *weights)[0]

    wanted = notes_gru(x, h, w, b)
    np.testing.assert_allclose(cell(weights, reset_after=False, z_keeps=False), wanted, rtol=1e-12)
    # weights are not interchangeable: each convention by itself gives another state
    for other in ({}, {"reset_after": False}, {"z_keeps": False}):
        assert np.abs(cell(weights, **other) - wanted).max() > 1e-2
    # z exchanged with 1 - z is the other sign of its weights; a large z retains less of h here (5085 says more)
    flipped = tuple(np.concatenate([a[:hidden], -a[hidden : 2 * hidden], a[2 * hidden :]]) for a in weights)
    np.testing.assert_allclose(cell(flipped, reset_after=False), wanted, rtol=1e-12)
    open_, shut = (tuple(a if a.ndim > 1 else a + np.repeat([0.0, s, 0.0], hidden) for a in weights) for s in (40.0, -40.0))
    np.testing.assert_allclose(cell(shut, reset_after=False, z_keeps=False), h, rtol=1e-10)
    assert np.abs(cell(open_, reset_after=False, z_keeps=False) - h).max() > 1e-2


# -- row 26: the same cell at every step ----------------------------------------------------------------------------------
def test_row_26_and_lines_4521_4694_three_steps_are_a_chain(target):
    """h3 = A(A(A(h0, x1), x2), x3), with one W and one b for all steps (4530); one "A(" is lost in 4660."""
    weights = rng.normal(size=(4, 3)), rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    xs, h0 = rng.normal(size=(3, 2, 3)), rng.normal(size=(2, 4))

    def both(xs, h0, *w):
        def a(h, x):
            return ops.rnn_cell(x, h, *w)

        ys, last = ops.rnn_layer(xs, h0, *w)
        return a(a(a(h0, xs[0]), xs[1]), xs[2]), last, ys

    chained, last, ys = values(target, both, xs, h0, *weights)
    np.testing.assert_allclose(last, chained, rtol=1e-12)
    np.testing.assert_array_equal(last, ys[-1])
    assert last.shape == (2, 4), "H_t is n x h (4694)"


def test_the_output_layer_stands_behind_the_state(target):
    """O_t = H_t W_hq + b_q at each step (4733); a prediction h_N (4446) alone leaves it out."""
    w, xs, h0 = (rng.normal(size=(4, 3)), rng.normal(size=(4, 4))), rng.normal(size=(5, 2, 3)), np.zeros((2, 4))
    out, bias = rng.normal(size=(6, 4)), rng.normal(size=6)
    each, last = values(target, lambda xs, h, u, v, q, b: [ops.linear(y, q, b) for y in ops.rnn_layer(xs, h, u, v)], xs, h0, *w, out, bias)
    h = h0
    for t in range(5):
        h = np.tanh(xs[t] @ w[0].T + h @ w[1].T)
        np.testing.assert_allclose(each[t], h @ out.T + bias, rtol=1e-10)
    np.testing.assert_allclose(last, each[-1], rtol=1e-12)


# -- row 34: both directions ----------------------------------------------------------------------------------------------
def test_row_34_and_line_6088_directions_are_joined_not_added(target):
    """H_t is n x 2h: the circled plus of 6088 is a concatenation (6090)."""
    forward, backward = ((rng.normal(size=(5, 3)), rng.normal(size=(5, 5)), None, None) for _ in range(2))
    xs = rng.normal(size=(4, 2, 3))

    def run(xs, a, b, c, d):
        return ops.rnn(xs, [(a, b, None, None), (c, d, None, None)], bidirectional=True)

    ys, last = values(target, run, xs, *forward[:2], *backward[:2])
    assert ys.shape == (4, 2, 10)
    for side, (u, v, *_), order in ((ys[..., :5], forward, range(4)), (ys[..., 5:], backward, reversed(range(4)))):
        h = np.zeros((2, 5))
        for t in order:
            h = np.tanh(xs[t] @ u.T + h @ v.T)
            np.testing.assert_allclose(side[t], h, rtol=1e-10)
    np.testing.assert_array_equal(last[0], ys[-1, :, :5])
    np.testing.assert_array_equal(last[1], ys[0, :, 5:])


# -- row 35: characters ---------------------------------------------------------------------------------------------------
def test_row_35_the_target_is_the_input_shifted_by_one(target):
    """Input "machin", target "achine": a prediction at each step, from what came before it only."""
    letters = sorted(set("machine"))
    text = np.array([letters.index(c) for c in "machine"])
    given, wanted = text[:-1], text[1:]
    assert "".join(letters[i] for i in given) == "machin" and "".join(letters[i] for i in wanted) == "achine"
    hot = np.eye(len(letters))[given][:, None]
    w = rng.normal(size=(8, len(letters))), rng.normal(size=(8, 8)), rng.normal(size=(len(letters), 8))

    def losses(x, y, u, v, q):
        logits = ops.linear(ops.rnn(x, [(u, v, None, None)])[0][:, 0], q)
        return ops.cross_entropy(logits, y, reduction="none")

    (found,) = values(target, losses, hot, wanted, *w)
    assert found.shape == (6,)
    changed = hot.copy()
    changed[4] = np.eye(len(letters))[0]
    (after,) = values(target, losses, changed, wanted, *w)
    np.testing.assert_array_equal(after[:4], found[:4])
    assert np.abs(after[4:] - found[4:]).min() > 0


# -- 4770: back-propagation through time ----------------------------------------------------------------------------------
@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_line_4770_backpropagation_through_time(target, activation):
    """dL/dh_t = sum over i = t..T of (W_hh^T)^(i-t) W_qh^T dL/do_i. The notes' index o_{T+i} does not exist, and with a
    non-linear cell each factor W_hh^T is diag(phi'(a_j)) behind W_hh^T, which 4770 and the eigenvalues of 4774 leave out."""
    time, hidden, features, outs = 5, 4, 3, 2
    w_hx, w_hh, w_qh = rng.normal(size=(hidden, features)), rng.normal(size=(hidden, hidden)) * 0.6, rng.normal(size=(outs, hidden))
    xs, cots = rng.normal(size=(time, features)), rng.normal(size=(time, outs))
    pushes = np.zeros((time, hidden))  # added to h_t: the gradient by it is dL/dh_t

    def loss(pushes, xs, cots, w_hx, w_hh, w_qh):
        def cell(h, e):
            x, push = e
            a = ops.linear(x, w_hx) + ops.linear(h, w_hh)
            h = (a.tanh() if activation == "tanh" else a) + push
            return h, ops.linear(h, w_qh)

        return (ops.scan(cell, pushes[0] * 0.0, (xs, pushes))[1] * cots).sum()

    (found,) = slopes(target, loss, pushes, xs, cots, w_hx, w_hh, w_qh)
    h, inner = np.zeros(hidden), []
    for x in xs:
        a = w_hx @ x + w_hh @ h
        h = np.tanh(a) if activation == "tanh" else a
        inner.append(1 - h * h if activation == "tanh" else np.ones(hidden))
    for t in range(time):
        wanted = np.zeros(hidden)
        for i in range(t, time):
            part = w_qh.T @ cots[i]
            for j in range(i, t, -1):
                part = w_hh.T @ (inner[j] * part)
            wanted += part
        np.testing.assert_allclose(found[t], wanted, rtol=1e-9, atol=1e-12)
    if activation == "identity":
        printed = sum(np.linalg.matrix_power(w_hh.T, time - 1 - i) @ w_qh.T @ cots[i] for i in range(time))
        assert np.abs(printed - found[0]).max() > 1e-3, "powers T - i belong to o_{T+t-i}, not to o_i"
        right = sum(np.linalg.matrix_power(w_hh.T, time - 1 - i) @ w_qh.T @ cots[time - 1 - i] for i in range(time))
        np.testing.assert_allclose(found[0], right, rtol=1e-9)


def test_a_saturated_cell_forgets_whatever_the_eigenvalues_of_its_matrix_say(target):
    """4774 looks at |eigenvalues| of W_hh alone: with W = 3 I the linear cell explodes, the tanh cell's gradient vanishes."""
    w, xs = 3.0 * np.eye(3), np.full((8, 1, 3), 2.0)

    def last(h, xs, w, eye):
        return ops.rnn_layer(xs, h, eye, w)[1].sum()

    def linear_last(h, xs, w, eye):
        return ops.scan(lambda h, x: (ops.linear(x, eye) + ops.linear(h, w), None), h, xs)[0].sum()

    (tanh,) = slopes(target, last, np.ones((1, 3)), xs, w, np.eye(3))
    (linear,) = slopes(target, linear_last, np.ones((1, 3)), xs, w, np.eye(3))
    np.testing.assert_allclose(linear, 3.0**8, rtol=1e-12)
    assert np.abs(tanh).max() < 1e-12
