"""torch.compile: for the forward pass also with frozen weights, for training with the fastest optimiser implementation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from benchmarks.peers import NotAvailable, Prepared, fastest
from benchmarks.peers.torch_model import KINDS, Runner, formats, torch, versions
from benchmarks.workload import Task

__all__ = ["first", "prepare", "versions"]


def compiled(function: Callable) -> Callable:
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


def runner(task: Task, case: str, memory: Any, freezing: bool) -> Runner:
    import torch._inductor.config as inductor

    inductor.freezing = freezing
    # fused optimisers are kernels already: torch.compile takes those made of tensor operations
    made = Runner(task, case, memory, wrap=compiled, kinds=("foreach",) if case == "update" else tuple(KINDS))
    if freezing:  # frozen weights need no_grad while they are compiled, and refuse inference mode
        net, inputs = made.wrap(made.net), made.inputs

        def call() -> Any:
            with torch.no_grad():
                return net(*inputs)

        made.function = call
    made.function()
    return made


def usable(threads: int) -> None:
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        raise NotAvailable("torch.compile needs a C++ compiler, and there is none")
    torch.set_num_threads(threads)


def prepare(task: Task, case: str, threads: int) -> Prepared:
    usable(threads)
    tried, runners = formats(task), {}
    for freezing in (True, False) if case == "forward" else (False,):
        for name, memory in tried.items():
            parts = [name] * (len(tried) > 1) + ["frozen weights"] * freezing
            runners[", ".join(parts)] = runner(task, case, memory, freezing)
    setting, _ = fastest((name, r.function) for name, r in runners.items())
    return runners[setting].best(setting)


def first(task: Task, case: str, threads: int) -> None:
    usable(threads)
    runner(task, case, next(iter(formats(task).values())), False)
