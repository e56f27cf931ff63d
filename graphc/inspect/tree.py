"""``gc.dprint``: a tensor and what it is made of as an indented tree, in which shared nodes have letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.provenance import Provenance
from ..ir.text import attr_text
from ..locate import public
from .find import graph_of, provenance_of

__all__ = ["dprint", "tree_text"]


def dprint(x: Any, depth: int | None = None, print_fn: Callable[[str], Any] | None = print) -> str | None:
    """Prints a tensor as a tree of what it is computed from; ``print_fn=None`` gives the text back.

    ``x`` is a tensor, a graph or anything compiled (all its outputs). Nodes that are read more than once have an id, and are
    written out once. ``depth`` ends the tree.

    >>> import graphc as gc
    >>> def f(a, b):
    ...     c = a @ b
    ...     return c.exp() + c
    >>> gc.dprint(gc.trace(f, gc.spec("N", 2), gc.spec(2, 3)).outputs[0][1])
    add : f32[N, 3]
    ├─ exp : f32[N, 3]
    │  └─ dot_general [A] : f32[N, 3]  batch=((), ()), contract=((1,), (0,))
    │     ├─ a : f32[N, 2]
    │     └─ b : f32[2, 3]
    └─ dot_general [A] (above)
    """
    if isinstance(x, Node):
        text = tree_text([("", x)], depth)
    else:
        graph = graph_of(x)
        text = tree_text([*graph.outputs, *((f"new {k}", n) for k, n in graph.updates)], depth, graph.provenance)
    if print_fn is None:
        return text
    print_fn(text)
    return None


def tree_text(roots: list[tuple[str, Node]], depth: int | None = None, provenance: Provenance | None = None) -> str:
    """The tree of named nodes."""
    readers: dict[Node, int] = {}
    stack = [n for _, n in roots]
    while stack:
        n = stack.pop()
        readers[n] = readers.get(n, 0) + 1
        if readers[n] == 1:
            stack += n.inputs
    letters: dict[Node, str] = {}
    done: set[Node] = set()
    lines: list[str] = []
    # an explicit stack, since graphs are deeper than Python's: (node, what stands before it, what stands before its operands, level)
    pending: list[tuple[Node, str, str, int]] = [(n, f"{k} = " if k else "", "", 0) for k, n in reversed(roots)]
    while pending:
        node, head, below, level = pending.pop()
        mark = ""
        if readers[node] > 1 and node.inputs:
            letters.setdefault(node, _letter(len(letters)))
            mark = f" [{letters[node]}]"
        if node in done and node.inputs:
            lines.append(f"{head}{node.op.name}{mark} (above)")
            continue
        done.add(node)
        lines.append(f"{head}{_line(node, mark, provenance)}")
        if depth is not None and level >= depth:
            if node.inputs:
                lines.append(f"{below}└─ …")
                done.discard(node)
            continue
        for i, x in reversed(list(enumerate(node.inputs))):
            last = i == len(node.inputs) - 1
            pending.append((x, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), level + 1))
    return "\n".join(lines)


def _line(node: Node, mark: str, provenance: Provenance | None) -> str:
    if node.op.kind == "input":
        return f"{node.attrs['name']} : {node.type}"
    attrs = ", ".join(_attrs(node))
    origin = (provenance or provenance_of(node)).of(node) if provenance is not None else None
    where = "  # " + " ".join([*map(str, sorted(origin.locs)), *sorted(s for s in origin.scopes if s)]) if origin and origin.locs else ""
    return f"{node.op.name}{mark} : {node.type}" + (f"  {attrs}" if attrs else "") + where


def _attrs(node: Node) -> Iterator[str]:
    for k, v in sorted(node.attrs.items()):
        text = "(graph)" if isinstance(v, Graph) else attr_text(v)
        yield f"{k}={text if len(text) <= 60 else text[:59] + '…'}"


def _letter(i: int) -> str:
    return _letter(i // 26 - 1) + chr(65 + i % 26) if i >= 26 else chr(65 + i)


public(globals())
