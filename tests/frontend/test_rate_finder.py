"""The learning-rate range test."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import optim


def test_everything_is_restored(classifier, data):
    model = classifier(dropout=0.3, optimizer=optim.Adam(1e-2, groups=[optim.Group("fc.0", lr=1e-4)], ema=0.9))
    x, y = data(64)
    model.fit(x, y)
    before = {n: model.store.numpy(n) for n in model.store.names()}
    curve = gc.lr_finder(model, x, y, steps=20, batch_size=16)
    assert len(curve.rates) > 5
    for n, v in before.items():
        np.testing.assert_array_equal(model.store.numpy(n), v)
    other = classifier(dropout=0.3, optimizer=optim.Adam(1e-2, groups=[optim.Group("fc.0", lr=1e-4)], ema=0.9))
    other.store.write(before)
    for m in (model, other):
        m.fit(x, y, batch_size=16, epochs=2)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, other.state_dict()[k])


def test_the_curve(classifier, data, tmp_path):
    """Exponentially growing rates; the losses are those of plain steps at these rates; it ends when the loss explodes."""
    x, y = data(32)
    gc.set_seed(0)
    model = classifier(optimizer=optim.SGD(0.1))
    start = model.state_dict()
    curve = gc.lr_finder(model, x, y, start=1e-2, end=1e6, steps=60, batch_size=32, smoothing=0.5)
    np.testing.assert_allclose(np.diff(np.log(curve.rates)), np.log(1e8) / 59, rtol=1e-6)
    assert curve.diverged and len(curve.rates) < 60 and curve.rates[0] == 1e-2 < curve.suggestion < curve.best
    model.load_state_dict(start)
    for rate, loss in list(zip(curve.rates, curve.losses, strict=True))[:5]:  # all samples in each batch, so their order does not count
        model.learning_rate = rate
        assert model.train_on_batch(x, y)["loss"] == pytest.approx(loss, rel=1e-5)
    mean = 0.0
    for i, loss in enumerate(curve.losses):
        mean = 0.5 * mean + 0.5 * loss
        assert curve.smoothed[i] == pytest.approx(mean / (1 - 0.5 ** (i + 1)))
    curve.to_csv(tmp_path / "c.csv")
    assert len((tmp_path / "c.csv").read_text().splitlines()) == len(curve.rates) + 1
    pytest.importorskip("matplotlib")
    curve.plot(tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_the_suggested_rate_trains(classifier, data):
    x, y = data(256)
    model = classifier(optimizer=optim.SGD(1e-6))
    model.learning_rate = gc.lr_finder(model, x, y, start=1e-4, end=100.0, steps=80).suggestion
    assert model.fit(x, y, epochs=20)["accuracy"][-1] > 0.9


def test_misuse_is_told(classifier, data):
    model, (x, y) = classifier(), data(32)
    for how in ({"start": 1.0, "end": 0.1}, {"steps": 2}, {"smoothing": 1.0}, {"start": 0}, {"diverge": 1.0}):
        with pytest.raises(gc.ArgumentError):
            gc.lr_finder(model, x, y, **how)
    before = model.state_dict()
    with pytest.raises(gc.ArgumentError, match="not finite at the first rate"):
        gc.lr_finder(model, x * np.nan, y)
    for k, v in before.items():
        np.testing.assert_array_equal(model.state_dict()[k], v)
