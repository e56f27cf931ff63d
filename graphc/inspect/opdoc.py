"""Documentation pages made from operator records: ``python -m graphc.inspect.opdoc docs/operators.md``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from ..ir.op import KINDS, OpDef, all_ops

__all__ = ["operator_page", "operator_table"]


def operator_page(op: OpDef) -> str:
    """The Markdown section of one operator: signature, meaning, gradient, tolerance, a call from its samples."""
    lines = [f"### `{op.name}{_signature(op)}`", "", inspect.cleandoc(op.doc), ""]
    lines.append(f"- kind: {op.kind}, {KINDS[op.kind]}")
    rule = "by its own rule" if callable(op.grad) else op.grad
    lines.append(f"- gradient: {rule}")
    if op.decompose is not None:
        lines.append("- decomposes into other operators, so it runs on every target")
    if op.onnx:
        lines.append(f"- ONNX: {op.onnx}")
    lines.append("- error allowed against the exact result: " + ", ".join(f"{k} {v:g}" for k, v in op.tolerance.items()))
    if op.oracle is not None:
        lines.append(f"- compared with: {op.oracle if isinstance(op.oracle, str) else getattr(op.oracle, '__name__', 'a function')}")
    if op.samples is not None and op.samples():
        first = op.samples()[0]
        shown = ", ".join([*(_show(a) for a in first.args), *(f"{k}={v!r}" for k, v in first.kwargs.items())])
        lines.append(f"- sample: `{op.name}({shown})`")
    return "\n".join(lines) + "\n"


def operator_table(ops: Sequence[OpDef] | None = None) -> str:
    """All operators, grouped by kind."""
    ops = all_ops() if ops is None else ops
    out = ["# Operators", "", "Made from the records by `python -m graphc.inspect.opdoc docs/operators.md`.", ""]
    for kind, meaning in KINDS.items():
        group = [op for op in ops if op.kind == kind]
        if group:
            out += [f"## {kind}: {meaning}", ""]
            out += [operator_page(op) for op in group]
    return "\n".join(out)


def _signature(op: OpDef) -> str:
    try:
        return str(inspect.signature(op.call)).split(" ->")[0].replace("'", "")
    except (TypeError, ValueError):
        return "(...)"


def _show(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"array{tuple(shape)}" if shape is not None else "[...]" if isinstance(value, list) else getattr(value, "__name__", repr(value))


if __name__ == "__main__":
    from .. import ops as _ops  # registers every record

    assert _ops is not None
    Path(sys.argv[1]).write_text(operator_table())
