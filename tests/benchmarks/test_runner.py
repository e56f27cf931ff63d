"""The benchmark command measures ours, checks what is computed, and says why a peer is missing. No timing is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import as_data, as_markdown, old_medians, verdicts
from benchmarks.runner import Entry, Result, Run
from benchmarks.workload import Goal
from benchmarks.workloads import WORKLOADS
from tests.packaging.folders import ROOT

GEMM = replace(WORKLOADS["gemm-256"], cases={"forward": Goal(0.6, 0.5)})


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", *args], cwd=ROOT, capture_output=True, text=True)


def test_command_measures_ours(tmp_path: Path):
    out = tmp_path / "figures.json"
    options = ["--peers", "graphc", "--rounds", "1", "--seconds", "0.02", "--claims", "none", "--markdown", "--json", str(out)]
    result = command("small", *options)
    assert result.returncode == 0, result.stderr
    data = json.loads(out.read_text())
    (row,) = data["results"]
    assert "problem" not in row, row
    assert 0 < row["p10"] <= row["median"] <= row["p90"]
    assert "| **graphc** |" in result.stdout

    data["results"][0]["median"] *= 1e6
    out.write_text(json.dumps(data))
    compared = command("small", *options[:-2], "--compare", str(out))
    assert "before / now" in compared.stdout and "small/forward" in compared.stdout


def test_command_refuses_what_it_does_not_know():
    assert "unknown: nothing" in command("nothing").stderr
    assert "unknown: nobody" in command("small", "--peers", "nobody").stderr


def test_command_lists_goals():
    lines = command("rnn", "--list").stdout.splitlines()
    assert len(lines) == 4 and "<= 0.85 of the best peer" in lines[1]


def test_starts_and_memory_are_measured_in_processes_of_their_own():
    workloads = [WORKLOADS[n].at_tiny_sizes() for n in ("warm-mlp", "memory-mlp")]
    result = Run(["graphc"], rounds=1, seconds=0.01, threads=1).run(workloads)
    start, memory = result.entries
    assert not start.problem and 0 < start.median < 60
    weights = 4 * sum(a * b + b for a, b in ((20, 33), (33, 17), (17, 3)))
    assert not memory.problem and memory.median > 3 * weights  # with both moments


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Run, "_expected", lambda self, workload, case: [[1.0, 1.0, 1.0]])
    (entry,) = Run(["graphc"], 1, 0.01, 1).run([WORKLOADS["small"]]).entries
    assert "computes something else" in entry.problem and not entry.samples


def entries(*peers: tuple[str, list[list[float]]]) -> list[Entry]:
    return [Entry(GEMM, "forward", peer, runs=runs) for peer, runs in peers]


def test_report_names_ratio_goal_and_reason():
    made = entries(("graphc", [[1e-3]]), ("JAX", [[2e-3]]))
    made.append(Entry(GEMM, "forward", "torch.compile", problem="needs a C++ compiler"))
    flops = GEMM.task().flops("forward")
    result = Result(made, peak=flops / 1e-3 * 4, versions={"jax": "1"}, others=0.5)
    text = as_markdown(result, 2)
    assert "| **JAX** | 2 ms | 2 ms - 2 ms | 0.50 | 12% |" in text
    assert "| gemm-256/forward | 1 ms | JAX 2 ms | 0.50 | 25% |" in text
    assert "**missed**: 50% of the limit" in text
    assert "needs a C++ compiler" in text
    assert "Disturbed" in text
    rows = as_data(result, 2)["results"]
    assert [r.get("problem") for r in rows] == [None, None, "needs a C++ compiler"]
    assert rows[0]["ratio"] == 0.5 and rows[0]["met"] is False
    assert old_medians({"results": rows}) == {"gemm-256/forward": 1e-3}
    assert "| 2.00 |" in as_markdown(result, 2, {"gemm-256/forward": 2e-3})


def test_the_best_run_counts():
    slow_then_fast = entries(("graphc", [[3.0, 3.0, 9.0], [1.0, 2.0, 9.0]]))[0]
    assert slow_then_fast.median == 2.0
    assert entries(("graphc", [[], [1.0]]))[0].median == 1.0


@pytest.mark.parametrize(
    ("name", "goal", "ours", "peer", "met"),
    [
        ("gemm-256", Goal(0.6), 0.5, 1.0, True),
        ("gemm-256", Goal(0.6), 0.7, 1.0, False),
        ("cold-mlp", Goal(most=2.0), 1.9, 1.0, True),
        ("cold-mlp", Goal(most=2.0), 2.1, 9.0, False),
        ("threads", Goal(least=1.9), 1.95, 1.0, True),
        ("threads", Goal(least=1.9), 1.5, 1.0, False),
        ("memory-mlp", Goal(1.0, versus="JAX"), 1.0, 1.0, True),
    ],
)
def test_goals(name: str, goal: Goal, ours: float, peer: float, met: bool):
    (case,) = WORKLOADS[name].cases
    workload = replace(WORKLOADS[name], cases={case: goal})
    made = [Entry(workload, case, "graphc", runs=[[ours]]), Entry(workload, case, "JAX", runs=[[peer]])]
    assert [ok for _, ok in verdicts(made, Result(made, peak=1e12))] == [met]
