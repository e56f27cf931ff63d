"""The data of a report: its schema, and that what it says is so."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

import graphc as gc
from graphc.inspect.data import STAGES, graph_data, report_data
from graphc.inspect.origins import kernel_lines
from graphc.inspect.profile import records_of
from tests.inspect.nets import data_of, lowered, measured, record_of

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[2]
NAMES = ("mlp", "lstm", "transformer", "resnet18")


@cache
def validator():
    return jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "report.schema.json").read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_data_follow_the_schema(name):
    data = json.loads(json.dumps(data_of(name), allow_nan=False))
    errors = [f"{e.json_path}: {e.message[:200]}" for e in validator().iter_errors(data)]
    assert not errors, errors[:5]


def test_the_schema_refuses_what_it_should():
    good = json.loads(json.dumps(data_of("mlp")))
    for change in (
        lambda d: d.update(version=2),
        lambda d: d["programs"][0]["nodes"][0].update(surprise=1),
        lambda d: d["programs"][0]["stages"].clear(),
        lambda d: d["programs"][0]["launches"][0].pop("bytes"),
    ):
        bad = json.loads(json.dumps(good))
        change(bad)
        assert not validator().is_valid(bad)
    with_profile = json.loads(json.dumps(good))
    with_profile["programs"][0]["profile"] = {"launches": [None, 0.5]}
    assert validator().is_valid(with_profile)


@pytest.mark.parametrize("name", NAMES)
def test_places_point_at_things(name):
    data = data_of(name)
    for p in data["programs"]:
        nodes, buffers = len(p["nodes"]), len(p["buffers"])
        for stage in p["stages"]:
            assert set(stage["nodes"]) <= set(range(nodes))
            seen = set()
            for i in stage["nodes"]:  # operands first, also in bodies
                n = p["nodes"][i]
                assert set(n.get("inputs", ())) <= seen
                seen.add(i)
            assert {i for _, i in stage["outputs"] + stage["updates"]} <= seen
        for x in p["launches"]:
            assert set(x["nodes"]) <= set(range(nodes)) and set(x["reads"] + x["writes"]) <= set(range(buffers))
            lines = p["kernels"][x["kernel"]]["source"].count("\n")
            assert all(1 <= line <= lines and i in x["nodes"] for line, i in x["lines"])
        for n in p["nodes"]:
            assert all(f < len(p["files"]) for f, _ in n.get("locs", ())) and all(s < len(p["scopes"]) for s in n.get("scopes", ()))


@pytest.mark.parametrize("name", NAMES)
def test_no_pass_loses_a_line(name):
    """Every node of every stage, those of loops too, comes from a line of the user's."""
    p = data_of(name)["programs"][0]
    for stage in p["stages"]:
        lost = [p["nodes"][i]["op"] for i in stage["nodes"] if p["nodes"][i]["op"] not in ("input", "const") and not p["nodes"][i].get("locs")]
        assert not lost, (stage["key"], lost)


def test_stages_tell_the_story_in_order():
    p = data_of("mlp")["programs"][0]
    keys = [s["key"] for s in p["stages"]]
    assert keys[:2] == ["traced", "gradient"] and keys[-2:] == ["fused", "kernels"]
    assert keys[2:-2] == [x["name"] for x in p["passes"]]
    assert set(keys) <= set(STAGES)
    traced, gradient = (set(s["nodes"]) for s in p["stages"][:2])
    assert traced < gradient
    assert {p["nodes"][i]["op"] for i in traced} >= {"linear", "relu", "dropout", "cross_entropy", "accuracy"}
    assert not any(s.startswith("optimizer") for i in traced for s in scopes(p, i))
    only = data_of("mlp")["programs"][1]
    assert [s["key"] for s in only["stages"]][:2] == ["traced", "simplify"]


def scopes(p, i):
    return [p["scopes"][s] for s in p["nodes"][i].get("scopes", ())]


def test_passes_say_what_changed():
    p = data_of("transformer")["programs"][0]
    for x in p["passes"]:
        before, after = set(p["stages"][x["stage"] - 1]["nodes"]), set(p["stages"][x["stage"]]["nodes"])
        old, new = {a for a, _ in x["rewired"]}, {b for _, b in x["rewired"]}
        assert set(x["added"]) | new == after - before and not set(x["added"]) & new
        assert set(x["removed"]) | old == before - after and not set(x["removed"]) & old
        for a, b in x["rewired"]:
            assert p["nodes"][a]["op"] == p["nodes"][b]["op"] and p["nodes"][a]["type"] == p["nodes"][b]["type"]
    decompose = next(x for x in p["passes"] if x["name"] == "decompose")
    composites = {i for i in p["stages"][decompose["stage"] - 1]["nodes"] if p["nodes"][i]["kind"] == "composite"}
    assert composites and composites <= set(decompose["removed"])
    assert any(x["rules"] for x in p["passes"])


def test_provenance_goes_both_ways():
    data = data_of("mlp")
    p = data["programs"][0]
    here = next(f for f in data["files"] if f["name"] == "nets.py")
    line = next(int(k) for k, text in here["lines"].items() if "self.head(x)" in text)
    assert here["path"] == "tests/inspect/nets.py"  # from the working folder
    file = p["files"].index(here["path"])
    nodes = {i for i, n in enumerate(p["nodes"]) if [file, line] in n.get("locs", ())}
    for stage in p["stages"]:  # no pass loses the line
        assert nodes & set(stage["nodes"]), stage["key"]
    assert {p["nodes"][i]["op"] for i in nodes} >= {"linear", "dot_general", "add"}
    kernels = [x for x in p["launches"] if nodes & set(x["nodes"])]
    assert kernels and all(any([file, line] in p["nodes"][i].get("locs", ()) for i in x["nodes"]) for x in kernels)
    assert str(line + 1) in here["lines"] or str(line - 1) in here["lines"]  # the context is kept too


def test_nodes_of_loops_have_kernels():
    """What the scheduler makes to run a scan's body stands for the body's nodes."""
    p = data_of("lstm")["programs"][0]
    inside = {i for i in p["stages"][-1]["nodes"] if "context" in p["nodes"][i]}
    assert inside
    looped = [x for x in p["launches"] if x.get("times", 1) > 1]
    assert looped and all(x["times"] == 7 for x in looped)
    assert all(set(x["nodes"]) & inside for x in looped)
    arithmetic = {i for i in inside if p["nodes"][i]["kind"] in ("elementwise", "contract", "reduce")}
    computed = {i for x in p["launches"] for i in x["nodes"]}
    assert len(arithmetic & computed) > 0.8 * len(arithmetic)
    assert any("locs" in p["nodes"][i] for x in looped for i in x["nodes"])


def test_lines_of_kernels_belong_to_nodes():
    _, programs = lowered("mlp")
    for k in programs["predict"].kernels:
        text = k.printed.text.splitlines()
        owners = dict(kernel_lines(k.printed, k.launch.nest))
        for line, node in owners.items():
            if node.op.name == "maximum" and "=" in text[line - 1]:
                assert "maximum(" in text[line - 1]
            if "fma" in text[line - 1]:
                assert node.op.name == "dot_general"
    both = [k for k in programs["predict"].kernels if any(n.op.name == "maximum" for n in k.launch.nest.nodes)]
    found = {n.op.name for k in both for _, n in kernel_lines(k.printed, k.launch.nest)}
    assert {"dot_general", "add", "maximum"} <= found


@pytest.mark.parametrize("name", NAMES)
def test_nearly_every_line_that_computes_has_a_node(name):
    p = data_of(name)["programs"][0]
    computing = known = 0
    for x in p["launches"]:
        mine = {line for line, _ in x["lines"]}
        for i, text in enumerate(p["kernels"][x["kernel"]]["source"].splitlines(), 1):
            if re.match(r"\s+(v\d+|acc|a\d+|r\d+) = |\s+stor", text) and "args[" not in text:
                computing += 1
                known += i in mine
    assert computing > 100 and known > 0.97 * computing  # all but copies that the scheduler adds


def test_updates_and_gradients_have_scopes():
    p = data_of("mlp")["programs"][0]
    by_op = {}
    for i in p["stages"][1]["nodes"]:
        by_op.setdefault(p["nodes"][i]["op"], []).append(i)
    assert {s for i in by_op["adam_update"] for s in scopes(p, i)} == {
        f"optimizer.{n}" for n in ("body.0.weight", "body.0.bias", "head.weight", "head.bias")
    }
    assert any("grad:" in scopes(p, i) for i in by_op["softmax"])  # the loss stands in no module
    gradients = [s for i in by_op["dot_general"] for s in scopes(p, i)]
    assert gradients and all(s.startswith("grad:") and not s.startswith("grad:grad:") for s in gradients)


def test_a_graph_alone_and_other_targets():
    graph = gc.trace(lambda x: (x * 2.0).sum(), gc.spec("N", 3))
    data = graph_data(graph)
    assert [s["key"] for s in data["programs"][0]["stages"]] == ["traced"] and validator().is_valid(data)
    f = gc.compile(lambda x: (x * 2.0).sum(), gc.spec("N", 3), target="reference")
    data = report_data({"f": f.executable}, "f")
    assert data["programs"][0]["target"] == "reference" and validator().is_valid(data)
    g = gc.compile(lambda x: (x * 2.0).exp(), gc.spec("N", 3), target="cuda-sim")
    data = report_data({"g": g.executable}, "g")
    assert validator().is_valid(data) and data["programs"][0]["launches"][0]["lines"]


def test_sizes_are_those_of_the_dims():
    graph = gc.trace(lambda a, b: a @ b, gc.spec("N", 3), gc.spec(3, 5))
    for rows in (1, 64):
        p = report_data({"f": graph}, "f", dims={"N": rows})["programs"][0]
        product = next(n for n in p["nodes"] if n["op"] == "dot_general")
        assert product["flops"] == 2 * rows * 3 * 5 and product["bytes"] == 4 * rows * 5 and p["dims"] == {"N": rows}


def test_a_profile_comes_along():
    model, p = measured()
    programs = {m: model.executables[m] for m in ("train_step", "predict")}
    found = records_of(p, programs)
    record = found["train_step"]
    assert found.keys() == programs.keys() and record["dims"] == {"N": 64} and record["runs"] == 5
    data = report_data(programs, "mlp", profiles=found)
    assert data["programs"][0]["profile"] == record and validator().is_valid(json.loads(json.dumps(data)))
    with pytest.raises(gc.ArgumentError, match=r"a profile of 2 launches"):
        report_data(programs, "mlp", profiles={"train_step": {"launches": [1.0, 2.0]}})
    with pytest.raises(gc.ArgumentError, match=r"no program 'fit'"):
        report_data(programs, "mlp", profiles={"fit": record})
    with pytest.raises(gc.ArgumentError, match=r"no run of evaluate") as caught:
        records_of(p, {"evaluate": lowered("mlp")[1]["train_step"]})
    assert all(name in str(caught.value) for name in ("what ran in it: ", "DigitsMLP_train_step", "DigitsMLP_predict"))
    assert records_of(None, programs) == {} and records_of({"predict": {}}, programs) == {"predict": {}}


def test_a_report_has_the_sizes_that_were_measured():
    """Otherwise work and time would not fit together."""
    model, _ = measured()
    programs = {"train_step": model.executables["train_step"]}
    plain, timed = (report_data(programs, "mlp", profiles={"train_step": r})["programs"][0] for r in (record_of(), {**record_of(), "dims": {"N": 128}}))
    assert plain["dims"] == {"N": 64} and timed["dims"] == {"N": 128}
    assert sum(x["flops"] for x in timed["launches"]) > 1.5 * sum(x["flops"] for x in plain["launches"])
