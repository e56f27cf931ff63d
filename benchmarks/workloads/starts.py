"""What a new process waits for: the first training step with empty caches, and with full ones."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.workload import Goal
from benchmarks.workloads import mlp, resnet, transformer

ORDER = 14
TRAINED = [m.WORKLOADS[0] for m in (mlp, resnet, transformer)]
WORKLOADS = [
    replace(w, name=f"cold-{w.name}", groups=("starts", "cold"), title=f"first step with empty caches: {w.title}", cases={"train": goal}, limit="", measure="cold")
    for w, goal in zip(TRAINED, (Goal(most=2.0), Goal(most=6.0), Goal(most=6.0)))
] + [
    replace(w, name=f"warm-{w.name}", groups=("starts", "warm"), title=f"start of a process up to its first step: {w.title}", cases={"train": goal}, limit="", measure="warm")
    for w, goal in zip(TRAINED, (Goal(most=0.4), Goal(most=0.4), Goal(most=0.4)))
]
