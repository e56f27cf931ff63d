"""LSTM and GRU over a sequence, the last output to a linear layer, trained with Adam on the squared error."""

from __future__ import annotations

from functools import partial

from benchmarks.layers import LastStep, Linear, Recurrent, chain
from benchmarks.workload import Adam, Goal, Input, Task, Workload

ORDER = 12


def recurrent(kind: str, batch: int, steps: int, inputs: int, hidden: int) -> Task:
    net = chain(Recurrent(kind, inputs, hidden), LastStep(), Linear(hidden, 1))
    return Task(net, (Input((batch, steps, inputs)),), "mse", Input((batch, 1)), Adam())


WORKLOADS = [
    Workload(
        kind.lower(), ("rnn",), kind + " {inputs} -> {hidden}, {steps} steps, batch {batch}", partial(recurrent, kind),
        {"batch": 32, "steps": 64, "inputs": 64, "hidden": 256}, {"forward": Goal(forward), "train": Goal(train)},
        {"batch": 3, "steps": 4, "inputs": 5, "hidden": 9}, limit="flops",
    )
    for kind, forward, train in (("LSTM", 0.9, 0.85), ("GRU", 0.6, 0.4))
]  # fmt: skip
