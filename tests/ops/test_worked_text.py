"""Text in the course notes: rows 27-30, 33, 44 and 46 of the catalogue, and lines 5654 to 5774 in their right form."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops, optim
from tests.ops.test_worked_examples import gradient, value

DOCUMENTS = ["the red dog", "cat eats dog", "dog eats food", "red cat eats"]
VOCABULARY = gc.text.Vocabulary(["the", "red", "dog", "cat", "eats", "food"], specials=[])
IDS = np.stack([VOCABULARY.encode(gc.text.tokenize(d)) for d in DOCUMENTS])
SON = ["the", "man", "loves", "his", "son"]
COUNTS = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 1, 1], [0, 1, 0, 1, 1, 0]])


def bag(ids):
    """How often each word occurs in each document: the sum of its words' one-hot vectors."""
    return ops.one_hot(ids, len(VOCABULARY), "float64").sum(-2)


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# -- bags of words ---------------------------------------------------------------------------------------------------------
def test_row_27_a_bag_of_words_is_a_sum_of_one_hot_vectors(target):
    np.testing.assert_array_equal(value(target, bag, IDS), COUNTS)
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="the oracle is scikit-learn")
    np.testing.assert_array_equal(text.CountVectorizer(vocabulary=VOCABULARY.tokens).fit_transform(DOCUMENTS).toarray(), COUNTS)


def test_row_28_tf_idf_weighs_rare_words_more(target):
    """The notes give no formula; this is count * ln(n / df)."""

    def tf_idf(ids):
        counts = bag(ids)
        df = (counts > 0).cast("float64").sum(0)
        return counts * (len(DOCUMENTS) / df).log(), df

    weights, df = (value(target, lambda ids, k=k: tf_idf(ids)[k], IDS) for k in (0, 1))
    assert df.tolist() == [1, 2, 3, 2, 3, 1]
    np.testing.assert_allclose(weights, COUNTS * np.log(4 / np.array([1, 2, 3, 2, 3, 1])), rtol=1e-12)
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="the oracle is scikit-learn")
    theirs = text.TfidfVectorizer(vocabulary=VOCABULARY.tokens, smooth_idf=False, norm=None).fit_transform(DOCUMENTS).toarray()
    np.testing.assert_allclose(weights, theirs - COUNTS, rtol=1e-12, atol=1e-15)  # theirs counts 1 + ln(n / df)


def test_row_33_a_bag_knows_no_order_and_a_recurrent_net_does(target, rng):
    words = gc.text.Vocabulary(["the", "dog", "barks"], specials=[])
    a, b = (words.encode(t.split()) for t in ("the dog barks", "barks the dog"))
    bags = [value(target, lambda i: ops.one_hot(i, 3).sum(0), i) for i in (a, b)]
    np.testing.assert_array_equal(*bags)
    table, u, v = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 5))

    def last(i, table, u, v):
        return ops.rnn(ops.embedding(i, table).expand_dims(1), [(u, v, None, None)])[1]

    states = [value(target, last, i, table, u, v) for i in (a, b)]
    assert np.abs(states[0] - states[1]).max() > 0.1


# -- skip-gram ---------------------------------------------------------------------------------------------------------------
def test_row_29_skip_gram_pairs_with_window_2():
    """The notes' text has two pairs of "quick"; their table, with window 2, has three."""
    pairs = gc.text.skipgram_pairs(gc.text.tokenize("The quick brown fox jumps over the lazy dog"), window=2)
    printed = """the quick, the brown, quick the, quick brown, quick fox, brown the, brown quick, brown fox, brown jumps,
                 fox quick, fox brown, fox jumps, fox over"""
    assert pairs[:13] == [tuple(p.split()) for p in printed.split(",")]


def test_row_30_the_probability_of_a_window_is_a_product(target, rng):
    v = gc.text.Vocabulary(SON, specials=[])
    around = [o for c, o in gc.text.skipgram_pairs(SON, 2) if c == "loves"]
    assert around == ["the", "man", "his", "son"]
    u, centre = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))

    def window(u, centre, c, o):
        return ops.take((u @ ops.embedding(c, centre)).softmax(-1), o, 0).prod()

    found = value(target, window, u, centre, np.array(v["loves"]), v.encode(around))
    p = softmax(u @ centre[v["loves"]])
    assert found == pytest.approx(p[0] * p[1] * p[3] * p[4], rel=1e-12)


def test_lines_5689_5696_offsets_run_from_minus_2_to_2_and_end_with_the_sentence():
    """j = -2, -1, 1, 2 around "loves" (the notes lose the signs); t + j outside of 1..T is skipped, not wrapped around."""
    places = gc.text.skipgram_pairs(range(5), 2)
    assert [o - c for c, o in places if SON[c] == "loves"] == [-2, -1, 1, 2]
    assert [o - c for c, o in places if SON[c] == "the"] == [1, 2]
    assert [o - c for c, o in places if SON[c] == "son"] == [-2, -1]
    assert len(places) == 5 * 4 - 2 * (2 + 1)


def test_line_5696_the_minus_is_before_the_whole_bracket(target, rng):
    """The loss of a text: -sum over pairs of (u_o . v_c - log sum_j exp(u_j . v_c)); without brackets the sum of exponentials is rewarded."""
    u, v = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    centres, others = np.array(gc.text.skipgram_pairs(range(5), 2)).T

    def loss(v, u, c, o):
        return ops.cross_entropy(ops.embedding(c, v) @ u.T, o, reduction="sum")

    scores = v @ u.T
    lse = np.log(np.exp(scores).sum(1))
    found = value(target, loss, v, u, centres, others)
    assert found == pytest.approx(-sum(scores[c, o] - lse[c] for c, o in zip(centres, others)), rel=1e-12)
    assert abs(found - sum(-scores[c, o] - lse[c] for c, o in zip(centres, others))) > 1
    by_hand = np.zeros_like(v)  # the sum over pairs of P - u_o: descent moves v_c to its neighbours
    for c, o in zip(centres, others):
        by_hand[c] -= u[o] - softmax(scores[c]) @ u
    np.testing.assert_allclose(gradient(target, loss, v, u, centres, others), by_hand, rtol=1e-10)


def test_line_5654_ids_run_from_0_to_the_size_less_1(target):
    """The notes print V = {0, 1, ..., |V|, -1}."""
    n = len(VOCABULARY)
    assert VOCABULARY.encode(VOCABULARY.tokens).tolist() == list(range(n))
    np.testing.assert_array_equal(value(target, lambda i: ops.one_hot(i, n), np.arange(n)), np.eye(n))
    assert not value(target, lambda i: ops.one_hot(i, n), np.array([n, -1])).any()
    assert np.isnan(value(target, ops.cross_entropy, np.zeros((1, n)), np.array([n]))), "no word: training stops"


class SkipGram(nn.Module):
    """h = W^T x as the row of a table, z = W'^T h."""

    def __init__(self, words: int, size: int):
        self.centre = nn.Embedding(words, size, dtype="float64")
        self.context = nn.Linear(size, words, bias=False, dtype="float64")

    def forward(self, word):
        return self.context(self.centre(word))


def test_lines_5748_5765_5749_5774_both_matrices_are_transposed(target):
    """One-hot x (V), W (V, N), W' (N, V): W x and W' h, as printed, do not fit; W^T x is a row of W, and z has V scores."""
    model = SkipGram(6, 4)
    scores = gc.compile(model, gc.spec("B", dtype="int64"), target=target)
    state = model.state_dict()
    w, w2 = state["centre.weight"], state["context.weight"].T
    assert (w.shape, w2.shape) == ((6, 4), (4, 6))
    x = np.eye(6)[[5, 2, 2]]
    np.testing.assert_allclose(scores(np.array([5, 2, 2])), [w2.T @ (w.T @ row) for row in x], rtol=1e-12)


def test_row_31_skip_gram_learns_who_stands_beside_whom(target):
    """Trained on all pairs, P(o | c) comes near to how often o was seen beside c."""
    pairs = np.array([p for row in IDS for p in gc.text.skipgram_pairs(row.tolist(), 1)])
    seen = np.zeros((6, 6))
    np.add.at(seen, tuple(pairs.T), 1)
    model, opt = SkipGram(6, 6), optim.Adam(0.1)

    def train(c, o):
        loss = ops.cross_entropy(model(c), o)
        opt.minimize(loss, model.parameters())
        return loss

    step = gc.step(train, gc.spec("B", dtype="int64"), gc.spec("B", dtype="int64"), target=target)
    for _ in range(150):
        step(*pairs.T)
    found = softmax(gc.compile(model, gc.spec("B", dtype="int64"), target=target)(np.arange(6)))
    np.testing.assert_allclose(found, seen / seen.sum(1, keepdims=True), atol=0.02)


# -- words and their forms -----------------------------------------------------------------------------------------------------
def test_row_44_stems_and_lemmas():
    """Stems are cut ("easili" is one, not a lemma as line 5492 has it), lemmas are looked up."""
    stemming = pytest.importorskip("snowballstemmer", reason="stemming is left to a library")
    simplemma = pytest.importorskip("simplemma", reason="lemmas are left to a library")
    stem = stemming.stemmer("english").stemWord
    assert {stem(w) for w in ("develop", "developing", "development")} == {"develop"}
    assert {simplemma.lemmatize(w, lang="en") for w in ("drive", "drove", "driven")} == {"drive"}
    assert (stem("easily"), simplemma.lemmatize("easily", lang="en")) == ("easili", "easily")
    words = gc.text.tokenize("Developing and development develop.")
    assert len(gc.text.Vocabulary(words, specials=[])) == 5
    assert len(gc.text.Vocabulary(map(stem, words), specials=[])) == 3, "forms of one word share an id"


# -- masked language models --------------------------------------------------------------------------------------------------
def test_row_46_a_masked_word_is_told_from_both_sides(target):
    """ "I am __ hungry, and I can eat half a pig": very or so; "not" is ruled out by what follows the gap."""
    hungry, full = "i am {} hungry and i can eat half a pig", "i am {} hungry and i cannot eat half a pig"
    sentences = [hungry.format("very").split(), hungry.format("so").split(), full.format("not").split()]
    v = gc.text.Vocabulary([w for s in sentences for w in s], specials=["<mask>"])
    texts = np.stack([v.encode(s) for s in sentences])
    length, size = texts.shape[1], len(v)
    inputs, labels = texts.copy(), np.full_like(texts, -100)
    inputs[:, 2], labels[:, 2] = v["<mask>"], texts[:, 2]

    class Net(nn.Module):
        """All tokens at their places, at once, to scores for each place."""

        def __init__(self):
            self.rows = nn.Embedding(length * size, 8, dtype="float64")
            self.out = nn.Linear(8, length * size, dtype="float64")

        def forward(self, ids):
            h = self.rows(ids + np.arange(length) * size).sum(1)
            return self.out(h).reshape(ids.shape[0], length, size)

    net, opt = Net(), optim.Adam(0.05)

    def train(x, y):
        loss = ops.cross_entropy(net(x).reshape(-1, size), y.reshape(-1))
        opt.minimize(loss, net.parameters())
        return loss

    step = gc.step(train, gc.spec("B", length, dtype="int64"), gc.spec("B", length, dtype="int64"), target=target)
    for _ in range(60):
        step(inputs, labels)
    predict = gc.compile(net, gc.spec("B", length, dtype="int64"), target=target)
    p = softmax(predict(inputs[:1])[0, 2])
    assert p[v["very"]] == pytest.approx(0.5, abs=0.05) and p[v["so"]] == pytest.approx(0.5, abs=0.05)
    assert p[v["not"]] < 0.05
    assert softmax(predict(inputs[2:])[0, 2])[v["not"]] > 0.9, 'beside "cannot" it is the word'


def test_the_loss_of_a_masked_model_counts_hidden_words_only(target, rng):
    v = gc.text.Vocabulary([f"w{i}" for i in range(20)], specials=["<mask>"])
    labels = gc.text.mask_tokens(rng.integers(1, 21, 64), v, rate=0.3, seed=1)[1]
    logits = rng.normal(size=(64, 21))
    hidden = labels >= 0
    want = -np.log(softmax(logits))[hidden, labels[hidden]].mean()
    assert value(target, ops.cross_entropy, logits, labels) == pytest.approx(want, rel=1e-12)
    slope = gradient(target, ops.cross_entropy, logits, labels)
    np.testing.assert_array_equal(np.abs(slope).sum(1) > 0, hidden)
