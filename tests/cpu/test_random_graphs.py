"""Random graphs: the passes keep their meaning, and the kernels have it too."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings

from graphc.backends.reference import interpret
from graphc.compiler import compile_graph
from graphc.passes.pipeline import Settings, lower
from graphc.testing import random_graphs

QUIET = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=60, **QUIET)
@given(random_graphs(max_nodes=16))
def test_lowering_keeps_every_value(case):
    graph, arrays = case
    low = lower(graph, Settings(16))
    for mode, tolerance in (("exact", 1e-9), ("faithful", 1e-4)):
        before, after = interpret(graph, arrays, mode)[0], interpret(low.graph, arrays, mode)[0]
        for k, v in before.items():
            np.testing.assert_allclose(after[k], v, rtol=tolerance, atol=tolerance)


@settings(max_examples=15, **QUIET)
@given(random_graphs(max_nodes=10))
def test_kernels_agree_with_the_reference(case):
    graph, arrays = case
    wanted = compile_graph(graph, "reference")(arrays)
    e = compile_graph(graph, "cpu")
    e.check = "schedule"
    found = e(arrays)
    for k, v in wanted.items():
        assert found[k].shape == v.shape and found[k].dtype == v.dtype
        np.testing.assert_allclose(found[k], v, rtol=1e-4, atol=1e-4)
