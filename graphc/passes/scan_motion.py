"""Work that need not wait for its turn leaves the scan: one large contraction outside is worth many small ones inside.

Four moves, each of them exact but for the order of sums:

- *shared*: the scan of a gradient computes again what the scan before it computed from the very same values. Where that was a
  contraction, the first scan keeps its result for every iteration and the second one reads it;
- *elements*: a contraction that depends on elements and captured values, and on no carry, is computed for all iterations at once;
- *results*: a carry that only adds up products, or sums over rows, becomes one product of the stacked operands after the scan (the
  gradient of a recurrent weight), and so does a result of each iteration that is a product with a captured value;
- *invariants*: what depends on captured values alone is computed once, before the scan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..ir.dims import Size
from ..ir.graph import Graph, Input, rebuild
from ..ir.node import Node
from ..ir.op import lookup
from ..ops.recurrence import reads_trip
from ..ops.views import broadcast_to, reshape, transpose
from .scans import prune_scans

__all__ = ["hoist_invariants", "move_out_of_scans"]

VIEWS = ("view", "identity")


def move_out_of_scans(graph: Graph) -> Graph:
    """The graph after all four moves."""
    return prune_scans(hoist_invariants(_elements(_results(_shared(graph)))))


def hoist_invariants(graph: Graph) -> Graph:
    """What a body computes of captured values alone is computed before the scan."""
    return prune_scans(_rewrite(graph, _invariants))


# -- scans and their parts ---------------------------------------------------------------------------------------------------
@dataclass
class _Scan:
    """A scan that is being changed. ``ins`` are its operands in the new graph."""

    node: Node
    ins: tuple[Node, ...]
    swaps: dict[Node, Node] = field(default_factory=dict)
    """Nodes of the body that became arguments."""
    xs: list[tuple[Input, Node]] = field(default_factory=list)
    consts: list[tuple[Input, Node]] = field(default_factory=list)
    rows: list[Node] = field(default_factory=list)
    """Nodes of the body whose values are kept for every iteration, beside the results there are."""
    instead: dict[int, Callable[[Node], Node]] = field(default_factory=dict)
    """Results that leave the scan: what takes their place, given the new scan."""

    def __post_init__(self) -> None:
        self.body: Graph = self.node.attrs["body"]
        self.n_carry: int = self.node.attrs["n_carry"]
        self.n_xs: int = self.node.attrs["n_xs"]
        self.length: Size = self.node.attrs["length"]
        self.args = [i.node for i in self.body.inputs]
        self.outputs = [n for _, n in self.body.outputs]
        first = self.n_carry + self.n_xs
        self.place = {a: i for i, a in enumerate(self.args)}
        self.kinds: dict[Node, set[str]] = {}
        """What a node of the body depends on: "carry", "x", "const", "trip"."""
        for n in self.body.nodes:
            i = self.place.get(n)
            if i is not None:
                self.kinds[n] = {"carry" if i < self.n_carry else "x" if i < first else "const"}
            else:
                self.kinds[n] = set().union(*(self.kinds[x] for x in n.inputs))
                self.kinds[n] |= {"trip"} if reads_trip(n) else set()

    def argument(self, like: Node) -> Input:
        """A new argument of the body, of a node's type."""
        prefix = re.match(r"\$s\d+", self.body.inputs[0].name)
        name = f"{prefix[0] if prefix else '$s'}m{len(self.body.inputs) + len(self.xs) + len(self.consts)}"
        return Input(name, lookup("input").call(name, like.shape, like.dtype))

    def element(self, inner: Node, outer: Node) -> None:
        """``inner`` comes from outside from now on, one element of ``outer`` an iteration."""
        arg = self.argument(inner)
        self.xs.append((arg, outer))
        self.swaps[inner] = arg.node

    def captured(self, inner: Node, outer: Node) -> None:
        arg = self.argument(inner)
        self.consts.append((arg, outer))
        self.swaps[inner] = arg.node

    def keep(self, inner: Node) -> Callable[[Node], Node]:
        """The values of ``inner`` in all iterations, once the new scan is there."""
        outs = [*self.outputs, *self.rows]
        old = next((i for i, n in enumerate(outs) if i >= self.n_carry and n is inner), None)
        if old is None:
            self.rows.append(inner)
            old = len(outs)
        return lambda scan: Node.make(lookup("item"), (scan,), index=self.places[old])

    def finish(self) -> tuple[Node, list[Node]]:
        """The new scan, and what stands for each of the old results."""
        outs = [*self.outputs, *self.rows]
        kept = [i for i in range(len(outs)) if i not in self.instead]
        self.places = {old: new for new, old in enumerate(kept)}
        first = self.n_carry + self.n_xs
        pairs = list(zip(self.body.inputs, self.ins, strict=True))
        operands = [
            *(p for i, p in enumerate(pairs[: self.n_carry]) if i not in self.instead),
            *pairs[self.n_carry : first], *self.xs, *pairs[first:], *self.consts,
        ]  # fmt: skip
        grown = replace(
            self.body, inputs=tuple(i for i, _ in operands), outputs=tuple((f"r{new}", outs[old]) for old, new in self.places.items())
        )
        attrs = {
            **self.node.attrs,
            "body": grown.transform(lambda n, _: self.swaps.get(n)),
            "n_carry": self.n_carry - sum(i < self.n_carry for i in self.instead),
            "n_xs": self.n_xs + len(self.xs),
        }
        scan = Node.make(self.node.op, [o for _, o in operands], **attrs)
        results = [
            self.instead[i](scan) if i in self.instead else Node.make(lookup("item"), (scan,), index=self.places[i])
            for i in range(len(self.outputs))
        ]
        return scan, results

    @property
    def changed(self) -> bool:
        return bool(self.swaps or self.rows or self.instead)

    # -- values for all iterations at once -----------------------------------------------------------------------------------
    def lift(self, n: Node) -> Node:
        """A node of captured values, outside."""
        if n in self.place:
            return self.ins[self.place[n]]
        return rebuild(n, tuple(self.lift(i) for i in n.inputs))

    def stack(self, n: Node) -> Node | None:
        """A node of elements and captured values for all iterations, along a new first axis; None where no rule says how."""
        kinds = self.kinds[n]
        if "carry" in kinds or "trip" in kinds:
            return None
        if "x" not in kinds:
            return broadcast_to(reshape(self.lift(n), (1, *n.shape)), (self.length, *n.shape))
        if n in self.place:
            return self.ins[self.place[n]]
        if n.op.name == "dot_general":
            return self.stack_product(n)
        ins = [self.stack(i) for i in n.inputs]
        if any(i is None for i in ins):
            return None
        first: Node = ins[0]  # type: ignore[assignment]
        if n.op.kind == "elementwise":
            return rebuild(n, tuple(ins))  # type: ignore[arg-type]
        if n.op.name == "transpose":
            return transpose(first, (0, *(p + 1 for p in n.attrs["perm"])))
        if n.op.name == "reshape":
            return reshape(first, (self.length, *n.shape))
        if n.op.name == "slice":
            a = n.attrs
            return Node.make(n.op, (first,), starts=(0, *a["starts"]), sizes=(self.length, *a["sizes"]), steps=(1, *a["steps"]))
        return None

    def stack_product(self, n: Node) -> Node | None:
        a, b = n.inputs
        (ca, cb), (ba, bb) = n.attrs["contract"], n.attrs["batch"]

        def up(axes: Iterable[int]) -> tuple[int, ...]:
            return tuple(i + 1 for i in axes)

        left, right = "x" in self.kinds[a], "x" in self.kinds[b]
        x = self.stack(a) if left else self.lift(a)
        y = self.stack(b) if right else self.lift(b)
        if x is None or y is None:
            return None
        if left and right:
            return Node.make(n.op, (x, y), contract=(up(ca), up(cb)), batch=((0, *up(ba)), (0, *up(bb))))
        return None if ba else _stacked_product(n, x, y)


def _rewrite(graph: Graph, edit: Callable[[_Scan], None]) -> Graph:
    """The graph with ``edit`` applied to each of its scans."""
    results: dict[Node, list[Node]] = {}

    def rule(node: Node, ins: tuple[Node, ...]) -> Node | None:
        if node.op.kind == "tuple" and node.inputs[0] in results:
            number: int = node.attrs["index"]
            return results[node.inputs[0]][number]
        scan = _Scan(node, ins) if node.op.kind == "scan" else None
        if scan is None:
            return None
        edit(scan)
        if not scan.changed:
            return None
        new, results[node] = scan.finish()
        return new

    return graph.transform(rule) if any(n.op.kind == "scan" for n in graph.nodes) else graph


# -- the moves ---------------------------------------------------------------------------------------------------------------
def _shared(graph: Graph) -> Graph:
    """Contractions that a scan repeats of another one are kept by the other one."""
    wanted: dict[Node, list[Node]] = {}
    reads: dict[Node, list[tuple[Node, Node, int]]] = {}
    for node in graph.nodes:
        if node.op.kind == "scan":
            for source in dict.fromkeys(i.inputs[0] for i in node.inputs if i.op.kind == "tuple" and i.inputs[0].op.kind == "scan"):
                for inner, image in _repeats(node, source):
                    asked = wanted.setdefault(source, [])
                    if image not in asked:
                        asked.append(image)
                    reads.setdefault(node, []).append((inner, source, asked.index(image)))
    if not wanted:
        return graph
    kept: dict[Node, list[Node]] = {}

    def rule(node: Node, ins: tuple[Node, ...]) -> Node | None:
        if node not in wanted and node not in reads:
            return None
        scan = _Scan(node, ins)
        for inner, source, number in reads.get(node, ()):
            scan.element(inner, kept[source][number])
        later = [scan.keep(n) for n in wanted.get(node, ())]
        new, _ = scan.finish()  # results that there were keep their places
        kept[node] = [make(new) for make in later]
        return new

    return graph.transform(rule)


def _repeats(node: Node, source: Node) -> list[tuple[Node, Node]]:
    """(node of a scan's body, the same in the source's body): contractions of the same values, with what is added to them."""
    body, first = node.attrs["body"], source.attrs["body"]
    if node.attrs["length"] != source.attrs["length"]:
        return []
    outputs = [n for _, n in first.outputs]
    given = dict(zip(source.inputs[source.attrs["n_carry"] :], (i.node for i in first.inputs[source.attrs["n_carry"] :]), strict=True))
    image: dict[Node, Node] = {}
    n_carry, elements = node.attrs["n_carry"], node.attrs["n_carry"] + node.attrs["n_xs"]
    steps = {i.node for i in first.inputs[source.attrs["n_carry"] : source.attrs["n_carry"] + source.attrs["n_xs"]]}
    for i, (arg, operand) in enumerate(zip(body.inputs, node.inputs, strict=True)):
        if i < n_carry:
            continue
        if i < elements and operand.op.kind == "tuple" and operand.inputs[0] is source and operand.attrs["index"] >= source.attrs["n_carry"]:
            image[arg.node] = outputs[operand.attrs["index"]]
        elif operand in given and (given[operand] in steps) == (i < elements):
            image[arg.node] = given[operand]
    there = set(first.nodes)
    for n in body.nodes:
        if n not in image and n.op.kind != "input" and all(i in image for i in n.inputs) and not reads_trip(n):
            image[n] = n if not n.inputs else rebuild(n, tuple(image[i] for i in n.inputs))
    users = body.users
    roots = set(body.roots)
    found: dict[Node, Node] = {}
    for n in body.nodes:
        if n.op.name == "dot_general" and image.get(n) in there and any(i.op.kind != "const" for i in n.inputs):
            while n not in roots and len(users[n]) == 1 and users[n][0].op.kind == "elementwise" and image.get(users[n][0]) in there:
                n = users[n][0]
            found[n] = image[n]
    return list(found.items())


def _elements(graph: Graph) -> Graph:
    """Contractions of elements for all iterations at once."""

    def edit(scan: _Scan) -> None:
        for n in scan.body.nodes:
            if n.op.name == "dot_general" and "x" in scan.kinds[n]:
                outer = scan.stack(n)
                if outer is not None:
                    scan.element(n, outer)

    return _rewrite(graph, edit)


def _results(graph: Graph) -> Graph:
    """Carries that add up products or sums are one product, or one sum, after the scan; so are results that are products."""

    def edit(scan: _Scan) -> None:
        users, roots = scan.body.users, set(scan.body.roots)
        for i, out in enumerate(scan.outputs[scan.n_carry :], scan.n_carry):
            if out.op.name == "dot_general" and not users.get(out) and scan.outputs.count(out) == 1 and out.attrs["batch"] == ((), ()):
                left, right = (scan.kinds[x] == {"const"} for x in out.inputs)
                if left != right:
                    scan.instead[i] = _product_of_rows(scan, out, left)
        for i in range(scan.n_carry):
            carry, out = scan.args[i], scan.outputs[i]
            if out.op.name != "add" or carry not in out.inputs or users[carry] != [out] or carry in roots or users.get(out) or scan.outputs.count(out) > 1:
                continue
            term = out.inputs[1] if out.inputs[0] is carry else out.inputs[0]
            views: list[Node] = []
            while term.op.kind in VIEWS and len(term.inputs) == 1 and term.op.name != "relayout":
                views.append(term)
                term = term.inputs[0]
            total = _total(scan, term)
            if total is not None and term is not carry:
                scan.instead[i] = _sum_of(scan.ins[i], total, views)

    return _rewrite(graph, edit)


def _product_of_rows(scan: _Scan, n: Node, left: bool) -> Callable[[Node], Node]:
    """The product of the kept rows of one operand with a captured value, for all iterations; ``left``: that is the first operand."""
    rows = _rows(scan, n.inputs[1] if left else n.inputs[0])
    fixed = scan.lift(n.inputs[0] if left else n.inputs[1])
    return lambda new: _stacked_product(n, fixed, rows(new)) if left else _stacked_product(n, rows(new), fixed)


def _stacked_product(n: Node, x: Node, y: Node) -> Node:
    """A product of which one operand has a first axis more than in ``n``, for all iterations; the result has that axis first."""
    (ca, cb), a = n.attrs["contract"], n.inputs[0]
    if x.ndim > a.ndim:
        return Node.make(n.op, (x, y), contract=(tuple(i + 1 for i in ca), cb), batch=((), ()))
    out = Node.make(n.op, (x, y), contract=(ca, tuple(i + 1 for i in cb)), batch=((), ()))
    time = a.ndim - len(ca)
    turned: Node = transpose(out, (time, *(i for i in range(out.ndim) if i != time)))
    return turned


def _sum_of(start: Node, total: Callable[[Node], Node], views: Sequence[Node]) -> Callable[[Node], Node]:
    def make(scan: Node) -> Node:
        out = total(scan)
        for v in reversed(views):
            out = rebuild(v, (out,))
        return Node.make(lookup("add"), (start, out))

    return make


def _total(scan: _Scan, term: Node) -> Callable[[Node], Node] | None:
    """The sum of a product or of a sum over all iterations, given the new scan; None where it stays inside."""
    if term.op.name == "dot_general" and term.attrs["batch"] == ((), ()):
        a, b = (_rows(scan, n) for n in term.inputs)
        contract: Mapping[int, tuple[int, ...]] = {s: (0, *(i + 1 for i in term.attrs["contract"][s])) for s in (0, 1)}
        return lambda new: Node.make(term.op, (a(new), b(new)), contract=(contract[0], contract[1]), batch=((), ()))
    if term.op.name == "sum":
        x = _rows(scan, term.inputs[0])
        return lambda new: Node.make(term.op, (x(new),), axes=(0, *(i + 1 for i in term.attrs["axes"])))
    return None


def _rows(scan: _Scan, n: Node) -> Callable[[Node], Node]:
    """The values of a node in all iterations: operands of the scan as they are, all others are kept."""
    base = n
    while base.op.kind in VIEWS and len(base.inputs) == 1:
        base = base.inputs[0]
    outer = scan.stack(n) if base in scan.place else None
    return scan.keep(n) if outer is None else lambda _: outer


def _invariants(scan: _Scan) -> None:
    for n in scan.body.nodes:
        if n not in scan.place and scan.kinds[n] == {"const"} and (n.op.kind not in VIEWS or n.op.name == "relayout") and n.op.kind != "tuple":
            scan.captured(n, scan.lift(n))
