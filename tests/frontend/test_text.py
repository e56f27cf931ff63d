"""gc.text: tokens, vocabularies, pairs, windows and masks."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError

WORDS = ["the", "dog", "and", "the", "cat", "and", "the", "bird"]


def test_tokens():
    assert gc.text.tokenize("Don't stop – it's 3 o’clock!") == ["don't", "stop", "–", "it's", "3", "o’clock", "!"]
    assert gc.text.tokenize("Ab cD", lower=False) == ["Ab", "cD"]
    assert gc.text.tokenize("Zürich, 東京\n") == ["zürich", ",", "東京"]
    assert gc.text.tokenize("  ") == []


def test_ids_and_words_are_inverse():
    v = gc.text.Vocabulary(WORDS)
    ids = v.encode(WORDS)
    assert ids.dtype == np.int64 and v.decode(ids) == WORDS
    assert v.tokens == ["<unk>", "the", "and", "dog", "cat", "bird"], "the most frequent first, equals as they occur"
    assert len(v) == 6 and "dog" in v and "fox" not in v
    assert v.encode([]).shape == (0,)


def test_rare_and_unknown_words():
    v = gc.text.Vocabulary(WORDS, specials=["<pad>", "<unk>"], min_count=2)
    assert v.tokens == ["<pad>", "<unk>", "the", "and"]
    assert v.counts.tolist() == [0, 3, 3, 2] and v.counts.sum() == len(WORDS)
    assert v.encode(["the", "dog", "fox"]).tolist() == [2, 1, 1]
    closed = gc.text.Vocabulary(WORDS, specials=[])
    assert closed["the"] == 0
    with pytest.raises(ArgumentError, match="'fox' is not in the vocabulary"):
        closed.encode(["fox"])
    with pytest.raises(ArgumentError, match="twice"):
        gc.text.Vocabulary(WORDS, specials=["<pad>", "<pad>"])


def test_a_special_may_stand_in_the_text():
    v = gc.text.Vocabulary(["<unk>", "a", "<unk>", "b"], min_count=1)
    assert v.tokens == ["<unk>", "a", "b"] and v.counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize("window", [1, 2, 3, 9])
def test_pairs_are_all_places_within_the_window(window):
    ids = np.arange(7)
    want = [(i, j) for i in range(7) for j in range(7) if i != j and abs(i - j) <= window]
    assert gc.text.skipgram_pairs(ids, window) == want
    assert gc.text.skipgram_pairs(ids[:1], window) == []
    with pytest.raises(ArgumentError, match="window = 0"):
        gc.text.skipgram_pairs(ids, 0)


def test_windows_are_the_pairs_by_centre():
    ids = [5, 6, 7, 8]
    ragged = gc.text.cbow_windows(ids, 2)
    assert [(c, o) for context, c in ragged for o in context] == gc.text.skipgram_pairs(ids, 2)
    padded = gc.text.cbow_windows(ids, 2, pad=0)
    assert padded[0] == ([0, 0, 6, 7], 5) and padded[3] == ([6, 7, 0, 0], 8)
    assert np.array([context for context, _ in padded]).shape == (4, 4)


def test_shifted_texts():
    x, y = gc.text.shifted(np.arange(12).reshape(6, 2))
    np.testing.assert_array_equal(x + 2, y)
    assert gc.text.shifted(["a"]) == ([], [])


def test_masks():
    v = gc.text.Vocabulary([f"w{i}" for i in range(50)], specials=["<pad>", "<mask>"])
    ids = np.random.default_rng(0).integers(0, 52, (100, 100))
    inputs, labels = gc.text.mask_tokens(ids, v, seed=3)
    chosen = labels != -100
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    assert not chosen[ids < 2].any(), "specials stay"
    assert chosen[ids >= 2].mean() == pytest.approx(0.15, abs=0.01)
    hidden, same = inputs[chosen] == v["<mask>"], inputs[chosen] == ids[chosen]
    assert hidden.mean() == pytest.approx(0.8, abs=0.03) and same.mean() == pytest.approx(0.1 + 0.1 / 50, abs=0.03)
    others = inputs[chosen][~hidden & ~same]
    assert others.min() >= 2 and len(np.unique(others)) > 40, "any word, no special"
    again, other = (gc.text.mask_tokens(ids, v, seed=s)[0] for s in (3, 4))
    np.testing.assert_array_equal(again, inputs)
    assert not np.array_equal(other, inputs)


def test_masks_need_a_mask():
    with pytest.raises(ArgumentError, match="'<mask>' is not in the vocabulary"):
        gc.text.mask_tokens([1], gc.text.Vocabulary(WORDS))
    with pytest.raises(ArgumentError, match="specials only"):
        gc.text.mask_tokens([0], gc.text.Vocabulary([], specials=["<mask>"]))
