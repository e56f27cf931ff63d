"""The benchmark command measures ours, checks what is computed, and says why a peer is missing. No timing is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import as_data, as_markdown
from benchmarks.runner import Entry, Result, wrong
from benchmarks.workloads import MLP, WORKLOADS
from tests.packaging.folders import ROOT

TINY = MLP("tiny", (4, 3, 2), 5, ("forward", "train"))


def test_command_measures_ours(tmp_path: Path):
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "small", "--peers", "graphc", "--rounds", "1", "--seconds", "0.02"]
    result = subprocess.run([*command, "--markdown", "--json", str(out)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(out.read_text())["results"]
    assert "problem" not in row, row
    assert 0 < row["p10"] <= row["median"] <= row["p90"]
    assert "| **graphc** |" in result.stdout


def test_wrong_results_are_not_timed():
    assert wrong([1.0], [1.0001]) == ""
    assert "computes something else" in wrong([1.0], [1.1])
    assert "computes something else" in wrong([], [1.0])
    assert "computes something else" in wrong([float("nan")], [1.0])


def test_expected_losses_agree_with_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle: pip install -r tests/oracles.txt")
    from benchmarks.peers.torch_model import trainer

    torch.manual_seed(0)
    step = trainer(TINY, {"foreach": False})
    assert wrong([float(step()) for _ in range(3)], TINY.expected("train")) == ""


def test_flops_of_a_training_step():
    first, second = 2 * 5 * 4 * 3, 2 * 5 * 3 * 2
    assert TINY.flops("forward") == first + second
    assert TINY.flops("train") == 2 * first + 3 * second


def test_report_names_ratio_and_reason():
    entries = [
        Entry(TINY, "forward", "graphc", samples=[1e-3]),
        Entry(TINY, "forward", "JAX", samples=[2e-3]),
        Entry(TINY, "forward", "torch.compile", problem="needs a C++ compiler"),
    ]
    result = Result(entries, peak=1e9, versions={"jax": "1"}, others=0.5)
    text = as_markdown(result, 2)
    assert "| **JAX** | 2 ms | 2 ms - 2 ms | 0.50 |" in text
    assert "needs a C++ compiler" in text
    assert "Disturbed" in text
    assert [r.get("problem") for r in as_data(result, 2)["results"]] == [None, None, "needs a C++ compiler"]


def test_jitter_changes_sizes_within_a_fifth():
    base = WORKLOADS["mlp"]
    varied = base.jittered(3)
    assert varied.dims[-1] == base.dims[-1]
    assert varied != base
    assert all(0.79 <= a / b <= 1.21 for a, b in zip((varied.batch, *varied.dims), (base.batch, *base.dims)))
