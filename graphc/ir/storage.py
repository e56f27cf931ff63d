"""float16 and bfloat16 are storage: what computes gets them in float32, and its result is rounded once.

The conversions are ``cast`` nodes around the operator, put there when it is made; so no pass, gradient rule, lowering or reference ever
meets arithmetic in 16 bits, and a graph says where it rounds. An operator is what the user calls: softmax or Adam on bfloat16
computes in float32 from its operands to its results. What only moves values (views, gathers, scans) takes them as they are.

A rounding stays where an operator ends, inside a fused kernel too. So what a program computes does not depend on what was fused,
and all targets agree with the reference; XLA and Inductor keep float32 between fused operators, which saves some
instructions a value and makes results depend on the compiler's choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .dtypes import DType, float32
from .op import OpDef, lookup
from .types import TensorType, TupleType

if TYPE_CHECKING:
    from .node import Node

__all__ = ["in_float32", "stores_halves"]


def _is_half(t: object) -> bool:
    return type(t) is TensorType and t.dtype.itemsize == 2 and t.dtype.kind == "f"


def stores_halves(ins: Iterable[Node], attrs: Mapping[str, Any]) -> bool:
    """Whether an operand, or a dtype among the attributes, is of a storage type."""
    for i in ins:  # asked for every node that is made: no generators
        if _is_half(getattr(i, "type", None)):
            return True
    return bool(attrs) and any(type(v) is DType and v.is_storage for v in attrs.values())


def in_float32(op: OpDef, ins: tuple[Node, ...], attrs: Mapping[str, Any]) -> Node:
    """``op`` on operands in float32, with results of the types that the operands ask for."""
    from .node import Node

    cast = lookup("cast").call
    declared = op.infer(*(i.type for i in ins), **attrs)
    wide = [cast(i, float32) if _is_half(i.type) else i for i in ins]
    out = Node.make(op, wide, **{k: float32 if isinstance(v, DType) and v.is_storage else v for k, v in attrs.items()})
    if isinstance(declared, TensorType):
        rounded: Node = cast(out, declared.dtype)
        return rounded
    assert isinstance(declared, TupleType)
    return Node.make(lookup("rounded"), tuple(out), dtypes=tuple(t.dtype for t in declared.items))
