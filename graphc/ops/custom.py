"""Operators that users register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import TraceError
from ..ir.node import Node
from ..ir.op import lookup
from ..ir.types import Type
from ..locate import public
from .define import NUMERIC, as_node, elementwise, primitive

__all__ = ["custom_op"]


def custom_op(
    name: str,
    numpy: Callable[..., Any],
    infer: Callable[..., Type] | None = None,
    grad: Callable[[Node, Any], Any] | str | None = None,
    scalar: Callable[..., Any] | None = None,
    *,
    arity: int = 1,
    kinds: str = NUMERIC,
    doc: str = "",
    **fields: Any,
) -> Callable[..., Node]:
    """Registers an operator and gives back its function; it is also a tensor method and ``graphc.ops.<name>``.

    With ``scalar(*scalars)``, a program in scalar IR, it is an elementwise operator of ``arity`` operands and compiles on every
    target; ``numpy(*arrays)`` is its reference. Without it, ``infer(*types, **attrs)`` gives the result type, and only the
    reference backend runs it: by ``numpy(*arrays, **attrs)``. ``grad(node, g)`` gives one node or None an operand.

    >>> import numpy as np
    >>> cube = custom_op("cube_of_doc", lambda x: x * x * x, grad=lambda n, g: (g * n.inputs[0] * n.inputs[0] * 3.0,), scalar=lambda x: x * x * x)
    >>> from graphc.ir.op import unregister
    >>> unregister("cube_of_doc")
    """
    if not name.isidentifier():
        raise TraceError(f"custom_op: {name!r} is not a name")
    text = doc or f"The user's operator {name}."
    rule = grad if grad is not None else "no grad= was given to custom_op"
    if scalar is not None:
        return elementwise(name, arity, scalar=scalar, numpy=numpy, grad=rule, doc=text, kinds=kinds, **fields)
    if infer is None:
        raise TraceError(f"custom_op {name}: infer= gives the result type", hint="infer=lambda x: x, for a result like its operand")

    def call(*operands: Any, **attrs: Any) -> Node:
        like = next((o.dtype for o in operands if isinstance(o, Node)), None)
        return Node.make(lookup(name), [as_node(o, like) for o in operands], **attrs)

    return primitive(name, "custom", text, call, infer, numpy=numpy, grad=rule, **fields)


public(globals())
