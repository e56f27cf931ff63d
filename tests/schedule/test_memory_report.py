"""The memory report: bytes at given sizes, at the hints of named dims, and as a polynomial."""

from __future__ import annotations

import numpy as np

import graphc as gc
from graphc import nn, ops
from graphc.compiler import compile_graph
from graphc.ir.dims import evaluate
from graphc.testing import build_graph


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


def test_what_kernels_keep_for_themselves_is_counted():
    """A softmax keeps its exponentials, a row for each of four short ones or one long one, padded to blocks of 64."""
    graph, _ = build_graph(lambda x: ops.softmax(x, -1), np.zeros((300, 2000), np.float32))
    e = compile_graph(graph, "cpu")
    assert e.memory_analysis().working_bytes == 2048 * 4 * e.thread_count({})
    assert "kernels' own" in str(e.memory_analysis())
