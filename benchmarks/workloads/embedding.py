"""Rows of a table, and the gradient of the table, where many indices are equal."""

from __future__ import annotations

from benchmarks.layers import Embedding
from benchmarks.workload import Goal, Input, Task, Workload

ORDER = 8


def embedding(rows: int, width: int, indices: int) -> Task:
    return Task(Embedding(rows, width), (Input((indices,), high=rows, skewed=True),), named_batch=False)


WORKLOADS = [
    Workload(
        "embedding", ("embeddings",), "embedding {rows} x {width}, {indices} indices", embedding,
        {"rows": 50_000, "width": 256, "indices": 8192}, {"forward": Goal(0.8), "backward": Goal(0.8)},
        {"rows": 60, "width": 20, "indices": 50}, limit="bytes",
    )
]  # fmt: skip
