"""Scaling curves, measured briefly on ours and one peer."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import scaling


def test_sizes_double():
    assert scaling.doubled("a", 1, 8, "b") == {str(n): {"a": n, "b": n} for n in (1, 2, 4, 8)}


def test_every_curve_is_a_case_of_a_workload():
    for curve in scaling.CURVES.values():
        for workload in curve.workloads():
            assert curve.case in workload.cases
            assert workload.task().flops(curve.case) > 0


def test_a_curve_is_measured_and_shown(monkeypatch, capsys, tmp_path):
    pytest.importorskip("jax")
    tiny = {str(n): {"batch": n, "inputs": 20, "hidden1": 33, "hidden2": 17, "classes": 3} for n in (2, 4)}
    monkeypatch.setitem(scaling.CURVES, "batch", dataclasses.replace(scaling.CURVES["batch"], points=tiny))
    picture = tmp_path / "curve.png"
    assert scaling.main(["batch", "--peers", "graphc,JAX", "--rounds", "1", "--seconds", "0.01", "--plot", str(picture)]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith(("| 2", "| 4"))]
    assert len(rows) == 2 and all(cell.strip() for row in rows for cell in row[1:-1])
    assert picture.stat().st_size > 5000


def test_unknown_curves_are_refused(capsys):
    with pytest.raises(SystemExit):
        scaling.main(["height"])
    assert "unknown: height" in capsys.readouterr().err
