"""Every example with the kernels that a GPU would run, on the simulator."""

from __future__ import annotations

import pytest

import graphc as gc
from graphc.backends.cuda import sim
from tests.examples import EXAMPLES
from tests.examples.simulated import CLAIMS, run

LONG = {"cross_validation", "custom_step_gan", "mnist_cnn", "regularisation", "vae_digits", "vanishing_gradient"}
"""More than ten seconds of processor time each."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in CLAIMS])
def test_an_example_reaches_what_it_says_on_the_simulator(name, tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="the examples read scikit-learn's data")
    pytest.importorskip("matplotlib", reason="the examples draw with matplotlib")
    launches = []
    monkeypatch.setattr(sim, "run", lambda *args, real=sim.run: (launches.append(args[4]), real(*args)))
    result = run(name, tmp_path)
    gc.set_seed(0)
    assert CLAIMS[name].holds(result), result
    assert len(set(launches)) > 3 and CLAIMS[name].says.format_map(result)


def test_no_example_is_left_out():
    assert set(CLAIMS) == {p.stem for p in EXAMPLES.glob("*.py")} - {"common"}
