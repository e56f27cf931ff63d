"""One module per peer. Each has ``prepare(workload, case, threads) -> Prepared`` and ``versions() -> dict``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

PEERS = {  # name in the table -> module, and the cases it can do
    "graphc": ("ours", ("forward", "train")),
    "torch eager": ("torch_eager", ("forward", "train")),
    "torch.compile": ("torch_compile", ("forward", "train")),
    "JAX": ("jax_jit", ("forward", "train")),
    "ONNX Runtime": ("onnx_runtime", ("forward",)),
}
OURS = "graphc"


class NotAvailable(Exception):
    """The peer cannot run here; the message says why."""


@dataclass
class Prepared:
    """A case ready to be timed: ``call`` does it once, ``check`` gives what the workload's ``expected`` gives.

    ``check`` is called once, before any timing, from the initial weights.
    """

    call: Callable[[], Any]
    check: Callable[[], list[float]]
    setting: str = ""


def fastest(candidates: Iterable[tuple[str, Callable[[], Any]]], seconds: float = 0.15) -> tuple[str, Callable[[], Any]]:
    """The candidate setting with the shortest median call, so that a peer is measured at its best.

    The candidates take three turns and the best turn of each counts: one slow moment must not decide.
    """
    listed = list(candidates)
    best = {name: float("inf") for name, _ in listed}
    for _ in range(3):
        for name, call in listed:
            for _ in range(3):
                call()
            times = []
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or not times:
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            best[name] = min(best[name], sorted(times)[len(times) // 2])
    return min(listed, key=lambda candidate: best[candidate[0]])
