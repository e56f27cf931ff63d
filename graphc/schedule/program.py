"""The schedule of a graph: buffers, launches in order with barriers between them, and what is checked when.

A schedule is still independent of a backend and of the values of named dims. ``schedule_graph`` runs: grouping, nests,
in-place updates, order, phases. The memory plan (:mod:`graphc.schedule.memory`) is made per binding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from ..errors import CompileError
from ..ir.dims import Size, floordiv, substitute, sym
from ..ir.graph import Graph
from ..ir.layout import Layout, row_major
from ..ir.node import Node, toposort
from ..ir.op import lookup
from ..ir.types import TupleType
from ..loops import scalar as s
from ..loops.build import TRIP
from ..loops.channels import channels_last_values
from ..loops.nest import Axis, Nest, Stage, Write
from ..loops.scalar import postorder
from .group import Decision, maker
from .groups import Grouping, group_graph
from .launches import Buffer, Check, Launch, Repeat, Schedule, memory_key
from .limits import Limits
from .nests import Place, build_nest, resolve

__all__ = ["Buffer", "Check", "Launch", "Repeat", "Schedule", "memory_key", "schedule_graph"]


def schedule_graph(graph: Graph, layouts: Mapping[str, Layout] | None = None, limits: Limits | None = None) -> Schedule:
    """The schedule of a decomposed, canonical graph. ``layouts`` are the storage layouts of params and state by name.

    ``limits`` are the numbers that the target gives.
    """
    return _Scheduler(graph, dict(layouts or {}), limits or Limits()).run()


class _Scheduler:
    def __init__(self, graph: Graph, layouts: dict[str, Layout], limits: Limits):
        self.graph = _separate_results(graph)
        self.limits = limits
        self.slot_layouts = layouts
        self.buffers: dict[Node, Buffer] = {}
        self.notes: list[str] = []
        self.origins: dict[Node, tuple[Node, Node]] = {}
        self.places: dict[Node, Place] = {}
        """Values that lie inside a larger buffer: carries and stacked results of scans."""

    def run(self) -> Schedule:
        graph = self.graph
        layouts = {i.node: self.slot_layouts[i.name] for i in graph.inputs if i.name in self.slot_layouts}
        grouping = self._group(graph, layouts)
        for i in graph.inputs:
            layout = layouts.get(i.node) or row_major(i.node.ndim)
            self.buffers[i.node] = Buffer(i.node, i.node.tensor, layout, "arg" if i.role == "arg" else "slot", i.name)
        stored = self._stored(graph, grouping)
        nests = {g.number: build_nest(g, stored) for g in grouping.groups if g.kind != "scan"}
        outputs = [(name, self._out(node, name)) for name, node in graph.outputs]
        self._temporaries(stored, grouping)
        self._leaves(graph)
        items = self._order(graph, grouping, nests)
        places = {node: Place(b.layout, b.type.shape) for node, b in self.buffers.items()} | self.places
        _resolve(items, places)
        if not graph.updates:
            items = _hoist_static(items)
        _phases(items)
        return Schedule(graph, items, self.buffers, outputs, grouping.decisions, grouping, self.notes, self.origins)

    def _group(self, graph: Graph, layouts: Mapping[Node, Layout], trip: Size = 0) -> Grouping:
        """The groups of a graph, with the layout of every value that does not lie row by row."""
        channels = channels_last_values(graph) if self.limits.tiled_folds else {}
        return group_graph(graph, trip, self.limits, {**channels, **layouts})

    def _stored(self, graph: Graph, grouping: Grouping) -> set[Node]:
        stored = {n for n in graph.roots if n in grouping.home}
        for g in grouping.groups:
            for t in g.loads():
                if grouping.home.get(t.attr[0]) is not g:
                    stored.add(t.attr[0])
            if g.scatter is not None:
                stored |= {*g.scatter.reads, g.scatter.out}
            if g.kind == "scan" and g.anchor is not None:
                stored.update(g.anchor.inputs)
        return {n for n in stored if n in grouping.home}

    def _temporaries(self, stored: set[Node], grouping: Grouping) -> None:
        unpadded = _unpadded(grouping)
        for node in stored:
            if node not in self.buffers and not isinstance(node.type, TupleType):
                layout = _layout_of(node, grouping, 0 if node in unpadded else self.limits.line)
                self.buffers[node] = Buffer(node, node.tensor, layout, "temp")

    def _leaves(self, graph: Graph) -> None:
        """Buffers of constants and of results of scans."""
        for node in graph.nodes:
            if node in self.buffers:
                continue
            if node.op.kind == "const" and node.ndim:
                self.buffers[node] = Buffer(node, node.tensor, row_major(node.ndim), "const")
            elif node.op.kind == "tuple":
                self.buffers[node] = Buffer(node, node.tensor, row_major(node.ndim), "temp")

    # -- scans -----------------------------------------------------------------------------------------------------------
    def _scan(self, node: Node, decisions: list[Decision], depth: int = 0, outer_trip: Size = 0) -> list[Launch | Check | Repeat]:
        """A scan as copies of the initial carries, a repeat of its body's launches, and copies of the final carries.

        A carry lies in a buffer of two places: trip t reads place t % 2 and writes place (t + 1) % 2. Inputs and stacked
        outputs are slices at the trip (or at its mirror image); index maps carry all of it, so the body is scheduled like
        any graph. Each depth of scans has a counter of its own until :func:`_resolve` knows all counts. ``outer_trip`` is the
        flattened iteration of the scans around, which random numbers in the body continue.
        """
        body: Graph = node.attrs["body"]
        n_carry, n_xs = node.attrs["n_carry"], node.attrs["n_xs"]
        length, trip = node.attrs["length"], sym(_counter(depth))
        at = length - 1 - trip if node.attrs["reverse"] else trip
        iteration = outer_trip * length + at
        image: dict[Node, Node] = {}
        carries: list[Node] = []
        for i, (inner, operand) in enumerate(zip(body.inputs, node.inputs, strict=True)):
            outer = self._alias(operand)
            if i < n_carry:
                pair = lookup("input").call(f"carry{len(self.buffers)}.{i}", (2, *outer.shape), outer.dtype)
                self.buffers[pair] = Buffer(pair, pair.tensor, row_major(pair.ndim), "temp", pair.attrs["name"])
                carries.append(pair)
                image[inner.node] = _part(pair, trip % 2)
            elif i < n_carry + n_xs:
                image[inner.node] = _part(outer, at)
            else:
                image[inner.node] = outer
        roots = _own_results([_rebuild(n, image) for _, n in body.outputs])
        self.origins.update({new: (node, old) for old, new in image.items() if old is not new})
        for (_, old), new in zip(body.outputs, roots, strict=True):
            self.origins.setdefault(new, (node, old))  # a copy that stores a result stands for the result
        inside = Graph(body.name, (), tuple((f"r{i}", n) for i, n in enumerate(roots)), provenance=body.provenance)
        grouping = self._group(inside, {}, iteration)
        decisions += grouping.decisions
        for i, root in enumerate(roots):
            if i < n_carry:
                pair = carries[i]
                self.buffers[root] = self.buffers[pair]
                self.places[root] = Place(row_major(pair.ndim), pair.shape, ((trip + 1) % 2,))
            else:
                out = Node.make(lookup("item"), (node,), index=i)
                if out not in self.buffers:
                    self.buffers[out] = Buffer(out, out.tensor, row_major(out.ndim), "temp")
                self.buffers[root] = self.buffers[out]
                self.places[root] = Place(self.buffers[out].layout, out.shape, (at,))
        stored = self._stored(inside, grouping)
        self._temporaries(stored, grouping)
        self._leaves(inside)
        nests = {g.number: build_nest(g, stored) for g in grouping.groups if g.kind != "scan"}
        scans = {g.number: g.anchor for g in grouping.groups if g.kind == "scan" and g.anchor is not None}
        reads = {number: _reads(nest) for number, nest in nests.items()} | {number: dict.fromkeys(inner.inputs) for number, inner in scans.items()}
        producers = {n: g.number for n, g in grouping.home.items()}
        before = {k: {producers[maker(r)] for r in nodes if maker(r) in producers} - {k} for k, nodes in reads.items()}
        rows: list[Launch | Check | Repeat] = []
        for k in _toposort(before):
            rows += self._scan(scans[k], decisions, depth + 1, iteration) if k in scans else [self._launch(nests[k], reads[k])]
        items: list[Launch | Check | Repeat] = [
            self._move(outer, (), pair, (0,)) for outer, pair in zip(node.inputs, carries, strict=False)
        ]
        items.append(Repeat(length, rows))
        for i, pair in enumerate(carries):
            out = Node.make(lookup("item"), (node,), index=i)
            if out in self.buffers:
                items.append(self._move(pair, (length % 2,), out, ()))
        return items

    def _alias(self, node: Node) -> Node:
        """A leaf that is the same memory as a node: where the body's graph ends."""
        leaf: Node = lookup("input").call(f"outer{len(self.buffers)}", node.shape, node.dtype)
        self.buffers[leaf] = self.buffers[node]
        if node in self.places:
            self.places[leaf] = self.places[node]
        return leaf

    def _move(self, source: Node, at: tuple[Size, ...], target: Node, to: tuple[Size, ...]) -> Launch:
        """A copy of one value (or of the part at an index) to another."""
        shape = source.shape[len(at) :]
        axes = tuple(Axis(f"c{i}", d) for i, d in enumerate(shape))
        idx = tuple(0 if a.size == 1 else sym(a.name) for a in axes)
        write = Write(target, (*to, *idx), s.load(source, (*at, *idx), source.dtype))
        return Launch(Nest("map", "copy", axes, (), (Stage((write,)),), nodes=(source,)), (self.buffers[source],), (self.buffers[target],))

    def _out(self, node: Node, name: str) -> Buffer:
        if node not in self.buffers:
            self.buffers[node] = Buffer(node, node.tensor, row_major(node.ndim), "out", name)
        return self.buffers[node]

    # -- order ---------------------------------------------------------------------------------------------------------
    def _order(self, graph: Graph, grouping: Grouping, nests: dict[int, Nest]) -> list[Launch | Check | Repeat]:
        slots = {i.name: i.node for i in graph.inputs if i.role != "arg"}
        producers = {n: g.number for n, g in grouping.home.items()}
        reads = {number: _reads(nest) for number, nest in nests.items()}
        scans = {g.number: g.anchor for g in grouping.groups if g.kind == "scan" and g.anchor is not None}
        reads |= {number: dict.fromkeys(node.inputs) for number, node in scans.items()}
        before: dict[int, set[int]] = {k: {producers[maker(r)] for r in nodes if maker(r) in producers} - {k} for k, nodes in reads.items()}
        finite = dict(graph.outputs).get(graph.finite)
        gate = producers.get(maker(finite)) if finite is not None else None
        late: list[tuple[Node, Node]] = []
        for name, node in graph.updates:
            home = producers[maker(node)]
            slot = slots[name]
            reason = self._in_place(grouping, nests, reads, before, node, slot, home, gate)
            if reason:
                self.notes.append(f"{name}: {reason}; written to a second buffer and copied")
                late.append((node, slot))
                continue
            for number, nodes in reads.items():
                if slot in nodes and number != home:
                    before[home].add(number)
            if gate is not None:
                before[home].add(gate)
            self.buffers[node] = replace_buffer(self.buffers[slot], node)
        for node, slot in late:
            if self.buffers.get(node) is None or self.buffers[node].space != "out":
                self.buffers[node] = Buffer(node, node.tensor, self.buffers[slot].layout, "temp")
        updating = {producers[maker(node)] for _, node in graph.updates if self.buffers[node].space == "slot"}
        order = _toposort(before)
        items: list[Launch | Check | Repeat] = []
        checked = finite is None
        for number in order:
            if not checked and number in updating:
                items.append(Check(self.buffers[finite]))  # type: ignore[index]
                checked = True
            if number in scans:
                items += self._scan(scans[number], grouping.decisions)
            else:
                items.append(self._launch(nests[number], reads[number]))
        if not checked and graph.updates:
            items.append(Check(self.buffers[finite]))  # type: ignore[index]
        for node, slot in late:
            items.append(self._copy(node, slot))
        return items

    def _in_place(
        self, grouping: Grouping, nests: dict[int, Nest], reads: Mapping[int, Collection[Node]], before: dict[int, set[int]],
        node: Node, slot: Node, home: int, gate: int | None,
    ) -> str:  # fmt: skip
        if any(node is out for _, out in self.graph.outputs):
            return "the new value is also an output"
        if sum(node is value for _, value in self.graph.updates) > 1:
            return "the value goes to two places"
        group = grouping.groups[home]
        if group.kind not in ("map", "row", "contract"):
            return f"a {group.kind} does not write in place"
        nest = nests[home]
        target = next(w for w in nest.writes() if w.node is node)
        for t in postorder(nest.roots()):
            if t.op == "load" and t.attr[0] is slot and t.attr[1] != target.index:
                return "its kernel reads the old value at other places than it writes"
        if nest.contract is not None and any(t.attr[0] is slot for x in (nest.contract.a, nest.contract.b) for t in s.loads(x)):
            return "its kernel reads the old value as an operand"
        if _reads_after(nest, slot, target):
            return "its kernel reads the old value after it has written the new one"
        wanted = {number for number, nodes in reads.items() if slot in nodes and number != home} | ({gate} if gate is not None else set())
        if home in _ancestors(before, wanted) or home in wanted:
            return "something that needs the new value still reads the old one"
        return ""

    def _launch(self, nest: Nest, reads: Iterable[Node]) -> Launch:
        ins = [self.buffers[n] for n in sorted(reads, key=lambda n: self.buffers[n].name)]
        if nest.scatter is not None:
            outs = [self.buffers[nest.scatter.out]]
        else:
            outs = [self.buffers[w.node] for w in nest.writes()]
        return Launch(nest, tuple(dict.fromkeys(ins)), tuple(dict.fromkeys(outs)))

    def _copy(self, node: Node, slot: Node) -> Launch:
        target = lookup("input").call(f"{slot.attrs['name']}.new", slot.shape, slot.dtype)
        self.buffers[target] = replace_buffer(self.buffers[slot], target)
        return self._move(node, (), target, ())


def _counter(depth: int) -> str:
    """The symbol of the trip of a scan inside ``depth`` others."""
    return f"{TRIP}{depth}" if depth else TRIP


def _resolve(items: list[Launch | Check | Repeat], places: Mapping[Node, Place], counts: tuple[Size, ...] = ()) -> None:
    """Makes addresses flat, and the counters of nested repeats parts of the one trip number that a kernel is given."""
    flat: Size = sym(TRIP)
    values: dict[str, Size] = {}
    for depth, count in reversed(list(enumerate(counts))):
        rest = floordiv(flat, count)
        values[_counter(depth)] = flat - rest * count if depth else flat
        flat = rest
    for item in items:
        if isinstance(item, Repeat):
            _resolve(item.body, places, (*counts, item.count))
        elif isinstance(item, Launch):
            item.nest = resolve(item.nest, places)
            if len(counts) > 1:
                item.nest = _with_counters(item.nest, values)


def _with_counters(nest: Nest, values: Mapping[str, Size]) -> Nest:
    """The nest with counters of repeats replaced in its index expressions."""

    def write(w: Write) -> Write:
        return Write(w.node, tuple(substitute(e, values) for e in w.index), scalar(w.value))

    def scalar(value: s.Scalar) -> s.Scalar:
        return s.substitute_scalar(value, values)

    stages = tuple(
        Stage(tuple(map(write, st.points)), tuple(replace(a, value=scalar(a.value)) for a in st.accs), tuple(map(write, st.writes)))
        for st in nest.stages
    )
    contract = nest.contract and replace(nest.contract, a=scalar(nest.contract.a), b=scalar(nest.contract.b))
    return replace(nest, stages=stages, contract=contract, values=tuple((n, scalar(v)) for n, v in nest.values))


def replace_buffer(buffer: Buffer, node: Node) -> Buffer:
    """The same memory under another node: an update in place."""
    return replace(buffer, node=node)


def _unpadded(grouping: Grouping) -> set[Node]:
    """What scatters read and write, here or in the body of a scan: they walk their buffers as one run of elements."""
    found: set[Node] = set()
    for g in grouping.groups:
        if g.scatter is not None:
            found |= {*g.scatter.reads, g.scatter.out}
        elif g.kind == "scan" and g.anchor is not None and any(n.op.kind == "scatter" for n in g.anchor.attrs["body"].nodes):
            found.update(g.anchor.inputs)
    return found


def _layout_of(node: Node, grouping: Grouping, line: int) -> Layout:
    """Where a temporary lies: as the grouping says, else row-major, with rows a power of two apart moved by a cache line."""
    plain = grouping.layout(node)
    if not plain.is_row_major or node.op.name == "relayout" or not line or node.ndim < 2 or not isinstance(node.shape[-1], int):
        return plain
    row = node.shape[-1] * node.dtype.itemsize
    return replace(plain, pad=line // node.dtype.itemsize) if row and row % 512 == 0 else plain


def _reads(nest: Nest) -> dict[Node, None]:
    """What a kernel reads, in the order of its text: the memory plan follows it."""
    if nest.scatter is not None:
        return dict.fromkeys(nest.scatter.reads)
    return dict.fromkeys(t.attr[0] for t in postorder(nest.roots()) if t.op == "load")


def _reads_after(nest: Nest, slot: Node, target: Write) -> bool:
    """Whether a kernel may load from ``slot`` behind the write that overwrites it (what was loaded before stays in registers)."""

    def reads(values: Iterable[s.Scalar]) -> bool:
        return any(t.op == "load" and t.attr[0] is slot for t in postorder(list(values)))

    k = next(i for i, st in enumerate(nest.stages) if target in (*st.points, *st.writes))
    values = [[*(w.value for w in (*st.points, *st.writes)), *(a.value for a in st.accs)] for st in nest.stages]
    return any(map(reads, values[k + 1 :])) or (reads(values[k]) and not reads([target.value]))


def _ancestors(before: dict[int, set[int]], roots: set[int]) -> set[int]:
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        for p in before.get(stack.pop(), ()):
            if p not in seen:
                seen.add(p)
                stack.append(p)
    return seen


def _toposort(before: dict[int, set[int]]) -> list[int]:
    """Groups in an order that respects ``before``: by how many others must have run one after the other, so that barriers are as few
    as the longest chain allows, then by number."""
    users: dict[int, list[int]] = {}
    for n, deps in before.items():
        for d in deps:
            users.setdefault(d, []).append(n)
    waiting = {n: len(deps) for n, deps in before.items()}
    level = {n: 0 for n, count in waiting.items() if not count}
    ready = list(level)
    for n in ready:  # grows
        for u in users.get(n, ()):
            level[u] = max(level.get(u, 0), level[n] + 1)
            waiting[u] -= 1
            if not waiting[u]:
                ready.append(u)
    if len(ready) != len(before):
        raise CompileError("the schedule has a cycle")
    return sorted(ready, key=lambda n: (level[n], n))


def _part(x: Node, at: Size) -> Node:
    """``x[at]`` for an index that may hold the trip counter."""
    starts: tuple[Size, ...] = (at, *[0] * (x.ndim - 1))
    piece = Node.make(lookup("slice"), (x,), starts=starts, sizes=(1, *x.shape[1:]), steps=(1,) * x.ndim)
    return Node.make(lookup("reshape"), (piece,), shape=x.shape[1:])


def _rebuild(root: Node, image: dict[Node, Node]) -> Node:
    """A node over replaced inputs."""
    for n in toposort([root], set(image)):
        if n not in image:
            ins = tuple(image[i] for i in n.inputs)
            image[n] = n if ins == n.inputs else Node.make(n.op, ins, **n.attrs)
    return image[root]


def _own_results(roots: list[Node]) -> list[Node]:
    """Results that are leaves or views, or that occur twice, become copies: each is stored in a place of its own.

    So do scatters: they write whole buffers, and a result is a part of one.
    """
    out: list[Node] = []
    for n in roots:
        while n in out or (n.op.kind in ("input", "view", "identity", "const", "tuple", "scatter") and n.op.name != "relayout"):
            n = Node.make(lookup("relayout"), (n,), layout=row_major(n.ndim))
        out.append(n)
    return out


def _separate_results(graph: Graph) -> Graph:
    """Outputs that are inputs, constants or the same node twice become copies, so that each result has its own memory."""
    leaves = {i.node for i in graph.inputs} | {n for n in graph.roots if n.op.kind == "const"}
    return (
        graph
        if not any(n in leaves for n in graph.roots)
        else graph.with_roots(lambda n: Node.make(lookup("relayout"), (n,), layout=row_major(n.ndim)) if n in leaves else n)
    )


def _hoist_static(items: list[Launch | Check | Repeat]) -> list[Launch | Check | Repeat]:
    """Without updates, what depends on parameters alone is computed once and kept (relayouts of weights, mostly)."""
    for item in items:
        if (
            isinstance(item, Launch)
            and all(b.space in ("slot", "const", "static") for b in item.reads)
            and all(b.space == "temp" for b in item.writes)
        ):
            fixed = all(isinstance(b.nbytes, int) for b in item.writes)
            relayout = any(n.op.name == "relayout" for n in item.nest.nodes)
            if fixed and relayout:
                item.static = True
                for b in item.writes:
                    b.space = "static"
    return sorted(items, key=lambda i: not (isinstance(i, Launch) and i.static))


def _phases(items: list[Launch | Check | Repeat], start: int = 0) -> int:
    """Puts a barrier before every launch that touches what another kernel since the last barrier wrote (or overwrites
    what one reads), and numbers the stretches between barriers."""
    phase = start
    read: set[object] = set()
    written: set[object] = set()
    for item in items:
        if isinstance(item, Launch) and item.static:
            item.phase = phase
            continue
        if isinstance(item, Check):
            phase += 1
            read, written = set(), set()
            item.phase = phase
            continue
        if isinstance(item, Repeat):
            phase = _phases(item.body, phase + 1) + 1
            item.phase = phase
            read, written = set(), set()
            continue
        ins, outs = {memory_key(b) for b in item.reads}, {memory_key(b) for b in item.writes}
        if ins & written or outs & (read | written):
            item.barrier = True
            phase += 1
            read, written = set(), set()
        item.phase = phase
        read |= ins
        written |= outs
    return phase
