"""GRAPHC_CHECK finds what it is for: defects are planted, and it must name the kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphc.backends.cpu.executable import CpuExecutable
from graphc.compiler import compile_graph
from graphc.errors import CompileError, NonFiniteError, SettingError
from graphc.schedule.program import Check, Launch
from tests.models import VARIANTS, Builder, batch_for, mlp_step
from tests.schedule.test_golden_lists import MODELS
from tests.schedule.test_order import UPDATES

SIZES = (24, 40, 10)


def to_compile():
    """Graphs whose kernels are compiled before the tests."""
    yield from ((mlp_step(SIZES, v)[0], None) for v in VARIANTS)
    yield from ((MODELS[name](), None) for name in MODELS)
    for build in UPDATES:
        b = Builder()
        yield b.graph(*build(b)), None


def step(mode: str) -> tuple[CpuExecutable, dict[str, np.ndarray]]:
    graph, store = mlp_step(SIZES)
    e = compile_graph(graph, "cpu", store)
    e.check = mode
    return e, batch_for(graph, 37)


@pytest.mark.parametrize("mode", ["schedule", "bounds"])
@pytest.mark.parametrize("n", [1, 37])
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_steps_pass(variant: str, n: int, mode: str):
    graph, store = mlp_step(SIZES, variant)
    e = compile_graph(graph, "cpu", store)
    e.check = mode
    r_graph, r_store = mlp_step(SIZES, variant)
    reference = compile_graph(r_graph, "reference", r_store)
    for seed in range(2):
        batch = batch_for(graph, n, seed)
        np.testing.assert_allclose(e(batch)["loss"], reference(batch)["loss"], rtol=1e-5)
    for name in store.names():
        a, b = store.numpy(name).astype(float), r_store.numpy(name).astype(float)
        assert np.linalg.norm(a - b) <= 2e-3 * max(np.linalg.norm(b), 1e-6), name


@pytest.mark.parametrize("mode", ["schedule", "bounds"])
@pytest.mark.parametrize("name", ["classifier", "attention_block", "convolution", "rnn"])
def test_models_pass(name: str, mode: str):
    graph = MODELS[name]()
    b = Builder()
    for i in graph.inputs:
        if i.role != "arg":
            b.param(i.name, i.node.shape)
    e = compile_graph(graph, "cpu", b.store)
    e.check = mode
    for n in (1, 5):
        values = batch_for(graph, n)
        wanted = compile_graph(graph, "reference", b.store)(values)
        for k, v in e(values).items():
            np.testing.assert_allclose(v, wanted[k], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("mode", ["schedule", "bounds"])
@pytest.mark.parametrize("build", UPDATES, ids=lambda f: f.__name__)
def test_updates_in_place_give_what_the_reference_gives(build, mode: str):
    found = []
    for target in ("reference", "cpu"):
        b = Builder()
        graph = b.graph(*build(b))
        rng = np.random.default_rng(1)
        b.store.write({n: rng.standard_normal(b.store.numpy(n).shape).astype("f") for n in b.store.names()})
        e = compile_graph(graph, target, b.store)
        if target == "cpu":
            e.check = mode
        out = e(batch_for(graph, 3))
        found.append(out | {n: b.store.numpy(n) for n in b.store.names()})
    for k, v in found[0].items():
        np.testing.assert_allclose(found[1][k], v, rtol=1e-5, atol=1e-5, err_msg=k)


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "everything")
    with pytest.raises(SettingError, match="everything"):
        compile_graph(*mlp_step(SIZES)[:1], "cpu", mlp_step(SIZES)[1])


def test_the_variable_switches_it_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "bounds")
    graph, store = mlp_step(SIZES)
    assert compile_graph(graph, "cpu", store).check == "bounds"


def test_a_missing_barrier_is_found():
    e, _ = step("schedule")
    barriers = [k for k, i in enumerate(e.schedule.items) if i.barrier and isinstance(i, Launch)]
    assert len(barriers) >= 4
    missed = []
    for k in barriers:
        e, batch = step("schedule")
        e.schedule.items[k].barrier = False
        try:
            e(batch)
        except CompileError as error:
            assert "kernel k_" in str(error) and "barrier" in str(error)
        else:
            missed.append(e.schedule.items[k].nest.name)  # type: ignore[union-attr]
    assert missed == []


def test_memory_that_is_given_away_too_early_is_found(monkeypatch: pytest.MonkeyPatch):
    import graphc.backends.cpu.meetings as program

    real = program.plan_memory

    def short_lived(schedule, dims):
        plan = real(schedule, dims)
        victim = max(plan.placements, key=lambda p: p.dies - p.born)
        return replace(plan, placements=tuple(replace(p, dies=p.born) if p is victim else p for p in plan.placements))

    e, batch = step("schedule")
    monkeypatch.setattr(program, "plan_memory", short_lived)
    with pytest.raises(CompileError, match="GRAPHC_CHECK=schedule"):
        e(batch)


def test_a_write_past_the_end_is_found():
    b = Builder()
    x = b.arg("x", (24, 40))
    e = compile_graph(b.graph({"out": x.exp() @ b.param("w", (40, 100))}), "cpu", b.store)
    e.check = "bounds"
    e(batch_for(e.graph, 1))
    k = next(k for k in e.program.kernels.values() if k.launch.nest.name == "exp")
    n = next(n for n, slot in enumerate(k.printed.slots) if slot.kind == "size")
    k.printed.slots[n] = replace(k.printed.slots[n], value=k.printed.slots[n].value + 1)
    with pytest.raises(CompileError, match=rf"GRAPHC_CHECK=bounds: kernel {k.kernel.name} .*writes past the end of temp"):
        e(batch_for(e.graph, 1))


def test_a_buffer_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch):
    """Every temporary in turn is declared one element shorter than what its kernel writes."""
    from graphc.schedule.program import Buffer

    e, batch = step("bounds")
    real = Buffer.nbytes.fget  # type: ignore[attr-defined]
    temps = [b for b in dict.fromkeys(e.schedule.buffers.values()) if b.space == "temp" and b.type.shape and not b.layout.panel]
    assert temps
    for victim in temps:
        monkeypatch.setattr(Buffer, "nbytes", property(lambda b, victim=victim: real(b) - 4 if b is victim else real(b)))
        e._bindings.clear()
        with pytest.raises((CompileError, ValueError)) as error:  # ValueError: a padded row that is not whole
            e(batch)
        assert not isinstance(error.value, CompileError) or "past the end of temp" in str(error.value)


@pytest.mark.parametrize("mode", ["schedule", "bounds"])
def test_a_loss_that_is_not_finite_still_writes_nothing(mode: str):
    e, batch = step(mode)
    before = {n: e.store.numpy(n) for n in e.store.names()}  # type: ignore[union-attr]
    batch["x"][3, 2] = np.nan
    with pytest.raises(NonFiniteError):
        e(batch)
    assert all(np.array_equal(e.store.numpy(n), v) for n, v in before.items())  # type: ignore[union-attr]


def test_a_check_moved_behind_an_update_is_found():
    e, batch = step("schedule")
    items = e.schedule.items
    batch["x"][0, 0] = np.inf
    k = next(k for k, i in enumerate(items) if isinstance(i, Check))
    before = {n: e.store.numpy(n) for n in e.store.names()}  # type: ignore[union-attr]
    items.append(items.pop(k))
    with pytest.raises((CompileError, NonFiniteError)):
        e(batch)
    assert any(not np.array_equal(e.store.numpy(n), v, equal_nan=True) for n, v in before.items())  # type: ignore[union-attr]
