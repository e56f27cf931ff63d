"""Square matrix products with bias and ReLU: b a weight, which is packed once, or an activation, which is not."""

from __future__ import annotations

from benchmarks.layers import Linear, Product, Relu, chain
from benchmarks.workload import Goal, Input, Task, Workload

ORDER = 1


def packed(m: int, k: int, n: int) -> Task:
    return Task(chain(Linear(k, n), Relu()), (Input((m, k)),), named_batch=False)


def activations(m: int, k: int, n: int) -> Task:
    return Task(Product(k, n), (Input((m, k)), Input((k, n))), named_batch=False)


TINY = {"m": 37, "k": 21, "n": 50}
WORKLOADS = [
    Workload(
        f"gemm-{n}", ("gemm",), "relu(a @ w + b), {m} x {k} x {n}, w packed", packed, {"m": n, "k": n, "n": n},
        {"forward": Goal(0.95, share)}, TINY, limit="flops",
    )
    for n, share in ((256, 0.90), (512, 0.92), (1024, 0.92), (2048, 0.88))
] + [
    Workload(
        f"gemm-{n}-activations", ("gemm",), "relu(a @ b + c), {m} x {k} x {n}, both operands activations", activations,
        {"m": n, "k": n, "n": n}, {"forward": Goal(1.0)}, TINY, limit="flops",
    )
    for n in (256, 512, 1024, 2048)
]  # fmt: skip
