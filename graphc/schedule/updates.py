"""Which values a parameter's update alone depends on: only those may share the contraction that makes the gradient."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator

from ..ir.graph import Graph
from ..ir.node import Node

__all__ = ["UpdatePaths"]


POINTWISE = ("elementwise", "view", "identity")


class UpdatePaths:
    """For every node, the parameters whose new value it leads to element by element, as a set of bits."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.outputs = {n for _, n in graph.outputs}
        by_name = {i.name: i.node for i in graph.inputs}
        self._new = {by_name[name]: node for name, node in graph.updates}
        self._old: dict[Node, list[Node]] = {}
        for slot, node in self._new.items():
            self._old.setdefault(node, []).append(slot)
        params = {i.name for i in graph.inputs if i.role == "param"}
        self._leads: dict[Node, int] = {}
        self._returned: set[Node] = set(self.outputs)
        """Nodes on a path to an output."""
        bit = 1
        for name, node in graph.updates:
            if name in params:
                self._leads[node] = self._leads.get(node, 0) | bit
                bit <<= 1
        for node in reversed(graph.nodes):
            mine = self._leads.get(node, 0) if node.op.kind in POINTWISE else 0
            for i in node.inputs:
                if mine:
                    self._leads[i] = self._leads.get(i, 0) | mine
                if node in self._returned:
                    self._returned.add(i)

    def alone(self, value: Node, reader: Node, inline: Callable[[Node], bool]) -> bool:
        """Whether ``reader`` may be computed where ``value`` is: it is no part of an update, or everybody who reads the
        value belongs to the update of one parameter.

        So the update joins the contraction that completes a gradient (the sum, of a tied weight), but not one whose
        gradient is returned, or added to what a later step will use.
        """
        here = self._leads.get(reader, 0)
        if not here or reader in self._returned:
            return True
        if value in self.outputs:
            return False
        for user in self._users(value, inline):
            here &= self._leads.get(user, 0)
        return bool(here)

    def clash(self, reads: Iterable[Node], others: Container[Node], node: Node, members: Container[Node]) -> bool:
        """Whether ``node`` reads the old value of a slot that one of ``members`` updates, or updates one that they read."""
        return any(self._new.get(r) in members for r in reads if r in self._new) or any(s in others for s in self._old.get(node, ()))

    def _users(self, value: Node, inline: Callable[[Node], bool]) -> Iterator[Node]:
        """Who reads a value, through views; a view that is an output reads it too, and leads to no update."""
        for u in self.graph.users[value]:
            if u.op.kind in ("view", "identity") and u not in self.outputs and inline(u):
                yield from self._users(u, inline)
            else:
                yield u
