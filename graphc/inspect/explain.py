"""Questions about a compiled program, answered in sentences."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ArgumentError
from ..ir.node import Node
from ..locate import public
from ..passes.rules import RULES
from .find import graph_of, provenance_of
from .origins import kernel_lines

__all__ = ["explain", "explain_cache", "explain_fusion"]

MOST = 8
"""Nodes of one operator that are explained at once."""


def explain_fusion(compiled: Any, a: Any, b: Any) -> str:
    """One sentence: why two operators of a compiled model or function share a kernel, or do not.

    ``a`` and ``b`` are nodes of its graph, or names of operators in it.
    """
    if not hasattr(compiled, "explain_fusion"):
        raise ArgumentError(f"{type(compiled).__name__} is not compiled", hint="gc.explain_fusion(gc.compile(...), a, b)")
    return str(compiled.explain_fusion(a, b))


def explain(x: Any, node: Node | str | None = None) -> str:
    """Where a node comes from: the user's lines, its modules, and the rewrite rules that made it.

    ``explain(node)`` asks the graphs that are alive. ``explain(compiled, node)`` asks one model, function or lowered graph, and tells
    also in which stages the node is and which lines of which kernel compute it; instead of a node it takes the name of an operator.

    >>> import graphc as gc
    >>> graph = gc.trace(lambda x: -(-x).exp(), gc.spec("N"))
    >>> print(gc.explain(graph, "exp"))  # doctest: +ELLIPSIS
    exp : f32[N]
      reads    neg
      from     ...
    """
    if isinstance(x, Node) and node is None:
        return _about(x, None)
    if node is None:
        raise ArgumentError("explain what?", hint='gc.explain(node), or gc.explain(compiled, "softmax")')
    program = getattr(x, "executable", x)
    program = x._function("predict").executable if hasattr(x, "_function") else program
    found = [node] if isinstance(node, Node) else _named(program, node)
    texts = [_about(n, program) for n in found[:MOST]]
    if len(found) > MOST:
        texts.append(f"and {len(found) - MOST} more nodes {node}")
    return "\n".join(texts)


def _named(program: Any, name: str) -> list[Node]:
    """The nodes of an operator, or of an input's name, in the last stage that has one."""
    graphs = [graph_of(program), *(p.after for p in getattr(program, "passes", ()))]
    for graph in reversed(graphs):
        found = [n for n in graph.nodes if n.op.name == name or (n.op.kind == "input" and n.attrs["name"] == name)]
        if found:
            return found
    known = sorted({n.op.name for g in graphs for n in g.nodes})
    raise ArgumentError(f"no stage has an operator {name!r}", hint=", ".join(known[:20]))


def _about(node: Node, program: Any) -> str:
    name = node.attrs["name"] if node.op.kind == "input" else node.op.name
    prov = provenance_of(node) if program is None else graph_of(program).provenance
    origin = prov.of(node)
    lines = [f"{name} : {node.type}"]

    def add(title: str, text: str) -> None:
        lines.append(f"  {title:<8} {text}")

    if node.inputs:
        add("reads", ", ".join(i.attrs["name"] if i.op.kind == "input" else i.op.name for i in node.inputs))
    for loc in sorted(origin.locs):
        add("from", f"{loc}  {loc.text}".rstrip())
    if scopes := sorted(s for s in origin.scopes if s):
        add("in", ", ".join(scopes[:6]) + (f" and {len(scopes) - 6} more" if len(scopes) > 6 else ""))
    texts = {r.name: str(r) for r in RULES}
    for rule in origin.rules:
        add("rule", f"{rule}: {texts[rule]}" if rule in texts else rule)
    if program is not None:
        stages = [("traced", graph_of(program)), *((p.name, p.after) for p in getattr(program, "passes", ()))]
        held = [k for k, g in stages if node in set(g.nodes)]
        if held:
            add("stages", held[0] if len(held) == 1 else f"{held[0]} to {held[-1]}")
        for where in _kernels(node, program):
            add("kernel", where)
    if not origin.locs and not origin.rules and not scopes:
        add("from", "no user line is known: it was made outside of a trace, or belongs to another graph")
    return "\n".join(lines)


def _kernels(node: Node, program: Any) -> list[str]:
    out = []
    for k in getattr(program, "kernels", ()):
        if node in k.launch.nest.nodes:
            lines = sorted({line for line, n in kernel_lines(k.printed, k.launch.nest) if n is node})
            shown = f", line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}" if lines else ""
            source = k.printed.text.splitlines()
            values = [line for line in lines if " = " in source[line - 1]] or lines
            text = source[values[-1] - 1].strip() if values else ""
            out.append(f"{k.kernel.name} ({k.launch.nest.kind}){shown}" + (f":  {text}" if text else ""))
    return out


def explain_cache() -> str:
    """Which kernels of this process came from the cache folder, which were compiled, and why."""
    # by name: the core does not depend on backends
    return str(importlib.import_module("graphc.backends.cpu.machine.cache").explain())


public(globals())
