"""The coverage table: operator x dtype x backend x oracle. ``python -m tests.ops.coverage docs/coverage.md`` writes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from graphc.backends.cpu.machine_facts import host_facts
from graphc.backends.cpu.program import PRINTERS
from graphc.backends.cuda.executable import CudaSimExecutable
from graphc.errors import GraphcError
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Graph
from graphc.ir.op import OpDef, all_ops
from graphc.passes.pipeline import Settings, lower
from graphc.schedule.program import schedule_graph
from tests.ops.cases import sample_graph, takes
from tests.ops.oracles import EXEMPT, JAX, TORCH

__all__ = ["coverage_table"]

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8")


def coverage_table() -> str:
    """The page: one row an operator that has samples, then those that have none and why."""
    ops = [op for op in all_ops() if not op.name.startswith("_")]
    rows = [_row(op) for op in ops if op.samples is not None]
    oracles = sum(op.name in JAX or op.name in TORCH for op in ops)
    lines = [
        "# Coverage",
        "",
        "Made by `python -m tests.ops.coverage docs/coverage.md`. A dtype is listed where the generic tests run the operator in it; `cpu` and",
        "`cuda-sim` show the kinds of kernels that its samples become (or the reason why there are none). An oracle is code that we did not write.",
        "",
        f"{len(ops)} operators, {oracles} of them compared with an oracle.",
        "",
        "| operator | kind | dtypes | gradient | cpu | cuda-sim | oracle |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Operators without samples of their own:",
        "",
        *(f"- `{op.name}`: {EXEMPT.get(op.name) or 'compared through others'}" for op in ops if op.samples is None),
    ]
    return "\n".join(lines) + "\n"


def _row(op: OpDef) -> str:
    dtypes = [d for d in DTYPES if takes(op, d)]
    graph = sample_graph(op, dtypes[0] if dtypes else "float32")[0]
    oracle = [name for name, table in (("JAX, SciPy, NumPy", JAX), ("torch", TORCH)) if op.name in table]
    gradient = "rule" if callable(op.grad) else "decomposition" if op.kind == "composite" and "decomposition" in op.grad else "none"
    cells = (
        f"`{op.name}`",
        op.kind,
        " ".join(as_dtype(d).code for d in dtypes) or "own",
        gradient,
        _attempt(_cpu_kinds, graph),
        _attempt(_cuda_kinds, graph),
        ", ".join(oracle) or EXEMPT.get(op.name, ""),
    )
    return "| " + " | ".join(cells) + " |"


def _attempt(kinds: Callable[[Graph], set[str]], graph: Graph) -> str:
    try:
        return ", ".join(sorted(kinds(graph)))
    except GraphcError as e:
        return "no: " + e.message.split(":")[0]


def _cpu_kinds(graph: Graph) -> set[str]:
    facts = host_facts(16)
    low = lower(graph, Settings(facts.width, {}))
    schedule = schedule_graph(low.graph, low.layouts, facts.limits())
    for i in schedule.launches():
        PRINTERS[i.nest.kind](i.nest, schedule.buffers, facts, "")
    return {i.nest.kind for i in schedule.launches()}


def _cuda_kinds(graph: Graph) -> set[str]:
    return {i.nest.kind for i in CudaSimExecutable(graph).schedule.launches()}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(coverage_table())
