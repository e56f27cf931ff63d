"""What is compiled and let go leaves nothing behind."""

from __future__ import annotations

import gc as garbage
import weakref

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.ir.living import Living
from tests.stress import compile_cycles

from .common import batch


def parts(m: gc.Model) -> list[object]:
    """The larger things that a model is made of."""
    step = m._function("train_step")
    program = step.executable
    bindings = list(program._bindings.values())
    return [m, m.store, m.module, step, step.graph.outputs[0][1], program, program.schedule, program.program, *bindings, bindings[0].main]


def test_no_object_of_a_model_survives():
    for i in range(compile_cycles.KINDS):
        compile_cycles.cycle(i)
    before = compile_cycles.census()
    watched = []
    for i in range(50):
        compile_cycles.cycle(i, lambda made: watched.extend(weakref.ref(p) for p in (*parts(made[0]), made[1], made[1].executable)))
    after = compile_cycles.census()
    assert len(watched) >= 50 * 10 and [r() for r in watched if r() is not None] == []
    grown = {k: (before[k], n) for k, n in after.items() if n > before[k]}
    assert grown == {}


def test_a_network_that_is_compiled_again_and_again():
    """As in a notebook: the optimiser's state of models that are gone goes with them."""
    net = nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 8))
    x, y = batch()

    def compiled():
        return gc.compile(net, gc.spec("N", 96), loss="cross_entropy", optimizer=optim.Adam(1e-3))

    m = compiled()
    names = set(m.store.names())
    m.fit(x, y, verbose=0)
    held, prefixes = [], set()
    for k in range(6):
        last, m = m, compiled()
        assert m.steps == 0
        assert not np.any(m.store.numpy(f"{m.prefix}.m.0.weight")) if f"{m.prefix}.m.0.weight" in m.store else True
        last.fit(x, y, verbose=0)  # the one before lives until now
        m.fit(x, y, verbose=0)
        assert m.steps == 8
        prefixes.add(m.prefix)
        if k == 2:
            held.append(last)
        del last
        garbage.collect()
    assert len(prefixes) <= 3 and len(m.store.names()) <= 3 * len(names)
    steps = held[0].steps
    held[0].train_on_batch(x, y)  # what is held keeps its own
    assert held[0].steps == steps + 1


def test_a_program_that_outlives_its_model():
    """It works on the values that have the names now: never on memory that was freed."""
    net = nn.Linear(6, 3)
    x, y = np.ones((4, 6), "f"), np.zeros((4, 3), "f")

    def compiled():
        return gc.compile(net, gc.spec("N", 6), loss="mse", optimizer=optim.Adam(1e-3))

    m = compiled()
    m.train_on_batch(x, y)
    step = m.executables["train_step"]
    inputs = {"input": x, "y": y} if "input" in step._names else dict(zip(sorted(step._names), (x, y)))
    step(inputs)
    del m
    garbage.collect()
    other = compiled()
    step(inputs)
    assert other.steps == 1
    del other
    garbage.collect()
    alone = gc.compile(net, gc.spec("N", 6))
    with pytest.raises(gc.ParameterError, match="optimizer"):
        step(inputs)
    alone.predict(x)


def test_a_slab_goes_with_its_last_array():
    from graphc.runtime import memory

    a = memory.aligned_empty(3 * memory.SLAB, np.uint8)  # a slab of its own
    slab = weakref.ref(memory._open[0].base)
    memory.aligned_empty(2 * memory.SLAB, np.uint8)
    assert slab() is not None
    del a
    garbage.collect()
    assert slab() is None


def test_the_living():
    class Thing:
        pass

    things, a, b = Living(), Thing(), Thing()
    things.add(a)
    things.add(b)
    for thing in things:
        if thing is a:
            things.add(Thing())  # gone at once
    assert set(things) == {a, b}
    del a, thing
    assert set(things) == {b}
    things.clear()
    assert not set(things)


def test_three_cycles_of_the_script():
    before, after = compile_cycles.run(3, warm=2)
    assert before > 0 and after < 2 * before
