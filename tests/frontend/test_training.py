"""compile, fit, evaluate, predict, train_on_batch."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, nn, optim


def test_fit_learns_and_tells(classifier, data):
    x, y = data(300)
    model = classifier()
    history = model.fit(x, y, batch_size=32, epochs=30, validation_data=data(100))
    assert history.epochs == 30 and set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.9
    assert model.evaluate(x, y)["accuracy"] > 0.9
    assert model.steps == 30 * 10


def test_three_graphs_over_one_store(classifier):
    model = classifier(dropout=0.5)
    assert list(model.graphs) == ["train_step", "evaluate", "predict"]
    assert model.graph is model.graphs["predict"]
    ops = {mode: {n.op.name for n in g.nodes} for mode, g in model.graphs.items()}
    assert "dropout" in ops["train_step"] and "dropout" not in ops["evaluate"] | ops["predict"]
    step = model.graphs["train_step"]
    assert step.finite == "loss"
    assert [k for k, _ in step.outputs] == ["loss", "accuracy"]
    names = [n for n, _ in step.updates]
    assert (
        "optimizer.step" in names
        and "fc.0.weight" in names
        and "optimizer.m.fc.0.weight" in names
        and "optimizer.v.fc.3.bias" in names
    )
    assert not model.graph.updates and not model.graphs["evaluate"].updates
    assert {"optimizer.lr", "random.seed"} <= {i.name for i in step.inputs if i.role == "state"}


def test_state_types(classifier):
    store = classifier(dtype="float64").store
    types = {n: (str(store.type(n).dtype), store.type(n).shape) for n in store.names("state")}
    assert (
        types["optimizer.step"] == ("int64", ())
        and types["optimizer.lr"] == ("float64", ())
        and types["random.seed"] == ("uint32", (2,))
    )


def test_named_batch_axis(classifier, data):
    """Any number of rows on one executable."""
    model = classifier()
    model.predict(data(4)[0])
    program = model.executables["predict"]
    whole = model.predict(data(128)[0])
    for n in (1, 37, 128, 0):
        out = model.predict(data(128)[0][:n])
        assert out.shape == (n, 3) and out.dtype == np.float32
        np.testing.assert_allclose(out, whole[:n], rtol=1e-5, atol=1e-6)
    assert model.executables["predict"] is program
    step = model.executables["train_step"]
    for n in (1, 37, 128):
        assert np.isfinite(model.train_on_batch(*data(n))["loss"])
    assert model.executables["train_step"] is step
    with pytest.raises(gc.ShapeError, match="no samples"):
        model.train_on_batch(*data(0))
    with pytest.raises(gc.ShapeError, match="no samples"):
        model.fit(*data(0))
    with pytest.raises(gc.ShapeError, match="no samples"):
        model.evaluate(*data(0))


def test_prediction_in_pieces(classifier, data):
    model, (x, _) = classifier(), data(10)
    np.testing.assert_allclose(model.predict(x, batch_size=3), model.predict(x), rtol=1e-5, atol=1e-6)
    assert model.predict(x[:0], batch_size=3).shape == (0, 3)
    np.testing.assert_array_equal(model(x), model.predict(x))


def test_evaluation_weighs_by_rows(classifier, data):
    model, (x, y) = classifier(), data(10)
    a, b = model.evaluate(x, y, batch_size=4), model.evaluate(x, y)
    assert a == pytest.approx(b, rel=1e-5)


def test_a_partial_last_batch_counts_by_its_rows(classifier, data):
    x, y = data(10)
    model = classifier(optimizer=optim.SGD(0.0))
    history = model.fit(x, y, batch_size=4)
    assert history["loss"][0] == pytest.approx(model.evaluate(x, y)["loss"], rel=1e-5)
    assert model.steps == 3


def test_fixed_batch_size(classifier, data):
    model = classifier(spec=gc.spec(4, 6))
    x, y = data(8)
    assert model.fit(x, y, batch_size=4).epochs == 1
    with pytest.raises(gc.ShapeError, match="do not divide into batches of 4"):
        model.fit(*data(10), batch_size=4)


def test_same_seed_same_training(classifier, data):
    def run(seed, **how):
        gc.set_seed(seed)
        model = classifier(dropout=0.3)
        model.fit(*data(40), batch_size=8, epochs=2, **how)
        return model.state_dict()

    a, b, c, d = run(1), run(1), run(2), run(1, shuffle=False)
    for k in a:
        np.testing.assert_array_equal(a[k], b[k])
        assert not np.array_equal(a[k], c[k])
        assert not np.array_equal(a[k], d[k])


def test_dropout_masks(target):
    class Two(nn.Module):
        def __init__(self):
            self.d = nn.Dropout(0.5)
            self.scale = nn.Parameter([1.0])

        def forward(self, x):
            return self.d(x * self.scale), self.d(x * self.scale)

    seen = []

    def loss(p, y):
        return (p[0] * y).mean()

    model = gc.compile(
        Two(),
        gc.spec("N", 50),
        loss=loss,
        optimizer=optim.SGD(0.0),
        metrics=[],
        target=target,
        target_spec=gc.spec("N", 50),
    )
    x = np.ones((20, 50), np.float32)
    a, b = model.predict(x)
    assert (a == 1).all() and (b == 1).all()
    for _ in range(2):  # each step another mask
        seen.append(model.train_on_batch(x, x)["loss"])
    assert seen[0] != seen[1]
    assert all(0.8 < s < 1.2 for s in seen)
    masks = gc.step(lambda v: Two.forward(model.module, v), gc.spec("N", 50), target=target)
    first, second = masks(x)
    assert set(np.unique(first)) == {0, 2} and abs(first.mean() - 1) < 0.15
    assert not np.array_equal(first, second)  # two uses, two streams
    again, _ = masks(x)
    assert not np.array_equal(first, again)


def test_frozen_parameters(classifier, data):
    model = classifier()
    model.fit(*data())
    whole = model.graphs["train_step"]
    model.freeze("fc.0")
    before = model.state_dict()
    model.fit(*data())
    after = model.state_dict()
    for k in before:
        assert np.array_equal(before[k], after[k]) == k.startswith("fc.0")
    assert model.graphs["train_step"] is not whole
    assert "fc.0.weight" not in dict(model.graphs["train_step"].updates)
    model.unfreeze()
    assert model.graphs["train_step"] is whole
    model.freeze()
    with pytest.raises(gc.TraceError, match="no parameter is trainable"):
        model.fit(*data())
    with pytest.raises(gc.ParameterError, match=r"no parameter or module 'fc\.9'"):
        model.freeze("fc.9")


def test_frozen_from_the_start(mlp, target, data):
    m = mlp()
    m.fc[0].freeze()
    model = gc.compile(m, gc.spec("N", 6), loss="cross_entropy", optimizer="adam", target=target)
    assert "optimizer.m.fc.0.weight" not in model.store
    model.fit(*data())
    model.unfreeze("fc.0")
    before = model.state_dict()["fc.0.weight"]
    model.fit(*data())
    assert not np.array_equal(before, model.state_dict()["fc.0.weight"])


def test_learning_rate_is_state(classifier, data):
    model = classifier(optimizer=optim.SGD(0.0))
    before = model.state_dict()
    model.fit(*data())
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    program = model.executables["train_step"]
    model.learning_rate = 0.1
    assert model.learning_rate == pytest.approx(0.1)
    model.fit(*data())
    assert model.executables["train_step"] is program
    assert not np.array_equal(before["fc.0.weight"], model.state_dict()["fc.0.weight"])
    with pytest.raises(gc.ArgumentError):
        model.learning_rate = float("nan")


def test_a_loss_that_is_not_finite_writes_nothing(classifier, data):
    model, (x, y) = classifier(), data(40)
    model.fit(x, y, batch_size=8, shuffle=False)
    x = x.copy()
    x[17, 2] = np.nan
    with pytest.raises(gc.NonFiniteError) as e:
        model.fit(x, y, batch_size=8, shuffle=False)
    # batches of 8: rows 16 to 23 are the third step after the 5 of the first fit
    assert "step 8" in str(e.value) and "batch 3" in str(e.value) and "'x'" in str(e.value)
    assert model.steps == 7
    state = {n: model.store.numpy(n) for n in model.store.names()}
    with pytest.raises(gc.NonFiniteError):
        model.train_on_batch(x[16:24], y[16:24])
    for n, v in state.items():
        np.testing.assert_array_equal(model.store.numpy(n), v)
    assert np.isfinite(model.evaluate(x[:8], y[:8])["loss"])


def test_the_first_operator_that_failed(target):
    class Net(nn.Module):
        def __init__(self):
            self.scale = nn.Parameter([1.0])

        def forward(self, x):
            return (x * self.scale).log().tanh()

    model = gc.compile(Net(), gc.spec("N"), loss="mse", optimizer="sgd", target=target)
    model.train_on_batch([1.0], [1.0])
    with pytest.raises(gc.NonFiniteError) as e:
        model.train_on_batch([1.0, -1.0], [1.0, 1.0])
    assert "first: log" in str(e.value) and "1 NaN" in str(e.value)
    assert "test_training.py" in str(e.value) and "(x * self.scale).log().tanh()" in str(e.value)


def test_clipping(target):
    def run(clip):
        model = gc.compile(
            nn.Linear(3, 1), gc.spec("N", 3), loss="mse", optimizer=optim.SGD(1.0, clip_norm=clip), target=target
        )
        before = model.state_dict()
        model.train_on_batch(np.full((2, 3), 10.0), np.zeros((2, 1)))
        after = model.state_dict()
        return np.sqrt(sum(np.sum((after[k] - before[k]) ** 2) for k in before))

    free = run(None)
    assert free > 1
    assert run(0.5) == pytest.approx(0.5, rel=1e-3)
    assert run(1e6) == pytest.approx(free, rel=1e-4)


def test_several_inputs_and_outputs(target):
    class Pair(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(2, 1), nn.Linear(3, 1)

        def forward(self, left, right):
            return {"sum": self.a(left) + self.b(right), "left": self.a(left)}

    model = gc.compile(
        Pair(),
        gc.spec("N", 2),
        gc.spec("N", 3),
        loss=lambda p, y: ((p["sum"] - y["sum"]) ** 2).mean() + ((p["left"] - y["left"]) ** 2).mean(),
        optimizer=optim.Adam(0.1),
        target_spec={"sum": gc.spec("N", 1), "left": gc.spec("N", 1)},
        target=target,
    )
    left, right = np.ones((9, 2), np.float32), np.ones((9, 3), np.float32)
    y = {"sum": np.full((9, 1), 2.0), "left": np.full((9, 1), -1.0)}
    model.fit((left, right), y, batch_size=4, epochs=60)
    out = model.predict({"right": right, "left": left}, batch_size=4)
    np.testing.assert_allclose(out["sum"], 2.0, atol=0.1)
    np.testing.assert_allclose(out["left"], -1.0, atol=0.1)
    with pytest.raises(gc.ArgumentError, match="expected 2 inputs"):
        model.predict(left)
    with pytest.raises(gc.ArgumentError, match="expected the inputs left, right"):
        model.predict({"left": left})


def test_arguments_of_fit(classifier, data):
    model, (x, y) = classifier(), data()
    for how, text in (
        ({"batch_size": 0}, "batch_size = 0"),
        ({"epochs": -1}, "epochs = -1"),
        ({"verbose": 7}, "verbose = 7"),
        ({"validation_data": x}, "validation"),
    ):
        with pytest.raises(gc.ArgumentError, match=text):
            model.fit(x, y, **how)
    with pytest.raises(gc.ShapeError, match="x: expected"):
        model.fit(x[:, :5], y)
    with pytest.raises(gc.GuardError, match="y: N is 49"):
        model.fit(x, y[:-1])
    with pytest.raises(gc.DTypeError, match="y: expected int64"):
        model.fit(x, y.astype(np.float32))


def test_without_loss_or_optimizer(mlp, target, data):
    model = gc.compile(mlp(), gc.spec("N", 6), target=target)
    with pytest.raises(gc.ArgumentError, match="needs a loss"):
        model.fit(*data())
    model = gc.compile(mlp(), gc.spec("N", 6), loss="cross_entropy", target=target)
    assert model.modes() == ["evaluate", "predict"]
    assert model.evaluate(*data())["loss"] > 0
    with pytest.raises(gc.ArgumentError, match="needs an optimizer"):
        model.fit(*data())


def test_one_hot_targets(target, mlp, data):
    x, y = data()
    a = gc.compile(mlp(), gc.spec("N", 6), loss="cross_entropy", target=target).evaluate(x, y)["loss"]
    b = gc.compile(mlp(), gc.spec("N", 6), loss="cross_entropy", target_spec=gc.spec("N", 3), target=target).evaluate(
        x, np.eye(3)[y]
    )["loss"]
    assert a == pytest.approx(b, rel=1e-5)


def test_the_module_is_shared_between_models(mlp, target, data):
    m = mlp()
    first = gc.compile(m, gc.spec("N", 6), loss="cross_entropy", optimizer=optim.Adam(1e-2), target=target)
    first.fit(*data())
    second = gc.compile(m, gc.spec("N", 6), loss="cross_entropy", optimizer=optim.SGD(0.1), target=target)
    assert second.store is first.store and second.steps == 0 and second.prefix == "optimizer_1"
    probabilities = gc.compile(lambda x: m(x).softmax(-1), gc.spec("N", 6), target=target)
    second.fit(*data())
    assert first.steps == 2
    x = data(5)[0]
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    z = np.exp(first.predict(x))
    np.testing.assert_allclose(probabilities(x), z / z.sum(-1, keepdims=True), rtol=1e-5)


def test_silent_when_not_a_terminal(classifier, data, capsys):
    model = classifier()
    model.fit(*data(), epochs=2)
    assert capsys.readouterr() == ("", "")
    model.fit(*data(), epochs=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2") and "loss" in lines[0] and "accuracy" in lines[0]
    model.fit(*data(), epochs=1, verbose=0)
    assert capsys.readouterr().out == ""


def test_progress_bar_on_a_terminal(classifier, data, monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    classifier().fit(*data(), epochs=2)
    assert "epoch 2/2" in capsys.readouterr().out


def test_summary(classifier, capsys):
    model = classifier()
    model.freeze("fc.0")
    text = model.summary(print_fn=None)
    row = next(line for line in text.splitlines() if "fc.3 (Linear)" in line)
    assert "(N, 3)" in row and "27" in row and "24*N" in row and "108 B" in row
    assert "parameters 83 (trainable 27, frozen 56)" in text and "MACs 72*N" in text and "Adam" in text
    model.summary()
    assert "fc.0 (Linear)" in capsys.readouterr().out


def test_early_stopping(classifier, data):
    model = classifier(optimizer=optim.SGD(0.0))
    stop = callbacks.EarlyStopping("loss", patience=2)
    assert model.fit(*data(), epochs=20, callbacks=[stop], shuffle=False).epochs == 3
    with pytest.raises(gc.ArgumentError, match="'val_loss', which is not measured"):
        model.fit(*data(), callbacks=[callbacks.EarlyStopping()])


def test_early_stopping_restores_the_best(classifier, data):
    model = classifier()
    seen = []

    def spoil(epoch, logs):
        seen.append(model.state_dict())
        if epoch == 1:
            model.learning_rate = 50.0

    watch = [
        callbacks.LambdaCallback(on_epoch_end=spoil),
        callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True),
    ]
    history = model.fit(*data(), epochs=20, callbacks=watch)
    best = int(np.argmin(history["loss"]))
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, seen[best][k])


def test_callbacks(classifier, data, tmp_path):
    calls = []
    names = ("on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end")
    watch = callbacks.LambdaCallback(**{n: (lambda *a, n=n: calls.append((n, *a[:1]))) for n in names})
    model = classifier()
    save = callbacks.ModelCheckpoint(tmp_path / "m{epoch}.graphc", "loss")
    best = callbacks.ModelCheckpoint(tmp_path / "best.graphc", "loss", save_best_only=True)
    model.fit(*data(), epochs=2, callbacks=[watch, save, best])
    assert [c[0] for c in calls] == [
        "on_train_begin",
        "on_epoch_begin",
        "on_batch_end",
        "on_batch_end",
        "on_epoch_end",
        "on_epoch_begin",
        "on_batch_end",
        "on_batch_end",
        "on_epoch_end",
        "on_train_end",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.graphc", "m1.graphc", "m2.graphc"]
    with pytest.raises(gc.ArgumentError, match="no callback 'on_stop'"):
        callbacks.LambdaCallback(on_stop=print)


def test_eager_compiles_everything(classifier):
    model = classifier(eager=True)
    assert all(f._executable is not None for f in model._functions.values()) and len(model._functions) == 3
