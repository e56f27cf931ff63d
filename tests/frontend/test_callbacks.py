"""Callbacks: Keras' hooks and rules, by hand computation."""

from __future__ import annotations

import csv
import math
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, nn, optim


def small(lr=0.1, **how):
    gc.set_seed(0)
    how = {"loss": "mse", "optimizer": optim.SGD(lr), "target": "reference"} | how
    return gc.compile(nn.Linear(2, 1, dtype="float64"), gc.spec("N", 2, dtype="float64"), **how)


def rows(n=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)), rng.normal(size=(n, 1))


class Measured(callbacks.Callback):
    """Puts given values into the logs, before others look."""

    turn = -1

    def __init__(self, values, name="val_loss"):
        self.values, self.name, self.states = values, name, []

    def on_epoch_end(self, epoch, logs):
        logs[self.name] = self.values[epoch]
        self.states.append(self.model.state_dict())


def run(values, *more, name="val_loss", model=None):
    model = model or small()
    source = Measured(values, name)
    history = model.fit(*rows(), epochs=len(values), callbacks=[source, *more])
    return history.epochs, source, model


def test_the_order_of_the_hooks():
    calls = []
    hooks = [n for n in dir(callbacks.Callback) if n.startswith("on_") and n != "on_nonfinite"]
    watch = callbacks.LambdaCallback(**{n: (lambda *a, n=n: calls.append((n, *[v for v in a if isinstance(v, int)]))) for n in hooks if n not in ("on_batch_begin", "on_batch_end")})
    model = small()
    model.fit(*rows(), batch_size=3, epochs=2, validation_data=rows(), validation_batch_size=4, validation_freq=2, callbacks=watch)
    steps = [c for i in (0, 1) for c in (("on_train_batch_begin", i), ("on_train_batch_end", i))]
    tests = [("on_test_begin",), *[c for i in (0, 1) for c in (("on_test_batch_begin", i), ("on_test_batch_end", i))], ("on_test_end",)]
    assert calls == [
        ("on_train_begin",),
        ("on_epoch_begin", 0), *steps, ("on_epoch_end", 0),
        ("on_epoch_begin", 1), *steps, *tests, ("on_epoch_end", 1),
        ("on_train_end",),
    ]  # fmt: skip
    calls.clear()
    model.evaluate(*rows(), batch_size=4, callbacks=watch)
    assert calls == tests
    assert watch.params["steps"] is None and watch.model is model


def test_logs_of_a_batch_stay_what_they_were():
    kept = []
    model = small(metrics=["r2"])
    model.fit(*rows(), batch_size=2, callbacks=[callbacks.LambdaCallback(on_batch_end=lambda b, logs: kept.append(logs))], shuffle=False)
    other, values = small(metrics=["r2"]), []
    x, y = rows()
    for i in (0, 2, 4):
        values.append(other.train_on_batch(x[i : i + 2], y[i : i + 2]))
    assert [dict(k) for k in kept] == values


def test_stopping_in_the_middle_of_an_epoch():
    def stop(batch, logs):
        model.stop_training = batch == 1

    ended = []
    model = small()
    watch = callbacks.LambdaCallback(on_train_batch_end=stop, on_epoch_end=lambda e, logs: ended.append(e), on_train_end=lambda logs: ended.append(logs["loss"]))
    history = model.fit(*rows(), batch_size=1, epochs=3, callbacks=[watch])
    assert model.steps == 2 and ended == [0, history["loss"][0]]


@pytest.mark.parametrize(
    "how, values, epochs, best",
    [
        ({"patience": 2}, [5, 4, 4.5, 4.2, 9, 9], 4, 1),
        ({"patience": 0}, [5, 4, 4, 3], 3, 1),
        ({"patience": 2, "min_delta": 1.0}, [5, 4.5, 3.9, 3.5, 3.2, 1], 5, 2),
        ({"patience": 2, "mode": "max"}, [1, 2, 1, 1, 5], 4, 1),
        ({"patience": 1, "baseline": 3.0}, [5, 4.9, 4.8, 1], 4, 3),
        ({"patience": 2, "baseline": 3.0}, [5, 4, 6, 2], 3, 1),
        ({"patience": 1, "start_from_epoch": 3}, [1, 2, 3, 5, 4, 4.5, 0], 6, 4),
        ({"patience": 3}, [math.nan, 2, 3, 3, 1], 5, 4),
    ],
)
def test_early_stopping(how, values, epochs, best):
    stop = callbacks.EarlyStopping(restore_best_weights=True, **how)
    ran, source, model = run(values, stop)
    assert (ran, stop.best_epoch) == (epochs, best)
    np.testing.assert_array_equal(model.state_dict()["weight"], source.states[best]["weight"])


def test_metrics_that_rise_are_known():
    for name, values in (("val_accuracy", [0.5, 0.6, 0.4]), ("val_auc", [0.5, 0.6, 0.4]), ("f1", [0.1, 0.2, 0.1]), ("accuracy_loss", [3, 2, 4])):
        stop = callbacks.EarlyStopping(name)
        run(values, stop, name=name)
        assert stop.best_epoch == 1, name


def test_a_value_that_is_never_measured():
    with pytest.raises(gc.ArgumentError, match=r"validation_data=\(x, y\)\), or monitor='loss'"):
        small().fit(*rows(), callbacks=[callbacks.EarlyStopping()])
    with pytest.raises(gc.ArgumentError, match="'acc', which is not measured"):
        small().fit(*rows(), callbacks=[callbacks.EarlyStopping("acc")])
    stop = callbacks.EarlyStopping(patience=1)  # epochs without a validation do not count
    assert small(lr=0.0).fit(*rows(), epochs=9, validation_data=rows(), validation_freq=2, callbacks=[stop]).epochs == 4


def test_learning_rate_scheduler():
    seen = []
    model = small(optimizer=optim.SGD(0.5, groups=[optim.Group("bias", lr=0.05)]))
    watch = callbacks.LambdaCallback(on_epoch_begin=lambda e, logs=None: seen.append(model.learning_rates))
    history = model.fit(*rows(), epochs=3, callbacks=[callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch else lr), watch])
    assert history["learning_rate"] == pytest.approx([0.5, 0.25, 0.125])
    assert [s["lr_1"] for s in seen] == pytest.approx([0.05, 0.025, 0.0125])
    model.fit(*rows(), epochs=2, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))])
    assert model.learning_rate == pytest.approx(0.05)
    with pytest.raises(gc.ArgumentError, match="gave 'fast'"):
        model.fit(*rows(), callbacks=[callbacks.LearningRateScheduler(lambda e, lr: "fast")])


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    x, y = rows()
    model = small()

    def table():
        with open(path, newline="") as f:
            return list(csv.DictReader(f))

    history = model.fit(x, y, epochs=3, validation_data=(x, y), validation_freq=2, callbacks=[callbacks.CSVLogger(path)])
    assert list(table()[0]) == ["epoch", "loss", "val_loss"]
    assert [r["val_loss"] for r in table()] == ["", repr(history["val_loss"][0]), ""] and [r["epoch"] for r in table()] == ["0", "1", "2"]
    model.fit(x, y, epochs=5, initial_epoch=3, callbacks=[callbacks.CSVLogger(path, append=True)])
    assert [r["epoch"] for r in table()] == ["0", "1", "2", "3", "4"]
    with pytest.raises(gc.ArgumentError, match="no column for mae"):
        small(metrics=["mae"]).fit(x, y, callbacks=[callbacks.CSVLogger(path, append=True)])
    model.fit(x, y, callbacks=[callbacks.CSVLogger(path, separator=";")])
    assert path.read_text().startswith("epoch;loss\n") or path.read_text().startswith("epoch;loss\r\n")
    with pytest.raises(OSError):
        model.fit(x, y, callbacks=[callbacks.CSVLogger(tmp_path / "no" / "log.csv")])


def test_a_resumed_training_goes_on_with_its_csv_file(tmp_path):
    """Killed after the row of epoch 2 was written and before the checkpoint of epoch 2: the row is not there twice."""
    path, x, y = tmp_path / "log.csv", *rows()

    class Kill(callbacks.Callback):
        turn = 1

        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                raise ZeroDivisionError
            self.model.save_checkpoint(tmp_path / "c")

    with pytest.raises(ZeroDivisionError):
        small().fit(x, y, epochs=5, callbacks=[callbacks.CSVLogger(path), Kill()])
    history = small().fit(x, y, epochs=5, callbacks=[callbacks.CSVLogger(path)], resume=tmp_path / "c")
    with open(path, newline="") as f:
        table = list(csv.DictReader(f))
    assert [r["epoch"] for r in table] == list("01234") and [float(r["loss"]) for r in table] == history["loss"]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    x, y = rows()
    model = small()
    board = callbacks.TensorBoard(tmp_path, update_freq=2, histogram_freq=2)
    history = model.fit(x, y, batch_size=2, epochs=2, validation_data=(x, y), callbacks=[board])
    graphs = [e.graph_def for e in _events(tmp_path / "train") if e.graph_def]
    assert len(graphs) == 1 and b"linear" in graphs[0]
    names = {name for name, _ in model.module.named_parameters()}
    histograms = {v.tag: e.step for e in _events(tmp_path / "train") for v in e.summary.value if v.HasField("histo")}
    assert histograms == dict.fromkeys(names, 1)  # after the second epoch
    with pytest.raises(gc.ArgumentError, match="histogram_freq = -1"):
        callbacks.TensorBoard(histogram_freq=-1)
    found = {run: _scalars(tmp_path / run) for run in ("train", "validation")}
    assert found["train"]["epoch_loss"] == pytest.approx(dict(enumerate(history["loss"])), rel=1e-6)
    assert found["validation"]["epoch_loss"] == pytest.approx(dict(enumerate(history["val_loss"])), rel=1e-6)
    assert found["train"]["epoch_learning_rate"] == pytest.approx({0: 0.1, 1: 0.1}) and set(found["train"]["batch_loss"]) == {2, 4, 6}


def _events(folder):
    """The records of the event files: length, checksum, protocol buffer, checksum."""
    import struct

    from tensorboardX.proto.event_pb2 import Event

    for path in folder.iterdir():
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size


def _scalars(folder):
    """Tag -> step -> value."""
    out = {}
    for event in _events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                out.setdefault(value.tag, {})[event.step] = value.simple_value
    return out


def test_tensorboard_needs_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(gc.ArgumentError, match=r"graphc-dl\[tensorboard\]"):
        callbacks.TensorBoard()


def test_terminate_on_nan(capsys):
    x, y = rows(6)
    x[3, 0] = math.nan
    model = small()
    with pytest.raises(gc.NonFiniteError):
        model.fit(x, y, batch_size=2, shuffle=False)
    before = model.state_dict()["weight"]
    end = callbacks.TerminateOnNaN()
    history = model.fit(x, y, batch_size=2, epochs=4, shuffle=False, callbacks=[end])
    assert history.epochs == 1 and model.steps == 2 and len(end.errors) == 1 and "batch 2" in capsys.readouterr().out
    assert not np.array_equal(before, model.state_dict()["weight"])
    skip = callbacks.TerminateOnNaN(skip=True)
    history = model.fit(x, y, batch_size=2, epochs=3, shuffle=False, callbacks=[skip])
    assert history.epochs == 3 and model.steps == 8 and len(skip.errors) == 3 and np.isfinite(history["loss"]).all()
    x[:] = math.nan
    assert math.isnan(model.fit(x, y, callbacks=[callbacks.TerminateOnNaN()])["loss"][0])


def test_gradient_norm_stopping(target):
    """Gradient descent on the whole data ends at the first step whose gradient is small, not earlier."""
    x, y = rows(20)
    model = small(lr=0.2, target=target)
    stop = callbacks.GradientNormStopping(eps=1e-3)
    history = model.fit(x, y, batch_size=20, epochs=1000, callbacks=[stop])
    norms = history["gradient_norm"]
    assert stop.converged and norms[-1] <= 1e-3 < min(norms[:-1]) and history.epochs < 1000
    best = np.linalg.lstsq(np.hstack([x, np.ones((20, 1))]), y, rcond=None)[0]
    np.testing.assert_allclose(model.state_dict()["weight"][0], best[:2, 0], atol=2e-3)
    assert not model.gradient_norm and "gradient_norm" not in model.fit(x, y)
    with pytest.raises(gc.ArgumentError, match="not positive"):
        callbacks.GradientNormStopping(0.0)
