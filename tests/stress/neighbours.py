"""Two processes that train at the same time on one machine, and a process that has a model and does nothing.

    python -m tests.stress.neighbours --steps 2000

Prints how long the same training takes alone and beside another one, and the CPU time of an idle process with a loaded model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

TRAIN = """
import sys, time
import numpy as np
import graphc as gc
from graphc import nn, optim

steps, width = int(sys.argv[1]), int(sys.argv[2])
net = nn.Sequential(nn.Linear(256, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
model = gc.compile(net, gc.spec("N", 256), loss="cross_entropy", optimizer=optim.Adam(1e-3))
rng = np.random.default_rng(0)
x, y = rng.standard_normal((64, 256)).astype("f"), rng.integers(0, 10, 64)
for _ in range(20):
    model.train_on_batch(x, y)
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
for _ in range(steps):
    model.train_on_batch(x, y)
print(time.perf_counter() - began, flush=True)
"""
IDLE = """
import sys, time
import numpy as np
import graphc as gc
from graphc import nn, optim

net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
model = gc.compile(net, gc.spec("N", 256), loss="cross_entropy", optimizer=optim.Adam(1e-3), threads=2)
x, y = np.ones((256, 256), "f"), np.zeros(256, int)
model.train_on_batch(x, y)
model.predict(x)
time.sleep(0.5)
before = time.process_time()
time.sleep(float(sys.argv[1]))
print(time.process_time() - before)
"""


def _start(code: str, *arguments: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def training(count: int, steps: int, width: int, patience: float = 600) -> list[float]:
    """The seconds of each of ``count`` equal trainings that begin together."""
    processes = [_start(TRAIN, steps, width) for _ in range(count)]
    try:
        for p in processes:
            assert p.stdout is not None and p.stdout.readline() == "ready\n"
        for p in processes:
            assert p.stdin is not None
            p.stdin.write("go\n")
            p.stdin.flush()
        return [float(p.communicate(timeout=patience)[0]) for p in processes]
    finally:
        for p in processes:
            p.kill()
            p.wait()


def idle(seconds: float) -> float:
    """CPU seconds of a process with a model that has run, in so many seconds."""
    process = _start(IDLE, seconds)
    return float(process.communicate(timeout=seconds + 300)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    worst = 0.0
    for width in (64, 512):
        alone = min(training(1, args.steps, width)[0] for _ in range(3))
        both = min((training(2, args.steps, width) for _ in range(3)), key=max)
        worst = max(worst, max(both) / alone)
        said = " and ".join(f"{s:.2f}" for s in both)
        print(f"{args.steps} steps of a network {width} wide: alone {alone:.2f} s, two at once {said} s, {max(both) / alone:.2f}x", flush=True)
    spent = idle(args.seconds)
    print(f"a loaded model, {args.seconds:g} s idle: {spent:.4f} s of CPU time")
    sys.exit(0 if worst < 3 and spent < 0.1 else "too much")


if __name__ == "__main__":
    main()
