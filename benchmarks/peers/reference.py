"""What all must agree on, computed in float64 by torch, or by JAX where torch is not installed."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import NotAvailable
from benchmarks.workload import Task


def expected(task: Task, case: str) -> list[Any]:
    """Arrays as ``Prepared.check`` gives them."""
    try:
        from benchmarks.peers.torch_model import Runner, torch
    except NotAvailable:
        return _by_jax(task, case)
    return Runner(task, case, dtype=torch.float64).check()


def _by_jax(task: Task, case: str) -> list[Any]:
    try:
        from benchmarks.peers import jax_jit
    except NotAvailable:
        raise NotAvailable("nothing to check results against: install torch or JAX") from None
    return jax_jit.in_float64(task, case)
