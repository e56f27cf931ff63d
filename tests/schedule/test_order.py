"""In-place updates, barriers and memory: what the schedule promises, checked by brute force."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

import graphc.ops as ops
from graphc.ir.dims import sym
from graphc.ir.graph import Graph
from graphc.passes.pipeline import Settings, lower
from graphc.schedule.memory import SLACK, plan_memory
from graphc.schedule.program import Buffer, Check, Launch, Repeat, Schedule, memory_key, schedule_graph
from graphc.testing import random_graphs
from tests.models import VARIANTS, Builder, mlp_step
from tests.schedule.test_golden_lists import MODELS

N = sym("N")


def scheduled(graph: Graph) -> Schedule:
    low = lower(graph, Settings(16, {}, may_choose=bool(graph.updates)))
    return schedule_graph(low.graph, low.layouts)


def stretches(items: list[Launch | Check | Repeat]) -> Iterator[list[Launch | Check]]:
    """Runs of items between barriers, as the driver meets them, from the flags alone. A repeat's body comes twice: the
    second trip follows the first. The static launches run before everything else."""
    now: list[Launch | Check] = []

    def walk(some: list[Launch | Check | Repeat]) -> Iterator[list[Launch | Check]]:
        nonlocal now
        for i in some:
            if i.barrier:
                yield now
                now = []
            if isinstance(i, Repeat):
                for _ in range(2):
                    yield from walk(i.body)
                    yield now
                    now = []
            elif not (isinstance(i, Launch) and i.static):
                now.append(i)

    yield from walk(items)
    yield now


def keys(buffers: tuple[Buffer, ...]) -> set[object]:
    return {memory_key(b) for b in buffers}


def assert_no_conflicts(s: Schedule) -> None:
    for run in stretches(s.items):
        launches = [i for i in run if isinstance(i, Launch)]
        for k, a in enumerate(launches):
            for b in launches[k + 1 :]:
                clash = keys(a.writes) & (keys(b.reads) | keys(b.writes)) | keys(a.reads) & keys(b.writes)
                assert not clash, f"{a.nest.name} and {b.nest.name} share {clash} without a barrier between them"
        for check in (i for i in run if isinstance(i, Check)):
            before = launches[: run.index(check)]
            assert not any(memory_key(check.buffer) in keys(i.writes) for i in before)


def assert_no_overlap(s: Schedule, n: int) -> None:
    """Temporaries that are alive in one stretch between barriers have memory of their own."""
    plan = plan_memory(s, dict.fromkeys(s.graph.dims, n))
    alive: dict[object, list[int]] = {}
    for t, run in enumerate(stretches(s.items)):
        for i in run:
            used = (*i.reads, *i.writes) if isinstance(i, Launch) else (i.buffer,)
            for b in used:
                if b.space == "temp":
                    alive.setdefault(b, []).append(t)
    places = {p.buffer: p for p in plan.placements}
    assert places.keys() == alive.keys()
    for p in plan.placements:
        assert p.offset % 64 == 0 and p.offset >= 0 and p.offset + p.nbytes <= plan.arena_bytes
        size = p.buffer.nbytes if isinstance(p.buffer.nbytes, int) else ops_size(p.buffer, s, n)
        assert p.nbytes >= size + SLACK
    entries = [(p, min(alive[p.buffer]), max(alive[p.buffer])) for p in plan.placements]
    for k, (p, born, dies) in enumerate(entries):
        for q, q_born, q_dies in entries[k + 1 :]:
            if born <= q_dies and q_born <= dies:
                apart = p.offset + p.nbytes <= q.offset or q.offset + q.nbytes <= p.offset
                assert apart, f"{p.buffer.node!r} and {q.buffer.node!r} overlap at N = {n}"
    assert plan.arena_bytes <= plan.unplanned_bytes
    load = [sum(p.nbytes for p, born, dies in entries if born <= t <= dies) for t in range(max((d for *_, d in entries), default=0) + 1)]
    assert plan.arena_bytes >= max(load, default=0)


def ops_size(b: Buffer, s: Schedule, n: int) -> int:
    from graphc.ir.dims import evaluate

    return evaluate(b.nbytes, dict.fromkeys(s.graph.dims, n))


@pytest.mark.parametrize("name", MODELS)
def test_barriers_separate_every_conflict(name: str):
    assert_no_conflicts(scheduled(MODELS[name]()))


@pytest.mark.parametrize("n", [0, 1, 7, 64])
@pytest.mark.parametrize("name", MODELS)
def test_memory_is_never_shared_by_the_living(name: str, n: int):
    assert_no_overlap(scheduled(MODELS[name]()), n)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random_graphs())
def test_random_graphs_have_neither_conflicts_nor_overlaps(case):
    s = scheduled(case[0])
    assert_no_conflicts(s)
    for n in (0, 1, 5, 33):
        assert_no_overlap(s, n)


def test_a_dropped_barrier_would_be_seen():
    s = scheduled(MODELS["classifier"]())
    last = [i for i in s.items if i.barrier][-1]
    last.barrier = False
    with pytest.raises(AssertionError, match="without a barrier"):
        assert_no_conflicts(s)


def test_no_barrier_without_a_reason():
    """Each barrier is needed: without it, a conflict."""
    s = scheduled(mlp_step((24, 20, 10))[0])
    for i in s.items:
        if i.barrier and isinstance(i, Launch):
            i.barrier = False
            with pytest.raises(AssertionError):
                assert_no_conflicts(s)
            i.barrier = True


# -- updates in place ------------------------------------------------------------------------------------------------------
def position(s: Schedule, test) -> int:
    return next(k for k, i in enumerate(s.items) if isinstance(i, Launch) and test(i))


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_are_written_after_every_reader_and_after_the_check(variant: str):
    s = scheduled(mlp_step((24, 20, 10), variant)[0])
    check = next(k for k, i in enumerate(s.items) if isinstance(i, Check))
    for name, _ in s.graph.updates:
        writes = [k for k, i in enumerate(s.items) if isinstance(i, Launch) and any(b.space == "slot" and b.name == name for b in i.writes)]
        reads = [k for k, i in enumerate(s.items) if isinstance(i, Launch) and any(b.space == "slot" and b.name == name for b in i.reads)]
        assert len(writes) == 1 and writes[0] > check
        assert all(r <= writes[0] for r in reads), name


def updates(build) -> Schedule:
    b = Builder()
    outputs, changes = build(b)
    return scheduled(b.graph(outputs, changes))


def swap(b: Builder):
    p, q = b.state("p", (4, 5)), b.state("q", (4, 5))
    return {"out": p + q}, {"p": q, "q": p}


def also_output(b: Builder):
    p = b.state("p", (4, 5))
    return {"out": p * 2.0}, {"p": p * 2.0}


def transposed(b: Builder):
    p = b.state("p", (6, 6))
    return {"out": p + 1.0}, {"p": p.transpose().exp()}


def two_places(b: Builder):
    p, q = b.state("p", (4, 5)), b.state("q", (4, 5))
    return {"out": p * 3.0}, {"p": p + q, "q": p + q}


def squared(b: Builder):
    p = b.param("p", (6, 6))
    return {"out": p.sum()}, {"p": p - p @ p}


def read_again_in_a_later_pass(b: Builder):
    p = b.param("p", (5, 40))
    e = (p - p.max(-1, keepdims=True)).exp()
    return {"out": p / e.sum(-1, keepdims=True)}, {"p": p - e * 0.5}


def read_behind_the_write(b: Builder):
    p, x = b.state("p", (6, 50)), b.arg("x", (6, 50))
    return {"out": x.exp() + p}, {"p": x.exp()}


def point_read_behind_the_write(b: Builder):
    p, x = b.state("p", (6,)), b.arg("x", (6, 50))
    total = x.sum(-1)
    return {"out": x * total.expand_dims(1) + p.expand_dims(1)}, {"p": total}


def epilogue_read_behind_the_write(b: Builder):
    p, x, w = b.state("p", (6, 20)), b.arg("x", (6, 50)), b.param("w", (20, 50))
    y = x @ w.transpose()
    return {"out": y * 2.0 + p}, {"p": y}


def plain(b: Builder):
    p = b.param("p", (6, 5))
    return {"out": p.sum()}, {"p": p - p.exp() * 0.1}


def chained(b: Builder):
    p, q = b.state("p", (6, 64)), b.state("q", (6, 64))
    new = p + q.exp()
    return {"out": (p * q).sum()}, {"p": new, "q": q + new.tanh() * p}


def normalised(b: Builder):
    p = b.param("p", (6, 50))
    return {"out": p.sum()}, {"p": ops.softmax(p, -1)}


def unchanged(b: Builder):
    p = b.state("p", (4, 5))
    return {"out": p}, {"p": p}


def one_old_value_in_two_places(b: Builder):
    p, _q = b.state("p", (4, 5)), b.state("q", (4, 5))
    return {"out": p + 2.0}, {"p": p, "q": p}


UPDATES = {
    unchanged: ["p: the new value is also an output"],
    one_old_value_in_two_places: ["p: the value goes to two places", "q: the value goes to two places"],
    swap: ["q: something that needs the new value still reads the old one"],
    also_output: ["p: the new value is also an output"],
    transposed: ["p: its kernel reads the old value at other places than it writes"],
    two_places: ["p: the value goes to two places", "q: the value goes to two places"],
    squared: ["p: its kernel reads the old value at other places than it writes"],
    read_again_in_a_later_pass: ["p: its kernel reads the old value after it has written the new one"],
    read_behind_the_write: ["p: its kernel reads the old value after it has written the new one"],
    point_read_behind_the_write: ["p: its kernel reads the old value after it has written the new one"],
    epilogue_read_behind_the_write: ["p: its kernel reads the old value after it has written the new one"],
    plain: [],
    chained: [],
    normalised: [],
}


@pytest.mark.parametrize("build", UPDATES, ids=lambda f: f.__name__)
def test_in_place_or_copied_and_why(build):
    s = updates(build)
    assert [c.split(";")[0] for c in s.copies] == UPDATES[build]
    assert all(c.endswith("; written to a second buffer and copied") for c in s.copies)
    assert_no_conflicts(s)
    assert_no_overlap(s, 1)
    copies = [i for i in s.launches() if i.nest.name == "copy"]
    assert len(copies) == len(s.copies)
    for c in copies:
        (slot,) = c.writes
        readers = [
            k for k, i in enumerate(s.items) if isinstance(i, Launch) and any(b.space == "slot" and b.name == slot.name for b in i.reads)
        ]
        assert all(k < s.items.index(c) for k in readers)
