"""Trainings that are killed: SIGKILL at random moments, also while a checkpoint is written, and started again until they end.

    python -m tests.stress.kill_training --kills 300 --seed 0

Each training is an ordinary process with a network for digits and ``BackupAndRestore``. After every kill the checkpoint must be whole and
not older than before; the next process must go on from exactly there; and the weights, the optimiser's state and the history at
the end must be, bit for bit, those of a training that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphc.frontend.files import File

ROOT = Path(__file__).parents[2]
ROWS, BATCH, EPOCHS, SAVE_EVERY = 640, 32, 30, 5


# -- the process that is killed ------------------------------------------------------------------------------------------------
def train(folder: Path) -> None:
    """One process: trains from the beginning or from where the last one was, and writes ``final``."""
    import graphc as gc
    from graphc import callbacks, nn, optim

    class Net(nn.Module):
        def __init__(self) -> None:
            self.body = nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.3))
            self.head = nn.Linear(48, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x))

    class Told(callbacks.Callback):
        """Says where training begins; keeps the end, before the backup is deleted."""

        turn = 1

        def on_train_begin(self, logs: Any = None) -> None:
            with open(folder / "starts", "a") as f:
                f.write(f"{self.model.steps}\n")

        def on_train_end(self, logs: Any = None) -> None:
            self.model.save_checkpoint(folder / "final")

    gc.set_seed(11)
    data = np.load(folder.parent / "digits.npy")
    rate = optim.schedules.Cosine(ROWS // BATCH * EPOCHS // 2)
    model = gc.compile(
        Net(),
        gc.spec(gc.Dim("N", hint=BATCH), 64),
        loss="cross_entropy",
        optimizer=optim.Adam(1e-2, schedule=rate, accumulate=2),
        metrics=["accuracy"],
    )
    backup = callbacks.BackupAndRestore(folder / "backup", save_freq=SAVE_EVERY)
    model.fit(data[:, :-1], data[:, -1].astype(np.int64), batch_size=BATCH, epochs=EPOCHS, callbacks=[Told(), backup], verbose=0)


# -- the one that kills ----------------------------------------------------------------------------------------------------------
def _start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.stress.kill_training", "--train", str(folder)]
    with open(folder / "stderr", "ab") as errors:
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "GRAPHC_THREADS": "1"}, stderr=errors)


def _temporary(folder: Path) -> set[str]:
    try:
        return {n for n in os.listdir(folder / "backup") if n.endswith(".tmp")}
    except FileNotFoundError:
        return set()


def _kill_at(process: subprocess.Popen[bytes], moment: float) -> bool:
    """Kills after some seconds; False where the process had ended before."""
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def _kill_in_write(process: subprocess.Popen[bytes], folder: Path, number: int, later: float) -> bool:
    """Kills some microseconds after the temporary file of the ``number``-th checkpoint from now on has appeared."""
    before = _temporary(folder)  # left by the last one
    while process.poll() is None:
        now = _temporary(folder)
        number -= bool(now - before)
        before = now
        time.sleep(0.0003)
        if number <= 0:
            end = time.perf_counter() + later
            while time.perf_counter() < end:
                pass
            process.kill()
            process.wait()
            return True
    return False


def _step(folder: Path) -> int:
    """The step of the checkpoint, -1 where there is none. Raises for one that is not whole."""
    path = folder / "backup" / "training.graphc"
    if not path.exists():
        return -1
    file = File(path)
    file.tensors()
    return int(file.meta["step"])


def _end(folder: Path) -> dict[str, Any]:
    file = File(folder / "final")
    place = json.loads(file.meta["training"])
    return {"history": place["history"], **{k: (v.dtype, v.shape, v.tobytes()) for k, v in file.tensors().items()}}


def _check(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.returncode not in (0, -9):
        raise AssertionError(f"a training failed:\n{(folder / 'stderr').read_text()[-2000:]}")


def run(kills: int, seed: int = 0, tell: Callable[[str], Any] = lambda line: None) -> Counter[str]:
    """Kills so many times, in as many trainings as that takes; counts what was seen. Raises AssertionError for what must not be."""
    from sklearn.datasets import load_digits

    draw = random.Random(seed)
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        images, labels = load_digits(return_X_y=True)
        np.save(root / "digits.npy", np.column_stack([images / 16, labels])[:ROWS].astype(np.float32))
        for folder in (root / "warm", root / "reference"):  # the first one may have to compile
            began = time.perf_counter()
            process = _start(folder)
            process.wait()
            life = time.perf_counter() - began
            _check(process, folder)
        expected = _end(root / "reference")
        tell(f"a training that nobody kills takes {life:.2f} s, {ROWS // BATCH * EPOCHS} steps")
        while seen["kills"] < kills:
            folder = root / f"round {seen['trainings']}"
            last = -1
            while not (folder / "final").exists():
                begun, left = _starts(folder), _temporary(folder)
                process = _start(folder)
                if seen["kills"] >= kills:
                    process.wait()
                    killed = False
                elif draw.random() < 0.5:
                    killed = _kill_at(process, draw.uniform(0, 0.7 * life))
                else:
                    killed = _kill_in_write(process, folder, draw.randint(1, 12), draw.uniform(0, 0.003))
                _check(process, folder)
                starts = _starts(folder)
                if len(starts) > len(begun):
                    assert starts[-1] == max(last, 0), f"training went on from step {starts[-1]}, the checkpoint was of step {last}"
                    seen["went on in the middle of an epoch"] += starts[-1] % (ROWS // BATCH) != 0
                if not killed:
                    break
                seen["kills"] += 1
                seen["before training began"] += len(starts) == len(begun)
                seen["while a checkpoint was written"] += bool(_temporary(folder) - left)
                if not (folder / "final").exists():
                    step = _step(folder)
                    assert step >= last, f"a checkpoint of step {step} after one of step {last}"
                    last = step
                if seen["kills"] % 20 == 0:
                    tell(f"{seen['kills']} kills, {seen['trainings']} trainings ended, {seen['while a checkpoint was written']} kills in a write")
            found = _end(folder)
            assert found.keys() == expected.keys()
            differ = [k for k in expected if found[k] != expected[k]]
            assert not differ, f"training {seen['trainings']} ended with other values: {', '.join(differ)}"
            seen["trainings"] += 1
    return seen


def _starts(folder: Path) -> list[int]:
    path = folder / "starts"
    return [int(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train is not None:
        train(args.train)
        return
    began = time.perf_counter()
    seen = run(args.kills, args.seed, lambda line: print(line, flush=True))
    print("\n" + "\n".join(f"{n:5}  {what}" for what, n in seen.items()))
    print(f"\n{time.perf_counter() - began:.0f} s: every checkpoint was whole, every training ended with the same bits")


if __name__ == "__main__":
    main()
