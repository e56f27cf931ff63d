"""The long run of random graphs: ``python -m tests.random_graphs --count 20000 --compiled 500 --seed 0``.

Each graph (float64, so that folded constants are not rounded) is run by the reference in exact arithmetic before and after all
passes; the first ``--compiled`` of them also on the CPU: in float16 or bfloat16, and in float32, unless there is a discontinuity inside (comparisons,
rounding, indices of extrema, a sign of nearly 0), where the last bit of an intermediate would decide a branch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from random import Random

import numpy as np

from graphc.backends.reference import interpret
from graphc.compiler import compile_graph
from graphc.errors import GraphcError
from graphc.ir.dtypes import as_dtype, bfloat16, float16, float32, float64, kind_of
from graphc.ir.graph import Graph
from graphc.ir.text import print_graph
from graphc.passes.pipeline import Settings, lower
from graphc.testing import random_graph

__all__ = ["compare_compiled", "compare_passes", "stored_graph", "typed_graph"]


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float) -> str:
    """What differs, or an empty text."""
    for k, w in wanted.items():
        f = found[k]
        if f.shape != w.shape:
            return f"{k}: shape {f.shape} against {w.shape}"
        f, w = (a.astype(np.float32) if as_dtype(a.dtype).is_storage else a for a in (f, w))
        scale = max(1.0, float(np.abs(w[np.isfinite(w)]).max(initial=0.0))) if kind_of(w.dtype) == "f" else 1.0
        if not np.allclose(f.astype(float), w.astype(float), rtol=0, atol=tolerance * scale, equal_nan=True):
            return f"{k}: differs by {np.nanmax(np.abs(f.astype(float) - w.astype(float))):.3g} of {scale:.3g}"
    return ""


def jumps(graph: Graph) -> bool:
    """Whether some value depends on another one by steps."""
    return any(n.op.kind != "input" and any(i.dtype.is_float for i in n.inputs if hasattr(i.type, "dtype")) and not _smooth(n) for n in graph.nodes)


def _smooth(node: object) -> bool:
    results = getattr(node.type, "items", (node.type,))  # type: ignore[attr-defined]
    return all(t.dtype.is_float for t in results) and not (isinstance(node.op.grad, str) and node.op.kind != "composite")  # type: ignore[attr-defined]


def steady(graph: Graph, arrays: dict[str, np.ndarray]) -> bool:
    """Whether results hardly change when the inputs do by some roundings: else float32 decides nothing (a sign of nearly 0)."""
    run, rng = compile_graph(graph, "reference"), np.random.default_rng(0)
    here = run(arrays)
    for _ in range(3):
        near = {k: (a * (1 + rng.choice([-3e-7, 3e-7], a.shape))).astype(a.dtype) if a.dtype.kind == "f" else a for k, a in arrays.items()}
        if same(run(near), here, 1e-4):
            return False
    return True


def typed_graph(seed: int, nodes: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a seed in float32, or in float64 where float32 would decide nothing."""
    graph, arrays = random_graph(Random(seed), nodes, float32)
    return (graph, arrays) if not jumps(graph) and steady(graph, arrays) else random_graph(Random(seed), nodes, float64)


def stored_graph(seed: int, nodes: int) -> tuple[Graph, dict[str, np.ndarray]] | None:
    """The graph of a seed in float16 or bfloat16; None where a rounding would decide a branch."""
    graph, arrays = random_graph(Random(seed), nodes, (float16, bfloat16)[seed % 2])
    return None if jumps(graph) else (graph, arrays)


def compare_passes(graph: Graph, arrays: dict[str, np.ndarray]) -> str:
    """Exact arithmetic before and after all passes."""
    low = lower(graph, Settings(16))
    return same(interpret(low.graph, arrays, "exact")[0], interpret(graph, arrays, "exact")[0], 1e-9)


def compare_compiled(graph: Graph, arrays: dict[str, np.ndarray]) -> str:
    """The CPU's kernels against the reference in the declared dtypes."""
    dtypes = {i.node.dtype for i in graph.inputs}
    few = max((float(d.finfo.eps) for d in dtypes if d.is_storage), default=0.0)
    found = compile_graph(graph, "cpu")(arrays)
    return same(found, compile_graph(graph, "reference")(arrays), 4 * few or (1e-9 if float64 in dtypes else 2e-4))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--compiled", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=12)
    options = parser.parse_args()
    wrong, used, start, compiled, refused = 0, Counter[str](), time.perf_counter(), 0, Counter[str]()
    for k in range(options.count):
        seed = options.seed * 1_000_003 + k
        graph, arrays = random_graph(Random(seed), options.nodes, float64)
        used.update({n.op.name for n in graph.nodes})
        problem = compare_passes(graph, arrays)
        if not problem and k < options.compiled:
            for graph, arrays in filter(None, (stored_graph(seed, options.nodes), typed_graph(seed, options.nodes))):
                try:
                    problem = compare_compiled(graph, arrays)
                    compiled += 1
                except GraphcError as e:
                    refused[e.message.split(":")[0]] += 1
                if problem:
                    break
        if problem:
            wrong += 1
            print(f"seed {seed}: {problem}\n{print_graph(graph, locations=False)}")
        if (k + 1) % 1000 == 0:
            print(f"{k + 1} graphs, {compiled} compiled, {wrong} mismatches, {time.perf_counter() - start:.0f} s", flush=True)
    print(f"{options.count} graphs on the reference, {compiled} compiled, {wrong} mismatches, {len(used)} operators, refused: {dict(refused)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
