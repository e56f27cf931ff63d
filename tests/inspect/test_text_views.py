"""What is said in text: summaries, trees, differences, costs, explanations."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.inspect.cost import flops, macs
from graphc.inspect.profile import seconds_by_scope
from graphc.ir.text import parse_graph
from tests.inspect.nets import DigitsMLP, lowered, measured, record_of


def small(**more):
    return gc.compile(DigitsMLP(), gc.spec("N", 64), loss="cross_entropy", optimizer=optim.Adam(1e-3), target="reference", **more)


# -- summary -------------------------------------------------------------------------------------------------------------
def rows(text):
    return [[c.strip() for c in re.split(r"[│┃]", line)[1:-1]] for line in text.splitlines() if line.startswith(("│", "┃"))]


def test_summary_columns_and_depth():
    model = small()
    model.freeze("head")
    made = model.summary(print_fn=None)
    head, *body = rows(made)
    assert head == ["layer", "output", "parameters", "trained", "MACs", "parameter bytes", "activations"]
    table = {r[0]: r for r in body}
    assert table["body.0 (Linear)"][1:] == ["(N, 32)", "2,080", "yes", "2048*N", "8.1 KiB", "128*N B"]
    assert table["head (Linear)"][3] == "frozen" and table["body (Sequential)"][2] == ""
    outer = {r[0]: r for r in rows(model.summary(print_fn=None, depth=1))[1:]}
    assert set(outer) == {"body (Sequential)", "head (Linear)"}
    assert outer["body (Sequential)"][2:5] == ["2,080", "yes", "2048*N"]  # what is deeper is counted where the table ends
    plain = rows(model.summary(print_fn=None, show_macs=False, show_bytes=False))[0]
    assert plain == ["layer", "output", "parameters", "trained"]
    with pytest.raises(gc.ArgumentError, match="depth = 0"):
        model.summary(print_fn=None, depth=0)
    assert "<table>" in made._repr_html_() and "body.0 (Linear)" in made._repr_html_()


def test_shared_modules_are_counted_once():
    class Twice(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x))

    table = rows(gc.compile(Twice(), gc.spec("N", 4), target="reference").summary(print_fn=None))[1:]
    assert [r[2] for r in table] == ["20", "(shared)"]


def test_summary_tells_shares_of_measured_time():
    model, p = measured()
    record = record_of("predict")
    times = seconds_by_scope(model.executables["predict"], record)
    assert sum(times.values()) == pytest.approx(sum(record["launches"]))
    for profile in (p, record):
        table = rows(model.summary(print_fn=None, profile=profile))
        shares = {r[0].strip(): float(r[-1][:-2]) for r in table[1:] if r[-1]}
        assert table[0][-1] == "time" and sum(shares.values()) == pytest.approx(100, abs=0.3)
        assert shares["head (Linear)"] == pytest.approx(100 * times["head"] / sum(times.values()), abs=0.06)
    with gc.profile() as steps:
        model.train_on_batch(np.zeros((4, 64), "float32"), np.zeros(4, int))
    assert rows(model.summary(print_fn=None, profile=steps))[0][-1] == "time (train_step)"
    with gc.profile() as nothing:
        pass
    with pytest.raises(gc.ArgumentError, match="no run of predict or train_step") as caught:
        model.summary(profile=nothing)
    assert "nothing ran in it" in str(caught.value)


def test_summary_of_hostile_names():
    net = nn.Sequential(nn.Linear(2, 2))
    type(net[0]).__name__, kept = "[bold red]Linear</td><script>", type(net[0]).__name__
    try:
        made = gc.compile(net, gc.spec("N", 2), target="reference").summary(print_fn=None)
    finally:
        type(net[0]).__name__ = kept
    assert "[bold red]" in made and "<script>" not in made._repr_html_()


# -- dprint and diff -----------------------------------------------------------------------------------------------------
def test_dprint_is_a_tree_with_shared_ids():
    def f(x):
        y = x.exp()
        return (y + y.tanh()) * y

    text = gc.dprint(gc.trace(f, gc.spec("N")), print_fn=None)
    assert text.count("exp [A] : f32[N]") == 1 and text.count("exp [A] (above)") == 2
    assert re.search(r"├─ add .*# test_text_views\.py:\d+", text) and "x : f32[N]" in text
    assert len(gc.dprint(gc.trace(f, gc.spec("N")), depth=1, print_fn=None).splitlines()) < len(text.splitlines())
    deep = gc.spec("N")
    graph = gc.trace(lambda x: nest(x, 3000), deep)  # deeper than Python's stack
    assert len(gc.dprint(graph, print_fn=None).splitlines()) == 3001


def nest(x, n):
    for _ in range(n):
        x = x.exp()
    return x


def test_diff_finds_what_changed():
    class Net(DigitsMLP):
        def __init__(self, act):
            super().__init__()
            self.body[1] = act

    a = gc.trace(Net(nn.ReLU()), gc.spec("N", 64))
    b = gc.trace(Net(nn.GELU()), gc.spec("N", 64))
    found = gc.diff(a, b)
    assert [n.op.name for n in found.removed] == ["relu"] and [n.op.name for n in found.added] == ["gelu"]
    assert found and "1 removed, 1 added, 1 the same on other operands" in str(found)
    minus, plus = (line for line in str(found).splitlines() if line[0] in "-+")
    assert "relu" in minus and "gelu" in plus
    assert not gc.diff(a, a) and str(gc.diff(a, parse_graph(str(a)))) == "the graphs compute the same"
    assert "<pre>" in found._repr_html_()
    more = gc.diff(gc.trace(lambda x: x, gc.spec(3)), gc.trace(lambda x, y: (x, y), gc.spec(3), gc.spec(3)))
    assert "+ input y : f32[3]" in str(more)


# -- stages and costs ----------------------------------------------------------------------------------------------------
def test_a_lowered_graph_prints_every_stage():
    graph = small().graph
    made = graph.lower("cpu")
    assert made.as_text("traced") == str(graph) and str(made) == made.as_text()
    assert made.as_text("decompose") != made.as_text("traced") and "dot_general" in made.as_text("decompose")
    fused = made.as_text("fused")
    assert "kernel 0:" in fused and "dot_general(" in fused and "# nets.py:" in fused
    source = made.as_text("kernels")
    assert source.count("def kernel(") == len({k.kernel.name for k in made.kernels})
    for p in made.passes:  # each stage is a graph that parses back
        assert parse_graph(str(p.after)).structural_key == p.after.structural_key
    with pytest.raises(gc.ArgumentError, match="no stage 'optimised'") as e:
        made.as_text("optimised")
    assert "decompose" in e.value.hint
    with pytest.raises(gc.ArgumentError, match="reference runs a graph as it was traced"):
        graph.lower("reference")


def test_a_lowered_graph_is_what_is_compiled():
    f = gc.compile(lambda a, b: (a @ b).exp().sum(-1), gc.spec("N", 8), gc.spec(8, 5))
    made = f.graph.lower()
    assert [k.kernel.name for k in made.kernels] == [k.kernel.name for k in f.executable.kernels]
    run = made.compile()
    a, b = np.ones((3, 8), "float32"), np.ones((8, 5), "float32")
    (out,) = run({"a": a, "b": b}).values()
    assert out == pytest.approx(f(a, b))


def test_costs_add_up():
    model, programs = lowered("mlp")
    cost = programs["predict"].cost_analysis({"N": 64})
    assert cost.dims == {"N": 64} and cost.flops == sum(k.flops for k in cost.kernels)
    products = 2 * 64 * (64 * 32 + 32 * 10)
    assert products < cost.flops < 1.2 * products  # the products, and an add and a maximum each element
    assert "operations" in str(cost) and "<table>" in cost._repr_html_()
    assert programs["predict"].cost_analysis({"N": 128}).flops == 2 * cost.flops
    assert {"body.0/linear", "head/linear"} <= set(cost.scopes)
    plan = programs["predict"].memory_analysis({"N": 64})
    assert plan.slot_bytes >= sum(p.nbytes for p in model.module.parameters())
    with pytest.raises(gc.ArgumentError, match="reference makes no plan"):
        small().cost_analysis()


def test_costs_go_through_composites_and_loops():
    f = gc.trace(lambda x, w: gc.ops.linear(x, w), gc.spec(7, 3), gc.spec(5, 3))
    node = f.outputs[0][1]
    assert node.op.kind == "composite" and macs(node) == 7 * 3 * 5 and flops(node) == 2 * 7 * 3 * 5
    lstm = gc.trace(nn.LSTM(6, 16, batch_first=True), gc.spec(2, 7, 6))
    work = sum(macs(n) for n in lstm.nodes)
    assert work == 7 * 2 * 4 * 16 * (6 + 16)


# -- explanations --------------------------------------------------------------------------------------------------------
def test_explain_tells_lines_rules_and_kernels():
    _, programs = lowered("mlp")
    text = gc.explain(programs["predict"], "maximum")
    assert "from     nets.py:" in text and "self.body(x)" in text and "body.1/relu" in text
    assert re.search(r"kernel   k_\w+ \(contract\), line\w* [\d, ]+:  v\d+ = maximum\(", text)
    graph = gc.trace(lambda x: -(-x) * 1.0, gc.spec("N"))
    made = graph.lower()
    assert "rule" in gc.explain(made, made.lowered.graph.outputs[0][1]) and "neg(neg(x)) -> x" in gc.explain(
        made, made.lowered.graph.outputs[0][1]
    )
    node = graph.outputs[0][1]
    assert "from     test_text_views.py:" in gc.explain(node)
    with pytest.raises(gc.ArgumentError, match="no stage has an operator 'softplus'"):
        gc.explain(programs["predict"], "softplus")
    with pytest.raises(gc.ArgumentError, match="explain what"):
        gc.explain(programs["predict"])


def test_explain_fusion_says_why():
    _, programs = lowered("mlp")
    assert "one kernel" in gc.explain_fusion(programs["predict"], "dot_general", "add")
    with pytest.raises(gc.ArgumentError, match="is not compiled"):
        gc.explain_fusion(3, "a", "b")


def test_explain_cache(tmp_path, monkeypatch):
    from graphc.backends.cpu.machine import cache

    monkeypatch.setattr(cache, "_CACHE", None, raising=False)
    fresh = cache.KernelCache(tmp_path)
    monkeypatch.setattr(cache, "default_cache", lambda: fresh)
    made = gc.trace(lambda x: x * 3.0, gc.spec("N")).lower()
    (kernel,) = made.kernels
    fresh.get([kernel.printed.text])
    text = gc.explain_cache()
    assert str(tmp_path) in text and "1 compiled" in text and f"its text is new: {kernel.kernel.name}" in text and "numba" in text
    again = cache.KernelCache(tmp_path)
    monkeypatch.setattr(cache, "default_cache", lambda: again)
    again.get([kernel.printed.text])
    assert "1 loaded, 0 compiled" in gc.explain_cache()
    (tmp_path / f"{kernel.kernel.name}.o").write_bytes(b"broken")
    third = cache.KernelCache(tmp_path)
    monkeypatch.setattr(cache, "default_cache", lambda: third)
    third.get([kernel.printed.text])
    assert "damaged or foreign" in gc.explain_cache()
    (tmp_path / "k_0000.py").write_text(kernel.printed.text)
    (tmp_path / f"{kernel.kernel.name}.o").unlink()
    fourth = cache.KernelCache(tmp_path)
    monkeypatch.setattr(cache, "default_cache", lambda: fourth)
    fourth.get([kernel.printed.text])
    assert "compiled before, for other versions" in gc.explain_cache()
