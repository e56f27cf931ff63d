"""Inputs, constants, sizes and tuples: the nodes that every graph has."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ir.dims import Size, evaluate
from ..ir.dtypes import as_dtype, int64
from ..ir.node import Node
from ..ir.op import lookup
from ..ir.types import Shape, TensorType, TupleType, Type
from ..loops import scalar as s
from .define import constant, primitive

__all__ = ["const", "dim", "input", "item", "stop_gradient"]

input = primitive(  # the graph's word for it
    "input",
    "input",
    "A graph input, parameter or state: ``name``, ``shape``, ``dtype``. Its value is given when the graph runs.",
    lambda name, shape, dtype: Node.make(lookup("input"), (), name=name, shape=tuple(shape), dtype=as_dtype(dtype)),
    lambda *, name, shape, dtype: TensorType(shape, dtype),
    method=False,
    grad="an input",
)


def _const_lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
    value = node.attrs["value"]
    if value.ndim == 0:
        return s.const(value.item(), node.dtype)
    return b.load(node, idx)


const = primitive(
    "const",
    "const",
    "A constant array.",
    constant,
    lambda *, value: TensorType(tuple(int(d) for d in value.shape), as_dtype(value.dtype)),
    numpy=lambda *, value: value,
    lower=_const_lower,
    method=False,
    grad="a constant",
    cost=0,
)


dim = primitive(
    "dim",
    "generate",
    "A size of the graph as an int64 value: ``dim(size)``; the size may mention named dims.",
    lambda size: Node.make(lookup("dim"), (), size=size),
    lambda *, size: TensorType((), int64),
    numpy=lambda *, size, dims=None: np.int64(evaluate(size, dims or {})),
    lower=lambda b, node, idx: s.index_value(node.attrs["size"]),
    grad="a size does not depend on values",
    method=False,
    cost=0,
)


def _item_infer(t: Type, *, index: int) -> TensorType:
    if not isinstance(t, TupleType):
        raise ShapeError("item of a single tensor")
    if not 0 <= index < len(t.items):
        raise ShapeError(f"result {index} of {len(t.items)}")
    return t.items[index]


item = primitive(
    "item",
    "tuple",
    "One result of a node that has several.",
    lambda x, index: Node.make(lookup("item"), (x,), index=int(index)),
    _item_infer,
    numpy=lambda x, *, index: x[index],
    grad="handled by the autodiff walk",
    method=False,
)


stop_gradient = primitive(
    "stop_gradient",
    "identity",
    "``x`` itself, through which no gradient flows (torch's ``detach``, JAX's ``stop_gradient``).",
    lambda x: Node.make(lookup("stop_gradient"), (x,)),
    lambda t: t,
    numpy=lambda x: x,
    grad=lambda node, g: (None,),
    lower=lambda b, node, idx: b.value(node.inputs[0], idx),
    cost=0,
)


def shape_of(x: Node) -> Shape:
    return x.shape


