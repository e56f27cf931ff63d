"""Graphs for other tools: DOT with clusters, SVG by ``dot`` where it is found, Mermaid, networkx, and TensorBoard's graph tab."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from html import escape
from typing import Any

from ..errors import ArgumentError
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.text import attr_text
from ..ir.types import TensorType
from .cost import flops, nbytes

__all__ = ["graph_html", "to_dot", "to_mermaid", "to_networkx", "to_svg", "to_tensorboard"]

COLOURS = {
    "contract": "#b9d4f7", "elementwise": "#c4ead8", "reduce": "#e0cdf5", "view": "#e6eaef", "composite": "#d3daf9", "scan": "#fbd9b8",
    "gather": "#f3e2a9", "scatter": "#f6cdb7", "generate": "#f8e3c0", "input": "#ffffff", "const": "#f2f2f2",
}  # fmt: skip


def _label(node: Node) -> str:
    if node.op.kind == "input":
        return str(node.attrs["name"])
    if node.op.kind == "const" and not node.shape:
        return f"{node.attrs['value'].item():g}" if node.dtype.kind != "b" else str(node.attrs["value"].item())
    return node.op.name


def scope_of(graph: Graph, node: Node) -> tuple[str, ...]:
    """The place of a node in the tree of modules: where its scopes part; gradients stand under ``gradient``."""
    scopes = [s for s in graph.provenance.scopes(node) if s]
    forward = [s for s in scopes if not s.startswith("grad:")]
    paths = [tuple(p for p in re.split(r"[./]", re.sub(r"^(grad:)+", "", s)) if p) for s in forward or scopes]
    if not paths:
        return ()
    common = paths[0]
    for p in paths[1:]:
        i = 0
        while i < min(len(p), len(common)) and p[i] == common[i]:
            i += 1
        common = common[:i]
    return common if forward else ("gradient", *common)


def _visible(graph: Graph) -> list[Node]:
    """Without constants and views of constants, which would stand everywhere."""
    constant: set[Node] = set()
    for n in graph.nodes:
        if n.op.kind == "const" or (n.op.kind in ("view", "identity") and n.inputs and all(i in constant for i in n.inputs)):
            constant.add(n)
    return [n for n in graph.nodes if n not in constant]


def _tree(graph: Graph, nodes: list[Node]) -> dict[Any, Any]:
    """Nested dicts of scopes; the nodes of each stand under None."""
    root: dict[Any, Any] = {}
    for n in nodes:
        at = root
        for part in () if n.op.kind == "input" else scope_of(graph, n):
            at = at.setdefault(part, {})
        at.setdefault(None, []).append(n)
    return root


def to_dot(graph: Graph, *, constants: bool = False) -> str:
    """The graph in Graphviz's language, modules as clusters; each node tells its type and its line."""
    nodes = graph.nodes if constants else _visible(graph)
    ids = {n: f"n{i}" for i, n in enumerate(graph.nodes)}
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11, margin="0.12,0.05"];',
        '  edge [color="#8a97a8", arrowsize=0.7];',
    ]
    outputs: dict[Node, list[str]] = {}
    for name, n in graph.outputs:
        outputs.setdefault(n, []).append(name)
    clusters = 0

    def write(tree: Mapping[Any, Any], indent: str) -> None:
        nonlocal clusters
        for part, below in tree.items():
            if part is None:
                for n in below:
                    text = _label(n) + (f" → {', '.join(outputs[n])}" if n in outputs else "")
                    where = " ".join(f"{loc} {loc.text}" for loc in graph.provenance.locs(n))
                    shape = ", shape=ellipse" if n.op.kind == "input" else ""
                    lines.append(
                        f"{indent}{ids[n]} [label={_quoted(_cut(text) + chr(10) + _cut(str(n.type)))}, "
                        f"fillcolor={_quoted(COLOURS.get(n.op.kind, '#eeeeee'))}, tooltip={_quoted(_cut(where, 200))}{shape}];"
                    )
            else:
                lines.append(f"{indent}subgraph cluster_{clusters} {{")
                clusters += 1
                lines.append(f'{indent}  label={_quoted(_cut(part))}; style=rounded; color="#b6c2d0"; fontname="sans-serif"; fontsize=11;')
                write(below, indent + "  ")
                lines.append(f"{indent}}}")

    write(_tree(graph, nodes), "  ")
    shown = set(nodes)
    for n in nodes:
        lines += [f"  {ids[i]} -> {ids[n]};" for i in dict.fromkeys(n.inputs) if i in shown]
    return "\n".join([*lines, "}"]) + "\n"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def to_svg(graph: Graph, timeout: float = 30.0) -> str:
    """The picture that Graphviz's ``dot`` makes of :func:`to_dot`. Raises ArgumentError where ``dot`` is missing or fails."""
    dot = shutil.which("dot")
    if dot is None:
        raise ArgumentError("an SVG needs Graphviz's program dot", hint="install graphviz, or write an .html report, which needs nothing")
    try:
        made = subprocess.run([dot, "-Tsvg"], input=to_dot(graph), capture_output=True, encoding="utf-8", errors="backslashreplace", timeout=timeout, check=True)
    except (subprocess.SubprocessError, OSError) as e:
        raise ArgumentError(f"dot failed on a graph of {len(graph.nodes)} nodes: {e}", hint="write an .html report instead") from None
    return made.stdout[made.stdout.index("<svg") :]


def to_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart, which Markdown pages show."""
    nodes = _visible(graph)
    ids = {n: f"n{i}" for i, n in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    groups = 0

    def write(tree: Mapping[Any, Any], indent: str) -> None:
        nonlocal groups
        for part, below in tree.items():
            if part is None:
                for n in below:
                    text = f"{_mermaid(_label(n))}<br/>{_mermaid(str(n.type))}"
                    lines.append(f'{indent}{ids[n]}(["{text}"])' if n.op.kind == "input" else f'{indent}{ids[n]}["{text}"]')
            else:
                lines.append(f'{indent}subgraph s{groups}["{_mermaid(part)}"]')
                groups += 1
                write(below, indent + "  ")
                lines.append(f"{indent}end")

    write(_tree(graph, nodes), "  ")
    shown = set(nodes)
    for n in nodes:
        lines += [f"  {ids[i]} --> {ids[n]}" for i in dict.fromkeys(n.inputs) if i in shown]
    for name, n in graph.outputs:
        if n in shown:
            lines.append(f'  {ids[n]} --> out_{ids[n]}_{len(lines)}(["{_mermaid(name)}"])')
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Text in a label: Mermaid reads entities by number."""
    return "".join(c if c.isalnum() or c in " _.,:=*+-/[]" else f"#{ord(c)};" for c in _cut(text, 50))


def to_networkx(graph: Graph) -> Any:
    """A ``networkx.MultiDiGraph``: nodes by their names in the text form, with op, kind, type, shape, dtype, bytes, FLOPs, lines and scopes;
    edges tell which operand they are."""
    import networkx as nx

    from ..ir.text import node_names

    names = node_names(graph)
    made = nx.MultiDiGraph(name=graph.name)
    memo: dict[Node, Any] = {}
    roles = {i.node: i.role for i in graph.inputs}
    for n in graph.nodes:
        origin = graph.provenance.of(n)
        tensor = isinstance(n.type, TensorType)
        made.add_node(
            names[n], op=n.op.name, kind=n.op.kind, label=_label(n), type=str(n.type), shape=n.shape if tensor else None,
            dtype=str(n.dtype) if tensor else None, bytes=nbytes(n), flops=flops(n, memo), role=roles.get(n, ""),
            attrs={k: attr_text(v) for k, v in n.attrs.items() if not isinstance(v, Graph)},
            lines=sorted(map(str, origin.locs)), scopes=sorted(s for s in origin.scopes if s),
        )  # fmt: skip
        for k, i in enumerate(n.inputs):
            made.add_edge(names[i], names[n], operand=k)
    for name, n in graph.outputs:
        made.nodes[names[n]].setdefault("outputs", []).append(name)
    for name, n in graph.updates:
        made.nodes[names[n]].setdefault("updates", []).append(name)
    return made


def to_tensorboard(graph: Graph) -> Any:
    """A ``GraphDef`` for TensorBoard's graph tab; scopes are its name scopes. Needs tensorboardX."""
    try:
        from tensorboardX.proto.attr_value_pb2 import AttrValue
        from tensorboardX.proto.graph_pb2 import GraphDef
        from tensorboardX.proto.node_def_pb2 import NodeDef
        from tensorboardX.proto.versions_pb2 import VersionDef
    except ImportError:
        raise ArgumentError("TensorBoard needs the package tensorboardX", hint="pip install 'graphc-dl[tensorboard]'") from None

    names: dict[Node, str] = {}
    taken: dict[str, int] = {}
    made = []
    for n in graph.nodes:
        scope = () if n.op.kind == "input" else scope_of(graph, n)
        name = "/".join(re.sub(r"[^A-Za-z0-9_.\-]", "_", p)[:80] for p in (*scope, _label(n))) or "node"
        taken[name] = taken.get(name, 0) + 1
        names[n] = name if taken[name] == 1 else f"{name}_{taken[name] - 1}"
        attrs = {k: AttrValue(s=_cut(attr_text(v), 200).encode()) for k, v in n.attrs.items() if not isinstance(v, Graph)}
        attrs["type"] = AttrValue(s=str(n.type).encode())
        if where := " ".join(map(str, graph.provenance.locs(n))):
            attrs["line"] = AttrValue(s=_cut(where, 200).encode())
        op = "Placeholder" if n.op.kind == "input" else "Const" if n.op.kind == "const" else n.op.name
        made.append(NodeDef(name=names[n], op=op, input=[names[i] for i in n.inputs], attr=attrs))
    return GraphDef(node=made, versions=VersionDef(producer=22))


def graph_html(graph: Graph) -> str:
    """What a notebook shows of a graph: a line of facts, the picture where ``dot`` is found and the graph is small, and the text."""
    ops = [n for n in graph.nodes if n.op.kind not in ("input", "const")]
    facts = f"{len(ops)} operators, {len(graph.inputs)} inputs, {len(graph.outputs)} outputs" + (f", {len(graph.updates)} updates" if graph.updates else "")
    picture = small_svg(graph)
    shown = f'<div style="max-width:100%;overflow:auto">{picture}</div>' if picture else ""
    return (
        f"<div><b>{escape(graph.name)}</b> <span>{facts}</span>{shown}"
        f"<details{'' if picture else ' open'}><summary>text</summary><pre style='max-height:30em;overflow:auto'>{escape(str(graph))}</pre></details></div>"
    )


def small_svg(graph: Graph) -> str:
    """The picture of a graph that a person can look at; "" where it is too large or ``dot`` is missing."""
    if len(graph.nodes) > 300 or shutil.which("dot") is None:
        return ""
    try:
        return to_svg(graph, timeout=10.0)
    except ArgumentError:
        return ""
