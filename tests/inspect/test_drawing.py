"""Graphs for other tools: DOT, SVG, Mermaid, networkx, TensorBoard, notebooks; and the files that hold them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import networkx as nx
import pytest

import graphc as gc
from graphc.ir.text import parse_graph
from tests.inspect.nets import DigitsMLP, Reader, Translator, lowered

GRAPHS = {
    "mlp": lambda: gc.trace(DigitsMLP(), gc.spec("N", 64)),
    "lstm": lambda: gc.trace(Reader(), gc.spec("N", 7, 6)),
    "transformer": lambda: gc.trace(Translator(), gc.spec("N", 12, dtype="int64")),
    "step": lambda: lowered("mlp")[0].graphs["train_step"],
}
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's dot is not installed: apt-get install graphviz")


@pytest.fixture(params=GRAPHS)
def graph(request):
    return GRAPHS[request.param]()


def test_dot_has_clusters_nodes_and_edges(graph):
    text = graph.to_dot()
    assert text.count("{") == text.count("}") and re.search(r"subgraph cluster_0 \{\n    label=", text)
    assert all(f'label="{i.name}' in text for i in graph.inputs if i.role == "arg")
    nodes = set(re.findall(r"^\s*(n\d+) \[", text, re.M))
    edges = re.findall(r"^  (n\d+) -> (n\d+);", text, re.M)
    assert edges and {n for e in edges for n in e} <= nodes


@needs_dot
def test_dot_draws_it(graph):
    if len(graph.nodes) > 150:
        pytest.skip("large pictures take dot long")
    picture = gc.inspect.drawing.to_svg(graph)
    tree = ElementTree.fromstring(picture)
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert graph.inputs[0].name in texts
    assert graph._repr_svg_().startswith("<svg")


def test_without_dot_there_is_no_picture(monkeypatch):
    graph = GRAPHS["mlp"]()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert graph._repr_svg_() is None
    with pytest.raises(gc.ArgumentError, match="Graphviz's program dot"):
        gc.inspect.drawing.to_svg(graph)
    assert "<svg" not in graph._repr_html_() and "%0 = linear" in graph._repr_html_()


def test_mermaid(graph):
    text = graph.to_mermaid()
    assert text.startswith("flowchart TD\n") and text.count("subgraph") == len(re.findall(r"^\s*end$", text, re.M))
    ids = set(re.findall(r"^\s*(n\d+)[\[(]", text, re.M))
    used = {x for a, b in re.findall(r"^  (n\d+) --> (n\d+)$", text, re.M) for x in (a, b)}
    assert used and used <= ids


def test_networkx_has_everything(graph):
    made = graph.to_networkx()
    assert len(made) == len(graph.nodes) and made.number_of_edges() == sum(len(n.inputs) for n in graph.nodes)
    assert nx.is_directed_acyclic_graph(made)
    for name, n in graph.outputs:
        assert any(name in d.get("outputs", ()) and d["op"] == n.op.name for _, d in made.nodes(data=True))
    known = [d for _, d in made.nodes(data=True) if any(line.startswith("nets.py:") for line in d["lines"])]
    assert known and all(d["type"] and d["kind"] for d in known) and any(d["scopes"] for d in known)
    operands = [d["operand"] for _, _, d in made.edges(data=True)]
    assert max(operands) >= 1 and min(operands) == 0


def test_hostile_names_stay_text():
    evil = '"];}<script><b>\\'

    def f(x):
        return x.exp()

    graph = gc.trace(f, gc.spec("N"))
    graph.provenance.add(graph.outputs[0][1], scopes=[evil])
    assert "<b>" not in graph._repr_html_().replace("<b>f</b>", "")
    assert '\\"];}<script><b>\\\\"' in graph.to_dot()
    assert "<script>" not in graph.to_mermaid()
    if shutil.which("dot"):
        assert subprocess.run(["dot", "-Tsvg"], input=graph.to_dot(), text=True, capture_output=True).returncode == 0


def test_tensorboard_graph():
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    from graphc.inspect.drawing import to_tensorboard

    made = to_tensorboard(GRAPHS["transformer"]())
    names = [n.name for n in made.node]
    assert len(set(names)) == len(names) and any(n.startswith("blocks/layers/0/self_attn/") for n in names)
    for n in made.node:
        assert set(n.input) <= set(names) and n.attr["type"].s
    assert any(n.op == "Placeholder" and n.name == "tokens" for n in made.node)


def test_files(tmp_path):
    graph = GRAPHS["mlp"]()
    for name in ("g.html", "g.json", "g.txt", "g.dot", "g.mmd"):
        graph.save(tmp_path / name)
    assert parse_graph((tmp_path / "g.txt").read_text()).structural_key == graph.structural_key
    assert "cytoscape" in (tmp_path / "g.html").read_text()
    data = json.loads((tmp_path / "g.json").read_text())
    assert [s["key"] for s in data["programs"][0]["stages"]][-1] == "kernels"
    assert (tmp_path / "g.dot").read_text() == graph.to_dot() and (tmp_path / "g.mmd").read_text() == graph.to_mermaid()
    with pytest.raises(gc.ArgumentError, match=r"a graph has no form \.pdf"):
        graph.save(tmp_path / "g.pdf")
    if shutil.which("dot"):
        graph.save(tmp_path / "g.svg")
        assert (tmp_path / "g.svg").read_text().startswith("<svg")
