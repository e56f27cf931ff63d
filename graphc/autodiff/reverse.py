"""Reverse mode as a graph-to-graph transform: one walk over the high-level graph, driven by the records' gradient rules.

The result is ordinary nodes, so a gradient can be differentiated again. Nodes made for the gradient of a node inherit its
user lines, with ``grad:`` before its scopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from ..errors import GradientError, GraphcError, ShapeError
from ..ir.node import Node, toposort
from ..ir.op import function, lookup
from ..ir.provenance import Provenance, active
from ..ir.types import TupleType
from ..locate import used_line

__all__ = ["gradients"]


def gradients(
    outputs: Sequence[Node],
    cotangents: Sequence[Node] | None,
    wrt: Sequence[Node],
    provenance: Provenance | None = None,
    *,
    allow_unused: bool = False,
    leaves: bool = False,
) -> list[Node]:
    """The gradients of ``sum(outputs * cotangents)`` with respect to ``wrt``, one node each.

    Without ``cotangents`` the outputs must be scalars (their cotangent is 1). Raises :class:`GradientError` where a path
    crosses an operator without gradient, naming the operator, the reason and the user's line, and where an entry of
    ``wrt`` does not influence the outputs (unless ``allow_unused``: its gradient is then 0). With ``leaves`` the walk ends
    at ``wrt``: they count as independent of one another.
    """
    prov = provenance if provenance is not None else active()
    for n in wrt:
        if not n.dtype.is_float:
            raise GradientError(f"gradient with respect to a {n.dtype} tensor", hint="cast it to float32 first")
    targets = set(wrt)
    order = toposort(outputs, targets if leaves else frozenset())
    on_path = _reaches(order, targets)
    cotangent: dict[Node, Any] = {}
    for i, out in enumerate(outputs):
        if cotangents is None:
            if out.shape != ():
                raise ShapeError(f"gradient of an output of shape {out.shape}", hint="reduce it to a scalar: loss.mean()")
            seed = function("const")(1.0, out.dtype)
        else:
            seed = cotangents[i]
        _accumulate(cotangent, out, seed)
    for node in reversed(order):
        if node not in on_path or (leaves and node in targets):
            continue
        g = cotangent.get(node)
        if g is None:
            continue
        with _inherit(prov, node):
            parts = _parts(node, g, on_path, prov)
            for x, part in zip(node.inputs, parts, strict=True):
                if part is not None and x in on_path:
                    if not isinstance(part, dict) and part.type != x.type:
                        raise GradientError(f"the gradient rule of {node.op.name} gave {part.type} for an operand of type {x.type}")
                    _accumulate(cotangent, x, part)
    result: list[Node] = []
    for n in wrt:
        g = cotangent.get(n)
        if g is None:
            if not allow_unused:
                raise _without(n, order, prov)
            g = _zeros(n)
        result.append(g)
    return result


def _without(n: Node, order: Sequence[Node], prov: Provenance | None) -> GradientError:
    """The error of a tensor without a gradient: what lies between it and the outputs."""
    reached, ends = _reaches(order, {n}), []
    for node in order:
        stops = not _carries_gradient(node) or (node.op.kind != "composite" and isinstance(node.op.grad, str))
        if node in reached and node is not n and stops:
            ends.append(node)
    notes = "" if len(reached) > 1 else "nothing that is computed from it reaches the outputs"
    where: tuple[str, ...] = ()
    if ends:
        op = ends[0].op
        why = "its result is not a float" if not _carries_gradient(ends[0]) else op.grad
        notes = f"{op.name} has no gradient: {why}"
        where = tuple(used_line(loc) for loc in (prov.locs(ends[0])[:1] if prov is not None else []))
    error = GradientError(
        f"{n!r} does not influence the differentiated outputs", where=where, notes=notes, hint="remove it from wrt, or pass allow_unused=True"
    )
    error.node = n
    return error


def _inherit(prov: Provenance | None, node: Node) -> Any:
    return prov.inherit(node, scope="grad:") if prov is not None else nullcontext()


def _reaches(order: Sequence[Node], targets: set[Node]) -> set[Node]:
    """Nodes through which some target influences the outputs."""
    found: set[Node] = set()
    for node in order:
        if node in targets or any(i in found for i in node.inputs):
            found.add(node)
    return found


def _accumulate(table: dict[Node, Any], node: Node, g: Any) -> None:
    old = table.get(node)
    if isinstance(g, dict):  # results of a tuple-typed node arrive one by one
        merged = dict(old or {})
        for k, v in g.items():
            merged[k] = merged[k] + v if k in merged else v
        table[node] = merged
    else:
        table[node] = g if old is None else old + g


def _parts(node: Node, g: Any, on_path: set[Node], prov: Provenance | None) -> Sequence[Any]:
    op = node.op
    if op.kind == "tuple":
        return [{node.attrs["index"]: g}]
    rule = op.grad
    if op.kind == "composite" and isinstance(rule, str):
        return _through(node, g, on_path, prov)
    if isinstance(rule, str):
        floats = [i for i in node.inputs if not isinstance(i.type, TupleType) and i.dtype.is_float and i in on_path]
        if not floats or not _carries_gradient(node):
            return [None] * len(node.inputs)
        where = tuple(used_line(loc) for loc in (prov.locs(node) if prov is not None else []))
        raise GradientError(f"{op.name} has no gradient: {rule}", where=where, hint="gc.stop_gradient(x) makes the path constant")
    if isinstance(node.type, TupleType):
        g = [g.get(i) for i in range(len(node.type.items))]
    return list(rule(node, g))


def _carries_gradient(node: Node) -> bool:
    """A result that is not a float (a comparison, an index) is piecewise constant: its gradient is zero, not missing."""
    types = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    return any(t.dtype.is_float for t in types)


def _through(node: Node, g: Any, on_path: set[Node], prov: Provenance | None) -> Sequence[Any]:
    """The gradient of a composite without a rule: that of its decomposition."""
    assert node.op.decompose is not None
    # what the decomposition makes is the forward pass, also where only the gradient reads it
    with prov.recording(prov.locs(node), prov.inner_scopes(node)) if prov is not None else nullcontext():
        body = node.op.decompose(*node.inputs, **node.attrs)
    results = list(body) if isinstance(body, (tuple, list)) else [body]
    if isinstance(node.type, TupleType):
        pairs = [(results[i], c) for i, c in g.items()]
    else:
        pairs = [(results[0], g)]
    wrt = [i for i in dict.fromkeys(node.inputs) if i in on_path and i.dtype.is_float]
    try:
        grads = dict(
            zip(wrt, gradients([o for o, _ in pairs], [c for _, c in pairs], wrt, prov, allow_unused=True, leaves=True), strict=True)
        )
    except GraphcError as e:
        e.notes = (*e.notes, f"inside {node.op.name}")
        raise
    seen: set[Node] = set()
    out: list[Any] = []
    for i in node.inputs:  # an operand given twice gets its whole gradient once
        out.append(None if i in seen else grads.get(i))
        seen.add(i)
    return out


def _zeros(n: Node) -> Node:
    zero = function("const")(0.0, n.dtype)
    out: Node = lookup("broadcast_to").call(zero, n.shape)
    return out
