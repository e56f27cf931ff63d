"""torch as it comes: operator by operator, with the fastest memory format and the fastest of its optimiser implementations."""

from __future__ import annotations

from benchmarks.peers import Prepared, fastest
from benchmarks.peers.torch_model import Runner, formats, torch, versions
from benchmarks.workload import Task

__all__ = ["first", "prepare", "versions"]


def prepare(task: Task, case: str, threads: int) -> Prepared:
    torch.set_num_threads(threads)
    tried = formats(task)
    runners = {name if len(tried) > 1 else "": Runner(task, case, memory) for name, memory in tried.items()}
    name, _ = fastest((name, r.function) for name, r in runners.items())
    return runners[name].best(name)


def first(task: Task, case: str, threads: int) -> None:
    torch.set_num_threads(threads)
    Runner(task, case, next(iter(formats(task).values()))).function()
