"""Softmax and its logarithm over the rows of a matrix."""

from __future__ import annotations

from functools import partial

from benchmarks.layers import Softmax
from benchmarks.workload import Goal, Input, Task, Workload

ORDER = 5


def softmax(log: bool, rows: int, width: int) -> Task:
    return Task(Softmax(log), (Input((rows, width)),), named_batch=False)


WORKLOADS = [
    Workload(
        name, ("rows", "softmaxes"), name + ", {rows} x {width}", partial(softmax, log), {"rows": 4096, "width": 1024},
        {"forward": Goal(1.0, 0.8), "backward": Goal(1.0, 0.8)}, {"rows": 37, "width": 50}, limit="bytes",
    )
    for name, log in (("softmax", False), ("log-softmax", True))
]  # fmt: skip
