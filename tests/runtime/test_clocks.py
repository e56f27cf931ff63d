"""A system clock that jumps: nothing here asks it what time it is."""

from __future__ import annotations

import ast
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

from graphc import callbacks, data
from graphc.backends.cpu.machine.cache import KernelCache
from graphc.frontend.files import remove_stale

from .common import ROOT, X, Y, small


@pytest.fixture
def jumps(monkeypatch):
    """Every look at the clock finds it a year before or after the last one."""
    clock, sign = time.time, itertools.cycle((1, -1, -2, 3))

    def jumping():
        return clock() + next(sign) * 365 * 86400

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))


def test_training_with_every_callback(jumps, tmp_path, capsys):
    whole = small()
    whole.fit(X, Y, epochs=6, verbose=0)
    used = [
        callbacks.BackupAndRestore(tmp_path / "backup", save_freq=3, delete_checkpoint=False),
        callbacks.ModelCheckpoint(tmp_path / "{epoch}.graphc", keep=2),
        callbacks.CSVLogger(tmp_path / "log.csv"),
        callbacks.EarlyStopping("loss", patience=50),
        callbacks.ReduceLROnPlateau("loss", patience=50),
    ]
    # TensorBoard is not among them: tensorboardX waits by the system clock until it writes, and its queue fills up meanwhile
    m = small()
    history = m.fit(X, Y, epochs=6, verbose=1, callbacks=used)
    assert all(s >= 0 for s in history.seconds) and sum(history.seconds) < 300
    assert all(np.array_equal(v, whole.state_dict()[k]) for k, v in m.state_dict().items())
    assert sorted(p.name for p in tmp_path.glob("*.graphc")) == ["5.graphc", "6.graphc"]


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_loader_with_a_timeout(jumps, workers):
    dataset = data.TensorDataset(X, Y)
    with data.DataLoader(dataset, 16, num_workers=2, workers=workers, timeout=60) as loader:
        assert [len(x) for x, _ in loader] == [16, 16, 16, 12]
        small().fit(loader, verbose=0)


@pytest.mark.parametrize("age", [-(10**9), 10**9])
def test_files_of_another_time(tmp_path, age):
    """Times of files decide nothing: a backup, its leftovers, kernels."""

    def shift():
        for p in tmp_path.rglob("*"):
            os.utime(p, (time.time() + age,) * 2)

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            if self.model.steps == 5:
                raise InterruptedError

    whole = small()
    whole.fit(X, Y, epochs=4, verbose=0)
    with pytest.raises(InterruptedError):
        small().fit(X, Y, epochs=4, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path, save_freq=2), Stop()])
    (tmp_path / ".training.graphc.0.tmp").write_text("left by a killed process")
    shift()
    m = small()
    m.fit(X, Y, epochs=4, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path, save_freq=2)])
    assert all(np.array_equal(v, whole.state_dict()[k]) for k, v in m.state_dict().items())
    remove_stale(tmp_path / "training.graphc")
    assert not list(tmp_path.iterdir())
    text = f"def kernel(tid, nthreads, args, trip):\n    args[0] = {abs(age) + (age > 0)}\n"
    KernelCache(tmp_path / "kernels").get([text])
    shift()
    again = KernelCache(tmp_path / "kernels")
    again.get([text])
    assert (again.hits, again.misses) == (1, 0)


def test_the_system_clock_is_never_asked():
    """Durations come from clocks that only go forwards."""
    asked = []
    for folder in ("graphc", "frontend", "backends"):
        for path in Path(ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns", "datetime.now", "datetime.datetime.now"):
                    asked.append(f"{path}:{node.lineno}")
                if isinstance(node, ast.ImportFrom) and node.module == "time" and {a.name for a in node.names} & {"time", "time_ns"}:
                    asked.append(f"{path}:{node.lineno}")
    assert asked == []
