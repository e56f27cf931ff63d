"""Documentation pages made from operator records: ``python -m graphc.inspect.opdoc docs/operators`` writes one page an operator."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GraphcError
from ..ir.node import Node
from ..ir.op import KINDS, OpDef, Sample, all_ops
from ..ir.text import print_graph
from ..ops.define import as_node
from ..passes.decompose import decompose
from ..testing import build_graph

__all__ = ["operator_index", "operator_page", "write_pages"]

SHOWN = 20
"""Elements up to which an example shows its values."""
LINES = 24
"""Lines up to which a decomposition is shown."""


def operator_page(op: OpDef) -> str:
    """The Markdown page of one operator: signature, meaning, facts, an example and errors made by running its samples."""
    lines = [f"# `{op.name}{_signature(op)}`", "", inspect.cleandoc(op.doc), ""]
    lines += ["| | |", "|---|---|", f"| kind | {op.kind}: {KINDS[op.kind]} |", f"| gradient | {_gradient(op)} |"]
    lines.append("| error allowed against the exact result | " + ", ".join(f"{k} {v:g}" for k, v in op.tolerance.items()) + " |")
    if op.onnx:
        lines.append(f"| ONNX | {op.onnx} |")
    where = _source(op)
    if where:
        lines.append(f"| defined in | `{where}` |")
    lines += _example(op) + _errors(op)
    return "\n".join(lines) + "\n"


def _gradient(op: OpDef) -> str:
    if callable(op.grad):
        return "by its own rule"
    return f"none: {op.grad}" if op.kind != "composite" else str(op.grad)


def _source(op: OpDef) -> str:
    """The file that defines the operator, below the package."""
    known = [f for f in (op.decompose, op.lower, op.nest, op.numpy, op.infer, op.call) if inspect.isfunction(inspect.unwrap(f))]  # type: ignore[arg-type]
    root = Path(__file__).resolve().parents[1]
    generic = {root / "ops" / "define.py"}
    for f in known:
        for g in (inspect.unwrap(f), *(c.cell_contents for c in f.__closure__ or () if inspect.isfunction(c.cell_contents))):  # type: ignore[union-attr,arg-type]
            path = Path(inspect.getsourcefile(g) or "").resolve()
            if path.is_relative_to(root) and path not in generic:
                return f"graphc/{path.relative_to(root)}"
    return ""


def _example(op: OpDef) -> list[str]:
    samples = op.samples() if op.samples is not None else []
    if not samples:
        return []
    sample = min(samples, key=lambda s: (_elements(s) < 2, _elements(s) > SHOWN, _has_empty(s), abs(_elements(s) - SHOWN // 2)))
    graph, arrays = build_graph(lambda *a: op.call(*a, **sample.kwargs), *sample.args, dtype="float32")
    results = ", ".join(str(n.type) for _, n in graph.outputs)
    out = ["", "## Example", "", f"`{_call(op, sample)}` gives `{results}`."]
    if _elements(sample) <= SHOWN and all(isinstance(n.size, int) and n.size <= SHOWN for _, n in graph.outputs):
        from ..compiler import compile_graph

        found = compile_graph(graph, "reference")(arrays)
        rounded = {k: np.array2string(np.asarray(v), precision=4, suppress_small=True, separator=", ") for k, v in (arrays | found).items()}
        out += ["", "```", *(f"{k} = {v}" for k, v in rounded.items()), "```"]
    if op.kind == "composite":
        text = print_graph(decompose(graph), locations=False).splitlines()
        if len(text) <= LINES:
            out += ["", "In primitives:", "", "```", *text, "```"]
    return out


def _arrays(sample: Sample) -> list[np.ndarray]:
    flat = [v for a in sample.args for v in (a if isinstance(a, list) else [a])]
    return [np.asarray(v) for v in flat if isinstance(v, (np.ndarray, np.generic))]


def _elements(sample: Sample) -> int:
    return sum(v.size for v in _arrays(sample))


def _has_empty(sample: Sample) -> bool:
    return any(not v.size for v in _arrays(sample))


def _errors(op: OpDef) -> list[str]:
    out: list[str] = []
    for sample in op.errors() if op.errors is not None else []:
        args = [[as_node(v) for v in a] if isinstance(a, list) and a and isinstance(a[0], np.ndarray) else _symbolic(a) for a in sample.args]
        try:
            op.call(*args, **sample.kwargs)
        except GraphcError as e:
            hint = f" (hint: {e.hint})" if e.hint else ""
            out.append(f"- `{_call(op, sample)}`: {type(e).__name__}: {e.message}{hint}")
    return ["", "## Errors", "", *out] if out else []


def _symbolic(value: Any) -> Any:
    return as_node(value) if isinstance(value, (np.ndarray, np.generic)) else value


def operator_index(ops: Sequence[OpDef]) -> str:
    """The list of all operators, grouped by kind."""
    out = ["# Operators", "", "Made from the records by `python -m graphc.inspect.opdoc docs/operators`.", ""]
    for kind, meaning in KINDS.items():
        group = [op for op in ops if op.kind == kind]
        if group:
            out += [f"## {kind}: {meaning}", "", "| operator | meaning |", "|---|---|"]
            out += [f"| [`{op.name}`]({op.name}.md) | {_first(op.doc)} |" for op in group] + [""]
    return "\n".join(out)


def _first(doc: str) -> str:
    """The first sentence of a docstring, as a table cell."""
    paragraph = inspect.cleandoc(doc).split("\n\n")[0].replace("\n", " ")
    return paragraph.split(". ")[0].rstrip(".").replace("|", "\\|")


def write_pages(folder: Path) -> None:
    """One page an operator and the index; pages of operators that are gone are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    ops = [op for op in all_ops() if not op.name.startswith("_")]
    pages = {f"{op.name}.md": operator_page(op) for op in ops} | {"README.md": operator_index(ops)}
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text)


def _signature(op: OpDef) -> str:
    """Names and defaults; what they are stands in the text."""
    try:
        params = inspect.signature(op.call).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    star: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return "(" + ", ".join(star.get(p.kind, "") + p.name + ("" if p.default is p.empty else f"={p.default!r}") for p in params) + ")"


def _call(op: OpDef, sample: Sample) -> str:
    return f"{op.name}({', '.join([*map(_show, sample.args), *(f'{k}={_show(v)}' for k, v in sample.kwargs.items())])})"


def _show(value: object) -> str:
    if isinstance(value, (np.ndarray, np.generic, Node)):
        return f"array{tuple(value.shape)}"
    if isinstance(value, (list, tuple)) and any(callable(v) or isinstance(v, np.ndarray) for v in value):
        return "[" + ", ".join(map(_show, value)) + "]"
    return getattr(value, "__name__", None) or repr(value)


if __name__ == "__main__":
    from .. import ops as _ops  # registers every record

    assert _ops is not None
    write_pages(Path(sys.argv[1]))
