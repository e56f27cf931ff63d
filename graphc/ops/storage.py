"""Where values lie in memory, as an operator: the meaning of ``relayout`` is its operand."""

from __future__ import annotations

from ..ir.node import Node
from ..ir.op import lookup
from .define import primitive

__all__ = ["relayout"]


relayout = primitive(
    "relayout",
    "identity",
    "``x`` stored in another layout; the values are the same. Passes insert it, users never need it.",
    lambda x, layout: Node.make(lookup("relayout"), (x,), layout=layout),
    lambda t, *, layout: t,
    numpy=lambda x, *, layout: x,
    lower=lambda b, n, idx: b.value(n.inputs[0], idx),
    grad=lambda n, g: (g,),
    method=False,
    cost=0,
)
