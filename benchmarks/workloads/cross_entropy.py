"""Softmax cross-entropy over a large vocabulary: the loss and its gradient."""

from __future__ import annotations

from benchmarks.layers import Chain
from benchmarks.workload import Goal, Input, Task, Workload

ORDER = 6


def cross_entropy(rows: int, vocabulary: int) -> Task:
    return Task(Chain(()), (Input((rows, vocabulary)),), "cross_entropy", Input((rows,), high=vocabulary), named_batch=False)


WORKLOADS = [
    Workload(
        "cross-entropy", ("rows", "losses"), "softmax cross-entropy, {rows} x {vocabulary}", cross_entropy,
        {"rows": 1024, "vocabulary": 32_000}, {"loss": Goal(0.6)}, {"rows": 11, "vocabulary": 130}, limit="bytes",
    )
]  # fmt: skip
