"""Checkpoints: what they hold, resuming bit for bit at every batch, rotation, refusals, and files of other versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.frontend.callbacks import BackupAndRestore, Callback, EarlyStopping, LambdaCallback, ModelCheckpoint
from graphc.frontend.files import older, read_file, write_atomic

FIXTURES = Path(__file__).parents[1] / "data_files"
ROWS, BATCH = 50, 13  # four batches an epoch, the last one smaller


class Small(nn.Module):
    """(N, 4) -> (N, 3), with everything that has state: batch statistics and random masks."""

    def __init__(self):
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.25))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x))


def small(target="reference", seed=3, optimizer=None, metrics=("accuracy",)):
    gc.set_seed(seed)
    optimizer = optimizer or optim.Adam(1e-2, schedule=optim.schedules.Cosine(8), accumulate=2, clip_norm=1.0)
    return gc.compile(
        Small(), gc.spec("N", 4), loss="cross_entropy", optimizer=optimizer, metrics=metrics, target=target
    )


def rows(n=ROWS):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, 4)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def everything(model):
    return {n: model.store.numpy(n) for n in model.store.names()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for k in a:
        assert a[k].tobytes() == b[k].tobytes(), k


class Killed(Exception):
    """Ends a training at a batch, as the end of its process would."""


class Kill(Callback):
    turn = 9

    def __init__(self, at):
        self.at = at

    def on_batch_end(self, batch, logs):
        if self.model.steps == self.at:
            raise Killed


class Sums(Callback):
    """A callback with state of its own: numbers and an array."""

    def on_train_begin(self):
        self.total, self.seen = 0.0, np.zeros(0)

    def on_batch_end(self, batch, logs):
        self.total += logs["loss"]
        self.seen = np.append(self.seen, logs["loss"])

    def state_dict(self):
        return {"total": self.total, "seen": self.seen}

    def load_state_dict(self, state):
        self.total, self.seen = state["total"], state["seen"]


def train(model, callbacks, **options):
    return model.fit(
        *rows(), batch_size=BATCH, validation_data=rows(20), callbacks=callbacks, **{"epochs": 2, **options}
    )


LARGEST = gc.metrics.Metric("largest", lambda p, y: p.max().reshape(1), lambda v: float(v.max()), gather=True)


# -- resuming --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def whole(target):
    """A training that nothing interrupts: (model, history, its callback with state)."""
    model, sums = small(target), Sums()
    history = train(model, [sums, EarlyStopping(patience=5, restore_best_weights=True)])
    return model, history, sums


@pytest.mark.parametrize("at", range(1, 9))
def test_resuming_after_any_batch_gives_the_same_bits(target, whole, tmp_path, at):
    def callbacks(*more):
        return [BackupAndRestore(tmp_path, save_freq=1), Sums(), EarlyStopping(patience=5, restore_best_weights=True), *more]

    with pytest.raises(Killed):
        train(small(target), callbacks(Kill(at)))
    again = small(target, seed=99)  # other first weights and another seed: the file's count
    cs = callbacks()
    history = train(again, cs)
    model, expected, sums = whole
    assert_same(everything(again), everything(model))
    assert history.history == expected.history and history.epochs == 2
    assert cs[1].total == sums.total and cs[1].seen.tobytes() == sums.seen.tobytes()
    assert not os.listdir(tmp_path)


def test_resume_from_a_path_and_from_what_was_loaded(target, whole, tmp_path):
    path = tmp_path / "{epoch}-{batch}.graphc"
    train(small(target), [Sums(), EarlyStopping(patience=5, restore_best_weights=True), ModelCheckpoint(path, save_freq=3)])
    assert sorted(os.listdir(tmp_path)) == ["1-3.graphc", "2-2.graphc"]
    for given in (str, Path, None):
        again = small(target, seed=1)
        file = tmp_path / "2-2.graphc"
        found = again.load_checkpoint(file)
        assert (found.epoch, found.batch, found.step, found.seed) == (1, 2, 6, 3)
        assert found.written_by["graphc"] == gc.__version__ and found.written_by["numpy"] == np.__version__
        again.fit(*rows(), epochs=1)  # what is done in between does not count
        history = train(
            again, [Sums(), EarlyStopping(patience=5, restore_best_weights=True)], resume=given(file) if given else found
        )
        assert_same(everything(again), everything(whole[0]))
        assert history.history == whole[1].history


class Batches:
    """A source of batches without a state of its own, in the same order each time."""

    def __iter__(self):
        x, y = rows()
        return iter([(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, ROWS, BATCH)])


def loader(**options):
    data = gc.data.TensorDataset(*rows())
    return gc.data.DataLoader(data, batch_size=BATCH, shuffle=True, **options)


FEEDS = {
    "loader": lambda: {"x": loader()},
    "loader, threads": lambda: {"x": loader(num_workers=2, workers="thread")},
    "iterable": lambda: {"x": Batches()},
    "steps_per_epoch": lambda: {"x": rows()[0], "y": rows()[1], "steps_per_epoch": 3},
    "loader, steps_per_epoch": lambda: {"x": loader(), "steps_per_epoch": 3},
    "weights": lambda: {"x": rows()[0], "y": rows()[1], "sample_weight": np.linspace(0, 2, ROWS), "validation_split": 0.1},
}


@pytest.mark.parametrize("feed", FEEDS)
def test_the_place_in_other_kinds_of_data(tmp_path, feed):
    def fit(model, *callbacks):
        return model.fit(batch_size=BATCH, epochs=3, callbacks=callbacks, **FEEDS[feed]())

    whole = small()
    expected = fit(whole)
    for at in range(1, whole.steps + 1):
        with pytest.raises(Killed):
            fit(small(), BackupAndRestore(tmp_path, save_freq=1), Kill(at))
        again = small()
        assert fit(again, BackupAndRestore(tmp_path)).history == expected.history, at
        assert_same(everything(again), everything(whole))


@pytest.mark.parametrize("feed", FEEDS)
def test_the_place_at_the_end_of_an_epoch(tmp_path, feed):
    def fit(model, *callbacks):
        return model.fit(batch_size=BATCH, epochs=3, callbacks=callbacks, **FEEDS[feed]())

    whole = small()
    fit(whole, ModelCheckpoint(tmp_path / "{epoch}"))
    for epoch in (1, 2, 3):
        again = small(seed=4)
        again.fit(batch_size=BATCH, epochs=3, resume=tmp_path / str(epoch), **FEEDS[feed]())
        assert_same(everything(again), everything(whole))


def test_more_epochs_after_the_end(tmp_path):
    a, b = small(), small()
    train(a, [], epochs=4)
    train(b, [], epochs=2)
    b.save_checkpoint(tmp_path / "c")
    c = small(seed=8)
    history = train(c, [], epochs=4, resume=tmp_path / "c")
    assert history.epochs == 4
    assert_same(everything(a), everything(c))


@pytest.mark.parametrize("metrics", [("precision", "recall", "f1"), (LARGEST,), ()])
def test_statistics_of_an_epoch_that_had_begun(tmp_path, metrics):
    whole = train(small(metrics=metrics), [])
    with pytest.raises(Killed):
        train(small(metrics=metrics), [BackupAndRestore(tmp_path, save_freq=1), Kill(6)])
    assert train(small(metrics=metrics), [BackupAndRestore(tmp_path)]).history == whole.history


def test_a_training_that_a_callback_ended_stays_ended(tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.stop_training = epoch == 1

    model = small()
    train(model, [Stop(), ModelCheckpoint(tmp_path / "c", save_freq="epoch")], epochs=5)
    again = small()
    history = train(again, [Stop()], epochs=5, resume=tmp_path / "c")
    assert history.epochs == 2
    assert_same(everything(again), everything(model))


def test_callbacks_that_set_the_rate_at_an_epochs_begin(tmp_path):
    """on_epoch_begin comes twice for an epoch that is resumed; its effect must not."""

    class Half(Callback):
        def on_epoch_begin(self, epoch):
            self.model.learning_rate = self.model.learning_rate / 2

    a = small()
    train(a, [Half()], epochs=3)
    with pytest.raises(Killed):
        train(small(), [Half(), BackupAndRestore(tmp_path, save_freq=1), Kill(7)], epochs=3)
    b = small()
    train(b, [Half(), BackupAndRestore(tmp_path)], epochs=3)
    assert_same(everything(a), everything(b))


def test_layers_frozen_on_the_way_stay_frozen(target, tmp_path):
    class Freeze(Callback):
        def on_batch_end(self, batch, logs):
            if self.model.steps == 3:
                self.model.freeze("body")

    a = small(target)
    train(a, [Freeze()])
    with pytest.raises(Killed):
        train(small(target), [Freeze(), BackupAndRestore(tmp_path, save_freq=1), Kill(5)])
    b = small(target)
    train(b, [Freeze(), BackupAndRestore(tmp_path)])
    assert_same(everything(a), everything(b))
    assert [p.trainable for p in a.module.parameters()] == [p.trainable for p in b.module.parameters()]


def test_an_interrupted_fit_can_be_saved_afterwards(whole, target, tmp_path):
    model = small(target)
    with pytest.raises(Killed):
        train(model, [Sums(), EarlyStopping(patience=5, restore_best_weights=True), Kill(5)])
    model.save_checkpoint(tmp_path / "c")
    again = small(target, seed=1)
    train(again, [Sums(), EarlyStopping(patience=5, restore_best_weights=True)], resume=tmp_path / "c")
    assert_same(everything(again), everything(whole[0]))


def test_an_interrupt_between_a_step_and_its_count(tmp_path, monkeypatch):
    """Ctrl-C during a step arrives when its kernels are done and before anything in Python has noticed."""
    a, b = small(), small()
    train(a, [])
    f = b._function("train_step")
    real = f.run

    def run(inputs):
        out = real(inputs)
        if b.steps == 5:
            raise KeyboardInterrupt
        return out

    monkeypatch.setattr(f, "run", run)
    with pytest.raises(KeyboardInterrupt):
        train(b, [])
    b.save_checkpoint(tmp_path / "c")
    c = small()
    assert c.load_checkpoint(tmp_path / "c").batch == 1
    train(c, [], resume=tmp_path / "c")
    assert_same(everything(a), everything(c))


def test_a_loaders_batch_that_was_not_used_is_told(tmp_path):
    class Fails(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise Killed

    model = small()
    with pytest.raises(Killed):
        model.fit(loader(), callbacks=[Fails()])
    with pytest.warns(UserWarning, match="counts as used"):
        model.save_checkpoint(tmp_path / "c")
    with pytest.raises(Killed):  # arrays give it again
        train(model, [Fails()])
    model.save_checkpoint(tmp_path / "c")
    assert model.load_checkpoint(tmp_path / "c").batch == 2


def test_after_other_training_there_is_no_place(tmp_path):
    model = small()
    train(model, [])
    model.train_on_batch(*rows())
    model.save_checkpoint(tmp_path / "c", extra={"mine": [1, 2.5, "x", np.arange(3)], "none": None})
    found = small().load_checkpoint(tmp_path / "c")
    assert found.extra["mine"][:3] == [1, 2.5, "x"] and found.extra["mine"][3].tolist() == [0, 1, 2]
    with pytest.raises(gc.CheckpointError, match="no place in a training"):
        train(small(), [], resume=tmp_path / "c")


def test_refused_resumes(tmp_path):
    model = small()
    train(model, [ModelCheckpoint(tmp_path / "{batch}", save_freq=3)], epochs=1)
    model.save(tmp_path / "model")
    before = everything(model)
    cases = [
        ({"resume": tmp_path / "none"}, FileNotFoundError, "none"),
        ({"resume": tmp_path / "model"}, gc.CheckpointError, "no place in a training"),
        ({"resume": 3}, gc.ArgumentError, "resume = 3"),
        ({"resume": tmp_path / "3", "shuffle": False}, gc.CheckpointError, "shuffle was True and is False"),
    ]
    for options, error, text in cases:
        with pytest.raises(error, match=text):
            train(model, [], epochs=2, **options)
    other = gc.compile(Small(), gc.spec("N", 4), loss="cross_entropy", optimizer=optim.SGD(0.1), target="reference")
    with pytest.raises(gc.CheckpointError, match="does not fit Small"):
        train(other, [], resume=tmp_path / "3")
    assert before.keys() == everything(model).keys()


def test_state_of_missing_callbacks_is_told(tmp_path):
    train(small(), [Sums(), ModelCheckpoint(tmp_path / "c")], epochs=1)
    with pytest.warns(UserWarning, match="does not have: Sums$"):
        train(small(), [LambdaCallback()], resume=tmp_path / "c")


# -- callbacks -------------------------------------------------------------------------------------------------------------
def test_names_of_files_and_how_many_stay(tmp_path):
    model = small()
    saver = ModelCheckpoint(tmp_path / "new" / "{epoch:02d}-{val_loss:.3f}.graphc", keep=2)
    history = train(model, [saver], epochs=4)
    losses = history["val_loss"]
    assert sorted(os.listdir(tmp_path / "new")) == [f"03-{losses[2]:.3f}.graphc", f"04-{losses[3]:.3f}.graphc"]
    with pytest.raises(gc.ArgumentError, match="asks for 'val_los'"):
        train(model, [ModelCheckpoint(tmp_path / "{val_los}")], epochs=1)
    for wrong in ({"save_freq": 0}, {"save_freq": "batch"}, {"keep": 0}, {"mode": "up"}):
        with pytest.raises(gc.ArgumentError):
            ModelCheckpoint(tmp_path / "x", **wrong)


def test_keep_of_one_name(tmp_path):
    train(small(), [ModelCheckpoint(tmp_path / "c.graphc", keep=3)], epochs=5)
    assert sorted(os.listdir(tmp_path)) == ["c.1.graphc", "c.2.graphc", "c.graphc"]
    steps = {p: read_file(tmp_path / p)[1]["step"] for p in os.listdir(tmp_path)}
    assert steps == {"c.graphc": "20", "c.1.graphc": "16", "c.2.graphc": "12"}


def test_best_only_goes_on_after_a_resume(tmp_path):
    """The best value so far is in the checkpoint: a resumed training does not take a worse epoch for the first."""
    best = tmp_path / "best.graphc"
    values = iter([1.0, 3.0, 2.0])

    class Shown(ModelCheckpoint):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs | {"v": next(values)})

    def saver():
        return Shown(best, "v", save_best_only=True, mode="max")

    with pytest.raises(Killed):
        train(small(), [saver(), BackupAndRestore(tmp_path / "b"), Kill(9)], epochs=3)
    saved = best.read_bytes()
    train(small(), [saver(), BackupAndRestore(tmp_path / "b")], epochs=3)
    assert best.read_bytes() == saved and read_file(best)[1]["step"] == "8"


def test_weights_only(tmp_path):
    model = small()
    train(model, [ModelCheckpoint(tmp_path / "w", save_weights_only=True)])
    tensors, meta = read_file(tmp_path / "w")
    assert set(tensors) == set(model.state_dict()) and meta["kind"] == "weights"
    other = small(seed=9)
    assert other.load(tmp_path / "w").complete
    np.testing.assert_array_equal(other.predict(rows()[0]), model.predict(rows()[0]))
    assert other.steps == 0


def test_backup_takes_the_file_before_a_damaged_one(tmp_path):
    whole = small()
    train(whole, [])
    with pytest.raises(Killed):
        train(small(), [BackupAndRestore(tmp_path, save_freq=1), Kill(6)])
    path = tmp_path / "training.graphc"
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    again = small(seed=4)
    with pytest.warns(UserWarning, match="going on from .*training.1.graphc"):
        train(again, [BackupAndRestore(tmp_path)])
    assert_same(everything(again), everything(whole))
    path.write_bytes(raw[:-5])
    with pytest.raises(gc.FileFormatError):  # nothing whole is left: never silently from the beginning
        train(small(), [BackupAndRestore(tmp_path)])


def test_backup_stays_when_asked_to(tmp_path):
    train(small(), [BackupAndRestore(tmp_path / "deep" / "er", delete_checkpoint=False)])
    assert (tmp_path / "deep" / "er" / "training.graphc").exists()
    assert train(small(), [BackupAndRestore(tmp_path / "deep" / "er")], epochs=2).epochs == 2


# -- files -----------------------------------------------------------------------------------------------------------------
def test_loading_what_fits(tmp_path):
    model = small()
    train(model, [])
    model.save(tmp_path / "m")

    class Other(nn.Module):
        def __init__(self):
            self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.25))
            self.head = nn.Linear(6, 5)
            self.extra = nn.Linear(5, 2)

        def forward(self, x):
            return self.extra(self.head(self.body(x)))

    other = gc.compile(Other(), gc.spec("N", 4), target="reference")
    before = everything(other)
    with pytest.raises(gc.CheckpointMismatchError) as e:
        other.load(tmp_path / "m")
    assert "missing: extra.weight" in str(e.value) and "head.bias: the file has float32(3,), the model float32(5,)" in str(e.value)
    assert "strict=False" in e.value.hint and isinstance(e.value, gc.ParameterError)
    assert_same(before, everything(other))
    report = other.load(tmp_path / "m", strict=False)
    assert not report.complete
    assert report.missing == ("extra.weight", "extra.bias")
    assert [m.split(":")[0] for m in report.mismatched] == ["head.weight", "head.bias"]
    assert report.unexpected == () and "body.0.weight" in report.loaded
    np.testing.assert_array_equal(other.state_dict()["body.1.running_mean"], model.state_dict()["body.1.running_mean"])
    np.testing.assert_array_equal(other.state_dict()["head.weight"], before["head.weight"])


def test_names_from_a_file_cannot_write_to_the_terminal(tmp_path):
    from graphc.frontend.files import write_file

    names = {f"evil\x1b[2J{i}": np.zeros(1) for i in range(200)}
    write_file(tmp_path / "m", names, {"kind": "weights"})
    with pytest.raises(gc.CheckpointMismatchError) as e:
        small().load(tmp_path / "m")
    assert "\x1b" not in str(e.value) and len(str(e.value).splitlines()) < 60 and "more" in str(e.value)


def test_files_hold_logical_values(target, tmp_path):
    """Whatever layout the compiled program stores parameters in, and moments with them."""
    from safetensors.numpy import load_file

    class Wide(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(70, 40)

        def forward(self, x):
            return self.fc(x)

    made = {}
    for t in ("reference", target):
        gc.set_seed(0)
        model = gc.compile(Wide(), gc.spec("N", 70), loss="mse", optimizer=optim.SGD(0.1, momentum=0.9), target=t)
        x = np.random.default_rng(0).normal(size=(8, 70)).astype("float32")
        model.train_on_batch(x, x[:, :40])
        model.train_on_batch(x, x[:, :40])
        model.save(tmp_path / "m")
        made[t] = load_file(tmp_path / "m")
    assert made[target].keys() == made["reference"].keys()
    for k, v in made["reference"].items():
        assert made[target][k].shape == v.shape
        np.testing.assert_allclose(made[target][k], v, rtol=1e-5, atol=1e-6)


def test_files_of_version_1_load_for_ever(target):
    """checkpoint_v1.graphc: Small with Adam(1e-2), seed 7, two epochs of 12 rows in batches of 5, written by graphc 0.1.0."""
    model = small(target, optimizer=optim.Adam(1e-2))
    model.load(FIXTURES / "checkpoint_v1.graphc")
    assert model.steps == 6
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4)
    expected = [
        [-0.24463066458702087, 0.47354334592819214, -0.10064589232206345],
        [-0.2442200481891632, 0.36658018827438354, -0.1353783905506134],
        [-0.24380938708782196, 0.2596170902252197, -0.1701107770204544],
    ]
    np.testing.assert_allclose(model.predict(x[:3]), expected, atol=1e-6)
    found = model.load_checkpoint(FIXTURES / "checkpoint_v1.graphc")
    assert (found.seed, found.epoch, found.written_by["graphc"], found.written_by["version"]) == (7, 0, "0.1.0", "1")
    model.fit(x, np.arange(12) % 3)


def test_files_of_version_2_load_for_ever(target):
    """checkpoint_v2.graphc: the same model after four of six batches of ``train(..., epochs=2)`` on 12 rows, with EarlyStopping."""
    model = small(target, optimizer=optim.Adam(1e-2))
    found = model.load_checkpoint(FIXTURES / "checkpoint_v2.graphc")
    assert (found.epoch, found.batch, found.step, found.seed) == (1, 1, 4, 7)
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4)
    early = EarlyStopping("loss", patience=9, restore_best_weights=True, mode="max")
    history = model.fit(x, np.arange(12) % 3, batch_size=5, epochs=2, callbacks=[early], resume=found)
    other = small(target, optimizer=optim.Adam(1e-2))
    other.load(FIXTURES / "checkpoint_v1.graphc")  # the end of the same training
    if target == "reference":  # Adam makes large steps of the rounding error in the gradient of body.0.bias, which is 0
        for k, v in other.state_dict().items():
            np.testing.assert_allclose(model.state_dict()[k], v, atol=1e-6)
    assert history.epochs == 2 and early.best_weights is not None


def test_a_newer_file_says_who_wrote_it(tmp_path):
    model = small()
    model.save_checkpoint(tmp_path / "c")
    raw = (tmp_path / "c").read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + n])
    header["__metadata__"] |= {"version": "7", "graphc": "3.1.4"}
    text = json.dumps(header).encode()
    (tmp_path / "c").write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + n :])
    for read in (model.load, model.load_checkpoint):
        with pytest.raises(gc.CheckpointError, match=r"format version 7, written by graphc 3\.1\.4; this graphc reads versions up to 2"):
            read(tmp_path / "c")


def test_values_that_a_file_cannot_hold(tmp_path):
    model = small()
    for value in ({1: 2}, object(), np.array(["a"]), {"__array__": "x"}, {"a": [{1, 2}]}):
        with pytest.raises(gc.ArgumentError, match="a file cannot hold"):
            model.save_checkpoint(tmp_path / "c", extra=value)
    with pytest.raises(gc.ArgumentError, match="keep = 0"):
        model.save_checkpoint(tmp_path / "c", keep=0)
    assert not os.listdir(tmp_path)


SCRIPT = """
import os, resource, signal, sys
from graphc.frontend.files import write_atomic
path, what = sys.argv[1:]
def pieces():
    yield b"n" * 100_000
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupt":
        signal.raise_signal(signal.SIGINT)
    yield b"n" * 100_000
if what == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
write_atomic(path, pieces())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and locks of Linux")
@pytest.mark.parametrize("what", ["kill", "interrupt", "full"])
def test_a_process_that_fails_while_it_writes(tmp_path, what):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    out = subprocess.run([sys.executable, "-c", SCRIPT, path, what], capture_output=True, text=True)
    assert out.returncode != 0
    assert path.read_bytes() == b"old"
    if what == "full":
        assert "File too large" in out.stderr and f"{path} cannot be written" in out.stderr and "the file is as it was before" in out.stderr
    left = [p for p in os.listdir(tmp_path) if p != "file"]
    assert len(left) == (what == "kill")
    write_atomic(path, [b"new"])  # removes what the killed one left
    assert os.listdir(tmp_path) == ["file"] and path.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform != "linux", reason="locks of Linux")
def test_a_write_leaves_the_temporary_file_of_another_one_alone(tmp_path):
    path = tmp_path / "file"

    def pieces():
        yield b"slow "
        write_atomic(path, [b"quick"])  # another process, in the middle of this write
        yield b"one"

    write_atomic(path, pieces())
    assert os.listdir(tmp_path) == ["file"] and path.read_bytes() == b"slow one"


def test_older_names(tmp_path):
    assert older("a/b.c/x", 2) == "a/b.c/x.2"
    path = tmp_path / "f.x"
    for i in range(5):
        write_atomic(path, [str(i).encode()], keep=3)
    assert {p: (tmp_path / p).read_text() for p in os.listdir(tmp_path)} == {"f.x": "4", "f.1.x": "3", "f.2.x": "2"}
