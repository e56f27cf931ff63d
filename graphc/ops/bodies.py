"""Closed bodies: graphs of functions whose arguments and captures became inputs, and the trees of tensors they take and give."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from ..ir.dims import Size
from ..ir.graph import Graph, Input
from ..ir.node import Node, toposort
from ..ir.op import lookup
from ..ir.provenance import Provenance, active
from .define import as_node

__all__ = ["argument", "close", "fill_tree", "flat_tree", "inline", "show_tree"]


def argument(name: str, shape: Sequence[Size], like: Node) -> Node:
    return Node.make(lookup("input"), (), name=name, shape=tuple(shape), dtype=like.dtype)


def close(outputs: Sequence[Node], arguments: Sequence[tuple[str, Node]]) -> Graph:
    """The graph of ``outputs`` over ``arguments``, which become inputs of the given names; no other input may lie below."""
    image: dict[Node, Node] = {}
    inputs: list[Input] = []
    for name, n in arguments:
        image[n] = argument(name, n.shape, n)
        inputs.append(Input(name, image[n]))
    outer = active()
    prov = Provenance()
    for n in toposort(outputs, set(image)):
        if n not in image:
            with outer.inherit(n) if outer is not None else nullcontext():
                image[n] = Node.make(n.op, [image[i] for i in n.inputs], **n.attrs)
        if outer is not None:
            origin = outer.of(n)
            prov.add(image[n], origin.locs, origin.scopes)
    return Graph("body", tuple(inputs), tuple((f"r{i}", image[n]) for i, n in enumerate(outputs)), provenance=prov)


def inline(body: Graph, args: Sequence[Node]) -> list[Node]:
    """The outputs of a body on other arguments."""
    image = {i.node: a for i, a in zip(body.inputs, args, strict=True)}
    outer = active()
    for n in toposort([n for _, n in body.outputs], set(image)):
        if n not in image:
            origin = body.provenance.of(n)
            with outer.recording(origin.locs, origin.scopes) if outer is not None and origin.locs else nullcontext():
                image[n] = Node.make(n.op, [image[i] for i in n.inputs], **n.attrs)
    return [image[n] for _, n in body.outputs]


# -- trees of tensors ------------------------------------------------------------------------------------------------------
_LEAF = "tensor"


def flat_tree(value: Any) -> tuple[list[Node], Any]:
    """Tensors in order, and the structure that held them."""
    if value is None:
        return [], None
    if isinstance(value, (tuple, list)):
        parts = [flat_tree(v) for v in value]
        return [n for p, _ in parts for n in p], (type(value).__name__, tuple(t for _, t in parts))
    if isinstance(value, dict):
        parts = [flat_tree(value[k]) for k in sorted(value)]
        return [n for p, _ in parts for n in p], ("dict", tuple(sorted(value)), tuple(t for _, t in parts))
    return [as_node(value)], _LEAF


def fill_tree(tree: Any, nodes: Sequence[Node]) -> Any:
    rest = iter(nodes)

    def build(t: Any) -> Any:
        if t is None:
            return None
        if t == _LEAF:
            return next(rest)
        if t[0] == "dict":
            return {k: build(v) for k, v in zip(t[1], t[2], strict=True)}
        values = [build(v) for v in t[1]]
        return values if t[0] == "list" else tuple(values)

    return build(tree)


def show_tree(tree: Any) -> str:
    if tree is None or tree == _LEAF:
        return str(tree)
    if tree[0] == "dict":
        return "{" + ", ".join(f"{k}: {show_tree(t)}" for k, t in zip(tree[1], tree[2], strict=True)) + "}"
    return f"{tree[0]}({', '.join(map(show_tree, tree[1]))})"
