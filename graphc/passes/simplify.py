"""The rewrite driver: applies rules bottom-up, to a fixpoint at every node, in one walk over the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from ..errors import VerifyError
from ..ir.graph import Graph, rebuild
from ..ir.node import Node, toposort
from ..ir.provenance import Provenance
from .patterns import Rule, RuleSet
from .rules import RULES

__all__ = ["simplify"]

LIMIT = 100
"""Rewrites of one node before the rules must be running in circles."""

_indexed = lru_cache(maxsize=8)(RuleSet)


def simplify(graph: Graph, rules: Sequence[Rule] = RULES, fired: Counter[str] | None = None) -> Graph:
    """The graph with every rule applied wherever it matches, so that simplifying it again changes nothing.

    ``fired`` counts what each rule did; the graph's provenance says which rules made a node. Raises VerifyError naming rules
    that undo each other.
    """
    walk = _Walk(_indexed(tuple(rules)), graph.provenance, Counter() if fired is None else fired)
    image: dict[Node, Node] = {}
    for node in graph.nodes:
        ins = tuple([image[i] for i in node.inputs])
        image[node] = walk.rewrite(node, ins, node, [])
    return graph.with_roots(image.__getitem__)


class _Walk:
    """One walk: ``done`` holds nodes that no rule matches, nor any node below them."""

    def __init__(self, rules: RuleSet, provenance: Provenance, fired: Counter[str]):
        self.rules, self.provenance, self.fired = rules, provenance, fired
        self.done: set[Node] = set()

    def rewrite(self, node: Node, ins: tuple[Node, ...], origin: Node, trail: list[str]) -> Node:
        """What becomes of a node on operands that are done. ``origin`` is the graph's node for which it is made, ``trail`` the
        rules that have fired for that one."""
        here, start = self.on(node, ins, origin), len(trail)
        while here not in self.done:
            new = self.step(here, origin, trail)
            if new is None:
                self.done.add(here)
                break
            here = new
        if here is not node:
            source = self.provenance.of(origin)
            self.provenance.add(here, source.locs, source.scopes, (*source.rules, *trail[start:]))
        return here

    def step(self, here: Node, origin: Node, trail: list[str]) -> Node | None:
        """The first rule that matches, applied, and what it made below the top rewritten in turn."""
        for rule, matcher in self.rules.candidates(here):
            env = rule.match(matcher, here)
            if env is None:
                continue
            with self.provenance.inherit(origin):
                new = rule.build(env)
            if new is None:
                continue
            trail.append(rule.name)
            self.fired[rule.name] += 1
            if len(trail) > LIMIT:
                raise VerifyError(f"rewrite rules run in circles: {', '.join(dict.fromkeys(trail[-10:]))}")
            return self.settled(new, rule.name, origin, trail)
        return None

    def settled(self, new: Node, name: str, origin: Node, trail: list[str]) -> Node:
        """What the rule ``name`` made, on operands that are done."""
        if new in self.done or all(i in self.done for i in new.inputs):
            return new
        image: dict[Node, Node] = {}
        for n in toposort(new.inputs, self.done):
            if n in self.done:
                image[n] = n
            else:
                self.provenance.add(n, rules=(name,))
                image[n] = self.rewrite(n, tuple([image[i] for i in n.inputs]), origin, trail)
        return self.on(new, tuple([image[i] for i in new.inputs]), origin)

    def on(self, node: Node, ins: tuple[Node, ...], origin: Node) -> Node:
        """The node on other operands."""
        if ins == node.inputs:
            return node
        with self.provenance.inherit(origin):
            return rebuild(node, ins)
