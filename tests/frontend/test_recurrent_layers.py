"""Recurrent cells and layers against torch's with the same weights: outputs, last states, all gradients, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops, optim
from graphc.errors import ShapeError
from graphc.ir.dims import sym
from graphc.schedule.program import Repeat

IN, HIDDEN = 5, 6
CASES = [
    ("RNN", {}), ("RNN", {"nonlinearity": "relu", "bias": False, "num_layers": 2}), ("RNN", {"bidirectional": True, "batch_first": True}),
    ("LSTM", {}), ("LSTM", {"bias": False}), ("LSTM", {"num_layers": 3, "batch_first": True}), ("LSTM", {"bidirectional": True}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 4}), ("LSTM", {"proj_size": 3, "bias": False, "batch_first": True}),
    ("GRU", {}), ("GRU", {"bias": False, "batch_first": True}), ("GRU", {"num_layers": 2, "bidirectional": True}),
]  # fmt: skip


def pair(kind, options):
    """Torch's layer and ours with its weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(IN, HIDDEN, dtype=torch.float64, **options)
    ours = getattr(nn, kind)(IN, HIDDEN, dtype="float64", **options)
    assert [name for name, _ in ours.named_parameters()] == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return theirs, ours


def flat(out):
    return [out[0], *(out[1] if isinstance(out[1], tuple) else (out[1],))]


def total(outputs):
    """A scalar to which every output contributes in its own way."""
    value = 0.0
    for k, o in enumerate(outputs):
        value = value + (o.tanh() * (k + 1.0) + o * o).sum()
    return value


def states(kind, options, *lead):
    layers = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    sizes = [options.get("proj_size") or HIDDEN, *([HIDDEN] if kind == "LSTM" else [])]
    rng = np.random.default_rng(2)
    return [rng.normal(size=(layers, *lead, s)) for s in sizes]


def expected(layer, x, state, lengths, batch_first):
    """Torch's outputs, and the gradients of their total by x, the state and the parameters."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    x, state = torch.tensor(x, requires_grad=True), [torch.tensor(s, requires_grad=True) for s in state]
    given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
    y, *last = flat(layer(given, *([] if not state else [tuple(state)] if len(state) == 2 else state)))
    if lengths is not None:
        y, _ = pad_packed_sequence(y, batch_first, total_length=x.shape[1 if batch_first else 0])
    outputs = [y, *last]
    total(outputs).backward()
    return [t.detach().numpy() for t in outputs], [t.grad.numpy() for t in (x, *state, *layer.parameters())]


def compare(kind, options, target, lengths=None, with_state=True, batched=True):
    theirs, ours = pair(kind, options)
    first = options.get("batch_first", False)
    order = (lambda t, n: (n, t)) if first else (lambda t, n: (t, n))
    x = np.random.default_rng(1).normal(size=(*order(7, 4), IN) if batched else (7, IN))
    state = states(kind, options, *((4,) if batched else ())) if with_state else []

    def run(x, *rest):
        hx, n = rest[: len(state)], rest[len(state) :]
        return flat(ours(x, *([] if not hx else [hx] if len(hx) == 2 else hx), **({"lengths": n[0]} if n else {})))

    def outputs_and_gradients(*args):
        wrt = [*range(1 + len(state)), *ours.parameters()]
        return run(*args), gc.grad(lambda *a: total(run(*a)), wrt=wrt)(*args)

    specs = [gc.spec(*order("T", "N"), IN, dtype="float64") if batched else gc.spec("T", IN, dtype="float64")]
    specs += [gc.spec(s.shape[0], *(["N"] if batched else []), s.shape[-1], dtype="float64") for s in state]
    arrays = [x, *state]
    if lengths is not None:
        specs.append(gc.spec("N", dtype="int64"))
        arrays.append(np.array(lengths))
    found = gc.compile(outputs_and_gradients, *specs, target=target)(*arrays)
    for mine, others in zip(found, expected(theirs, x, state, lengths, first), strict=True):
        assert len(mine) == len(others)
        for a, b in zip(mine, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind,options", CASES)
def test_layers_equal_torch(kind, options):
    compare(kind, options, "reference")


@pytest.mark.parametrize("kind,options", CASES)
def test_layers_without_a_state(kind, options):
    compare(kind, options, "reference", with_state=False)


@pytest.mark.parametrize("kind,options", CASES)
def test_variable_lengths_equal_packed_sequences(kind, options):
    compare(kind, options, "reference", lengths=[3, 7, 1, 5])


@pytest.mark.parametrize("kind,options", [CASES[0], CASES[6], CASES[10]])
def test_one_sequence_without_a_batch(kind, options):
    compare(kind, options, "reference", batched=False)


@pytest.mark.parametrize("case,lengths", [(2, None), (7, [3, 7, 1, 5]), (9, [3, 7, 1, 5])])
def test_layers_compiled(case, lengths):
    compare(*CASES[case], "cpu", lengths)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bias", [True, False])
def test_cells_equal_torch(kind, bias):
    torch = pytest.importorskip("torch")
    theirs, ours = pair(f"{kind}Cell", {"bias": bias})
    x, *state = (np.random.default_rng(k).normal(size=(3, s)) for k, s in enumerate((IN, HIDDEN, HIDDEN)))
    state = state if kind == "LSTM" else state[:1]

    def run(x, *state):
        out = ours(x, state if kind == "LSTM" else state[0])
        return list(out) if kind == "LSTM" else [out]

    specs = [gc.spec("N", a.shape[1], dtype="float64") for a in (x, *state)]
    wrt = [*range(1 + len(state)), *ours.parameters()]
    found = gc.compile(lambda *a: (run(*a), gc.grad(lambda *a: total(run(*a)), wrt=wrt)(*a)), *specs, target="reference")(x, *state)
    given = [torch.tensor(a, requires_grad=True) for a in (x, *state)]
    out = theirs(given[0], tuple(given[1:]) if kind == "LSTM" else given[1])
    out = list(out) if kind == "LSTM" else [out]
    total(out).backward()
    wanted = [o.detach().numpy() for o in out], [t.grad.numpy() for t in (*given, *theirs.parameters())]
    for mine, others in zip(found, wanted, strict=True):
        for a, b in zip(mine, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
    alone = gc.compile(lambda x: run(x, *([ours._start(x)] * len(state))), specs[0], target="reference")(x)
    without = gc.compile(lambda x: ours(x), specs[0], target="reference")(x)
    np.testing.assert_array_equal(alone[0], without[0] if kind == "LSTM" else without)


def test_gru_with_the_reset_before_the_contraction_equals_onnx():
    pytest.importorskip("onnx")
    from tests.ops.oracles.recurrent import onnx_gru

    x, h = np.random.default_rng(0).normal(size=(7, 4, IN)), np.random.default_rng(1).normal(size=(1, 4, HIDDEN))
    for after in (False, True):
        gru = nn.GRU(IN, HIDDEN, dtype="float64", reset_after=after)
        y, last = gc.compile(gru, gc.spec("T", "N", IN, dtype="float64"), gc.spec(1, "N", HIDDEN, dtype="float64"), target="reference").predict((x, h))
        wanted, end = onnx_gru(x, h[0], *gru.state_dict().values(), reset_after=after)
        np.testing.assert_allclose(y, wanted, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(last[0], end, rtol=1e-9, atol=1e-12)


def test_edges_of_lengths(target):
    """A sequence of length 0 keeps its initial state; padding may hold anything; a batch and a time of size 0 and 1 work."""
    lstm = nn.LSTM(IN, HIDDEN, 2, bidirectional=True, dtype="float64")

    def run(x, n, h, c):
        y, (h, c) = lstm(x, (h, c), lengths=n)
        return y, h, c, gc.grad(lambda x: (lstm(x, (h, c), lengths=n)[0] ** 2).sum())(x)

    state = gc.spec(4, "N", HIDDEN, dtype="float64")
    f = gc.compile(run, gc.spec("T", "N", IN, dtype="float64"), gc.spec("N", dtype="int32"), state, state, target=target)
    rng = np.random.default_rng(0)
    x, (h, c) = rng.normal(size=(4, 3, IN)), rng.normal(size=(2, 4, 3, HIDDEN))
    n = np.array([2, 0, 4], np.int32)
    y, h1, c1, g = f(x, n, h, c)
    np.testing.assert_array_equal(h1[:, 1], h[:, 1])
    np.testing.assert_array_equal(c1[:, 1], c[:, 1])
    x[2:, 0] = np.nan
    x[:, 1] = np.inf
    for a, b in zip(f(x, n, h, c), (y, h1, c1, g), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not y[2:, 0].any() and not y[:, 1].any() and y[:2, 0].all() and not g[2:, 0].any()
    for time, batch in ((0, 3), (1, 1), (5, 0)):
        y, h1, c1, g = f(rng.normal(size=(time, batch, IN)), np.full(batch, time, np.int32), h[:, :batch], c[:, :batch])
        assert y.shape == (time, batch, 2 * HIDDEN) and g.shape == (time, batch, IN)
        if time == 0:
            np.testing.assert_array_equal(h1, h[:, :batch])


def test_default_values_are_torchs():
    torch = pytest.importorskip("torch")
    for kind in ("RNN", "LSTM", "GRU"):
        layer, theirs = getattr(nn, kind)(20, 400), getattr(torch.nn, kind)(20, 400).state_dict()
        gc.compile(layer, gc.spec("T", "N", 20), target="reference")
        ours = layer.state_dict()
        for name, value in theirs.items():
            assert ours[name].shape == tuple(value.shape)
            assert np.abs(ours[name]).max() == pytest.approx(0.05, rel=0.02) and abs(ours[name].mean()) < 0.005
            assert ours[name].std() == pytest.approx(float(value.std()), rel=0.1)


def test_dropout_stands_between_layers_in_training_only():
    """With p = 1 the second layer sees zeros in training, and its input otherwise."""
    lstm = nn.LSTM(IN, HIDDEN, 2, dropout=1.0, dtype="float64")
    head = nn.Sequential(Last(lstm))
    model = gc.compile(head, gc.spec("T", "N", IN, dtype="float64"), loss="mse", optimizer=optim.SGD(0.0), target="reference")
    x = np.random.default_rng(0).normal(size=(3, 2, IN))
    value = lstm.state_dict()
    zeros = nn.LSTM(HIDDEN, HIDDEN, dtype="float64")
    zeros.load_state_dict({k.replace("l1", "l0"): v for k, v in value.items() if "l1" in k})
    blind = gc.compile(Last(zeros), gc.spec("T", "N", HIDDEN, dtype="float64"), target="reference").predict(np.zeros((3, 2, HIDDEN)))
    seen = model.predict(x)
    assert np.abs(seen - blind).max() > 1e-3
    assert model.train_on_batch(x, blind)["loss"] == pytest.approx(0.0, abs=1e-20)
    assert model.evaluate(x, seen)["loss"] == pytest.approx(0.0, abs=1e-20)


class Last(nn.Module):
    """The outputs of a recurrent layer, alone."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Classifier(nn.Module):
    """Which of two halves of a sequence holds the larger sum: from the last state."""

    def __init__(self, kind):
        self.layer = getattr(nn, kind)(2, 12, num_layers=2, batch_first=True, dropout=0.1)
        self.out = nn.Linear(12, 2)

    def forward(self, x):
        h = self.layer(x)[1]
        return self.out((h[0] if isinstance(h, tuple) else h)[-1])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_small_classifier_learns_on_the_cpu(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 10, 2)).astype(np.float32)
    y = (x[:, :5, 0].sum(1) > x[:, 5:, 0].sum(1)).astype(np.int64)
    model = gc.compile(Classifier(kind), gc.spec("N", "T", 2), loss="cross_entropy", optimizer=optim.Adam(2e-2), metrics=["accuracy"], target="cpu")
    history = model.fit(x, y, batch_size=32, epochs=20)
    assert model.evaluate(x, y)["accuracy"] > 0.9
    assert history.history["loss"][-1] < 0.35 < 0.6 < history.history["loss"][0]
    assert model.predict(x[:3, :4]).shape == (3, 2), "another length needs no other program"


def test_a_training_step_equals_torchs():
    torch = pytest.importorskip("torch")
    theirs, ours = pair("LSTM", {"num_layers": 2, "bidirectional": True})
    model = gc.compile(Last(ours), gc.spec("T", "N", IN, dtype="float64"), loss="mse", optimizer=optim.Adam(1e-2), target="cpu")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 3, IN)), rng.normal(size=(6, 3, 2 * HIDDEN))
    optimizer = torch.optim.Adam(theirs.parameters(), 1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(theirs(torch.tensor(x))[0], torch.tensor(y))
        loss.backward()
        optimizer.step()
        assert model.train_on_batch(x, y)["loss"] == pytest.approx(loss.item(), rel=1e-9)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_contraction_over_the_input_stands_before_the_loop(kind):
    model = gc.compile(getattr(nn, kind)(IN, HIDDEN), gc.spec("T", "N", IN), target="cpu")
    model.predict(np.zeros((2, 3, IN), np.float32))
    schedule = model.executables["predict"].program.schedule
    (loop,) = [i for i in schedule.items if isinstance(i, Repeat)]
    inside = [i for i in loop.body if i.nest.contract is not None]
    outside = [i for i in schedule.items if not isinstance(i, Repeat) and i.nest.contract is not None]
    assert [i.nest.contract.k[0].size for i in inside] == [HIDDEN] and [i.nest.contract.k[0].size for i in outside] == [IN]
    assert outside[0].nest.contract.m.size == sym("T") * sym("N")


def test_truncated_backpropagation(target):
    """A carry behind stop_gradient: the gradient of the second half knows nothing of the first."""
    rnn = nn.RNN(IN, HIDDEN, dtype="float64")

    def loss(x, cut):
        y, h = rnn(x[:3])
        return (rnn(x[3:], gc.stop_gradient(h) if cut else h)[0] ** 2).sum() + (y * 0.0).sum()

    spec, x = gc.spec(6, "N", IN, dtype="float64"), np.random.default_rng(0).normal(size=(6, 2, IN))
    cut, whole = (gc.compile(gc.grad(lambda x, c=c: loss(x, c)), spec, target=target)(x) for c in (True, False))
    assert not cut[:3].any() and np.abs(whole[:3]).min() > 0
    np.testing.assert_allclose(cut[3:], whole[3:], rtol=1e-12)

    def inside(x, h):
        def cell(h, x):
            h = (gc.stop_gradient(h) * 0.5 + x).tanh()
            return h, h

        return (ops.scan(cell, h, x)[1] ** 2).sum()

    x, h = rng_pair = np.random.default_rng(1).normal(size=(5, 3)), np.zeros(3)
    found = gc.compile(gc.grad(inside), gc.spec("T", 3, dtype="float64"), gc.spec(3, dtype="float64"), target=target)(*rng_pair)
    ys = []
    for row in x:
        ys.append(h := np.tanh(h * 0.5 + row))
    np.testing.assert_allclose(found, 2 * np.array(ys) * (1 - np.array(ys) ** 2), rtol=1e-12)


def test_mistakes():
    with pytest.raises(ShapeError, match=r"lstm: x is \(N, T, 4\), expected \(time, batch, 5\)"):
        _ = gc.compile(nn.LSTM(5, 6), gc.spec("N", "T", 4), target="reference").graph
    with pytest.raises(ShapeError, match=r"an initial state is \(1, N, 5\), not \(1, N, 6\)"):
        _ = gc.compile(nn.GRU(5, 6), gc.spec("T", "N", 5), gc.spec(1, "N", 5), target="reference").graph
    with pytest.raises(ShapeError, match=r"dropout = 0\.5 stands between layers"):
        nn.RNN(3, 4, dropout=0.5)
    with pytest.raises(ShapeError, match="proj_size = 6"):
        nn.LSTM(3, 6, proj_size=6)
    with pytest.raises(gc.errors.TraceError, match="nonlinearity='sine'"):
        _ = gc.compile(nn.RNN(5, 6, nonlinearity="sine"), gc.spec("T", "N", 5), target="reference").graph
