"""How reports come about: from models, from any script, from the command line, from a wheel."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc.inspect.html import FOLDER, SCRIPTS, VENDORED, page
from tests.inspect.nets import data_of, lowered, measured

SCRIPT = '''
import sys
import graphc as gc
f = gc.compile(lambda a, b: (a @ b).exp(), gc.spec("N", 3), gc.spec(3, 2))
g = gc.compile(lambda a: a * 2.0, gc.spec("N"), target="reference")
f([[1.0, 0.0, 0.0]], [[0.0, 0.0]] * 3)
g([1.0])
if "fail" in sys.argv:
    raise ValueError("after the compiling")
if "exit" in sys.argv:
    sys.exit(3)
'''


def data_in(path: Path):
    text = path.read_text()
    start = text.index('id="report-data">') + len('id="report-data">')
    return json.loads(text[start : text.index("</script>", start)])


def test_a_page_is_whole_and_offline():
    text = page(data_of("mlp"))
    assert text.startswith("<!doctype html>") and text.count("<script") == 3 and text.count("</script>") == 3
    assert "default-src 'none'" in text and not [w for w in ("TITLE", "STYLE", "VENDOR", "SCRIPT", "DATA") if f"@@{w}@@" in text]
    assert not [w for w in ("<link", "src=\"http", "@import", "fetch(", "XMLHttpRequest", "WebSocket", "importScripts") if w in text]
    listed = {p.name for p in FOLDER.glob("*.js")}
    assert listed == set(SCRIPTS)


def test_vendored_libraries_are_those_that_are_named():
    versions = json.loads((FOLDER / "vendor" / "versions.json").read_text())
    assert set(versions) == set(VENDORED) == {p.name for p in (FOLDER / "vendor").glob("*.js")}
    licences = (FOLDER / "vendor" / "LICENSES.txt").read_text()
    for name, about in versions.items():
        assert hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == about["sha256"]
        assert about["licence"] == "MIT" and about["package"] in licences


def test_a_model_writes_its_report(tmp_path):
    model, _ = lowered("mlp")
    fresh = gc.compile(model.module.__class__(), gc.spec("N", 64), loss="cross_entropy", optimizer="sgd", target="reference")
    fresh.report(tmp_path / "model.html")
    data = data_in(tmp_path / "model.html")
    assert [p["name"] for p in data["programs"]] == ["train_step", "evaluate", "predict"]
    assert {m["path"] for m in data["modules"]} >= {"body", "body.0", "head"} and data["title"] == "DigitsMLP"
    fresh.report(tmp_path / "data.json", modes=["predict"])
    assert [p["name"] for p in json.loads((tmp_path / "data.json").read_text())["programs"]] == ["predict"]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_function_writes_its_report(tmp_path):
    f = gc.compile(lambda a, b: (a @ b).exp(), gc.spec("N", 3), gc.spec(3, 2))
    with gc.profile() as measured_f:
        f(np.ones((5, 3)), np.ones((3, 2)))
    f.report(tmp_path / "f.html", profile=measured_f)
    (p,) = data_in(tmp_path / "f.html")["programs"]
    assert p["target"] == "cpu" and p["kernels"] and len(p["profile"]["launches"]) == len(p["launches"]) and p["dims"] == {"N": 5}
    f.report(tmp_path / "g.html", profile=measured_f.programs[0].record())  # the record itself, too
    assert data_in(tmp_path / "g.html") == data_in(tmp_path / "f.html")


def test_a_model_report_shows_what_was_measured(tmp_path):
    model, p = measured()
    model.report(tmp_path / "m.html", profile=p)
    programs = {x["name"]: x.get("profile") for x in data_in(tmp_path / "m.html")["programs"]}
    assert programs["evaluate"] is None and programs["predict"]["runs"] == 5 and programs["train_step"]["threads"] == 2
    model.report(tmp_path / "m.html", modes=["predict"], profile={"predict": programs["predict"]})
    assert data_in(tmp_path / "m.html")["programs"][0]["profile"] == programs["predict"]


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "r.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="Out of range float"):
        from graphc.inspect.html import write_page

        write_page(path, {**data_of("mlp"), "title": float("nan")})
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_hostile_graphs_make_pages(tmp_path):
    """Names and lines as they come from a graph, lone surrogates too."""
    from graphc.ir.graph import Graph, Input
    from graphc.ir.node import Node
    from graphc.ir.op import lookup
    from graphc.ir.provenance import Loc

    evil = ["</script><script>", "\ud800", "🙂" * 3000, '"\'\\', "\u2028", "x" * 10_000]
    nodes = [Node.make(lookup("input"), (), name=name, shape=(3,), dtype=gc.spec(3).dtype) for name in evil]
    total = nodes[0]
    for n in nodes[1:]:
        total = total + n
    graph = Graph(evil[0], tuple(Input(n.attrs["name"], n) for n in nodes), ((evil[2], total),))
    graph.provenance.add(total, [Loc(evil[1], 1, evil[0]), Loc(evil[5], 2, evil[3])], evil)
    graph.save(tmp_path / "g.html")
    text = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert text.count("<script") == 3
    names = {i["name"] for i in data_in(tmp_path / "g.html")["programs"][0]["inputs"]}
    assert {evil[0], evil[2], evil[4], evil[5]} <= names
    assert "</script>" not in graph.to_mermaid() and graph.to_dot() and graph._repr_html_()


def run(*command, cwd, **env):
    return subprocess.run([sys.executable, *command], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=240)


def test_any_script_writes_reports_by_an_environment_variable(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run("script.py", "fail", cwd=tmp_path, GRAPHC_VIZ=str(tmp_path / "views" / "deep"))
    assert "after the compiling" in done.stderr and done.returncode == 1
    files = sorted(p.name for p in (tmp_path / "views" / "deep").iterdir())
    assert files == ["f-2.html", "f.html"]
    (p,) = data_in(tmp_path / "views" / "deep" / "f.html")["programs"]
    assert p["launches"] and p["target"] == "cpu"
    (tmp_path / "taken").write_text("")  # a folder that cannot be made is told, and stops nothing
    done = run("script.py", cwd=tmp_path, GRAPHC_VIZ=str(tmp_path / "taken"))
    assert done.returncode == 0 and "no report of f" in done.stderr


def test_the_command_makes_reports(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    viz = ("-m", "graphc.cli", "viz")
    done = run(*viz, "script.py", "-o", "x.html", cwd=tmp_path)
    assert done.returncode == 0 and "wrote x.html" in done.stdout, done.stderr
    assert [p["name"] for p in data_in(tmp_path / "x.html")["programs"]] == ["f", "f-2"]
    done = run(*viz, "-o", "y.html", "script.py", "exit", cwd=tmp_path)
    assert done.returncode == 3 and (tmp_path / "y.html").exists()
    done = run(*viz, "script.py", "-o", "z.html", "fail", cwd=tmp_path)
    assert done.returncode == 1 and (tmp_path / "z.html").exists() and "after the compiling" in done.stderr
    done = run(*viz, "script.py", "--text", cwd=tmp_path)
    assert "operations" in done.stdout and "decompose" in done.stdout and "lines  contract" in done.stdout
    assert run(*viz, "missing.graphc", cwd=tmp_path).returncode == 1


def test_the_command_measures(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    viz = ("-m", "graphc.cli", "viz")
    done = run(*viz, "script.py", "--profile", "-o", "x.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    f, g = data_in(tmp_path / "x.html")["programs"]
    assert f["profile"]["runs"] == 1 and f["dims"] == {"N": 1} and "profile" not in g  # g is the reference's
    done = run(*viz, "--profile", "script.py", "--text", "fail", cwd=tmp_path)
    assert done.returncode == 1 and "f, N = 1: 1 run of" in done.stdout and "after the compiling" in done.stderr


def test_the_command_shows_saved_models_and_data(tmp_path):
    from graphc.inspect.command import view

    model = gc.compile(lowered("mlp")[0].module.__class__(), gc.spec("N", 64), target="reference")
    model.save(tmp_path / "m.graphc")
    assert view(str(tmp_path / "m.graphc"), tmp_path / "m.html", "cpu", False, []) == 0
    (p,) = data_in(tmp_path / "m.html")["programs"]
    assert p["launches"] and p["inputs"][0]["name"] == "x"
    (tmp_path / "d.json").write_text(json.dumps(data_of("mlp")))
    assert view(str(tmp_path / "d.json"), tmp_path / "d.html", "cpu", False, []) == 0
    assert data_in(tmp_path / "d.html") == json.loads(json.dumps(data_of("mlp")))
    (tmp_path / "bad.json").write_text("[]")
    assert view(str(tmp_path / "bad.json"), None, "cpu", False, []) == 1
    (tmp_path / "g.txt").write_text(str(model.graph))
    assert view(str(tmp_path / "g.txt"), tmp_path / "g.html", "cpu", False, []) == 0


def test_the_tour_runs(tmp_path, monkeypatch):
    """examples/inspect_graph.py says what its titles promise."""
    pytest.importorskip("matplotlib", reason="the examples share a module that draws")
    from tests.examples import load

    said = load("inspect_graph").main(["--quick", "--out", str(tmp_path)])
    text = {title.partition("(")[0]: words for title, words in said.items()}
    assert "relu" in text["gc.diff"] and "gelu" in text["gc.diff"] and "3 removed, 3 added" in text["gc.diff"]
    assert "one kernel" in said["gc.explain_fusion(lowered, 'dot_general', 'add')"] and "two kernels" in said["gc.explain_fusion(lowered, 'add', 'sum')"]
    assert "blocks.2.down (Linear)" in text["model.summary"] or "blocks (Sequential)" in text["model.summary"]
    assert {p.name for p in tmp_path.iterdir()} == {"inspect_graph.html", "with_relu.html", "inspect_graph.dot", "inspect_graph.mmd"}
    published = Path(__file__).parents[2] / "docs" / "reports" / "inspect_graph.html"
    assert data_in(published)["version"] == data_in(tmp_path / "inspect_graph.html")["version"] and published.stat().st_size < 1.5e6


@pytest.mark.slow
def test_resnet50_report_is_small():
    """A training step of 4,600 nodes; how long it takes is printed, and measured in docs/inspect.md."""
    import time

    _, programs = lowered("resnet50", ("train_step",))
    start = time.perf_counter()
    text = page(gc.inspect.data.report_data(programs, "ResNet-50"))
    print(f"report in {time.perf_counter() - start:.2f} s, {len(text.encode()) / 1e6:.2f} MB")
    assert len(text.encode()) < 6e6 and len(programs["train_step"].graph.nodes) > 4000
