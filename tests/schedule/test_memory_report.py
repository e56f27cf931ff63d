"""The memory report: bytes at given sizes, at the hints of named dims, and as a polynomial."""

from __future__ import annotations

import graphc as gc
from graphc import nn
from graphc.ir.dims import evaluate


def test_the_report_has_the_value_at_the_hint_and_the_polynomial():
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    f = gc.compile(model, gc.spec(gc.Dim("N", hint=128), 20), target="cpu")
    exe = f.executables["predict"] if f.executables else None
    exe = exe or f.compile_all() or f.executables["predict"]
    at_hint, small = exe.memory_analysis(), exe.memory_analysis({"N": 1})
    assert str(at_hint.unplanned) == "120*N", "one temporary: N rows of 30 float32"
    assert 0 <= at_hint.unplanned_bytes - evaluate(at_hint.unplanned, {"N": 128}) < 1024
    assert small.arena_bytes < at_hint.arena_bytes
    assert "120*N" in str(at_hint)
