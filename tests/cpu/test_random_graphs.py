"""Random graphs: the passes keep their meaning, and the kernels have it too. ``python -m tests.random_graphs`` is the long run."""

from __future__ import annotations

from random import Random

import pytest

from graphc.compiler import compile_graph
from graphc.ir.dtypes import float64
from graphc.testing import random_graph
from tests.random_graphs import compare_compiled, compare_passes, stored_graph, typed_graph

COMPILED = 30
STORED = [seed for seed in range(24) if stored_graph(seed, 10) is not None]
"""Graphs of float16 and bfloat16 that no rounding decides."""


def to_compile():
    """Graphs whose kernels are compiled before the tests."""
    for seed in range(COMPILED):
        yield typed_graph(seed, 10)[0], None
    for seed in STORED:
        yield stored_graph(seed, 10)[0], None


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_lowering_keeps_every_value(first: int):
    for seed in range(first, first + 20):
        graph, arrays = random_graph(Random(seed), 16, float64)
        assert not compare_passes(graph, arrays), f"seed {seed}"


@pytest.mark.parametrize("seed", range(COMPILED))
def test_kernels_agree_with_the_reference(seed: int):
    graph, arrays = typed_graph(seed, 10)
    assert not compare_compiled(graph, arrays)


@pytest.mark.parametrize("seed", STORED)
def test_kernels_of_storage_types_agree_with_the_reference(seed: int):
    assert not compare_compiled(*stored_graph(seed, 10))


@pytest.mark.parametrize("seed", range(0, COMPILED, 5))
def test_kernels_pass_the_checks(seed: int):
    graph, arrays = typed_graph(seed, 10)
    e = compile_graph(graph, "cpu")
    e.check = "schedule"
    e(arrays)
