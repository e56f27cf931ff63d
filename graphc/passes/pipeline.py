"""The pipeline: one ordered list of passes from a traced graph to what the scheduler takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..ir.graph import Graph, verify
from ..ir.layout import Layout
from ..ir.node import Node
from .canonical import canonical_contractions
from .decompose import decompose
from .layout import choose_layouts
from .scan_motion import hoist_invariants, move_out_of_scans
from .scans import prune_scans
from .simplify import simplify as rewrite

__all__ = ["Lowered", "PassRecord", "Settings", "lower"]


@dataclass(frozen=True)
class Settings:
    """What a target tells the pipeline: vector width (0: no panels), fixed layouts, whether layouts may be chosen, claimed composites."""

    width: int = 16
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    may_choose: bool = False
    claims: Callable[[Node], bool] = lambda node: False


@dataclass(frozen=True)
class PassRecord:
    """One pass as it ran: its time, the graph before and after, and how often each rewrite rule fired."""

    name: str
    seconds: float
    before: Graph
    after: Graph
    rules: Mapping[str, int] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.before.structural_key != self.after.structural_key

    def as_text(self) -> str:
        """The graph after the pass; before it a comment with the rules that fired."""
        return (f"# {fired_text(self.rules)}\n" if self.rules else "") + str(self.after)


def fired_text(rules: Mapping[str, int]) -> str:
    """The rules that fired, most often first: ``neg neg x3, mul one``."""
    return ", ".join(f"{rule} x{n}" if n > 1 else rule for rule, n in sorted(rules.items(), key=lambda item: -item[1]))


@dataclass
class Lowered:
    """A graph that is ready to be scheduled, with the record of every pass."""

    graph: Graph
    layouts: dict[str, Layout]
    passes: list[PassRecord]

    def as_text(self, stage: str = "") -> str:
        """The graph after the pass named ``stage`` (the last one if empty)."""
        for p in self.passes:
            if p.name == stage:
                return p.as_text()
        return str(self.graph)


def into_bodies(graph: Graph, run: Callable[[Graph], Graph]) -> Graph:
    """The graph with a pass applied to the bodies of its scans, innermost first."""
    if not any("body" in n.attrs for n in graph.nodes):
        return graph

    def rule(node: Node, ins: tuple[Node, ...]) -> Node | None:
        if "body" not in node.attrs:
            return None
        body = run(into_bodies(node.attrs["body"], run))
        return Node.make(node.op, ins, **{**node.attrs, "body": body})

    return graph.transform(rule)


def lower(graph: Graph, settings: Settings) -> Lowered:
    """Runs every pass in order; what comes in and what goes out is verified."""
    verify(graph)
    layouts = dict(settings.layouts)

    def layout_pass(g: Graph) -> Graph:
        choice = choose_layouts(g, layouts, width=settings.width, may_choose=settings.may_choose)
        layouts.update(choice.slots)
        return choice.graph

    def decomposed(g: Graph) -> Graph:
        return decompose(g, settings.claims)

    fired: Counter[str] = Counter()

    def simplify(g: Graph) -> Graph:
        return rewrite(g, fired=fired)

    passes: list[tuple[str, Callable[[Graph], Graph]]] = [
        ("simplify", simplify),
        ("decompose", decomposed),
        ("simplify primitives", simplify),
        # only now: a layer's scan and the same scan in its gradient have become one node, of which each reads some results
        ("prune scans", prune_scans),
        ("move out of scans", move_out_of_scans),
        ("canonical contractions", canonical_contractions),
        ("layout", layout_pass),
        ("hoist from scans", hoist_invariants),  # the copies of weights that the layout asks for
        ("simplify views", simplify),
    ]
    records = []
    for name, run in passes:
        start = time.perf_counter()
        fired.clear()
        after = run(graph if run in (decomposed, prune_scans) else into_bodies(graph, run))
        records.append(PassRecord(name, time.perf_counter() - start, graph, after, dict(fired)))
        graph = after
    verify(graph)
    return Lowered(graph, layouts, records)
