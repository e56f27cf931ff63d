"""PyTorch's own operator database against ours: ``python -m tests.ops.opinfo docs/opinfo.md``.

``torch.testing._internal.common_methods_invocations.op_db`` holds sample calls of every torch operator, made by its
developers. Each sample of an operator that graphc has too is traced, run by the reference in the declared dtypes, and compared
with torch. :data:`ADAPT` says how a torch call is written here where names differ; :data:`REASONS` explains, by a piece of the
message, what is refused or different on purpose. Everything else is a failure.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graphc import ops
from graphc.compiler import compile_graph
from graphc.ir.graph import Graph, Input
from graphc.ir.node import Node
from graphc.ir.op import functions, numpy_names
from graphc.ir.types import TupleType
from tests.ops.opinfo_table import ADAPT, EVERYWHERE, LEFT_OUT, REASONS

__all__ = ["Outcome", "compared_names", "run_operator"]

DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 2e-4, "float64": 1e-8}
RENAMED = {"other": "y"}


@dataclass
class Outcome:
    """What became of the samples of one operator in one dtype."""

    passed: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def run(self) -> int:
        return self.passed + sum(self.explained.values()) + len(self.failures)


def database() -> list[Any]:
    """Torch's table (importing it takes seconds)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return list(op_db)


def ours(name: str) -> Callable[..., Any] | None:
    """Our function for a torch name, with torch's arguments; None where there is none."""
    from graphc.frontend.nn import functional

    if name in ADAPT:
        return ADAPT[name]
    if name in LEFT_OUT:
        return None
    if name.startswith("nn.functional."):
        tail = name.removeprefix("nn.functional.")
        return getattr(functional, tail, None) if tail in dir(functional) else None
    if name in functions():
        fn = functions()[name]
        return lambda *args, **kwargs: fn(*args, **numpy_names(fn, {RENAMED.get(k, k): v for k, v in kwargs.items()}))
    return None


def compared_names() -> list[str]:
    """The torch operators that graphc has too."""
    return sorted({o.name for o in database() if ours(o.name) is not None})


def run_operator(entry: Any, dtype: str, limit: int | None = None) -> Outcome:
    """Every sample of one entry of the database, or about ``limit`` of them, evenly spread."""
    import torch

    fn, out = ours(entry.name), Outcome()
    assert fn is not None
    kind = getattr(torch, dtype)
    if kind not in entry.supported_dtypes("cpu"):
        return out
    torch.manual_seed(0)
    samples = list(entry.sample_inputs("cpu", kind, requires_grad=False))
    for sample in samples[:: max(len(samples) // limit, 1) if limit else 1]:
        call = f"{entry.name}({_words(sample)})"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = entry(_copy(sample.input), *map(_copy, sample.args), **{k: _copy(v) for k, v in sample.kwargs.items()})
        except Exception as e:
            out.explained[f"torch itself refuses the sample ({type(e).__name__})"] += 1
            continue
        try:
            problem = _compare(fn, sample, wanted, TOLERANCE[dtype])
        except Exception as e:
            problem = f"{type(e).__name__}: {getattr(e, 'message', e)}"
        reason = (
            next((why for piece, why in {**REASONS.get(entry.name, {}), **EVERYWHERE}.items() if piece in problem + " " + call), None)
            if problem
            else None
        )
        if not problem:
            out.passed += 1
        elif reason is not None:
            out.explained[reason] += 1
        else:
            out.failures.append(f"{call}: {problem}"[:400])
    return out


def _copy(value: Any) -> Any:
    return value.clone() if hasattr(value, "clone") else value


def _words(sample: Any) -> str:
    shown = [_word(sample.input), *map(_word, sample.args), *(f"{k}={_word(v)}" for k, v in sample.kwargs.items())]
    return ", ".join(shown)


def _word(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_word, value)) + "]"
    return repr(value)


def _compare(fn: Callable[..., Any], sample: Any, wanted: Any, tolerance: float) -> str:
    """Traces and runs our function on a sample; what differs, or an empty text."""
    inputs: list[Input] = []
    arrays: dict[str, np.ndarray] = {}

    def symbolic(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(symbolic, value)) if type(value) in (list, tuple) else tuple(map(symbolic, value))
        if not hasattr(value, "detach"):
            return value
        array = value.detach().resolve_conj().resolve_neg().numpy()
        node: Node = ops.input(f"x{len(inputs)}", array.shape, array.dtype)
        inputs.append(Input(f"x{len(inputs)}", node))
        arrays[inputs[-1].name] = np.ascontiguousarray(array).reshape(array.shape)
        return node

    result = fn(symbolic(sample.input), *map(symbolic, sample.args), **{k: symbolic(v) for k, v in sample.kwargs.items()})
    nodes = list(_nodes(result))
    graph = Graph("sample", tuple(inputs), tuple((f"o{i}", n) for i, n in enumerate(nodes)))
    found = list(compile_graph(graph, "reference", mode="faithful")(arrays).values())
    expected = [np.asarray(w.detach().resolve_conj().numpy() if hasattr(w, "detach") else w) for w in _flat(wanted) if w is not None]
    if len(found) != len(expected):
        return f"{len(found)} results, torch has {len(expected)}"
    for f, w in zip(found, expected, strict=True):
        if f.shape != w.shape:
            return f"shape {f.shape}, torch has {w.shape}"
        if (f.dtype.kind == "f") != (w.dtype.kind == "f"):
            return f"dtype {f.dtype}, torch has {w.dtype}"
        scale = max(1.0, float(np.abs(w[np.isfinite(w)]).max(initial=0.0))) if w.dtype.kind == "f" else 1.0
        if not np.allclose(f, w, rtol=0.0, atol=tolerance * scale if w.dtype.kind == "f" else 0.0, equal_nan=True):
            return f"values differ by {np.nanmax(np.abs(f.astype(float) - w.astype(float))):.3g} (of {scale:.3g})"
    return ""


def _nodes(result: Any) -> Iterator[Node]:
    for r in _flat(result):
        if r is not None:
            node = r if isinstance(r, Node) else ops.as_node(r) if hasattr(ops, "as_node") else r
            yield from (node[i] for i in range(len(node.type.items))) if isinstance(node.type, TupleType) else [node]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from _flat(v)
    else:
        yield value


def report() -> str:
    """The page: counts by operator, then what was refused and why."""
    entries = [e for e in database() if ours(e.name) is not None]
    rows, reasons, failures = [], [], []
    total = Counter[str]()
    for e in entries:
        outcomes = {d: run_operator(e, d) for d in DTYPES}
        label = e.name + (f" ({e.variant_test_name})" if e.variant_test_name else "")
        run, passed = (sum(getattr(o, k) for o in outcomes.values()) for k in ("run", "passed"))
        explained = sum((o.explained for o in outcomes.values()), Counter[str]())
        bad = [f for o in outcomes.values() for f in o.failures]
        rows.append(f"| `{label}` | {run} | {passed} | {sum(explained.values()) or ''} | {len(bad) or ''} |")
        reasons += [f"- `{label}`: {why} ({n})" for why, n in explained.items()]
        failures += [f"- {f}" for f in bad]
        total.update(run=run, passed=passed, explained=sum(explained.values()), failed=len(bad))
    return "\n".join([
        "# PyTorch's operator database",
        "",
        "Made by `python -m tests.ops.opinfo docs/opinfo.md`: every sample that PyTorch's developers wrote for an operator that graphc has too,",
        "in float32 and float64, traced and run by the reference backend and compared with torch.",
        "",
        f"{len(rows)} entries of {len({e.name for e in entries})} operators: {total['run']} samples, {total['passed']} equal, "
        f"{total['explained']} different for a stated reason, {total['failed']} failed.",
        "",
        "| operator | samples | equal | explained | failed |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "## Explained",
        "",
        *reasons,
        *(["", "## Failed", "", *failures] if failures else []),
    ]) + "\n"  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1].endswith(".md"):
        Path(sys.argv[1]).write_text(report())
    else:
        for entry in database():
            if entry.name in sys.argv[1:]:
                for dtype in DTYPES:
                    outcome = run_operator(entry, dtype)
                    print(entry.name, entry.variant_test_name, dtype, outcome.passed, "of", outcome.run, dict(outcome.explained))
                    print("\n".join(outcome.failures))
