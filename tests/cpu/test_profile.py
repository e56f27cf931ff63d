"""``gc.profile`` on the CPU: what is measured, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cpu import peaks, profiler
from graphc.backends.cpu.machine import driver_words as w
from graphc.backends.cpu.machine import timed_code
from graphc.backends.cpu.machine.cache import default_cache
from graphc.backends.cpu.machine.pool import LaunchList
from graphc.inspect.chrome import chrome_events
from graphc.inspect.measured import Runs

HEAD = "from graphc.backends.cpu.machine.tiles import ptr_i64\n\n\ndef kernel(tid, nthreads, args, trip):\n"
SPIN = "    out = ptr_i64(args[0])\n    for i in range(args[1] * (1 + tid * args[2])):\n        out[8 * tid] = out[8 * tid] * 3 + i\n"


class Net(nn.Module):
    def __init__(self):
        self.one = nn.Linear(20, 32)
        self.two = nn.Linear(32, 5)

    def forward(self, x):
        x = self.one(x).relu()
        return self.two(x)


def training(threads: int | None = 2, seed: int = 0):
    gc.set_seed(seed)
    return gc.compile(Net(), gc.spec("N", 20), loss="cross_entropy", optimizer=optim.Adam(1e-2), threads=threads)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Small programs too run on all the threads that they were compiled for; limits are not measured in each test."""
    monkeypatch.setenv("GRAPHC_THREADS", "4")
    monkeypatch.setenv("GRAPHC_SMALL_WORK", "0")
    monkeypatch.setattr(peaks, "measured_peaks", lambda threads: peaks.Peaks(threads, 1e11 * threads, (peaks.Level("memory", 0, 2e10, 2e10),)))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 20)).astype("float32"), rng.integers(0, 5, 60)


def words_of(program: LaunchList) -> list[int]:
    return program.descriptor[[w.ROWS, w.NROWS]].tolist()


def plain(program: LaunchList) -> bool:
    return words_of(program) == [program.table.ctypes.data, len(program.rows)]


def lists_of(executable) -> list[LaunchList]:
    return [p for b in executable.bindings() for p in (b.main, b.prepare) if p is not None]


def spinning(nthreads: int, rounds: list[int], uneven: int = 0, barrier: bool = True) -> LaunchList:
    address = default_cache().get([HEAD + SPIN])[0].address
    program = LaunchList()
    for n in rounds:
        program.add_call(address, np.array([0, n, uneven], np.int64))
        program.keep[-1][0] = (out := np.zeros(8 * nthreads, np.int64)).ctypes.data
        program.keep.append(out)
        if barrier:
            program.add_barrier()
    program.finish([], 0, nthreads)
    return program


# -- what is measured ------------------------------------------------------------------------------------------------------
def test_the_words_are_those_of_the_compiled_code():
    for name in ("NEXT", "RUN", "RUNS", "FIRST", "BYTES", "PLACES", "BEGIN", "END", "BLOCK"):
        assert getattr(profiler, name) == getattr(timed_code, name)


def test_times_are_those_of_the_kernels():
    """A kernel that turns four times as often takes four times as long; a clock outside sees the same whole."""
    program = spinning(1, [200_000, 800_000])
    recorder = profiler.Recorder(program, [7, 3])
    recorder.attach()
    start = time.monotonic_ns()
    for _ in range(10):
        program.run()
    end = time.monotonic_ns()
    runs = recorder.runs()
    assert runs.count == 10 and runs.launches.tolist() == [7, 3] and runs.times.shape == (1, 10, 2, 2)
    took = np.ptp(runs.times[0], axis=-1).min(0)
    assert 3.2 < took[1] / took[0] < 4.8
    assert start <= runs.spans.min() and runs.spans.max() <= end
    flat = np.concatenate([runs.spans[0, :, :1], runs.times[0].reshape(10, 4), runs.spans[0, :, 1:]], axis=1)
    assert (np.diff(flat) >= 0).all() and (np.diff(flat.reshape(-1)) >= 0).all()  # one clock, which only goes on
    assert runs.seconds(3)[0] == pytest.approx(np.median(np.ptp(runs.times[0, :, 1], axis=-1)) / 1e9) and runs.seconds(5) is None


def test_who_is_early_waits_for_the_others():
    program = spinning(2, [20_000, 10_000], uneven=3)  # the second thread has four times the work
    recorder = profiler.Recorder(program, [0, 1])
    recorder.attach()
    for _ in range(300):
        program.run()
    runs = recorder.runs()
    assert runs.met.tolist() == [False, True, True]
    ends, begins = runs.times[:, :, 0, 1], runs.times[:, :, 1, 0]
    assert (begins.min(0) >= ends.max(0)).all()  # nobody begins behind a barrier before all are there
    waits, busy, best = runs.waits(), runs.busy(), int(runs.whole.argmin())  # the best run is the one that other processes left alone
    assert waits[0, best] > 2 * busy[0, best] and waits[1, best] < busy[1, best] / 4
    assert (waits.sum(0) + busy.sum(0) <= 2 * runs.whole).all()
    slowest, each = runs.seconds(0)
    assert slowest >= max(each) > 1.5 * min(each)
    for t, a, b in runs.waiting(4):
        assert a in (runs.times[t, 4, 0, 1], runs.times[t, 4, 1, 1]) and b >= a


def test_sums_of_known_times():
    """Two threads and three runs of: launch 4, then twice launch 2 behind barriers. By hand, in nanoseconds."""
    spans = np.array([[[0, 100], [1000, 1200], [2000, 2100]], [[10, 90], [1010, 1190], [2000, 2100]]])
    calls = [
        [[[0, 30], [40, 50], [60, 100]], [[1000, 1100], [1110, 1120], [1150, 1200]], [[2000, 2020], [2040, 2050], [2060, 2090]]],
        [[[10, 40], [40, 60], [60, 80]], [[1010, 1110], [1110, 1150], [1150, 1160]], [[2000, 2040], [2040, 2060], [2060, 2100]]],
    ]
    runs = Runs(3, spans, np.array(calls), np.array([4, 2, 2]), np.array([False, True, True, False]))
    assert runs.whole.tolist() == [100, 200, 100] and runs.usual in (0, 2)
    # of launch 2 the slower thread takes 20 + 40, 40 + 50 and 20 + 40
    assert runs.seconds(2) == (pytest.approx(60e-9), [pytest.approx(50e-9), pytest.approx(50e-9)])
    assert runs.seconds(4) == (pytest.approx(40e-9), [pytest.approx(30e-9), pytest.approx(40e-9)]) and runs.seconds(0) is None
    assert runs.busy().tolist() == [[80, 160, 60], [70, 150, 100]]
    assert runs.waits().tolist() == [[20, 40, 30], [0, 0, 0]]
    assert runs.waiting(1) == [(0, 1100, 1110), (0, 1120, 1150), (1, 1110, 1110), (1, 1150, 1150)]


def test_the_last_runs_are_kept(monkeypatch):
    monkeypatch.setattr(profiler, "KEPT_RUNS", 3)
    program = spinning(2, [10])
    recorder = profiler.Recorder(program, [0])
    recorder.attach()
    assert recorder.runs() is None
    begins = []
    for n in range(1, 9):
        program.run()
        runs = recorder.runs()
        begins.append(int(runs.spans[0, -1, 0]))
        assert runs.count == n and runs.spans[0, :, 0].tolist() == begins[-3:]
    recorder.detach()
    program.run()
    assert recorder.runs().count == 8 and plain(program)


@pytest.mark.parametrize("nthreads", [1, 2])
def test_what_it_costs(nthreads):
    """3 % of a training step of 1 ms are 30 us; 18 launches cost about one. In turns, and of the better runs, since others work here too."""
    program = spinning(nthreads, [10] * 18)
    recorder = profiler.Recorder(program, list(range(18)))
    took = {recorder.attach: [], recorder.detach: []}
    for _ in range(500):
        for change, times in took.items():
            change()
            start = time.perf_counter()
            program.run()
            times.append(time.perf_counter() - start)
    measured, plain = (np.percentile(times, 10) for times in took.values())
    assert measured - plain < 10e-6


def test_a_training(data):
    x, y = data
    model = training()
    model.fit(x, y, batch_size=20, epochs=1, verbose=0)
    with gc.profile() as p:
        model.fit(x, y, batch_size=20, epochs=2, verbose=0)
        model.evaluate(x, y)
        model.predict(x)
    assert {(q.name, q.runs) for q in p.programs} == {("Net_train_step", 6), ("Net_evaluate", 1), ("Net_predict", 1)}
    executable = model.executables["train_step"]
    q = p.of(executable)
    assert q.dims == {"N": 20} and q.threads == 2 and p.of(object()) is None
    costs = executable.cost_analysis({"N": 20}).kernels
    assert sorted(t.launch for t in q.launches) == list(range(len(costs)))
    for t in q.launches:
        assert (t.name, t.kind, t.flops, t.bytes) == (costs[t.launch].name, costs[t.launch].kind, costs[t.launch].flops, costs[t.launch].bytes)
        assert t.calls == 6 and t.seconds > 0 and t.kernel == executable.kernels[t.launch].kernel.name and len(t.threads) == 2
        assert t.least == pytest.approx(max(t.flops / 2e11, t.bytes / 2e10)) and t.limit == t.least / t.seconds
        assert t.bound == ("compute" if t.flops / t.bytes > 10 else "memory")
        assert any("test_profile.py" in line for line in t.lines)
    assert sum(t.share for t in q.launches) == pytest.approx(1) and [t.share for t in q.launches] == sorted((t.share for t in q.launches), reverse=True)
    main = max(q.launches, key=lambda t: t.flops)
    assert "self.one(x).relu()" in main.lines[0]
    assert 0 < q.busy < 1 and 0 <= q.waiting < 1 and q.busy + q.waiting <= 1
    assert q.total <= p.seconds and q.seconds <= q.total


def test_numbers_are_the_same(data):
    def trained(measure: bool):
        model = training()
        if measure:
            with gc.profile():
                model.fit(*data, batch_size=16, epochs=2, verbose=0)
        else:
            model.fit(*data, batch_size=16, epochs=2, verbose=0)
        return model.state_dict()

    one, other = trained(False), trained(True)
    assert all(np.array_equal(one[k], other[k]) for k in one)


def test_the_quick_entry_is_measured():
    model = gc.compile(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), gc.spec(2, 6), threads=1)
    x = np.ones((2, 6), "float32")
    want = model.predict(x)
    quick = model._quick
    assert quick is not None
    with gc.profile() as p:
        for _ in range(50):
            assert np.array_equal(quick(x), want)
        model.predict(x)
    (q,) = p.programs
    assert q.runs == 51 and model._quick is quick
    quick(x)
    assert p.programs[0].runs == 51


def test_a_scan_has_all_its_trips():
    f = gc.compile(_scan, gc.spec("T", 3), threads=2)
    x = np.ones((5, 3), "float32")
    f(x)
    with gc.profile() as p:
        for _ in range(4):
            f(x)
    (q,) = p.programs
    inside = [t for t in q.launches if t.calls == 20]
    assert inside and all(t.calls in (4, 20) for t in q.launches)
    record = q.record()
    count = [sum(e["launch"] == inside[0].launch and e["thread"] == t for e in record["timeline"]) for t in range(2)]
    assert count == [5, 5]
    cost = f.executable.cost_analysis({"T": 5}).kernels[inside[0].launch]
    assert cost.times == 5 and inside[0].flops == 5 * cost.flops


def _scan(x):
    from graphc.ops import scan

    def body(carry, row):
        new = (carry * 0.5 + row).tanh()
        return new, new

    return scan(body, x[0] * 0.0, x)[1]


def test_sizes_are_apart_and_new_ones_take_part(data):
    x, _ = data
    model = gc.compile(Net(), gc.spec("N", 20), threads=1)
    model.predict(x[:3])
    with gc.profile() as p:
        for n in (3, 4, 4, 7, 7, 7):
            model.predict(x[:n])
        made = gc.compile(lambda a: a * 2.0, gc.spec(5))
        made(np.ones(5))
    assert {(q.dims.get("N"), q.runs) for q in p.programs} == {(3, 1), (4, 2), (7, 3), (None, 1)}
    assert p.of(model.executables["predict"]).runs in (1, 2, 3) and p.of(made.executable).runs == 1


def test_what_runs_only_for_new_parameters():
    model = gc.compile(nn.Linear(64, 64), gc.spec(8, 64), threads=1)
    x = np.ones((8, 64), "float32")
    static = [i for i, launch in enumerate(model.executables["predict"].schedule.launches()) if launch.static]
    assert len(static) == 1
    model.predict(x)
    last = None

    def calls():
        nonlocal last
        with gc.profile() as p:
            model.predict(x)
            model.predict(x)
        last = p.programs[0]
        return {t.launch: t.calls for t in p.programs[0].launches}, p.programs[0].record()

    found, record = calls()
    assert not found.keys() & set(static) and all(record["launches"][i] is None for i in static) and set(found.values()) == {2}
    model.load_state_dict(model.state_dict())
    found, record = calls()
    (prepared,) = (t for t in last.launches if t.launch == static[0])
    assert record["launches"][static[0]] == pytest.approx(prepared.seconds / 2)  # a run's part of it
    assert sum(t.seconds * t.runs for t in last.launches) * prepared.share == pytest.approx(prepared.seconds)
    assert all(found[i] == 1 for i in static) and sorted(found.values())[-1] == 2


def test_a_run_that_was_broken_off_does_not_count(data, monkeypatch):
    monkeypatch.setattr(profiler, "KEPT_RUNS", 2)
    x, y = data
    model = training()
    bad = np.full_like(x, np.nan)
    with gc.profile() as p:
        for given in (x, bad, x, x, bad):
            try:
                model.train_on_batch(given, y)
            except gc.NonFiniteError:
                assert given is bad
    q = p.of(model.executables["train_step"])
    assert q.runs == 3
    runs = q.measured.main
    assert runs.times.shape[1] == 2 and (np.diff(runs._edges().reshape(2, 2, -1)) >= 0).all()


def test_a_kernel_that_raises_is_told():
    address = default_cache().get([HEAD + "    if args[0] > 0:\n        raise ValueError('no')\n"])[0].address
    program = LaunchList()
    program.add_call(address, np.array([1], np.int64))
    program.finish([], 0, 2)
    recorder = profiler.Recorder(program, [0])
    recorder.attach()
    with pytest.raises(gc.CompileError, match="raised an exception"):
        program.run()


def test_checked_runs_are_measured_too(monkeypatch):
    monkeypatch.setenv("GRAPHC_CHECK", "schedule")
    f = gc.compile(lambda a: (a * 2.0).sum(), gc.spec(64), threads=2)
    with gc.profile() as p:
        assert f(np.ones(64)) == 128
    assert p.programs[0].runs == 1


# -- nothing is left -------------------------------------------------------------------------------------------------------
def test_outside_programs_are_as_before(data):
    model = training()
    model.train_on_batch(*data)
    found = lists_of(model.executables["train_step"])
    before = [words_of(program) for program in found]
    with gc.profile() as p:
        assert all(words_of(program) != was for program, was in zip(found, before, strict=True))
        model.train_on_batch(*data)
        model.predict(data[0])
    found += lists_of(model.executables["predict"])
    assert all(map(plain, found)) and [words_of(program) for program in found[: len(before)]] == before
    model.train_on_batch(*data)
    assert p.of(model.executables["train_step"]).runs == 1


@pytest.mark.parametrize("press", [KeyboardInterrupt, "signal"])
def test_an_interrupt_leaves_nothing(data, press):
    model = training()
    model.train_on_batch(*data)
    with pytest.raises(KeyboardInterrupt), gc.profile() as p:
        model.train_on_batch(*data)
        if press == "signal":
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            model.fit(*data, epochs=100_000, verbose=0)
        raise press
    assert all(map(plain, lists_of(model.executables["train_step"])))
    assert p.of(model.executables["train_step"]).runs >= 1  # what was measured until then can be read
    with gc.profile() as again:
        model.train_on_batch(*data)
    assert again.programs[0].runs == 1


def test_a_start_that_is_interrupted_leaves_nothing(data, monkeypatch):
    model = training()
    model.train_on_batch(*data)
    model.predict(data[0])
    attach, count = profiler.Profiler.attach, []

    def second_fails(self, *args):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        attach(self, *args)

    monkeypatch.setattr(profiler.Profiler, "attach", second_fails)
    with pytest.raises(KeyboardInterrupt), gc.profile():
        raise AssertionError("the block is not entered")
    monkeypatch.undo()
    assert len(count) == 2 and all(map(plain, lists_of(model.executables["train_step"]) + lists_of(model.executables["predict"])))
    with gc.profile():
        pass


def test_one_profile_at_a_time(data):
    model = training()
    with gc.profile() as p:
        with pytest.raises(gc.ArgumentError, match="inside of another") as caught, gc.profile():
            raise AssertionError("the block is not entered")
        assert "one gc.profile() at a time" in str(caught.value)
        said = []

        def beside():
            try:
                with gc.profile():
                    pass
            except gc.ArgumentError as e:
                said.append(str(e))

        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
        assert said and "another thread" in said[0]
        with pytest.raises(gc.ArgumentError, match="still measuring"):
            print(p)
        model.train_on_batch(*data)
    assert p.programs[0].runs == 1
    with pytest.raises(gc.ArgumentError, match="measures one block"), p:
        pass
    with pytest.raises(gc.ArgumentError, match="nothing yet"):
        print(gc.profile())


def test_threads_that_run_and_compile_meanwhile(data):
    """Other threads' programs are measured from the beginning to the end of the block, and run on."""
    x = np.ones((4, 6), "float32")
    models = [gc.compile(nn.Linear(6, 3), gc.spec("N", 6), threads=n) for n in (1, 2, 3)]
    for m in models:
        m.predict(x)
    stop, wrong = threading.Event(), []

    def work(model, n):
        rng = np.random.default_rng(n)
        while not stop.is_set():
            rows = int(rng.integers(1, 5))
            if model.predict(x[:rows]).shape != (rows, 3):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(m, i)) for i, m in enumerate(models)]
    for t in threads:
        t.start()
    try:
        for _ in range(10):
            with gc.profile() as p:
                time.sleep(0.05)
            assert sum(q.runs for q in p.programs) > 10
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not wrong and all(map(plain, [program for m in models for program in lists_of(m.executables["predict"])]))


# -- forms -----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def measured():
    rng = np.random.default_rng(0)
    with mock.patch.dict(os.environ, GRAPHC_THREADS="4", GRAPHC_SMALL_WORK="0"):
        model = training()
        with gc.profile() as p:
            for _ in range(5):
                model.train_on_batch(rng.normal(size=(60, 20)).astype("float32"), rng.integers(0, 5, 60))
    return model, p


def test_the_table(measured):
    _, p = measured
    text = str(p)
    (q,) = p.programs
    assert "Net_train_step, N = 60: 5 runs of" in text and "on 2 threads" in text and "waiting for each other" in text
    for t in q.launches[:24]:
        assert t.kernel in text and t.name in text
    assert "test_profile.py" in text and "%" in text and "GFLOP/s" in text
    html = p._repr_html_()
    assert html.count("<tr>") == len(q.launches) + 1 and "Net_train_step" in html and "<table>" in html
    assert "5 runs" in repr(q) and "1 programs" in repr(p)


def test_the_data(measured, tmp_path):
    _, p = measured
    p.to_json(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == json.loads(json.dumps(p.as_dict()))
    (program,) = p.as_dict()["programs"]
    assert program["runs"] == 5 and program["threads"] == 2 and len(program["launches"]) == len(p.programs[0].launches)


def test_the_trace(measured, tmp_path):
    _, p = measured
    p.chrome_trace(tmp_path / "x.json")
    events = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names == {(0, 0): "thread 0 (the caller's)", (0, 1): "thread 1"}
    count = len(p.programs[0].measured.main.launches)
    for row in names:
        mine = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == row]
        whole = sorted((e for e in mine if e["cat"] == "program"), key=lambda e: e["ts"])
        inner = sorted((e for e in mine if e["cat"] != "program"), key=lambda e: e["ts"])
        assert len(whole) == 5 and {e["name"] for e in whole} == {"Net_train_step"}
        assert sum(e["cat"] != "barrier" for e in inner) == 5 * count and any(e["cat"] == "barrier" for e in inner)
        for a, b in [*pairwise(whole), *pairwise(inner)]:
            assert a["ts"] + a["dur"] <= b["ts"] + 1e-2  # one after the other
        for e in inner:
            assert any(o["ts"] - 1e-2 <= e["ts"] and e["ts"] + e["dur"] <= o["ts"] + o["dur"] + 1e-2 for o in whole)
    beside = chrome_events([p.programs[0], p.programs[0]])["traceEvents"]  # as if two callers had run at once: rows of their own
    assert {(e["pid"], e["tid"]) for e in beside} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_record(measured):
    model, p = measured
    q = p.of(model.executables["train_step"])
    record = q.record()
    assert len(record["launches"]) == len(model.executables["train_step"].schedule.launches()) and all(s > 0 for s in record["launches"])
    assert record["runs"] == 5 and record["threads"] == 2 and record["dims"] == {"N": 60} and record["machine"]["bytes_per_second"] == 2e10
    assert {e["thread"] for e in record["timeline"]} == {0, 1} and record["barriers"]
    assert len(record["timeline"]) == 2 * len(record["launches"])
    times = [e["start"] for e in record["timeline"]] + [e["end"] for e in record["timeline"]]
    assert min(times) >= 0 and max(times) <= q.measured.main.whole.max() / 1e9


def test_other_targets():
    with pytest.raises(gc.ArgumentError, match="programs of reference cannot be measured"):
        gc.profile("reference")
    f = gc.compile(lambda a: a * 2.0, gc.spec(3), target="reference")
    with gc.profile() as p:
        f(np.ones(3))
    assert p.programs == [] and "no program compiled for cpu ran" in str(p) and p.as_dict()["programs"] == []


# -- the machine's limits --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("threads", [1, 2])
def test_the_limits_are_measured(threads, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(peaks, "SECONDS", 0.02)
    found = peaks.measured_peaks.__wrapped__(threads)
    assert 1e9 * threads < found.flops_per_second < 1e12 * threads
    assert found.levels[0].name == "L2" and found.levels[-1].name == "memory" and all(x.copy > 1e8 and x.triad > 1e8 for x in found.levels)
    assert found.bytes_per_second(1000) == max(found.levels[0].copy, found.levels[0].triad)
    assert found.bytes_per_second(1 << 50) == max(found.levels[-1].copy, found.levels[-1].triad)


def test_a_product_of_matrices_comes_near_the_limit(monkeypatch):
    """The whole way: operations, time and the measured limit fit together."""
    monkeypatch.undo()
    model = gc.compile(nn.Linear(512, 512, bias=False), gc.spec(512, 512), threads=1)
    x = np.ones((512, 512), "float32")
    model.predict(x)
    with gc.profile() as p:
        for _ in range(30):
            model.predict(x)
    (t,) = p.programs[0].launches
    assert t.flops == 2 * 512**3 and t.bound == "compute" and 0.3 < t.limit < 1.3
