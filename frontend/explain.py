"""Notes for shape errors: how a size came about."""

from __future__ import annotations

from graphc.ir.dims import Expr, prod
from graphc.ir.node import Node
from graphc.ops.define import show

__all__ = ["flatten_note"]


def flatten_note(x: Node) -> str:
    """Says which axes a flatten before ``x`` joined into its last one ("" where there was none)."""
    node = x
    for _ in range(100):
        if (node.op.kind == "elementwise" and len(node.inputs) == 1) or (
            node.op.kind == "composite" and node.inputs and node.inputs[0].type == node.type
        ):
            node = node.inputs[0]
        else:
            break
    if node.op.name != "reshape":
        return ""
    source = node.inputs[0].shape
    for start in range(len(source) - 1):
        if prod(source[start:]) == x.shape[-1] and source[:start] == node.shape[:-1]:
            factors = "*".join(f"({s})" if isinstance(s, Expr) and len(s.terms) > 1 else str(s) for s in source[start:])
            return f"'flatten' made {x.shape[-1]} = {factors} features from {show(source)}"
    return ""
