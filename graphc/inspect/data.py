"""The data of a report: what the compiler did with a model, as plain JSON. Every view is made from it.

``docs/report.schema.json`` is its schema and says what each field means; ``docs/inspect.md`` tells the story. Nodes are kept once
in one table (the same computation in two stages is the same node), and stages, kernels and decisions name them by their place in it.
"""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from .. import __version__
from ..errors import ArgumentError
from ..ir.dims import Size, evaluate, symbols
from ..ir.dtypes import ALL
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.op import lookup
from ..ir.text import attr_text
from ..passes.pipeline import PassRecord
from ..passes.rules import RULES
from ..schedule.memory import plan_memory
from ..schedule.program import Buffer, Check, Launch, Repeat, Schedule, memory_key
from .cost import bodies, flops, nbytes
from .origins import kernel_lines
from .profile import check_profile

__all__ = ["FORMAT", "VERSION", "graph_data", "program_data", "report_data"]

FORMAT = "graphc-report"
VERSION = 1
ATTRIBUTE = 400
"""Characters of an attribute that are kept."""
CONTEXT = 6
"""Lines of the user's file that are kept around each line that made a node."""
STAGES = {
    "traced": ("Traced", "The graph as your code built it."),
    "gradient": ("Gradient", "With the backward pass and the optimiser's updates: a training step is one graph."),
    "simplify": ("Simplified", "Rewrite rules that read like mathematics, applied until none matches."),
    "decompose": ("Decomposed", "Composite operators written out in primitives; their names stay as scopes."),
    "simplify primitives": ("Simplified primitives", "The same rules on what decomposing laid open."),
    "prune scans": ("Pruned scans", "Results of loops that nobody reads are no longer computed."),
    "move out of scans": ("Moved out of scans", "Products and sums that no trip of a loop needs by itself are computed for all trips at once."),
    "hoist from scans": ("Hoisted from scans", "What is the same in every trip of a loop is computed once, before it."),
    "canonical contractions": ("Canonical contractions", "Matrix products in one form: batch, rows, columns, inner axis."),
    "layout": ("Layout", "How weights and operands lie in memory, chosen for the kernels that read them."),
    "simplify views": ("Simplified views", "Views between the new layouts, simplified."),
    "fused": ("Fused", "Nodes grouped into kernels: each frame is one loop nest."),
    "kernels": ("Kernels", "One box a kernel launch, in the order in which they run."),
}


def report_data(
    programs: Mapping[str, Any],
    title: str,
    *,
    modules: Sequence[Mapping[str, Any]] = (),
    profiles: Mapping[str, Mapping[str, Any]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The data of a report. ``programs`` maps a name to an executable, a lowered graph or a graph.

    ``modules`` are the rows of a model's summary; ``profiles`` are measurements by program; ``dims`` are sizes of named dims for
    bytes and operations (else their hints, else 64), where the program was not measured.
    """
    rules: set[str] = set()
    ops: set[str] = set()
    files: dict[str, set[int]] = {}
    texts: dict[tuple[str, int], str] = {}
    made = []
    for name, program in programs.items():
        profile = (profiles or {}).get(name)
        builder = _Program(name, program, {**(dims or {}), **(profile or {}).get("dims", {})})
        made.append(builder.build(profile))
        rules |= builder.rules
        ops |= builder.ops
        for loc in builder.locs:
            files.setdefault(loc.file, set()).add(loc.line)
            texts[loc.file, loc.line] = loc.text
    for name, profile in (profiles or {}).items():
        if name not in programs:
            raise ArgumentError(f"a profile of {name!r}, but there is no program {name!r}", hint=", ".join(programs))
        check_profile(profile, programs[name])
    known = {r.name: str(r) for r in RULES}
    return {
        "format": FORMAT,
        "version": VERSION,
        "graphc": __version__,
        "title": title,
        "modules": [dict(m) for m in modules],
        "files": [_file(path, lines, texts) for path, lines in sorted(files.items())],
        "rules": {r: known.get(r, "") for r in sorted(rules)},
        "ops": {name: _first_sentence(lookup(name).doc) for name in sorted(ops)},
        "dtypes": {d.code: d.name for d in ALL},
        "programs": made,
    }


def program_data(name: str, program: Any, dims: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The data of one program."""
    return _Program(name, program, dims).build(None)


def graph_data(graph: Graph, dims: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The data of a report that shows one graph as it is."""
    return report_data({graph.name: graph}, graph.name, dims=dims)


def _file(path: str, lines: set[int], texts: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    """The lines that made nodes, and some around each; a file that cannot be read any more has those that were kept."""
    try:
        total = linecache.getlines(path)
    except UnicodeError:  # the name is no file's
        total = []
    shown: dict[str, str] = {}
    for line in sorted(lines):
        for i in range(max(line - CONTEXT, 1), min(line + CONTEXT, len(total)) + 1):
            shown.setdefault(str(i), total[i - 1].rstrip("\n"))
        shown.setdefault(str(line), texts[path, line])
    return {"path": _relative(path), "name": PurePath(path).name, "lines": dict(sorted(shown.items(), key=lambda item: int(item[0])))}


def _relative(path: str) -> str:
    """A path as a reader elsewhere can use it: from the working folder where it lies in it."""
    here = os.getcwd()
    return os.path.relpath(path, here) if os.path.isabs(path) and path.startswith(here + os.sep) else path


class _Program:
    """Builds the data of one program: ``nodes`` is the table, ``ids`` where each node stands in it.

    A node of a scan's body is a node of its own in each scan: its place is (context, node), the context being the scan's name.
    """

    def __init__(self, name: str, program: Any, dims: Mapping[str, int] | None):
        self.name, self.program = name, program
        self.graph: Graph = program if isinstance(program, Graph) else program.graph
        hints = self.graph.meta.get("hints", {})
        self.dims = {d: hints.get(d) or 64 for d in self.graph.dims} | dict(dims or {})
        self.nodes: list[dict[str, Any]] = []
        self.ids: dict[tuple[str, Node], int] = {}
        self.contexts: dict[tuple[str, Node, str], str] = {}
        self.memo: dict[Node, Size] = {}
        self.locs: set[Any] = set()
        self.files: dict[str, int] = {}
        self.scopes: dict[str, int] = {}
        self.ops: set[str] = set()
        self.rules: set[str] = set()
        self.buffers: list[dict[str, Any]] = []
        self.buffer_ids: dict[object, int] = {}

    def build(self, profile: Mapping[str, Any] | None) -> dict[str, Any]:
        passes: list[PassRecord] = list(getattr(self.program, "passes", None) or ())
        schedule: Schedule | None = getattr(self.program, "schedule", None)
        out: dict[str, Any] = {
            "name": self.name,
            "graph": self.graph.name,
            "target": getattr(self.program, "target", "reference" if hasattr(self.program, "mode") else ""),
            "dims": dict(self.dims),
        }
        stages = self._stages(passes, schedule)
        out["passes"] = self._passes(passes, stages)
        out |= self._kernels(schedule) if schedule is not None else {"kernels": [], "launches": [], "sequence": [], "buffers": []}
        out["stages"], out["nodes"] = stages, self.nodes
        out["inputs"] = [{"name": i.name, "role": i.role, "node": self.ids["", i.node]} for i in self.graph.inputs]
        out["files"], out["scopes"] = [_relative(f) for f in self.files], list(self.scopes)
        if profile is not None:
            out["profile"] = dict(profile)
        return out

    # -- nodes -----------------------------------------------------------------------------------------------------------
    def number(self, size: Size) -> int:
        return evaluate(size, self.dims) if symbols(size) <= self.dims.keys() else 0

    def add(self, graph: Graph, context: str = "") -> list[int]:
        """The places of a graph's nodes, those of bodies included, in order."""
        out: list[int] = []
        roles = {i.node: i.role for i in graph.inputs}
        taken: set[str] = set()
        for node in graph.nodes:
            inside: list[dict[str, Any]] = []
            for attr, body in bodies(node):
                inner = self._context(context, node, attr, taken)
                out += self.add(body, inner)
                inside.append({
                    "name": attr, "context": inner, "times": self.number(node.attrs.get("length", 1)),
                    "inputs": [self.ids[inner, i.node] for i in body.inputs], "outputs": [self.ids[inner, n] for _, n in body.outputs],
                })  # fmt: skip
            key = (context, node)
            if key not in self.ids:
                self.ids[key] = len(self.nodes)
                self.nodes.append(self._record(graph, node, context, inside, roles.get(node, "")))
            out.append(self.ids[key])
        return out

    def _context(self, context: str, node: Node, attr: str, taken: set[str]) -> str:
        """A name for the body of a scan: the same from pass to pass as long as scans keep their order."""
        found = self.contexts.get((context, node, attr), "")
        if not found or found in taken:
            number = 0
            while (found := f"{context}/{node.op.name}{number}") in taken:
                number += 1
            self.contexts[context, node, attr] = found
        taken.add(found)
        return found

    def _record(self, graph: Graph, node: Node, context: str, inside: list[dict[str, Any]], role: str) -> dict[str, Any]:
        origin = graph.provenance.of(node)
        self.rules.update(origin.rules)
        self.ops.add(node.op.name)
        parts: dict[str, Any] = {"op": node.op.name, "kind": node.op.kind, "type": str(node.type)}
        if node.inputs:
            parts["inputs"] = [self.ids[context, i] for i in node.inputs]
        attrs = {k: _attribute(v) for k, v in sorted(node.attrs.items()) if not isinstance(v, Graph)}
        if node.op.kind == "input":
            parts["name"], parts["role"] = node.attrs["name"], role or "arg"
            attrs = {}
        elif node.op.kind == "const" and not node.shape:
            parts["value"] = f"{np.asarray(node.attrs['value']).item():.6g}"
        if attrs:
            parts["attrs"] = attrs
        if size := self.number(nbytes(node)):
            parts["bytes"] = size
        if work := self.number(flops(node, self.memo)):
            parts["flops"] = work
        if context:
            parts["context"] = context
        if inside:
            parts["bodies"] = inside
        if origin.locs:
            self.locs |= origin.locs
            parts["locs"] = [[self.files.setdefault(loc.file, len(self.files)), loc.line] for loc in sorted(origin.locs)]
        if scopes := sorted(s for s in origin.scopes if s):
            parts["scopes"] = [self.scopes.setdefault(s, len(self.scopes)) for s in scopes]
        if origin.rules:
            parts["rules"] = list(origin.rules)
        return parts

    # -- stages ----------------------------------------------------------------------------------------------------------
    def _stages(self, passes: Sequence[PassRecord], schedule: Schedule | None) -> list[dict[str, Any]]:
        shown: list[tuple[str, Graph]] = []
        if self.graph.updates:
            shown.append(("traced", _forward(self.graph)))
        shown.append(("gradient" if self.graph.updates else "traced", self.graph))
        shown += [(p.name, p.after) for p in passes]
        if schedule is not None:
            shown.append(("fused", schedule.graph))
        out = []
        for key, graph in shown:
            title, about = STAGES.get(key, (key.capitalize(), ""))
            out.append({
                "key": key, "title": title, "about": about, "nodes": self.add(graph),
                "outputs": [[name, self.ids["", n]] for name, n in graph.outputs],
                "updates": [[name, self.ids["", n]] for name, n in graph.updates],
            })  # fmt: skip
        if schedule is not None:
            title, about = STAGES["kernels"]
            out.append({**out[-1], "key": "kernels", "title": title, "about": about})
        return out

    def _passes(self, passes: Sequence[PassRecord], stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        places = {s["key"]: i for i, s in enumerate(stages)}
        out = []
        for p in passes:
            at = places[p.name]
            before, after = stages[at - 1]["nodes"], stages[at]["nodes"]
            added, removed, rewired = self._changes(before, after)
            out.append({
                "name": p.name, "seconds": round(p.seconds, 6), "stage": at, "rules": dict(p.rules),
                "added": added, "removed": removed, "rewired": rewired,
            })  # fmt: skip
        return out

    def _changes(self, before: Sequence[int], after: Sequence[int]) -> tuple[list[int], list[int], list[list[int]]]:
        """Nodes that a pass made and replaced, and pairs of those that it only gave other operands.

        A node is its operands too, so one change makes everything behind it new: what has the same operator, attributes, type and
        scopes is told apart from what really changed.
        """
        kept = set(before) & set(after)
        left: dict[Any, list[int]] = {}
        for i in before:
            if i not in kept:
                left.setdefault(self._local(i), []).append(i)
        added, rewired = [], []
        for i in after:
            if i not in kept:
                same = left.get(self._local(i))
                if same:
                    rewired.append([same.pop(0), i])
                else:
                    added.append(i)
        return added, sorted(i for rest in left.values() for i in rest), rewired

    def _local(self, i: int) -> Any:
        n = self.nodes[i]
        return n["op"], n["type"], n.get("context"), tuple(n.get("attrs", {}).items()), tuple(n.get("scopes", ()))

    # -- kernels ---------------------------------------------------------------------------------------------------------
    def _kernels(self, schedule: Schedule) -> dict[str, Any]:
        plan = plan_memory(schedule, self.dims)
        places = {memory_key(p.buffer): p for p in plan.placements}
        printed = self.program.program.kernels
        kernels: dict[str, dict[str, Any]] = {}
        launches: list[dict[str, Any]] = []
        numbers: dict[str, int] = {}

        def launch(item: Launch, times: int) -> int:
            made, nest = printed[item], item.nest
            name = made.kernel.name
            numbers.setdefault(name, len(numbers))
            kernels.setdefault(name, {"name": name, "kind": nest.kind, "source": made.printed.text})
            ids = {n: i for n in nest.nodes if (i := self._stands_for(schedule, n)) is not None}
            record: dict[str, Any] = {
                "kernel": numbers[name], "name": nest.name, "kind": nest.kind,
                "axes": [str(a.size) for a in nest.outer], "folds": [str(a.size) for a in nest.inner],
                "nodes": sorted(set(ids.values())), "phase": item.phase,
                "reads": [self._buffer(b, places) for b in item.reads], "writes": [self._buffer(b, places) for b in item.writes],
                "flops": sum(self.number(flops(n, self.memo)) for n in nest.nodes),
                "bytes": sum(self.number(b.nbytes) for b in (*item.reads, *item.writes)),
                "lines": [[line, ids[n]] for line, n in kernel_lines(made.printed, nest) if n in ids],
            }  # fmt: skip
            record |= {"times": times} if times > 1 else {}
            record |= {"barrier": True} if item.barrier else {}
            record |= {"static": True} if item.static else {}
            launches.append(record)
            return len(launches) - 1

        def walk(items: Iterable[Launch | Check | Repeat], times: int) -> list[dict[str, Any]]:
            out: list[dict[str, Any]] = []
            for i in items:
                if isinstance(i, Launch):
                    out.append({"launch": launch(i, times)})
                elif isinstance(i, Check):
                    out.append({"check": self._buffer(i.buffer, places), "phase": i.phase})
                else:
                    count = self.number(i.count)
                    out.append({"repeat": count, "items": walk(i.body, times * count), "phase": i.phase})
            return out

        sequence = walk(schedule.items, 1)
        return {
            "kernels": list(kernels.values()),
            "launches": launches,
            "sequence": sequence,
            "buffers": self.buffers,
            "memory": {
                "arena": plan.arena_bytes, "unplanned": plan.unplanned_bytes, "slots": plan.slot_bytes,
                "working": plan.working_bytes,
                "peak_phase": plan.peak_phase, "formula": f"{plan.unplanned} bytes",
            },
            "decisions": self._decisions(schedule),
            "notes": list(schedule.copies),
        }  # fmt: skip

    def _stands_for(self, schedule: Schedule, node: Node) -> int | None:
        """The place of a node of a kernel; one that runs a scan's body stands for the body's node."""
        if node not in schedule.origins:
            return self.ids.get(("", node))
        scan, inner = schedule.origins[node]
        found = self._context_of(schedule, scan)
        return None if found is None else self.ids.get((found, inner))

    def _context_of(self, schedule: Schedule, scan: Node) -> str | None:
        """Where the body of a scan is, which may itself run in another's body."""
        outer: str | None = ""
        if scan in schedule.origins:
            above, scan = schedule.origins[scan]
            outer = self._context_of(schedule, above)
        return None if outer is None else self.contexts.get((outer, scan, "body"))

    def _buffer(self, b: Buffer, places: Mapping[object, Any]) -> int:
        key = memory_key(b)
        if key not in self.buffer_ids:
            self.buffer_ids[key] = len(self.buffers)
            record: dict[str, Any] = {
                "name": b.name or b.node.op.name, "space": b.space, "type": str(b.type), "bytes": self.number(b.nbytes),
            }  # fmt: skip
            if not b.layout.is_row_major:
                record["layout"] = str(b.layout)
            if ("", b.node) in self.ids:
                record["node"] = self.ids["", b.node]
            if key in places:
                p = places[key]
                record |= {"offset": p.offset, "size": p.nbytes, "born": p.born, "dies": p.dies}
            self.buffers.append(record)
        return self.buffer_ids[key]

    def _decisions(self, schedule: Schedule) -> dict[str, Any]:
        reasons: dict[str, int] = {}
        rows = []
        for d in schedule.decisions:
            a, b = self._stands_for(schedule, d.producer), self._stands_for(schedule, d.consumer)
            if a is not None and b is not None:
                rows.append([a, b, int(d.fused), reasons.setdefault(d.reason, len(reasons))])
        return {"reasons": list(reasons), "rows": rows}


def _forward(graph: Graph) -> Graph:
    """A training graph without its updates, which is what the user's code says; outputs that are gradients stay out too."""
    outputs = tuple((k, n) for k, n in graph.outputs if not _is_gradient(graph, n)) or graph.outputs
    used = Graph(graph.name, (), outputs, provenance=graph.provenance)
    needed = set(used.nodes)
    return Graph(graph.name, tuple(i for i in graph.inputs if i.node in needed), outputs, provenance=graph.provenance)


def _is_gradient(graph: Graph, node: Node) -> bool:
    scopes = graph.provenance.scopes(node)
    return bool(scopes) and all(s.startswith("grad:") for s in scopes)


def _first_sentence(doc: str) -> str:
    return doc.strip().partition("\n\n")[0].replace("\n", " ").strip()


def _attribute(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 16:
        return f"array of {value.dtype}, {value.shape}"
    text = re.sub(r"\s+", " ", attr_text(value))
    return text if len(text) <= ATTRIBUTE else text[: ATTRIBUTE - 1] + "…"
