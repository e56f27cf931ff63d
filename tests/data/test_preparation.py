"""Putting samples together, splits, folds, scaling."""

from __future__ import annotations

import json
from collections import namedtuple

import numpy as np
import pytest
from sklearn import model_selection, preprocessing

from graphc import data
from graphc.errors import ArgumentError, ShapeError

Pair = namedtuple("Pair", "x y")


# -- collate -------------------------------------------------------------------------------------------------------
def test_collate_keeps_the_structure():
    out = data.collate([Pair({"a": np.ones(2), "b": "one"}, [1, 2.5]), Pair({"a": np.zeros(2), "b": "two"}, [3, 4.5])])
    assert type(out) is Pair and out.x["b"] == ["one", "two"]
    assert out.x["a"].tolist() == [[1, 1], [0, 0]] and [v.tolist() for v in out.y] == [[1, 3], [2.5, 4.5]]
    assert out.y[0].dtype == np.int64
    assert data.collate([(1, None), (2, None)])[1] is None


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([(np.ones(2), 0), (np.ones(3), 0)], r"different shapes at 0: \[\(2,\), \(3,\)\]"),
        ([{"a": {"b": 1}}, {"a": {"c": 1}}], r"different keys at a: \['b', 'c'\]"),
        ([(1, 2), (1, 2, 3)], r"different lengths: \[2, 3\]"),
        ([(1, 2), 3], "different structure: int, tuple"),
        ([3, (1, 2)], "different structure: int, tuple"),
        ([{"a": object()}], "no numbers at a"),
    ],
)
def test_collate_says_what_does_not_fit(samples, said):
    with pytest.raises((ArgumentError, ShapeError), match=said):
        data.collate(samples)


def test_padding():
    samples = [(np.arange(1, n + 1), np.full((n, 2), n, np.float32), n) for n in (3, 1, 0)]
    a, b, c = data.Pad({"0": -1}, lengths=["1"])(samples)
    assert a.tolist() == [[1, 2, 3], [1, -1, -1], [-1, -1, -1]] and c.tolist() == [3, 1, 0]
    assert b[0].shape == (3, 3, 2) and b[0].dtype == np.float32 and b[1].tolist() == [3, 1, 0]
    assert b[0][1].tolist() == [[1, 1], [0, 0], [0, 0]]
    left = data.Pad(left=True)(samples)[0]
    assert left.tolist() == [[1, 2, 3], [0, 0, 1], [0, 0, 0]]
    assert data.Pad(multiple=4)(samples)[0].shape == (3, 4) and data.Pad(length=7)(samples)[1].shape == (3, 7, 2)
    both = data.Pad(only=["0"], length=5)([(np.arange(2), np.ones(3)), (np.arange(4), np.ones(3))])
    assert both[0].shape == (2, 5) and both[1].shape == (2, 3)
    images = data.Pad()([np.ones((2, 5)), np.ones((4, 3))])
    assert images.shape == (2, 4, 5) and images.sum() == 22
    with pytest.raises(ShapeError, match="3 values at 0 is longer than length = 2"):
        data.Pad(length=2)(samples)
    with pytest.raises(ArgumentError, match="no part 7") as e:
        data.Pad(lengths=["7"])(samples)
    assert "parts: 0, 1, 2" in e.value.hint


# -- splits --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "k"), [(10, 2), (23, 5), (7, 7)])
def test_folds_are_those_of_scikit_learn(n, k):
    ours = list(data.k_fold(n, k, shuffle=False))
    theirs = list(model_selection.KFold(k).split(np.zeros(n)))
    for (a, b), (c, d) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
    tests = [t for _, t in data.k_fold(n, k, seed=1)]
    assert np.sort(np.concatenate(tests)).tolist() == list(range(n))
    assert [t.tolist() for t in tests] != [t.tolist() for _, t in ours]


def test_stratified_folds():
    y = np.repeat([0, 1, 2], [50, 23, 11])
    sizes = []
    for train, test in data.k_fold(y, 5, stratify=y, seed=3):
        assert not set(train) & set(test) and len(train) + len(test) == 84
        counts = np.bincount(y[test], minlength=3)
        assert (abs(counts - np.array([50, 23, 11]) / 5) < 1).all()
        sizes.append(len(test))
    assert max(sizes) - min(sizes) <= 1
    with pytest.raises(ArgumentError, match="class 2 has 11 samples for 12 folds"):
        data.k_fold(84, 12, stratify=y)
    with pytest.raises(ShapeError, match="a label for each"):
        data.k_fold(80, 5, stratify=y)
    for k in (1, 85, True):
        with pytest.raises(ArgumentError, match="folds of 84"):
            data.k_fold(84, k)


def test_folds_and_parts_of_data_sets():
    samples = data.TensorDataset(np.arange(10))
    for train, test in data.k_fold(samples, 5):
        assert sorted(int(s[0]) for part in (train, test) for s in (part[i] for i in range(len(part)))) == list(range(10))
    a, b = data.random_split(samples, [0.75, 0.25], seed=2)
    assert (len(a), len(b)) == (8, 2) and sorted([*a.indices, *b.indices]) == list(range(10))
    assert a.indices.tolist() != data.random_split(samples, [0.75, 0.25], seed=3)[0].indices.tolist()
    assert [len(p) for p in data.random_split(samples, [7, 0, 3])] == [7, 0, 3]
    with pytest.raises(ShapeError, match="11 samples in all"):
        data.random_split(samples, [7, 4])
    with pytest.raises(ArgumentError, match="whose sum is 1"):
        data.random_split(samples, [0.5, 0.4])


def test_a_stratified_split():
    y = np.repeat([0, 1], [90, 10])
    x, x_test, a, b = data.split(np.arange(100), y, stratify=y, seed=5)
    assert np.bincount(a).tolist() == [72, 8] and np.bincount(b).tolist() == [18, 2]
    assert sorted([*x, *x_test]) == list(range(100)) and (y[x_test] == b).all()


# -- scaling -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_scaling_is_that_of_scikit_learn(kind):
    rng = np.random.default_rng(0)
    x, other = rng.normal(5, [1, 3, 0, 1e-3], (40, 4)), rng.normal(size=(7, 4))
    theirs = preprocessing.StandardScaler() if kind == "standard" else preprocessing.MinMaxScaler()
    theirs.fit(x)
    ours = data.Normalizer(kind).fit(x)
    np.testing.assert_allclose(ours(x), theirs.transform(x), atol=1e-12)
    np.testing.assert_allclose(ours(other), theirs.transform(other), rtol=1e-11)
    np.testing.assert_allclose(ours.inverse(ours(other)), other, rtol=1e-9, atol=1e-12)
    parts = data.Normalizer(kind)
    for part in np.split(x, [1, 17, 18]):
        parts.partial_fit(part)
    np.testing.assert_allclose(parts(other), ours(other), rtol=1e-10)
    again = data.Normalizer.from_dict(json.loads(json.dumps(ours.state_dict())))
    np.testing.assert_array_equal(again(other), ours(other))


def test_axes_and_dtypes():
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 5)).astype(np.uint8)
    out = data.Normalizer(axis=(0, 2, 3)).fit_transform(images)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std((0, 2, 3)), 1, atol=1e-6)
    one = data.Normalizer("minmax", axis=None).fit(images)
    assert one.scale.shape == (1, 1, 1, 1) and one(images).max() == 1
    state = json.loads(json.dumps(data.Normalizer(axis=(0, 2, 3)).fit(images).state_dict()))
    np.testing.assert_array_equal(data.Normalizer.from_dict(state)(images), out)
    assert data.Normalizer().fit(np.zeros((3, 2)))(np.ones((1, 2), np.float16)).dtype == np.float16


def test_scaling_refuses():
    with pytest.raises(ArgumentError, match="has seen no data"):
        data.Normalizer()(np.zeros((2, 2)))
    with pytest.raises(ArgumentError, match="NaN"):
        data.Normalizer().fit([[np.nan]])
    with pytest.raises(ShapeError, match=r"shape \(2, 3\)"):
        data.Normalizer().fit(np.zeros((4, 2)))(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="no data"):
        data.Normalizer().fit(np.zeros((0, 2)))
    with pytest.raises(ShapeError, match="those so far"):
        data.Normalizer().fit(np.zeros((4, 2))).partial_fit(np.zeros((4, 3)))
    with pytest.raises(ArgumentError, match="kind"):
        data.Normalizer("robust")
