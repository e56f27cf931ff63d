"""DataLoader: order, batches, place in the data."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import data, nn, optim
from graphc.errors import ArgumentError, ShapeError
from tests.data.sets import Counts, Fails, Numbers


def rows(loader):
    return [np.asarray(b[0] if isinstance(b, (tuple, list)) else b).reshape(-1).tolist() for b in loader]


def flat(loader):
    return [r for batch in rows(loader) for r in batch]


def test_batches_in_order():
    loader = data.DataLoader(range(7), 3)
    assert rows(loader) == [[0, 1, 2], [3, 4, 5], [6]] and len(loader) == 3
    cut = data.DataLoader(range(7), 3, drop_last=True)
    assert rows(cut) == [[0, 1, 2], [3, 4, 5]] and len(cut) == 2
    single = data.DataLoader([np.ones((2, 3)), np.ones((4, 3))], None)
    assert [b.shape for b in single] == [(2, 3), (4, 3)] and len(single) == 2
    assert rows(data.DataLoader([], 3)) == [] and len(data.DataLoader([], 3)) == 0


def test_shuffling_depends_on_seed_and_epoch_only():
    a, b = (data.DataLoader(range(100), 8, shuffle=True, seed=3) for _ in range(2))
    epochs = [flat(a) for _ in range(3)]
    assert all(sorted(e) == list(range(100)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 3
    b.set_epoch(2)
    assert flat(b) == epochs[2]
    gc.set_seed(3)
    assert flat(data.DataLoader(range(100), 8, shuffle=True)) == epochs[0]
    gc.set_seed(0)
    assert flat(data.DataLoader(range(100), 8, shuffle=True)) != epochs[0]


def test_all_orders_are_about_equally_likely():
    loader = data.DataLoader(range(3), 3, shuffle=True, seed=0)
    seen = [tuple(flat(loader)) for _ in range(600)]
    counts = np.unique(seen, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts - 100) ** 2 / 100).sum() < 20.5  # chi square of 5 degrees of freedom, 0.1 %


def test_an_epoch_that_was_left_is_over():
    loader = data.DataLoader(range(40), 4, shuffle=True, seed=0)
    for _ in loader:
        break
    assert loader.state_dict()["epoch"] == 0
    second = flat(loader)
    other = data.DataLoader(range(40), 4, shuffle=True, seed=0)
    first = flat(other)
    assert second != first and second == flat(other)


@pytest.mark.parametrize("taken", [0, 1, 4, 5, 6])
def test_the_place_in_the_data(taken):
    make = lambda: data.DataLoader(Numbers(23), 4, shuffle=True, seed=5)
    whole = [[b.tolist() for b in batch] for batch in [*make(), *(lambda m: ([*m], [*m])[1])(make())]]
    loader = make()
    iterator = iter(loader)
    got = [[b.tolist() for b in next(iterator)] for _ in range(taken)]
    state = loader.state_dict()
    assert all(type(v) is int for v in state.values())
    fresh = data.DataLoader(Numbers(23), 4, shuffle=True, seed=99)
    fresh.load_state_dict(state)
    assert fresh.state_dict() == state
    got += [[b.tolist() for b in batch] for batch in fresh]  # samples and their random numbers
    got += [[b.tolist() for b in batch] for batch in fresh]
    assert got == whole


def test_the_place_of_other_data_is_refused():
    state = data.DataLoader(range(10), 4).state_dict()
    with pytest.raises(ArgumentError, match="size was 10 and is 11"):
        data.DataLoader(range(11), 4).load_state_dict(state)
    with pytest.raises(ArgumentError, match="batch_size was 4 and is 5"):
        data.DataLoader(range(10), 5).load_state_dict(state)


def test_what_is_only_read_ahead_does_not_count():
    loader = data.DataLoader(range(40), 4)
    ahead = loader.ahead(3)
    assert [next(ahead).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert loader.state_dict()["batch"] == 2
    assert [b.tolist() for b in ahead][-1] == [36, 37, 38, 39]
    assert (loader.epoch, loader.batch) == (1, 0)


def test_streams():
    loader = data.DataLoader(Counts(10), 4, seed=1)
    batches = [[a.tolist() for a in b] for b in loader]
    assert [b[0] for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert rows(data.DataLoader(Counts(10), 4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [b[0] for b in data.DataLoader(Counts(3), None)] == [0, 1, 2]
    fresh = data.DataLoader(Counts(10), 4, seed=1)
    iterator = iter(fresh)
    next(iterator)
    state = fresh.state_dict()
    again = data.DataLoader(Counts(10), 4, seed=1)
    again.load_state_dict(state)
    assert [[a.tolist() for a in b] for b in again] == batches[1:]  # random numbers too
    assert [[a.tolist() for a in b] for b in again] != batches  # those of the next epoch are others
    with pytest.raises(TypeError):
        len(loader)
    with pytest.raises(ArgumentError, match="order of its own"):
        data.DataLoader(Counts(), 4, shuffle=True)
    with pytest.raises(ArgumentError, match="one worker"):
        data.DataLoader(Counts(), 4, num_workers=2)


def test_samplers():
    assert flat(data.DataLoader(range(10), 3, sampler=[7, 7, 1])) == [7, 7, 1]
    assert rows(data.DataLoader(range(10), batch_sampler=[[1, 2], [9]])) == [[1, 2], [9]]

    class Own:
        def __init__(self):
            self.epoch = -1

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter([self.epoch] * 2)

        def __len__(self):
            return 2

    loader = data.DataLoader(range(10), 3, sampler=Own())
    assert [flat(loader), flat(loader)] == [[0, 0], [1, 1]]
    with pytest.raises(ArgumentError, match="only one of"):
        data.DataLoader(range(10), shuffle=True, sampler=[1])


def test_weighted_sampling():
    weights = np.array([0.0, 1.0, 3.0, 0.0])
    sampler = data.WeightedRandomSampler(weights, 4000)
    drawn = np.bincount(flat(data.DataLoader(range(4), 500, sampler=sampler, seed=0)), minlength=4)
    assert drawn[0] == drawn[3] == 0 and abs(drawn[2] - 3000) < 5 * np.sqrt(4000 * 0.75 * 0.25)
    # without replacement the first of three is drawn in proportion, and none twice
    without = data.WeightedRandomSampler([1.0, 2.0, 5.0], 2, replacement=False)
    loader = data.DataLoader(range(3), 2, sampler=without, seed=0)
    pairs = [flat(loader) for _ in range(2000)]
    assert all(len(set(p)) == 2 for p in pairs)
    first = np.bincount([p[0] for p in pairs], minlength=3) / 2000
    np.testing.assert_allclose(first, [1 / 8, 2 / 8, 5 / 8], atol=0.05)
    for bad in ([], [-1.0, 1.0], [0.0], [np.nan]):
        with pytest.raises(ArgumentError):
            data.WeightedRandomSampler(bad)
    with pytest.raises(ArgumentError, match="without replacement"):
        data.WeightedRandomSampler([0.0, 1.0], 2, replacement=False)


def test_length_buckets():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 1000)
    buckets = data.LengthBuckets(lengths, 10, window=20)
    loader = data.DataLoader(range(1000), batch_sampler=buckets, seed=0)
    first, second = rows(loader), rows(loader)
    assert len(loader) == len(first) == 100 and sorted(np.concatenate(first)) == list(range(1000)) and first != second
    spread = np.mean([np.ptp(lengths[b]) for b in first])
    assert spread < 10 < 60 < np.mean([np.ptp(lengths[b]) for b in rows(data.DataLoader(range(1000), 10, shuffle=True))])
    starts = [lengths[b].mean() for b in first]
    assert np.corrcoef(starts, range(100))[0, 1] < 0.5  # long and short batches come mixed
    sorted_once = rows(data.DataLoader(range(5), batch_sampler=data.LengthBuckets([5, 1, 4, 1, 3], 2, shuffle=False, drop_last=True)))
    assert sorted_once == [[1, 3], [4, 2]]
    texts = [np.arange(n) for n in (3, 1, 2)]
    assert [b.tolist() for b in data.LengthBuckets.of(texts, len, 1, shuffle=False).batches(None)] == [[1], [2], [0]]


def test_data_sets():
    base = data.TensorDataset({"a": np.arange(4)}, np.arange(4) * 10)
    assert base[2][0]["a"] == 2 and base[2][1] == 20
    part = data.Subset(base, [3, 1])
    assert [int(part[i][1]) for i in range(2)] == [30, 10]
    assert [b.tolist() for b in (base.batch([1, 2])[0]["a"], part.batch([0, 1])[1])] == [[1, 2], [30, 10]]
    both = part + base + data.Subset(base, [])
    assert len(both) == 6 and [int(both[i][1]) for i in (0, 1, 2, 5, -1)] == [30, 10, 0, 30, 30]
    with pytest.raises(IndexError):
        both[6]
    doubled = base.map(lambda s: s[1] * 2)
    assert flat(data.DataLoader(doubled, 2)) == [0, 20, 40, 60]
    with pytest.raises(ShapeError, match="0: 3, 1: 4"):
        data.TensorDataset(np.zeros(3), np.zeros(4))
    with pytest.raises(ShapeError, match="sample 4 of 4"):
        data.Subset(base, [0, 4])
    stream = data.from_generator(lambda n: (i for i in range(n)), 3)
    assert list(stream) == list(stream) == [0, 1, 2]


def test_a_data_set_reads_whole_batches_at_once_like_samples():
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    whole = data.DataLoader(data.TensorDataset(x, y), 3, shuffle=True, seed=2)
    single = data.DataLoader([(a, b) for a, b in zip(x, y)], 3, shuffle=True, seed=2)
    for a, b in zip(whole, single, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_errors_name_batch_and_sample():
    loader = data.DataLoader(Fails(), 4)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(LookupError, match="sample 7 is empty") as e:
        next(iterator)
    assert e.value.__notes__ == ["while sample 7 was read", "while batch 1 of epoch 0 was read"]


def test_random_numbers_of_a_sample():
    with pytest.raises(ArgumentError, match="outside"):
        data.rng()
    a = [b[1].tolist() for b in data.DataLoader(Numbers(6), 2, seed=1)]
    b = [b[1].tolist() for b in data.DataLoader(Numbers(6), 3, seed=1)]
    assert np.array_equal(np.concatenate(a), np.concatenate(b))  # of the sample, whatever batch it is in
    loader = data.DataLoader(Numbers(6), 2, seed=1)
    assert [b[1].tolist() for b in loader] == a != [b[1].tolist() for b in loader]
    assert a != [b[1].tolist() for b in data.DataLoader(Numbers(6), 2, seed=2)]
    with pytest.raises(ArgumentError, match="outside"):
        data.rng()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": True}, "batch_size = True"),
        ({"num_workers": -1}, "num_workers = -1"),
        ({"workers": "gpu"}, "workers = 'gpu'"),
        ({"batch_size": None, "drop_last": True}, "drop_last"),
    ],
)
def test_arguments(options, said):
    with pytest.raises(ArgumentError, match=said):
        data.DataLoader(range(4), **options)
    with pytest.raises(ArgumentError, match="int is no data set"):
        data.DataLoader(4)


# -- fit -----------------------------------------------------------------------------------------------------------
def model():
    gc.set_seed(0)
    return gc.compile(
        nn.Linear(6, 3), gc.spec("N", 6), loss="cross_entropy", optimizer=optim.SGD(0.1), metrics=["accuracy"], target="reference"
    )


def arrays(n=50):
    x = np.random.default_rng(0).normal(size=(n, 6)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def test_fit_on_a_loader_or_a_data_set():
    x, y = arrays()
    samples = data.TensorDataset(x, y)
    a, b = model(), model()
    history = a.fit(data.DataLoader(samples, 8, shuffle=True, seed=4), epochs=3, validation_data=samples)
    assert history["loss"][-1] < history["loss"][0] and a.steps == 21
    loader = data.DataLoader(samples, 8, shuffle=True, seed=4)
    for _ in range(3):
        for batch in loader:
            b.train_on_batch(*batch)
    for k, v in a.state_dict().items():
        np.testing.assert_array_equal(v, b.state_dict()[k])
    c, d = model(), model()
    c.fit(samples, batch_size=8, epochs=2)
    d.fit(samples, batch_size=8)
    d.fit(samples, batch_size=8)  # two calls go through the same orders as one
    for k, v in c.state_dict().items():
        np.testing.assert_array_equal(v, d.state_dict()[k])
    assert a.evaluate(samples)["accuracy"] == pytest.approx(a.evaluate(x, y)["accuracy"])
    np.testing.assert_array_equal(a.predict(samples), a.predict(x))


def test_fit_on_streams_of_samples():
    x, y = arrays()
    m = model()
    m.fit(data.from_generator(lambda: zip(x, y)), batch_size=8, epochs=2)
    assert m.steps == 14
