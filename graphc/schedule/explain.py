"""Answers to "why are these two in one kernel, or not?"."""

from __future__ import annotations

from ..ir.node import Node
from .groups import Grouping

__all__ = ["explain"]


def explain(grouping: Grouping, a: Node | str, b: Node | str) -> str:
    """One sentence about two nodes (or the first pair of nodes with these operator names that meet)."""

    def fits(node: Node, wanted: Node | str) -> bool:
        return node.op.name == wanted if isinstance(wanted, str) else node is wanted

    def name(x: Node | str) -> str:
        return x if isinstance(x, str) else x.op.name

    for d in grouping.decisions:
        if (fits(d.producer, a) and fits(d.consumer, b)) or (fits(d.producer, b) and fits(d.consumer, a)):
            return f"{d.producer.op.name} and {d.consumer.op.name} are {'one kernel' if d.fused else 'two kernels'}: {d.reason}"
    homes = [{g.number for n, g in grouping.home.items() if fits(n, x)} for x in (a, b)]
    if homes[0] & homes[1]:
        return f"{name(a)} and {name(b)} are one kernel: values between them connect them there"
    if homes[0] and homes[1]:
        return f"{name(a)} and {name(b)} are two kernels: neither reads the other, and kernels are only joined along a value"
    missing = name(a) if not homes[0] else name(b)
    return f"{missing} is in no kernel: it was folded into the index maps of its readers, simplified away, or is not in this graph"
