"""What compiling costs: ``python -m benchmarks.compile_time``.

Prints the time of tracing, passes, scheduling and planning for graphs of growing size (it should grow in proportion), and
the start of the MLP training step in a new process, with an empty kernel cache and with a full one.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time

START = """
import sys, time
begin = time.perf_counter()
import numpy as np
import graphc as gc
from graphc import nn, optim
model = gc.compile(nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)),
                   gc.spec("N", 784), loss="cross_entropy", optimizer=optim.Adam(1e-3), target="cpu")
model.train_on_batch(np.zeros((128, 784), np.float32), np.zeros(128, np.int64))
print(time.perf_counter() - begin, "numba" in sys.modules)
"""


def chain(nodes: int):  # type: ignore[no-untyped-def]
    """A training step of about ``nodes`` nodes: a deep chain of products, activations and skips."""
    from graphc import ops
    from graphc.autodiff import gradients
    from graphc.ir.dims import sym
    from graphc.ir.graph import Graph, Input

    x, w = ops.input("x", (sym("N"), 16), "float32"), ops.input("w", (16, 16), "float32")
    h = x
    for i in range(nodes // 6):
        h = (h @ w).tanh() if i % 5 == 0 else h.tanh() * 0.5 + x if i % 2 else h.relu() - x * 0.1
    loss = h.sum()
    (g,) = gradients([loss], None, [w])
    return Graph("chain", (Input("x", x), Input("w", w, "param")), (("loss", loss),), (("w", w - g),))


def passes() -> None:
    from graphc.passes.pipeline import Settings, lower
    from graphc.schedule.memory import plan_memory
    from graphc.schedule.program import schedule_graph

    print("| nodes | trace and gradient | passes | schedule | memory plan | kernels |\n|---|---|---|---|---|---|")
    for size in (1_000, 2_500, 5_000, 10_000):
        clock = [time.perf_counter()]
        graph = chain(size)
        clock.append(time.perf_counter())
        lowered = lower(graph, Settings(may_choose=True))
        clock.append(time.perf_counter())
        schedule = schedule_graph(lowered.graph, lowered.layouts)
        clock.append(time.perf_counter())
        plan_memory(schedule, {"N": 32})
        clock.append(time.perf_counter())
        steps = " | ".join(f"{b - a:.2f} s" for a, b in itertools.pairwise(clock))
        print(f"| {len(lowered.graph.nodes)} | {steps} | {len(schedule.launches())} |")


def starts() -> None:
    print("\n| MLP training step, import included | seconds to the first step | Numba imported |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty kernel cache", "full kernel cache", "full kernel cache"):
            env = {**os.environ, "GRAPHC_CACHE": cache}
            out = subprocess.run([sys.executable, "-c", START], env=env, capture_output=True, text=True, check=True).stdout.split()
            print(f"| {name} | {float(out[0]):.2f} | {out[1]} |")


if __name__ == "__main__":
    passes()
    starts()
