"""Adam alone, for given gradients: half of the tensors matrices, half vectors."""

from __future__ import annotations

from benchmarks.layers import Linear, chain
from benchmarks.workload import Adam, Goal, Task, Workload

ORDER = 7


def adam(pairs: int, rows: int, columns: int) -> Task:
    return Task(chain(*[Linear(columns, rows)] * pairs), (), optimizer=Adam())


WORKLOADS = [
    Workload(
        "adam", ("optimizers",), "Adam, {pairs} matrices {rows} x {columns} and as many vectors", adam,
        {"pairs": 80, "rows": 512, "columns": 612}, {"update": Goal(0.9, 0.85)}, {"pairs": 2, "rows": 5, "columns": 19}, limit="bytes",
    )
]  # fmt: skip
