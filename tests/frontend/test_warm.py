"""``graphc warm``: afterwards a script compiles nothing; it trains nothing meanwhile, and replaces no file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc import nn

SCRIPT = """
import sys
import numpy as np
import graphc as gc
from graphc import callbacks, nn, optim

x, y = np.random.default_rng(0).normal(size=(200, 6)).astype("float32"), np.arange(200) % 3
model = gc.compile(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), gc.spec("N", 6), loss="cross_entropy", optimizer=optim.Adam(1e-2))
history = model.fit(x, y, batch_size=20, epochs=5, validation_data=(x[:50], y[:50]), verbose=0, callbacks=[callbacks.ModelCheckpoint("best.graphc")])
model.evaluate(x, y, batch_size=10)
model.predict(x[:7])
model.save("model.graphc")
print(len(history["loss"]), model.steps, sys.argv[1:], "numba" in sys.modules)
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "GRAPHC_PROGRAMS"} | {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "GRAPHC_CACHE": str(folder / "cache")
    }
    return subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def counts(told: str) -> tuple[int, int]:
    found = re.search(r"^(\d+) kernels compiled in [\d.]+ s, (\d+) were there; ", told, re.M)
    assert found, told
    return int(found[1]), int(found[2])


def test_a_script_starts_without_a_compiler_afterwards(script, tmp_path):
    first = run(tmp_path, "-m", "graphc.cli", "warm", "script.py", "--some", "option")
    assert first.returncode == 0, first.stderr
    assert first.stdout.split("\n")[0] == "1 1 ['--some', 'option'] True"  # one step of one epoch
    assert "3 programs (Sequential_train_step, Sequential_evaluate, Sequential_predict)" in first.stderr
    assert first.stderr.rstrip().endswith("3 programs kept")
    compiled, there = counts(first.stderr)
    assert compiled > 8 and there == 0
    assert sorted(os.listdir(tmp_path)) == ["cache", "script.py"]

    again = run(tmp_path, "-m", "graphc.cli", "warm", "script.py")
    assert counts(again.stderr) == (0, compiled) and again.stdout.startswith("1 1 [] False")

    told = run(tmp_path, "-c", "import sys\n" + SCRIPT + "print(gc.explain_cache())").stdout
    assert "programs  3: 3 loaded whole, 0 made by passes and printers" in told

    plain = run(tmp_path, "script.py")
    assert plain.returncode == 0 and plain.stdout.startswith("5 50 [] False"), plain.stderr
    assert {"best.graphc", "model.graphc"} <= set(os.listdir(tmp_path))


def test_a_trained_model_is_not_replaced(script, tmp_path):
    run(tmp_path, "script.py")
    before = (tmp_path / "model.graphc").read_bytes()
    assert run(tmp_path, "-m", "graphc.cli", "warm", "script.py").returncode == 0
    assert (tmp_path / "model.graphc").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("import sys\nsys.exit(3)", 3, "nothing was compiled for the CPU"),
        ("print('no model')", 1, "nothing was compiled for the CPU"),
        (SCRIPT + "\nraise ValueError('at the end')", 1, "ValueError: at the end"),
        (None, 1, "is no Python script"),
    ],
)
def test_exit_codes(text, code, told, tmp_path):
    if text is not None:
        (tmp_path / "script.py").write_text(text)
    done = run(tmp_path, "-m", "graphc.cli", "warm", "script.py")
    assert done.returncode == code and told in done.stderr
    assert text is None or "at the end" not in text or counts(done.stderr)[0] > 8


def test_own_loops_are_run_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHC_WARM", "1")
    net = nn.Linear(2, 3)
    model = gc.compile(net, gc.spec("N", 2))
    assert model.predict(np.ones((5, 2), "float32")).shape == (5, 3)
    model.save(tmp_path / "x.graphc")
    assert not (tmp_path / "x.graphc").exists()
