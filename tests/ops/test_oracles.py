"""Every operator against something that we did not write."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.ir.op import all_ops
from graphc.testing import build_graph
from tests.ops.cases import OPS, assert_close, retyped, run
from tests.ops.oracles import EXEMPT, JAX, TORCH, in_double


def compare(op, oracle, tolerance=1e-10, needs_elements=False):
    done = 0
    for sample in op.samples():
        args = [retyped(a, "float64") for a in sample.args]
        if needs_elements and any(isinstance(a, np.ndarray) and not a.size for a in args):
            continue
        graph, arrays = build_graph(lambda *a, s=sample: op.call(*a, **s.kwargs), *args)
        found = run(graph, arrays, "reference")
        wanted = oracle(*args, **sample.kwargs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        wanted = [w for w in wanted if w is not None and np.asarray(w).dtype != object]
        assert len(found) == len(wanted)
        for f, w in zip(found.values(), wanted, strict=True):
            allowed = max(tolerance, 1e-6) if f.dtype == np.float32 else tolerance  # a share of rows is float32 whatever it is a share of
            assert_close(f, np.asarray(w), allowed, f"{op.name}{tuple(getattr(a, 'shape', a) for a in args)} {dict(sample.kwargs)}")
        done += 1
    assert done


@pytest.mark.parametrize("op", [op for op in OPS if op.name in JAX], ids=lambda op: op.name)
def test_against_jax_and_scipy(op):
    compare(op, in_double(JAX[op.name]))


@pytest.mark.parametrize("op", [op for op in OPS if op.name in TORCH], ids=lambda op: op.name)
def test_against_torch(op):
    pytest.importorskip("torch")
    compare(op, TORCH[op.name], needs_elements=True)


def test_every_operator_has_an_oracle_or_a_reason():
    names = {op.name for op in all_ops()}
    checked = set(JAX) | set(TORCH)
    assert not names - checked - set(EXEMPT), "operators that nobody else checks"
    assert not (checked | set(EXEMPT)) - names, "oracles without an operator"
