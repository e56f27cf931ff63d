"""Threads that predict with one model, and with models of their own, at the same time.

    python -m tests.stress.many_threads --threads 8 --calls 1000

Every result must be, bit for bit, the one that a single thread gets.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from graphc import nn


class Net(nn.Module):
    """(N, 96) -> (N, 8)."""

    def __init__(self, width: int) -> None:
        self.body = nn.Sequential(nn.Linear(96, width), nn.LayerNorm(width), nn.GELU())
        self.head = nn.Linear(width, 8)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x)).softmax(-1)


SIZES = (1, 7, 32, 256)
"""Batches: those of the last size run on two threads of the pool."""


def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, 96)).astype(np.float32) for n in SIZES for _ in range(4)]


def together(count: int, work: Callable[[int], Any], patience: float) -> None:
    """Runs ``work(k)`` in threads that begin at the same moment; raises what one of them raised, or that one hangs."""
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(k: int) -> None:
        try:
            gate.wait(60)
            work(k)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(count)]
    for t in threads:
        t.start()
    end = time.monotonic() + patience
    for t in threads:
        t.join(max(end - time.monotonic(), 0))
    if errors:
        raise errors[0]
    if any(t.is_alive() for t in threads):
        raise AssertionError("a thread hangs")


def run(threads: int, calls: int, one_model: bool = True, patience: float = 600) -> float:
    """Seconds that the calls took; raises AssertionError for a wrong result."""
    gc.set_seed(1)
    models = [gc.compile(Net(256 + 32 * (k % 3)), gc.spec("N", 96), threads=2) for k in range(1 if one_model else threads)]
    xs = inputs()
    wanted = [[m.predict(x) for x in xs] for m in models]

    def predict(k: int) -> None:
        model, right = models[k % len(models)], wanted[k % len(models)]
        for i in range(calls):
            j = (i * 7 + k) % len(xs)
            if not np.array_equal(model.predict(xs[j]), right[j]):
                raise AssertionError(f"thread {k}, call {i}: another result")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # threads change places often
    began = time.perf_counter()
    try:
        together(threads, predict, patience)
    finally:
        sys.setswitchinterval(interval)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--calls", type=int, default=1000)
    args = parser.parse_args()
    for one in (True, False):
        seconds = run(args.threads, args.calls, one)
        what = "one model" if one else "a model each"
        print(f"{args.threads} threads x {args.calls} predictions, {what}: equal results in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
