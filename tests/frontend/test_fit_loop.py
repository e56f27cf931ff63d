"""fit: validation, lengths of epochs, interrupts, history."""

from __future__ import annotations

import csv
import os
import signal
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, nn, optim


def small(lr=0.1, **how):
    gc.set_seed(0)
    how = {"loss": "mse", "optimizer": optim.SGD(lr), "target": "reference"} | how
    return gc.compile(nn.Linear(2, 1, dtype="float64"), gc.spec("N", 2, dtype="float64"), **how)


def rows(n=10):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)), rng.normal(size=(n, 1))


class Seen(callbacks.Callback):
    """The steps at which batches and epochs ended."""

    def on_train_begin(self, logs=None):
        self.epochs, self.batches = [], []

    def on_train_batch_end(self, batch, logs):
        self.batches.append((batch, logs["loss"]))

    def on_epoch_end(self, epoch, logs):
        self.epochs.append((epoch, self.model.steps, dict(logs)))


def test_validation_split_is_the_last_part_unshuffled():
    x, y = rows(10)
    a, b = small(), small()
    ha = a.fit(x, y, batch_size=3, epochs=2, validation_split=0.25)  # int(2.5) = 2 samples, as Keras rounds
    hb = b.fit(x[:8], y[:8], batch_size=3, epochs=2, validation_data=(x[8:], y[8:]))
    assert ha.history == hb.history and "val_loss" in ha
    with pytest.raises(gc.ArgumentError, match="exclude each other"):
        a.fit(x, y, validation_split=0.2, validation_data=(x, y))
    with pytest.raises(gc.ArgumentError, match="leaves one part empty"):
        a.fit(x[:3], y[:3], validation_split=0.1)
    with pytest.raises(gc.ArgumentError, match="divides arrays"):
        a.fit([(x, y)], validation_split=0.2)


def test_validation_freq():
    x, y = rows()
    history = small().fit(x, y, epochs=7, validation_data=(x, y), validation_freq=3)
    assert len(history["loss"]) == 7 and len(history["val_loss"]) == 2
    assert [v is None for v in history.to_dict()["val_loss"]] == [True, True, False, True, True, False, True]
    history = small().fit(x, y, epochs=4, validation_data=(x, y), validation_freq=[1, 4])
    assert [v is None for v in history.to_dict()["val_loss"]] == [False, True, True, False]


def test_validation_steps():
    x, y = rows()
    model = small(lr=0.0)
    history = model.fit(x, y, validation_data=(x, y), validation_steps=2, validation_batch_size=3)
    assert history["val_loss"][0] == pytest.approx(model.evaluate(x[:6], y[:6])["loss"], rel=1e-12)
    assert model.evaluate(x, y, batch_size=4, steps=1)["loss"] == pytest.approx(model.evaluate(x[:4], y[:4])["loss"], rel=1e-12)


def test_steps_per_epoch_go_on_in_the_data():
    """Two batches an epoch of three a pass: after three epochs every sample was used twice, in the order of two passes."""
    x, y = rows(9)
    a, b, seen_a, seen_b = small(), small(), Seen(), Seen()
    a.fit(x, y, batch_size=3, epochs=3, steps_per_epoch=2, callbacks=[seen_a])
    b.fit(x, y, batch_size=3, epochs=2, callbacks=[seen_b])
    assert [i for i, _ in seen_a.batches] == [0, 1] * 3 and [i for i, _ in seen_b.batches] == [0, 1, 2] * 2
    assert [v for _, v in seen_a.batches] == [v for _, v in seen_b.batches]
    np.testing.assert_array_equal(a.state_dict()["weight"], b.state_dict()["weight"])
    assert small().fit(x, y, batch_size=3, steps_per_epoch=7).epochs == 1  # more than a pass
    once = small()
    with pytest.raises(gc.ShapeError, match="no batches are left"):
        once.fit(((x, y) for _ in range(2)), epochs=2, steps_per_epoch=2)
    assert once.steps == 2


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])  # a batch was handed out and not used, or was
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_steps_per_epoch_resume_exactly(tmp_path, stop, hook):
    x, y = rows(9)
    how = {"batch_size": 3, "epochs": 3, "steps_per_epoch": 2}
    whole = small()
    expected = whole.fit(x, y, **how)

    def end(batch, logs=None):
        if model.steps == stop:
            raise ZeroDivisionError

    model = small()
    with pytest.raises(ZeroDivisionError):
        model.fit(x, y, callbacks=[callbacks.LambdaCallback(**{hook: end})], **how)
    model.save_checkpoint(tmp_path / "c")
    again = small()
    history = again.fit(x, y, resume=tmp_path / "c", **how)
    np.testing.assert_array_equal(again.state_dict()["weight"], whole.state_dict()["weight"])
    assert history.history == expected.history and history.epoch == expected.epoch


def test_initial_epoch():
    x, y = rows()
    seen = Seen()
    history = small().fit(x, y, epochs=5, initial_epoch=3, callbacks=[seen])
    assert [e for e, _, _ in seen.epochs] == [3, 4] == history.epoch
    assert small().fit(x, y, epochs=2, initial_epoch=2).epochs == 0


def test_fast_dev_run(tmp_path):
    x, y = rows(100)
    seen = Seen()
    log = callbacks.CSVLogger(tmp_path / "log.csv")
    model = small()
    history = model.fit(x, y, batch_size=10, epochs=50, validation_data=(x, y), callbacks=[seen, log], fast_dev_run=True)
    assert model.steps == 1 and history.epochs == 1 and "val_loss" in history and len(seen.epochs) == 1
    assert not os.listdir(tmp_path)
    model.fit(x, y, batch_size=10, fast_dev_run=3)
    assert model.steps == 4


def test_accumulated_gradients_are_those_of_larger_batches():
    x, y = rows(12)
    a, b = small(optimizer=optim.SGD(0.1, accumulate=3)), small()
    a.fit(x, y, batch_size=2, epochs=2, shuffle=False)
    b.fit(x, y, batch_size=6, epochs=2, shuffle=False)
    np.testing.assert_allclose(a.state_dict()["weight"], b.state_dict()["weight"], rtol=1e-12)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_falls_between_steps(times, target):
    """The signal comes while a step runs: the step ends, is counted, and fit can go on. A second one does not wait."""
    x, y = rows(12)
    model = small(target=target)
    model.compile_all()
    step = model._function("train_step")
    run, done = step.run, []

    def interrupted(batch):
        out = run(batch)
        if len(done) == 4:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(10))  # the handler runs between two instructions of Python
        done.append(1)
        return out

    step.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=4, epochs=3, shuffle=False)
    step.run = run
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert model.steps == 5 and len(done) == (5 if times == 1 else 4)
    assert model.history.epochs == 1 and model.place.epoch == 1 and model.place.batch == 2
    other = small(target=target)
    other.fit(x, y, batch_size=4, epochs=1, shuffle=False)
    for i in (0, 4):
        other.train_on_batch(x[i : i + 4], y[i : i + 4])
    np.testing.assert_array_equal(model.state_dict()["weight"], other.state_dict()["weight"])
    model.fit(x, y)


def test_ctrl_c_in_a_callback_is_at_once():
    def press(batch, logs):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the interrupt comes before this")

    with pytest.raises(KeyboardInterrupt):
        small().fit(*rows(), callbacks=[callbacks.LambdaCallback(on_train_batch_end=press)])


def test_anothers_signal_handler_is_left_alone():
    calls = []
    old = signal.signal(signal.SIGINT, lambda *a: calls.append(1))
    try:
        small().fit(*rows(), callbacks=[callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: os.kill(os.getpid(), signal.SIGINT))])
    finally:
        signal.signal(signal.SIGINT, old)
    assert calls == [1]


def test_the_gradients_norm(target):
    """Of the loss with the optimiser's penalties, before clipping."""
    x, y = rows(6)
    model = small(target=target, optimizer=optim.SGD(0.1, l2=0.3, clip_norm=1e-3))
    w, b = model.state_dict()["weight"], model.state_dict()["bias"]
    error = x @ w.T + b - y
    gw, gb = 2 * (error.T @ x) / 6 + 0.6 * w, 2 * error.mean(0) + 0.6 * b
    model.gradient_norm = True
    assert model.train_on_batch(x, y)["gradient_norm"] == pytest.approx(np.sqrt((gw**2).sum() + (gb**2).sum()), rel=1e-9)
    model.gradient_norm = False
    assert set(model.train_on_batch(x, y)) == {"loss"}


def test_verbose(capsys):
    x, y = rows()
    small().fit(x, y, verbose=2, epochs=2)
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in out] == [["epoch", "1/2"], ["epoch", "2/2"]] and all(" loss " in line for line in out)
    small().fit(x, y, callbacks=[callbacks.ProgressBar(bar=False)], verbose=1)  # its own, and no second one
    assert len(capsys.readouterr().out.splitlines()) == 1
    small(lr=1e-9).fit(x, 1e-4 * y, verbose=2, callbacks=[callbacks.LambdaCallback(on_epoch_end=lambda e, logs: logs.update(loss=2e-7))])
    assert "loss 2.000e-07" in capsys.readouterr().out


def test_history(tmp_path):
    x, y = rows()
    model = small()
    history = model.fit(x, y, epochs=3, validation_data=(x, y), validation_freq=2)
    assert model.history is history and history.epochs == 3 and len(history.seconds) == 3
    assert repr(history).startswith("<History of 3 epochs: loss ")
    history.to_csv(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="") as f:
        table = list(csv.DictReader(f))
    assert [r["epoch"] for r in table] == ["0", "1", "2"] and [float(r["loss"]) for r in table] == history["loss"]
    assert [r["val_loss"] for r in table] == ["", repr(history["val_loss"][0]), ""]
    text = history._repr_html_()
    assert text.count("<tr>") == 4 and "<th>val_loss</th>" in text
    with pytest.raises(gc.ArgumentError, match="loss, val_loss"):
        history["accuracy"]


def test_plots(tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    x, y = rows()
    history = small(metrics=["mae"]).fit(x, y, epochs=4, validation_data=(x, y), validation_freq=2)
    figure = history.plot(path=tmp_path / "h.png")
    assert isinstance(figure, matplotlib.figure.Figure) and (tmp_path / "h.png").stat().st_size > 5000
    panels = {a.get_title(): a for a in figure.axes}
    assert set(panels) == {"loss", "mae"}
    train, val = panels["mae"].lines
    assert list(train.get_xdata()) == [1, 2, 3, 4] and list(val.get_xdata()) == [2, 4] and list(val.get_ydata()) == history["val_mae"]
    assert len(history.plot(["mae"]).axes) == 1
    with pytest.raises(gc.ArgumentError, match="no 'accuracy'"):
        history.plot(["accuracy"])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(gc.ArgumentError, match=r"graphc-dl\[plot\]"):
        history.plot()


def test_settings_that_make_no_sense():
    x, y = rows()
    for how, text in (
        ({"validation_freq": 0}, "validation_freq"),
        ({"validation_split": 1.0}, "validation_split"),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
        ({"initial_epoch": -1}, "initial_epoch"),
        ({"fast_dev_run": "yes"}, "fast_dev_run"),
        ({"verbose": "loud"}, "verbose"),
        ({"callbacks": [callbacks.EarlyStopping]}, r"callbacks.EarlyStopping\(\.\.\.\)"),
    ):
        with pytest.raises(gc.ArgumentError, match=text):
            small().fit(x, y, **how)
