"""Models that are compiled, trained, asked and freed, over and over: the memory of the process stays what it is.

    python -m tests.stress.compile_cycles --cycles 2000

Resident memory after a warm-up, in which every kernel has been loaded, is compared with that at the end.
"""

from __future__ import annotations

import argparse
import gc as garbage
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from graphc import nn, optim
from graphc.ir.interned import forget

KINDS = 5
"""Networks that differ in width, operators and optimiser: consecutive cycles are of different ones."""


def network(kind: int) -> nn.Module:
    width = 24 + 8 * kind
    middle: list[nn.Module] = [
        [nn.ReLU()],
        [nn.BatchNorm1d(width), nn.GELU()],
        [nn.LayerNorm(width), nn.Tanh(), nn.Dropout(0.1)],
        [nn.SiLU(), nn.Linear(width, width)],
        [nn.Sigmoid(), nn.Dropout(0.2)],
    ][kind]
    return nn.Sequential(nn.Linear(20, width), *middle, nn.Linear(width, 4))


X, Y = np.linspace(-1, 1, 64 * 20, dtype=np.float32).reshape(64, 20), np.arange(64) % 4


def cycle(number: int, hold: Callable[[Any], Any] = lambda thing: None) -> None:
    """One model from its making to its end, with all that it can do; ``hold`` is shown the model."""
    kind = number % KINDS
    rates: list[Any] = [optim.SGD(0.1), optim.Adam(1e-2), optim.AdamW(1e-2, clip_norm=1.0), optim.RMSprop(1e-2), optim.Adam(1e-2, ema=0.9)]
    model = gc.compile(network(kind), gc.spec("N", 20), loss="cross_entropy", optimizer=rates[kind], metrics=["accuracy"])
    model.fit(X, Y, batch_size=20, verbose=0)  # the last batch has another size: a second binding
    model.evaluate(X, Y)
    model.predict(X[:3])
    model.tap("0")(X)
    f = gc.compile(lambda a: (a * 2).softmax(-1).sum(0) + kind, gc.spec("N", 20))
    f(X)
    hold((model, f))


def resident() -> int:
    """KB of this process."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def census() -> Counter[str]:
    """The objects of graphc's own classes by name."""
    for _ in range(3):
        garbage.collect()
        forget()  # as a table does when something new comes
    names = (f"{type(o).__module__}.{type(o).__qualname__}" for o in garbage.get_objects() if isinstance(type(o).__module__, str))
    return Counter(n for n in names if n.startswith("graphc"))


def run(cycles: int, warm: int = 100, tell: Callable[[str], Any] = lambda line: None) -> tuple[int, int]:
    """(KB after the warm-up, KB at the end)."""
    for i in range(warm):
        cycle(i)
    garbage.collect()
    before, began = resident(), time.perf_counter()
    tell(f"after {warm} cycles {before / 1024:.1f} MB")
    for i in range(cycles):
        cycle(i)
        if (i + 1) % 200 == 0:
            garbage.collect()
            tell(f"{i + 1} more: {resident() / 1024:.1f} MB, {(time.perf_counter() - began) / (i + 1):.3f} s a cycle")
    garbage.collect()
    return before, resident()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=2000)
    args = parser.parse_args()
    before, after = run(args.cycles, tell=lambda line: print(line, flush=True))
    growth = after / before - 1
    print(f"{args.cycles} cycles: {before / 1024:.1f} -> {after / 1024:.1f} MB, {growth:+.1%}")
    sys.exit(0 if growth < 0.05 else "memory grows")


if __name__ == "__main__":
    main()
