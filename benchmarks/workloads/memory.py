"""What a training step needs in memory: parameters, optimiser's state, data and temporaries."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.workload import Goal
from benchmarks.workloads import lenet, mlp, resnet, rnn, transformer

ORDER = 16
TRAINED = [w for m in (mlp, lenet, resnet, rnn, transformer) for w in m.WORKLOADS if "train" in w.cases]
WORKLOADS = [
    replace(
        w, name=f"memory-{w.name}", groups=("memory",), title=f"memory of a step: {w.title}", cases={"train": Goal(1.0, versus="JAX")},
        limit="", measure="memory", peers=("graphc", "JAX"),
    )
    for w in TRAINED
]  # fmt: skip
