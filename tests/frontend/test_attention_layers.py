"""Attention, transformer and embedding layers: torch's, with the same state, masks and gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from tests.frontend.torch_layers import check, values

torch = pytest.importorskip("torch")
D = "float64"


def data(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).normal(size=shape)


def pair(name, *args, **kwargs):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    with torch.no_grad():
        for p in theirs.parameters():  # biases of 0 and gains of 1 would hide mistakes
            if p.ndim == 1:
                p.copy_(torch.rand(p.shape) + 0.5)
    return getattr(nn, name)(*args, **kwargs, dtype=D), theirs


def attention(**options):
    def call(module, q, k, v, *masks):
        return module(q, k, v, **dict(zip(options, masks, strict=True)))

    return call


CAUSAL = np.triu(np.ones((4, 4), bool), 1)
PADDING = np.array([[False, False, False, True], [False, True, True, True], [False] * 4])
PAIRS = np.random.default_rng(0).random((4, 4)) < 0.4
PAIRS[:, 0] = False
ALONE = np.array([[False] * 4, [True] * 4, [True, False, False, True], [False] * 4])  # the second query sees nothing


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True, "add_bias_kv": True}, {"kdim": 5, "vdim": 7}, {"kdim": 5, "bias": False}], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention(options, batch_first):
    ours, theirs = pair("MultiheadAttention", 6, 3, batch_first=batch_first, **options)
    arrays = [data(3, 4, 6), data(3, 5, options.get("kdim", 6)), data(3, 5, options.get("vdim", 6))]
    check(ours, theirs, *[a if batch_first else a.swapaxes(0, 1).copy() for a in arrays])


@pytest.mark.parametrize("self_attention", [True, False])
@pytest.mark.parametrize(
    "masks",
    [
        {"attn_mask": PAIRS},
        {"attn_mask": np.where(PAIRS, -np.inf, 0.5)},
        {"attn_mask": np.where(PAIRS, 0.0, 0.5)},
        {"key_padding_mask": PADDING},
        {"key_padding_mask": np.where(PADDING, -np.inf, 0.1), "attn_mask": np.where(PAIRS, -np.inf, 0.5)},
        {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
        {"attn_mask": np.random.default_rng(1).normal(size=(6, 4, 4)).repeat(1, 0)},
    ],
    ids=lambda m: "+".join(m),
)
def test_masks(masks, self_attention):
    ours, theirs = pair("MultiheadAttention", 6, 2, batch_first=True)
    mask = list(masks.values())
    if self_attention:
        def call(m, x, *given):
            return m(x, x, x, **dict(zip(masks, given, strict=True)))

        check(ours, theirs, data(3, 4, 6), *mask, call=call)
    else:
        check(ours, theirs, data(3, 4, 6), data(3, 4, 6, seed=1), data(3, 4, 6, seed=2), *mask, call=attention(**masks))


@pytest.mark.parametrize("options", [{"add_zero_attn": True}, {"add_bias_kv": True}, {}], ids=str)
def test_added_keys_are_seen_through_masks(options):
    ours, theirs = pair("MultiheadAttention", 6, 2, batch_first=True, **options)
    check(ours, theirs, data(3, 4, 6), CAUSAL, PADDING, call=lambda m, x, a, p: m(x, x, x, p, attn_mask=a))
    # is_causal alone is the same mask; torch wants the mask besides
    ours.load_state_dict(values(theirs))
    f = gc.compile(lambda x: ours(x, x, x, is_causal=True), gc.spec(3, 4, 6, dtype=D), target="reference")
    x = torch.tensor(data(3, 4, 6))
    for found, want in zip(f(x.numpy()), theirs(x, x, x, attn_mask=torch.tensor(CAUSAL), is_causal=True), strict=True):
        np.testing.assert_allclose(found, want.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("average", [True, False])
def test_weights_of_one_sample(average):
    ours, theirs = pair("MultiheadAttention", 6, 2)
    check(ours, theirs, data(4, 6), data(5, 6), data(5, 6), call=lambda m, *x: m(*x, average_attn_weights=average))


def test_a_query_that_sees_nothing_gets_zeros():
    """As torch without ``need_weights``; with it torch gives NaN, which would lose the step."""
    ours, theirs = pair("MultiheadAttention", 6, 2, batch_first=True)
    check(ours, theirs, data(3, 4, 6), ALONE, call=lambda m, x, a: m(x, x, x, attn_mask=a, need_weights=False)[0])
    f = gc.compile(lambda x, a: ours(x, x, x, attn_mask=a), gc.spec(3, 4, 6, dtype=D), gc.spec(4, 4, dtype="bool"), target="reference")
    out, weights = f(data(3, 4, 6), ALONE)
    assert (weights[:, 1] == 0).all()
    np.testing.assert_allclose(out[:, 1], np.broadcast_to(ours.state_dict()["out_proj.bias"], (3, 6)))
    np.testing.assert_allclose(weights[:, [0, 2, 3]].sum(-1), 1)


def test_dropout_of_weights(target):
    layer = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)
    step = gc.step(lambda x: layer(x, x, x, average_attn_weights=False), gc.spec(30, 8, 4), target=target)
    plain = gc.compile(lambda x: layer(x, x, x, average_attn_weights=False), gc.spec(30, 8, 4), target=target)
    x = data(30, 8, 4).astype(np.float32)
    (out, weights), (_, whole) = step(x), plain(x)
    kept = weights > 0
    assert abs(kept.mean() - 0.5) < 0.05
    np.testing.assert_allclose(weights[kept], 2 * whole[kept], rtol=1e-5)
    v = layer.state_dict()
    values_ = (x @ v["in_proj_weight"][8:].T + v["in_proj_bias"][8:]).reshape(30, 8, 2, 2).swapaxes(1, 2)
    want = (weights @ values_).swapaxes(1, 2).reshape(30, 8, 4) @ v["out_proj.weight"].T + v["out_proj.bias"]
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)  # the same weights were dropped in both results


def test_weights_cost_nothing_where_they_are_not_used():
    layer = nn.MultiheadAttention(4, 2)
    graph = gc.trace(lambda x: layer(x, x, x)[0], gc.spec("N", 3, 4))
    assert "attention_weights" not in str(graph)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"activation": "gelu", "bias": False}, {"batch_first": True, "layer_norm_eps": 1e-3}], ids=str)
def test_encoder_layer(options, norm_first):
    pad = PADDING if options.get("batch_first") else PADDING[:, :4]
    shape = (3, 4, 6) if options.get("batch_first") else (4, 3, 6)
    ours, theirs = pair("TransformerEncoderLayer", 6, 2, 8, dropout=0.0, norm_first=norm_first, **options)
    check(ours, theirs, data(*shape))
    check(*pair("TransformerEncoderLayer", 6, 2, 8, dropout=0.0, norm_first=norm_first, **options), data(*shape), CAUSAL, pad)


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_layer(norm_first):
    ours, theirs = pair("TransformerDecoderLayer", 6, 2, 8, dropout=0.0, norm_first=norm_first, batch_first=True)
    memory = np.random.default_rng(3).random((4, 5)) < 0.3
    memory[:, 0] = False
    check(ours, theirs, data(3, 4, 6), data(3, 5, 6), CAUSAL, memory, PADDING)


def test_encoder_stack():
    torch.manual_seed(0)
    theirs = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(6, 2, 8, 0.0), 3, torch.nn.LayerNorm(6), enable_nested_tensor=False)
    ours = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, 0.0, dtype=D), 3, nn.LayerNorm(6, dtype=D))
    check(ours, theirs, data(4, 3, 6), CAUSAL, PADDING)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer(norm_first):
    ours, theirs = pair("Transformer", 6, 2, 2, 1, 8, dropout=0.0, norm_first=norm_first, batch_first=True)
    call = lambda m, s, t, mask, pad: m(s, t, tgt_mask=mask, src_key_padding_mask=pad, memory_key_padding_mask=pad)
    check(ours, theirs, data(3, 4, 6), data(3, 4, 6, seed=1), CAUSAL, PADDING, call=call)


def test_compiled():
    ours, theirs = pair("TransformerEncoderLayer", 8, 2, 12, dropout=0.0, batch_first=True)
    theirs = theirs.double()
    ours.load_state_dict(values(theirs))
    f = gc.compile(ours, gc.spec("N", 5, 8, dtype=D), target="cpu")
    for n in (1, 3, 0):
        x = data(n, 5, 8)
        want = theirs(torch.tensor(x)).detach() if n else np.zeros((0, 5, 8))
        np.testing.assert_allclose(f.predict(x), want, rtol=1e-9, atol=1e-9)


def test_lengths_can_be_named(target):
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    f = gc.compile(
        lambda x, n: layer(x, x, x, key_padding_mask=gc.ops.padding_mask(n, x.shape[1]), is_causal=True)[0],
        gc.spec("N", "T", 8), gc.spec("N", dtype="int32"), target=target,
    )  # fmt: skip
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
    for n, t in ((2, 5), (1, 1), (3, 7)):
        x, lengths = data(n, t, 8).astype(np.float32), np.arange(1, n + 1).clip(max=t)
        pad = np.arange(t) >= lengths[:, None]
        causal = torch.nn.Transformer.generate_square_subsequent_mask(t)
        mask = torch.zeros(n, t).masked_fill(torch.tensor(pad), -np.inf)
        want = theirs(*[torch.tensor(x)] * 3, key_padding_mask=mask, attn_mask=causal)[0].detach()
        np.testing.assert_allclose(f(x, lengths), want, rtol=1e-4, atol=1e-5)


def test_a_transformer_learns_to_reverse(target):
    """The whole thing trains: dropout, masks, embeddings and norms in one step."""
    gc.set_seed(1)

    class Reverser(nn.Module):
        def __init__(self):
            self.tokens, self.places = nn.Embedding(6, 16), nn.Parameter((5, 16), init="normal")
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.05, batch_first=True), 1)
            self.head = nn.Linear(16, 6)

        def forward(self, x):
            return self.head(self.encoder(self.tokens(x) + self.places)).transpose(0, 2, 1)

    x = np.random.default_rng(0).integers(0, 6, (64, 5))
    model = gc.compile(Reverser(), gc.spec("N", 5, dtype="int64"), loss="cross_entropy", optimizer=optim.Adam(1e-2), target=target)
    losses = [model.train_on_batch(x, x[:, ::-1].copy())["loss"] for _ in range(60)]
    assert losses[-1] < 0.3 < 1.5 < losses[0]


def test_masks_of_torchs_helper():
    want = torch.nn.Transformer.generate_square_subsequent_mask(5).numpy()
    np.testing.assert_array_equal(nn.Transformer.generate_square_subsequent_mask(5), want)
    f = gc.compile(lambda x: nn.Transformer.generate_square_subsequent_mask(x.shape[0]), gc.spec("T"), target="reference")
    np.testing.assert_array_equal(f(np.zeros(5, np.float32)), want)


def test_initial_values():
    m = nn.MultiheadAttention(256, 4, add_bias_kv=True)
    v = {k: p.initial(0, k) for k, p in m.named_parameters()}
    theirs = torch.nn.MultiheadAttention(256, 4, add_bias_kv=True)
    for k, t in theirs.state_dict().items():
        t = t.numpy()
        assert v[k].shape == t.shape
        assert abs(v[k].std() - t.std()) <= 0.15 * t.std(), k
        if k not in ("bias_k", "bias_v"):
            assert abs(np.abs(v[k]).max() - np.abs(t).max()) <= 0.05 * np.abs(t).max(), k
    copies = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8), 2)
    a, b = (p.initial(0, k) for k, p in copies.named_parameters() if k.endswith("linear1.weight"))
    assert not np.array_equal(a, b)
    whole = nn.Transformer(16, 2, 1, 1, 64)
    weight = dict(whole.named_parameters())["encoder.layers.0.linear1.weight"].initial(0, "w")
    assert np.abs(weight).max() == pytest.approx(np.sqrt(6 / 80), rel=0.02)  # Xavier, and not the linear layer's own


@pytest.mark.parametrize(
    "make,error,message",
    [
        (lambda: nn.MultiheadAttention(6, 4), gc.ShapeError, "6 features do not divide into 4 heads"),
        (lambda: nn.MultiheadAttention(6, 2, dropout=2.0), gc.ShapeError, "dropout = 2.0"),
        (lambda: nn.TransformerEncoderLayer(6, 2, activation="tanh"), gc.ArgumentError, "activation='tanh'"),
        (lambda: gc.trace(lambda x: nn.MultiheadAttention(6, 2)(x, x, x), gc.spec(3, 2, 5)), gc.ShapeError, r"query \(3, 2, 5\) is not \(L, N, 6\)"),
        (lambda: gc.trace(lambda x, m: nn.MultiheadAttention(6, 2)(x, x, x, attn_mask=m), gc.spec(3, 2, 6), gc.spec(4, 3)), gc.ShapeError, "attn_mask"),
        (lambda: gc.trace(lambda x, m: nn.MultiheadAttention(6, 2)(x, x, x, m), gc.spec(3, 2, 6), gc.spec(2, 3, dtype="int32")), gc.DTypeError, "bool or float"),
        (lambda: nn.Embedding(4, 3, padding_idx=4), gc.ShapeError, "padding_idx=4"),
        (lambda: nn.Sequential({"forward": nn.ReLU()}), gc.TraceError, "'forward' cannot name a layer"),
        (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), gc.TraceError, "'a.b' cannot name a layer"),
        (lambda: nn.ModuleList([3]), gc.TraceError, "item 0 is 3"),
    ],
)
def test_misuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -- embeddings --------------------------------------------------------------------------------------------------------------
WORDS = np.array([[1, 4, 2], [2, 0, 2]])


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embedding(padding):
    ours, theirs = pair("Embedding", 5, 3, padding_idx=padding)
    check(ours, theirs, WORDS, named=True)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("last", [False, True])
def test_embedding_bag(mode, padding, last):
    options = {"mode": mode, "padding_idx": padding, "include_last_offset": last}
    if not last:
        check(*pair("EmbeddingBag", 5, 3, **options), WORDS, named=True)
    check(*pair("EmbeddingBag", 5, 3, **options), WORDS.ravel(), np.array([0, 2, 2, 6] if last else [0, 2, 2, 3]))


def test_weighted_bags():
    check(*pair("EmbeddingBag", 5, 3, mode="sum"), WORDS, data(2, 3), call=lambda m, x, w: m(x, per_sample_weights=w))


def test_bags_compiled():
    ours, theirs = pair("EmbeddingBag", 5, 3)
    check(ours, theirs, WORDS.ravel(), np.array([0, 2, 3]), target="cpu")


def test_the_padding_row_starts_as_zero_and_stays(target):
    model = gc.compile(nn.Sequential(nn.Embedding(5, 3, padding_idx=1), nn.Flatten(), nn.Linear(9, 1)), gc.spec("N", 3, dtype="int64"), loss="mse", optimizer="sgd", target=target)
    before = model.state_dict()["0.weight"]
    assert (before[1] == 0).all() and np.abs(before[[0, 2, 3, 4]]).min() > 0
    model.train_on_batch(np.array([[1, 4, 2], [1, 0, 1]]), np.ones((2, 1), np.float32))
    after = model.state_dict()["0.weight"]
    assert (after[1] == 0).all() and (after[3] == before[3]).all() and (after[[0, 2, 4]] != before[[0, 2, 4]]).any(1).all()


def test_pretrained_rows(target):
    rows = data(4, 3).astype(np.float32)
    frozen = nn.Embedding.from_pretrained(rows)
    model = gc.compile(nn.Sequential(frozen, nn.Linear(3, 1)), gc.spec("N", dtype="int64"), loss="mse", optimizer="sgd", target=target)
    model.train_on_batch(np.array([0, 1]), np.ones((2, 1), np.float32))
    np.testing.assert_array_equal(frozen.weight.numpy(), rows)
    assert nn.Embedding.from_pretrained(rows, freeze=False).weight.trainable and not frozen.weight.trainable


@pytest.mark.parametrize("bias", [True, False])
def test_bilinear(bias):
    check(*pair("Bilinear", 3, 4, 2, bias=bias), data(5, 3), data(5, 4), named=True)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    check(*pair("Linear", 3, 4, bias=bias), data(5, 3), named=True)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, np.inf])
def test_pairwise_distance(p):
    for keep in (False, True):
        check(nn.PairwiseDistance(p, keepdim=keep), torch.nn.PairwiseDistance(p, keepdim=keep), data(5, 3), data(1, 3))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cosine_similarity(dim):
    check(nn.CosineSimilarity(dim), torch.nn.CosineSimilarity(dim), data(5, 3, 2), data(3, 1))


# -- containers --------------------------------------------------------------------------------------------------------------
def test_sequential_is_torchs():
    def make(m):
        return m.Sequential(m.Linear(2, 3), m.ReLU(), m.Linear(3, 4), m.Tanh())

    ours, theirs = make(nn), make(torch.nn)

    def same():
        assert [n for n, _ in ours.named_children()] == [n for n, _ in theirs.named_children()]
        assert [type(c).__name__ for c in ours.children()] == [type(c).__name__ for c in theirs.children()]
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
        assert len(ours) == len(theirs)

    same()
    for cut in (slice(2, None), slice(None, -1), slice(None, None, 2)):
        assert [n for n, _ in ours[cut].named_parameters()] == [n for n, _ in theirs[cut].named_parameters()]
        assert all(a in list(ours) for a in ours[cut])
    assert ours[-1] is ours[3] and type(ours[1]).__name__ == "ReLU"
    for m, seq in ((nn, ours), (torch.nn, theirs)):
        seq.append(m.Linear(4, 5)).append(m.Sigmoid())
        seq.insert(1, m.Identity())
        seq.extend([m.Linear(5, 1)])
        del seq[2]
        seq.pop(-2)
        seq[0] = m.Linear(2, 3, bias=False)
    same()


def test_settings_of_a_subclass_are_no_layers():
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 3), nn.ReLU())
            self.scale = 2.0
            self.shift = nn.Parameter((3,))

        def forward(self, x):
            return super().forward(x) * self.scale + self.shift

    net = Net().append(nn.Linear(3, 3))
    assert len(net) == 3 and net.scale == 2.0
    assert gc.compile(net, gc.spec("N", 2), target="reference").predict(np.zeros((4, 2), np.float32)).shape == (4, 3)


def test_lists_and_dicts_of_modules_are_torchs():
    def make(m):
        class Net(m.Module):
            def __init__(self):
                super().__init__()
                self.layers = m.ModuleList([m.Linear(2, 2) for _ in range(3)])
                self.heads = m.ModuleDict({"a": m.Linear(2, 1), "b": m.Linear(2, 3)})

            def forward(self, x):
                for layer in self.layers[1:]:
                    x = layer(x)
                return tuple(self.heads[k](x) for k in self.heads)

        return Net()

    ours, theirs = make(nn), make(torch.nn)
    for m, net in ((nn, ours), (torch.nn, theirs)):
        net.layers.append(m.Linear(2, 2))
        net.heads.update({"c": m.Linear(2, 2)})
        net.heads.pop("b")
        net.layers.insert(0, m.Identity())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert list(ours.heads.keys()) == ["a", "c"] and "b" not in ours.heads and len(ours.heads) == 2
    ours.load_state_dict({k: v.astype(np.float32) for k, v in values(theirs).items()})
    f = gc.compile(ours, gc.spec("N", 2), target="reference")
    x = data(4, 2).astype(np.float32)
    for found, want in zip(f.predict(x), theirs(torch.tensor(x)), strict=True):
        np.testing.assert_allclose(found, want.detach(), rtol=1e-5, atol=1e-6)


def test_a_copy_is_a_module_of_its_own(target):
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model = gc.compile(net, gc.spec("N", 2), loss="mse", optimizer="sgd", target=target)
    x = data(4, 2).astype(np.float32)
    model.train_on_batch(x, x)
    twin = copy.deepcopy(net)
    before = {k: v.copy() for k, v in net.state_dict().items()}
    model.train_on_batch(x, x)
    for k, v in twin.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    assert not np.array_equal(net.state_dict()["0.weight"], before["0.weight"])
    both = gc.step(lambda x: (net(x), twin(x)), gc.spec("N", 2), target=target)
    assert not np.array_equal(*both(x))
