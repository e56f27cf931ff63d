"""fit, evaluate and predict on anything that gives batches."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, nn, optim
from graphc.errors import ArgumentError, ShapeError
from graphc.frontend.feed import ArrayFeed, StreamFeed, open_feed


def make(target="reference", optimizer=None, width=8):
    gc.set_seed(0)
    return gc.compile(
        nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3)),
        gc.spec("N", 6),
        loss="cross_entropy",
        optimizer=optimizer or optim.SGD(0.1),
        metrics=["accuracy"],
        target=target,
    )


def pairs(rows=50, size=8):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6)).astype("float32")
    y = np.argmax(x[:, :3], axis=1)
    return x, y, [(x[i : i + size], y[i : i + size]) for i in range(0, rows, size)]


class Twice:
    """Batches that can be asked for again."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize("source", [list, Twice], ids=["list", "iterable"])
def test_batches_train_like_arrays(source):
    x, y, batches = pairs()
    a, b = make(), make()
    told = a.fit(x, y, batch_size=8, epochs=3, shuffle=False, validation_data=(x, y))
    same = b.fit(source(batches), epochs=3, validation_data=Twice(batches))
    assert told["loss"] == same["loss"]
    np.testing.assert_allclose(told["val_accuracy"], same["val_accuracy"])
    np.testing.assert_allclose(told["val_loss"], same["val_loss"], rtol=1e-6)
    for k, v in a.state_dict().items():
        np.testing.assert_array_equal(v, b.state_dict()[k])


def test_evaluate_and_predict_take_batches():
    x, y, batches = pairs()
    model = make()
    whole, parts = model.evaluate(x, y), model.evaluate(iter(batches))
    assert parts["accuracy"] == pytest.approx(whole["accuracy"])
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    for source in ((b[0] for b in batches), iter(batches), ((b[0],) for b in batches)):
        np.testing.assert_allclose(model.predict(source), model.predict(x), rtol=1e-6)


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(6, 1)

        def forward(self, a, b):
            return self.fc(a + b)

    model = gc.compile(Two(), gc.spec("N", 6), gc.spec("N", 6), loss="mse", optimizer=optim.SGD(0.1), target="reference")
    x, _, _ = pairs(8)
    t = x[:, :1]
    model.fit(iter([((x, x), t), ({"a": x, "b": x}, t)]))
    assert model.steps == 2
    expected = model.predict((x, x))
    for batch in ((x, x), ((x, x), t), ({"a": x, "b": x}, t), {"a": x, "b": x}):
        np.testing.assert_array_equal(model.predict(iter([batch])), expected)


def test_a_generator_is_used_once():
    _, _, batches = pairs()
    model = make()
    model.fit(b for b in batches)
    assert model.steps == len(batches)
    with pytest.raises(ShapeError, match="epoch 2/2: no batches are left"):
        model.fit((b for b in batches), epochs=2)


def test_mistakes_name_the_batch():
    x, y, batches = pairs()
    model = make()
    with pytest.raises(ArgumentError, match=r"batch 2: expected \(x, y\), got tuple of 3"):
        model.fit(iter([batches[0], (x, y, y)]))
    with pytest.raises(ShapeError, match=r"batch 1: x: expected"):
        model.fit(iter([(x[:, :4], y)]))
    with pytest.raises(ShapeError, match="batch 1: no samples"):
        model.evaluate(iter([(x[:0], y[:0])]))
    with pytest.raises(ArgumentError, match="y must be left out"):
        model.fit(iter(batches), y)
    with pytest.raises(ArgumentError, match="y is missing"):
        model.fit(x)
    with pytest.raises(ShapeError, match="no batches"):
        model.predict(iter([]))
    with pytest.raises(ShapeError, match="evaluate: no samples"):
        model.evaluate(iter([]))
    assert model.steps == 1


def test_an_error_of_the_source_arrives_with_its_traceback():
    _, _, batches = pairs()

    def broken():
        yield batches[0]
        raise LookupError("row 8 is not there")

    model = make()
    with pytest.raises(LookupError, match="row 8") as e:
        model.fit(broken())
    assert "broken" in [f.name for f in e.traceback]
    assert model.steps == 1


def test_the_thread_ends_with_fit():
    _, _, batches = pairs()
    before = threading.active_count()
    model = make()

    def endless():
        while True:
            yield batches[0]

    stop = callbacks.LambdaCallback(on_batch_end=lambda i, logs: (_ for _ in ()).throw(KeyboardInterrupt) if i == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        model.fit(endless(), callbacks=[stop])
    assert threading.active_count() == before


def test_the_next_batch_is_made_while_a_step_runs():
    """Loading takes as long as a step: the time of one of them, not of both. Load from outside may spoil a try."""
    x, y, _ = pairs(4096)
    model = make("cpu", width=2048)
    model.train_on_batch(x, y)
    count, ratios = 10, []

    def fit(pause):
        def load():
            for _ in range(count):
                time.sleep(pause)
                yield x, y

        start = time.perf_counter()
        model.fit(load())
        return (time.perf_counter() - start) / count

    for _ in range(5):
        step = fit(0.0)
        ratios.append(fit(step) / step)
        if ratios[-1] < 1.6:
            return
    pytest.fail(f"times a step: {ratios}")


def test_a_long_step_lets_other_threads_run():
    """A thread that reads data gets on while a compiled program runs."""
    x, y, _ = pairs(4096)
    model = make("cpu", width=2048)
    model.train_on_batch(x, y)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        start = time.perf_counter()
        model.train_on_batch(x, y)
        end = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    if end - start < 0.02:
        pytest.skip(f"a step takes {end - start:.3f} s here: too short to see")
    middle = [t for t in ticks if start + 0.005 < t < end - 0.005]
    assert len(middle) >= 2


def test_arrays_go_on_in_the_middle_of_an_epoch():
    x, y, _ = pairs()
    model = make()
    arguments = model._function("train_step").arguments

    def feed():
        return open_feed(model, arguments, x, y, 8, lambda step: gc.frontend.random.Random(7, "order", step))

    whole = [b["x"].tolist() for b in feed().epoch()]
    assert whole != [b["x"].tolist() for b in open_feed(model, arguments, x, y, 8).epoch()]
    first = feed()
    epoch = first.epoch()
    begun = [next(epoch)["x"].tolist() for _ in range(3)]
    state = first.state_dict()
    model.fit(x, y)  # the order of the epoch that was begun does not change with the steps taken since
    second = feed()
    second.load_state_dict(state)
    assert begun + [b["x"].tolist() for b in second.epoch()] == whole
    assert [b["x"].tolist() for b in second.epoch()] != whole  # the next one has an order of its own
    other = open_feed(model, arguments, x, y, 4)
    assert isinstance(other, ArrayFeed)
    with pytest.raises(ArgumentError, match="batch_size was 8 and is 4"):
        other.load_state_dict(state)


def test_streams_go_on_in_the_middle_of_an_epoch():
    _, _, batches = pairs()
    model = make()
    arguments = model._function("train_step").arguments

    class Counting(Twice):
        """Keeps its own place."""

        begun = 0

        def __iter__(self):
            while self.begun < len(self.batches):
                self.begun += 1
                yield self.batches[self.begun - 1]
            self.begun = 0

        def state_dict(self):
            return {"begun": self.begun}

        def load_state_dict(self, state):
            self.begun = state["begun"]

    for kind in (Twice, Counting):
        first = open_feed(model, arguments, kind(batches), None, 1)
        epoch = first.epoch()
        for _ in range(3):
            next(epoch)
        time.sleep(0.05)  # what was made ahead does not count
        state = first.state_dict()
        epoch.close()
        second = open_feed(model, arguments, kind(batches), None, 1)
        assert isinstance(second, StreamFeed)
        second.load_state_dict(state)
        rest = [b["x"] for b in second.epoch()]
        assert len(rest) == len(batches) - 3
        np.testing.assert_array_equal(rest[0], batches[3][0])
        assert len(list(second.epoch())) == len(batches)
