"""A network that runs on two threads and lies in slabs, and processes that a test starts and always ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gc
from graphc import nn, optim

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds after which a process counts as hanging; machines may be loaded."""
ROWS = 256


class Net(nn.Module):
    """(N, 96) -> (N, 8): parameters larger than what shares a page, work for more than one thread."""

    def __init__(self) -> None:
        self.body = nn.Sequential(nn.Linear(96, 256), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(256, 8)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x))


def model(seed: int = 3) -> gc.Model:
    gc.set_seed(seed)
    return gc.compile(Net(), gc.spec("N", 96), loss="cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"], threads=2)


def batch(number: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    x = rng.standard_normal((rows, 96)).astype(np.float32)
    return x, np.argmax(x[:, :8], 1)


def weights(m: gc.Model) -> bytes:
    return b"".join(v.tobytes() for v in m.state_dict().values())


X, Y = np.linspace(-1, 1, 240, dtype=np.float32).reshape(60, 4), np.arange(60) % 3


def small() -> gc.Model:
    """A model whose training on ``X, Y`` compiles nothing."""
    gc.set_seed(5)
    net = nn.Sequential(nn.Linear(4, 90), nn.ReLU(), nn.Linear(90, 3))
    return gc.compile(net, gc.spec("N", 4), loss="cross_entropy", optimizer=optim.Adam(1e-2), target="reference")


def in_child(work: Callable[[], Any]) -> int:
    """Forks, runs ``work`` there, and gives a handle for :func:`ended`; the child's exit code is 0 if it raised nothing."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException as e:
        import traceback

        traceback.print_exception(e)
    finally:
        os._exit(code)


def ended(pid: int, patience: float = PATIENCE) -> int:
    """Waits for a child and gives its exit code; one that hangs is killed and told."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script to its end, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "GRAPHC_THREADS": "2", "GRAPHC_SMALL_WORK": "0", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
