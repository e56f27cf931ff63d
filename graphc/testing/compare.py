"""Whether two graphs are the same, and where they differ."""

from __future__ import annotations

import difflib

from ..ir.graph import Graph
from ..ir.text import print_graph
from ..locate import public

__all__ = ["assert_graph_equal", "graph_equal"]


def graph_equal(a: Graph, b: Graph) -> bool:
    """Whether two graphs compute the same expressions from the same inputs (names, user lines and scopes do not count)."""
    return a.structural_key == b.structural_key


def assert_graph_equal(a: Graph, b: Graph) -> None:
    """Raises AssertionError with a diff of the text forms where :func:`graph_equal` fails."""
    if not graph_equal(a, b):
        first, second = (print_graph(g, locations=False).splitlines() for g in (a, b))
        raise AssertionError("graphs differ\n" + "\n".join(difflib.unified_diff(first, second, "first", "second", lineterm="")))


public(globals())
