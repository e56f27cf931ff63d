"""What compiling costs: ``python -m benchmarks.compile_time [passes] [starts] [kernels] [bundles]``, all four without names.

``passes``: tracing, passes, scheduling and planning of graphs of growing size (it should grow in proportion). ``starts``: from the start of a
process to the end of the first training step of the MLP, ResNet-20 and Transformer of the benchmarks, with an empty kernel cache and
with a full one, which has the whole programs; each in processes of its own, medians of three. ``kernels``: the kernels of these steps that take longest to compile. ``bundles``: a
process that loads a prediction and runs it, beside one that compiles it, both with full caches.

Modules are compiled to bytecode before, as an installation leaves them. Seconds of processor time say more than those of the clock where
the machine is shared: they are the sum over all processes that compile.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PARTS = ("passes", "starts", "kernels", "bundles")
STEPS = ("mlp", "resnet", "transformer")

START = """
import sys, time
clock = [time.perf_counter()]
import numpy as np
import graphc as gc
from benchmarks.peers import ours
from benchmarks.workloads import WORKLOADS
clock.append(time.perf_counter())
runner = ours.Runner(WORKLOADS[sys.argv[1]].task(), "train")
clock.append(time.perf_counter())
program = runner.executable()
clock.append(time.perf_counter())
runner.function()
clock.append(time.perf_counter())
import json, os
seen = {"clock": [b - a for a, b in zip(clock, clock[1:])], "cpu": sum(os.times()[:4]), "numba": "numba" in sys.modules}
print(json.dumps(seen | {"kernels": len({k.kernel.name for k in program.kernels})}))  # the last: passes run for who looks at kernels
"""

BUNDLE = """
import sys, time
begin = time.perf_counter()
import numpy as np
import graphc as gc
x = np.zeros((1, *map(int, sys.argv[2].split(","))), "float32")
if sys.argv[1].endswith(".gcb"):
    gc.load_bundle(sys.argv[1]).predict(x)
else:
    from benchmarks.peers import ours
    from benchmarks.workloads import WORKLOADS
    net = ours.module(WORKLOADS[sys.argv[1]].task())
    model = gc.compile(net, gc.spec("N", *x.shape[1:]))
    model.predict(x)
    if len(sys.argv) > 3:
        model.save_bundle(sys.argv[3])
print(time.perf_counter() - begin, "numba" in sys.modules, "llvmlite" in sys.modules)
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


class Process:
    """Runs code in new processes, with a kernel cache that can be emptied and with modules that are compiled to bytecode."""

    def __init__(self, folder: str):
        self.cache, self.bytecode = Path(folder, "kernels"), Path(folder, "bytecode")

    def run(self, code: str, *arguments: str, cold: bool = False) -> str:
        if cold:
            for f in self.cache.glob("*"):
                f.unlink()
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env |= {"GRAPHC_CACHE": str(self.cache), "PYTHONPYCACHEPREFIX": str(self.bytecode), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        return subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=True).stdout


def starts() -> None:
    print("\n| first training step | kernel cache | seconds | of processors | imports | trace, gradient | compile | step | kernels | Numba |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        process = Process(folder)
        for name in STEPS:
            process.run(START, name)  # bytecode
            for state in ("empty", "full"):
                runs = [json.loads(process.run(START, name, cold=state == "empty")) for _ in range(3)]
                best: dict[str, Any] = sorted(runs, key=lambda r: sum(r["clock"]))[1]
                cpu = statistics.median(r["cpu"] for r in runs)
                parts = " | ".join(f"{s:.2f}" for s in best["clock"])
                numba = "imported" if best["numba"] else "-"
                print(f"| {name} | {state} | {sum(best['clock']):.2f} | {cpu:.2f} | {parts} | {best['kernels']} | {numba} |", flush=True)


def kernels() -> None:
    """Where the time of compiling kernels goes."""
    from benchmarks.peers import ours
    from benchmarks.workloads import WORKLOADS
    from graphc.backends.cpu.machine.compile import compile_text

    print("\n| step | texts | seconds | the longest |\n|---|---|---|---|")
    compile_text("def kernel(tid, nthreads, args, trip):\n    args[0] = tid\n", "first", "<first>")  # imports
    for name in STEPS:
        program = ours.Runner(WORKLOADS[name].task(), "train").executable()
        texts = dict.fromkeys(k.printed.text for k in program.kernels)
        spent = []
        for n, text in enumerate(texts):
            begin = time.process_time()
            compile_text(text, f"timed_{n}", f"<{n}>")
            spent.append((time.process_time() - begin, text.partition("\n")[0].lstrip("# ")[:60]))
        longest = "; ".join(f"{s:.2f} {what}" for s, what in sorted(spent, reverse=True)[:3])
        print(f"| {name} | {len(texts)} | {sum(s for s, _ in spent):.2f} | {longest} |", flush=True)


def bundles() -> None:
    print("\n| first prediction in a new process, batch 1 | compiled before: seconds | bundle: seconds | bundle: MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        process = Process(folder)
        for name, shape in (("mlp", "784"), ("lenet", "1,28,28"), ("resnet", "3,32,32")):
            path = str(Path(folder, f"{name}.gcb"))
            process.run(BUNDLE, name, shape, path)
            times = [statistics.median(float(process.run(BUNDLE, what, shape).split()[0]) for _ in range(3)) for what in (name, path)]
            print(f"| {name} | {times[0]:.2f} | {times[1]:.2f} | {os.path.getsize(path) / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    wanted = sys.argv[1:] or PARTS
    unknown = set(wanted) - set(PARTS)
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for part in wanted:
        {"passes": passes, "starts": starts, "kernels": kernels, "bundles": bundles}[part]()
