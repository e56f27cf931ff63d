"""The CPU executable: sizes, threads, memory, arguments, state, errors."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import graphc as gc
import graphc.ops as ops
from graphc.backends.cpu.binding import BINDINGS
from graphc.backends.cpu.executable import CpuExecutable
from graphc.backends.cpu.machine.cache import code_of, default_cache
from graphc.compiler import compile_graph
from graphc.errors import DTypeError, NonFiniteError, ParameterError, ShapeError
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.runtime.store import ParameterStore
from tests.models import Builder, batch_for, mlp_step

N = sym("N")
SIZES = (24, 40, 10)


def affine() -> Graph:
    b = Builder()
    x, y = b.arg("x", (N, 6)), b.arg("y", (6,))
    return b.graph({"out": x * 2.0 + y, "total": (x * x).sum(-1)})


def predictor(seed: int = 0) -> tuple[Graph, ParameterStore]:
    """The forward half of mlp_step, over a store of the same names."""
    b = Builder(seed=seed)
    h = b.arg("x", (N, SIZES[0]))
    for i, (a, z) in enumerate(itertools.pairwise(SIZES)):
        h = h @ b.param(f"fc{i}.weight", (z, a)).transpose() + b.param(f"fc{i}.bias", (z,))
        h = h.relu() if i < len(SIZES) - 2 else h
    return b.graph({"out": h}), b.store


def to_compile():
    """Graphs whose kernels are compiled before the tests."""
    yield mlp_step(SIZES)[0], None
    yield mlp_step(SIZES, dtype="float64")[0], None
    yield predictor()[0], None
    yield affine(), None


def close(a: ParameterStore, b: ParameterStore, tolerance: float) -> None:
    for n in a.names():
        x, y = a.numpy(n).astype(float), b.numpy(n).astype(float)
        assert np.linalg.norm(x - y) <= tolerance * max(np.linalg.norm(y), 1e-6), n


class TestSizes:
    @pytest.fixture(autouse=True)
    def driver(self):
        """The first call of a process compiles the driver where the cache folder lacks it; that has nothing to do with sizes."""
        graph = affine()
        compile_graph(graph, "cpu")({i.name: np.zeros([s if isinstance(s, int) else 2 for s in i.node.shape], np.float32) for i in graph.inputs})

    def test_every_batch_size_runs_on_one_executable(self):
        graph, store = predictor()
        e, r = compile_graph(graph, "cpu", store), compile_graph(graph, "reference", store)
        misses = default_cache().misses
        for n in (1, 37, 128, 0, 3, 1):
            x = batch_for(graph, n)
            found, wanted = e(x)["out"], r(x)["out"]
            assert found.shape == wanted.shape == (n, 10)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert default_cache().misses == misses

    def test_training_runs_with_every_batch_size(self):
        (graph, store), (_, other) = mlp_step(SIZES), mlp_step(SIZES)
        e, r = compile_graph(graph, "cpu", store), compile_graph(graph, "reference", other)
        misses = default_cache().misses
        for n in (1, 37, 128, 2):
            x = batch_for(graph, n)
            np.testing.assert_allclose(e(x)["loss"], r(x)["loss"], rtol=1e-5)
        assert default_cache().misses == misses
        close(store, other, 1e-3)

    def test_a_training_step_on_nothing_has_no_finite_loss(self):
        graph, store = mlp_step(SIZES)
        before = {n: store.numpy(n) for n in store.names()}
        with pytest.raises(NonFiniteError):
            compile_graph(graph, "cpu", store)(batch_for(graph, 0))
        assert all(np.array_equal(store.numpy(n), v) for n, v in before.items())

    def test_bindings_are_kept_and_limited(self):
        e = compile_graph(affine(), "cpu")
        for n in range(BINDINGS + 5):
            e(batch_for(e.graph, n))
        assert len(e._bindings) == BINDINGS
        last = next(reversed(e._bindings.values()))
        e(batch_for(e.graph, BINDINGS + 4))
        assert next(reversed(e._bindings.values())) is last

    def test_memory_is_known_before_the_first_run(self):
        e = compile_graph(*mlp_step(SIZES)[:1], "cpu", mlp_step(SIZES)[1])
        small, large = e.memory_analysis({"N": 1}), e.memory_analysis({"N": 1024})
        assert 0 < small.arena_bytes < large.arena_bytes and not e._bindings
        assert "temporaries" in str(large)
        assert large.slot_bytes >= 3 * 4 * (24 * 40 + 40 + 40 * 10 + 10)


class TestSameBits:
    def run(self, threads: int, dtype: str = "float32") -> dict[str, bytes]:
        graph, store = mlp_step(SIZES, dtype=dtype)
        e = compile_graph(graph, "cpu", store, threads=threads)
        out = {f"loss{k}": e(batch_for(graph, 37, k))["loss"].tobytes() for k in range(3)}
        return out | {n: store.numpy(n).tobytes() for n in store.names()}

    def test_twice(self):
        assert self.run(2) == self.run(2)

    @pytest.mark.parametrize("threads", [2, 3, 4, 8])
    def test_on_any_number_of_threads(self, threads: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("GRAPHC_THREADS", str(threads))
        monkeypatch.setenv("GRAPHC_SMALL_WORK", "0")
        assert self.run(threads) == self.run(1)

    def test_small_graphs_run_on_one_thread(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("GRAPHC_THREADS", "2")
        e = compile_graph(affine(), "cpu", threads=2)
        e(batch_for(e.graph, 4))
        assert [b.nthreads for b in e._bindings.values()] == [1]


class TestFloat64:
    def test_ten_steps_equal_the_reference(self):
        (graph, store), (_, other) = mlp_step(SIZES, dtype="float64"), mlp_step(SIZES, dtype="float64")
        e, r = compile_graph(graph, "cpu", store), compile_graph(graph, "reference", other)
        for k in range(10):
            x = batch_for(graph, 37, k)
            np.testing.assert_allclose(e(x)["loss"], r(x)["loss"], rtol=1e-11)
        close(store, other, 1e-9)


class TestArguments:
    def wanted(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(x, "f") * np.float32(2) + np.asarray(y, "f")

    @pytest.fixture
    def e(self) -> CpuExecutable:
        return compile_graph(affine(), "cpu")  # type: ignore[no-any-return]

    @pytest.mark.parametrize(
        "change",
        [
            lambda a: np.asfortranarray(a),
            lambda a: np.repeat(a, 2, axis=1)[:, ::2],
            lambda a: a[::-1],
            lambda a: a[:, ::-1],
            lambda a: np.ascontiguousarray(a.T).T,
            lambda a: np.broadcast_to(a[:1], a.shape),
            lambda a: a.astype(">f4"),
            lambda a: a.astype("f8"),
            lambda a: a.tolist(),
            lambda a: (a.setflags(write=False), a)[1],
            lambda a: np.ma.masked_array(a),
        ],
    )
    def test_arrays_of_every_form(self, e: CpuExecutable, change):
        rng = np.random.default_rng(0)
        x, y = change(rng.standard_normal((9, 6)).astype("f")), rng.standard_normal(6).astype("f")
        np.testing.assert_array_equal(e({"x": x, "y": y})["out"], self.wanted(x, y))

    def test_arrays_at_odd_addresses(self, e: CpuExecutable):
        raw = np.zeros(9 * 6 * 4 + 16, np.uint8)
        for shift in (1, 2, 3, 5):
            x = raw[shift : shift + 9 * 6 * 4].view("f4").reshape(9, 6)
            x[:] = np.arange(54, dtype="f").reshape(9, 6)
            assert not x.flags.aligned
            np.testing.assert_array_equal(e({"x": x, "y": np.ones(6, "f")})["out"], self.wanted(x, np.ones(6)))

    def test_arguments_are_not_written_and_results_are_new(self, e: CpuExecutable):
        x, y = np.ones((4, 6), "f"), np.ones(6, "f")
        first = e({"x": x, "y": y})["out"]
        kept = first.copy()
        second = e({"x": x * 3, "y": y})["out"]
        assert first.base is None and second is not first and np.array_equal(first, kept)
        assert np.array_equal(x, np.ones((4, 6)))

    @pytest.mark.parametrize(
        "values,error,words",
        [
            ({"x": np.ones((4, 6), "f")}, ParameterError, "'y'"),
            ({"x": np.ones((4, 6), "f"), "y": np.ones(6, "f"), "z": 1}, ParameterError, "'z'"),
            ({"x": np.ones((4, 5), "f"), "y": np.ones(6, "f")}, ShapeError, "'x'"),
            ({"x": np.ones(6, "f"), "y": np.ones(6, "f")}, ShapeError, "rank"),
            ({"x": np.ones((4, 6), int), "y": np.ones(6, "f")}, DTypeError, "'x'"),
            ({"x": np.ones((4, 6), complex), "y": np.ones(6, "f")}, DTypeError, "'x'"),
        ],
    )
    def test_wrong_arguments_are_named(self, e: CpuExecutable, values, error, words):
        with pytest.raises(error, match=words):
            e(values)
        assert e({"x": np.ones((1, 6)), "y": np.ones(6)})["out"].shape == (1, 6)

    def test_the_order_of_arguments_does_not_matter(self, e: CpuExecutable):
        x, y = np.ones((6, 6), "f"), np.arange(6, dtype="f")
        a, b = e({"x": x, "y": y}), e({"y": y, "x": x})
        assert all(np.array_equal(a[k], b[k]) for k in a)

    def test_arguments_of_swapped_names_are_not_mixed_up(self):
        """The same shapes in another order are another binding."""
        b = Builder()
        p, q = b.arg("p", (N, 2)), b.arg("q", (sym("M"), 2))
        e = compile_graph(b.graph({"a": p.exp(), "b": q.exp()}), "cpu")
        one, two = np.ones((3, 2), "f"), np.zeros((5, 2), "f")
        assert e({"p": one, "q": two})["a"].shape == (3, 2)
        assert e({"q": one, "p": two})["a"].shape == (5, 2)


class TestNothingIsAllocated:
    def test_in_a_step(self):
        graph, store = mlp_step(SIZES)
        e = compile_graph(graph, "cpu", store)
        x = batch_for(graph, 128)
        for _ in range(3):
            e(x)
        (binding,) = e._bindings.values()
        arena, buffers = binding.arena.ctypes.data, {n: s.buffer.ctypes.data for n, s in store.slots.items()}
        tracemalloc.start()
        try:
            e(x)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(5):
                e(x)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < 4096 and after - before < 1024
        assert binding.arena.ctypes.data == arena and list(e._bindings.values()) == [binding]
        assert {n: s.buffer.ctypes.data for n, s in store.slots.items()} == buffers


class TestState:
    def test_new_values_reach_what_was_derived_from_the_old(self):
        graph, store = predictor()
        e, r = compile_graph(graph, "cpu", store), compile_graph(graph, "reference", store)
        x = batch_for(graph, 5)
        np.testing.assert_allclose(e(x)["out"], r(x)["out"], rtol=1e-5, atol=1e-6)
        store.write({"fc0.weight": store.numpy("fc0.weight") * -2})
        np.testing.assert_allclose(e(x)["out"], r(x)["out"], rtol=1e-5, atol=1e-6)

    def test_training_and_prediction_share_a_store(self):
        step, store = mlp_step(SIZES)
        graph, _ = predictor()
        predict, wanted = compile_graph(graph, "cpu", store), compile_graph(graph, "reference", store)
        x = batch_for(graph, 5)
        before = predict(x)["out"]  # made and run before training has chosen a layout
        train = compile_graph(step, "cpu", store)
        assert not store["fc0.weight"].layout.is_row_major
        np.testing.assert_allclose(predict(x)["out"], before, rtol=1e-5, atol=1e-6)
        for k in range(3):
            train(batch_for(step, 16, k))
            found = predict(x)["out"]
            np.testing.assert_allclose(found, wanted(x)["out"], rtol=1e-5, atol=1e-6)
            assert not np.allclose(found, before)

    def test_two_training_programs_take_turns_on_one_store(self):
        (a, store), (b, _) = mlp_step(SIZES), mlp_step(SIZES, "clipped")
        _, other = mlp_step(SIZES)
        programs = [(compile_graph(g, "cpu", store), compile_graph(g, "reference", other)) for g in (a, b)]
        for k in range(4):
            e, r = programs[k % 2]
            x = batch_for(a, 9, k)
            np.testing.assert_allclose(e(x)["loss"], r(x)["loss"], rtol=1e-5)
        close(store, other, 1e-3)

    def test_the_byte_order_of_a_value_does_not_matter(self):
        b = Builder()
        b.store.add("p", np.arange(6.0).astype(">f4"))
        x = ops.input("p", (6,), "float32")
        e = compile_graph(Graph("g", (Input("p", x, "param"),), (("out", x + 1.0),)), "cpu", b.store)
        np.testing.assert_array_equal(e({})["out"], np.arange(6.0) + 1)

    def test_padding_of_panels_stays_zero(self):
        graph, store = mlp_step(SIZES)
        e = compile_graph(graph, "cpu", store)
        for k in range(3):
            e(batch_for(graph, 7, k))
        for name in ("fc0.weight", "optimizer.m.fc0.weight"):
            slot = store[name]
            assert slot.layout.panel
            np.testing.assert_array_equal(slot.layout.pack(slot.numpy()), slot.buffer)


class TestNonFinite:
    def test_the_first_operator_is_named_and_nothing_written(self):
        b = Builder()
        x, w = b.arg("x", (N, 3)), b.param("w", (3,))
        loss = ops.log(x * 1.0 - 1.0).mean() + (w * w).sum()
        e = compile_graph(b.graph({"loss": loss}, {"w": w * 2.0}, "loss"), "cpu", b.store)
        before = b.store.numpy("w")
        with pytest.raises(NonFiniteError, match=r"(?s)nothing was written.*log"):
            e({"x": np.zeros((2, 3), "f")})
        assert np.array_equal(b.store.numpy("w"), before)
        assert np.isfinite(e({"x": np.full((2, 3), 3.0, "f")})["loss"])
        assert np.array_equal(b.store.numpy("w"), before * 2)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_bad_input_is_named(self, bad: float):
        graph, store = mlp_step(SIZES)
        e = compile_graph(graph, "cpu", store)
        x = batch_for(graph, 37)
        x["x"][36, 23] = bad
        before = {n: store.numpy(n) for n in store.names()}
        with pytest.raises(NonFiniteError, match="input 'x'"):
            e(x)
        assert all(np.array_equal(store.numpy(n), v) for n, v in before.items())


class TestCallers:
    def test_several_threads_may_call_one_executable(self, request: pytest.FixtureRequest):
        """Without a store too: the binding's argument block is shared."""
        e = compile_graph(affine(), "cpu", threads=2)
        wrong: list[int] = []

        def call(k: int) -> None:
            x, y = np.full((50, 6), k, "f"), np.zeros(6, "f")
            for _ in range(400):
                if not (e({"x": x, "y": y})["out"] == 2 * k).all():
                    wrong.append(k)

        old = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        request.addfinalizer(lambda: sys.setswitchinterval(old))
        threads = [threading.Thread(target=call, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        assert wrong == []

    def test_a_fork_computes_the_same(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("GRAPHC_THREADS", "2")
        monkeypatch.setenv("GRAPHC_SMALL_WORK", "0")
        graph, store = predictor()
        e = compile_graph(graph, "cpu", store, threads=2)
        x = batch_for(graph, 200)
        wanted = e(x)["out"]
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            same = np.array_equal(e(x)["out"], wanted)
            os.write(write, b"1" if same else b"0")
            os._exit(0)
        assert os.read(read, 1) == b"1"
        assert os.waitpid(pid, 0)[1] == 0
        assert np.array_equal(e(x)["out"], wanted)

    def test_the_interpreter_ends_with_a_live_pool(self):
        code = (
            "import os; os.environ |= {'GRAPHC_THREADS': '2', 'GRAPHC_SMALL_WORK': '0'}\n"
            "from tests.cpu.test_executable import *\n"
            "graph, store = predictor()\n"
            "e = compile_graph(graph, 'cpu', store, threads=2)\n"
            "print(e(batch_for(graph, 300))['out'].shape, 'numba' in sys.modules)\n"
        )
        p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (p.returncode, p.stdout.strip(), p.stderr) == (0, "(300, 10) False", "")


class TestLooking:
    def test_listing_names_kernels_barriers_and_lines(self):
        graph, store = mlp_step(SIZES)
        e = compile_graph(graph, "cpu", store)
        text = e.listing()
        assert text.count("k_") == len(e.kernels) and "-- barrier --" in text and "check" in text
        assert set(e.program.texts()) == {k.kernel.name for k in e.kernels}
        assert all(code_of(k.kernel.path.read_text()) == code_of(k.printed.text) for k in e.kernels)
        assert next(iter(e.stages)) == "traced" and "schedule" in e.stages

    def test_a_kernel_says_whom_it_was_printed_for(self):
        class Net(gc.nn.Module):
            def forward(self, x):
                return x.exp() * 2.0  # this line

        model = gc.compile(Net(), gc.spec("N", 3))
        model.predict(np.zeros((2, 3), "f"))
        (kernel,) = model.executables["predict"].kernels
        assert kernel.printed.text.splitlines()[:2] == [
            "# map: exp mul",
            f"# from test_executable.py:{Net.forward.__code__.co_firstlineno + 1}  return x.exp() * 2.0  # this line",
        ]

    def test_equal_kernels_are_compiled_once(self):
        x, y = ops.input("x", (N, 6), "float32"), ops.input("y", (sym("M"), 9), "float32")
        e = compile_graph(Graph("g", (Input("x", x), Input("y", y)), (("a", x.exp()), ("b", y.exp()))), "cpu")
        assert len(e.kernels) == 2 and len(e.program.texts()) == 1

    def test_unused_and_repeated_things(self):
        x, y = ops.input("x", (N, 3), "float32"), ops.input("y", (4,), "float32")
        out = x.exp()
        e = compile_graph(
            Graph("g", (Input("x", x), Input("y", y)), (("a", out), ("b", out), ("same", x), ("c", ops.const(np.ones(3, "f"))))), "cpu"
        )
        found = e({"x": np.ones((2, 3), "f"), "y": np.zeros(4, "f")})
        assert found["a"].shape == found["b"].shape == (2, 3)
        np.testing.assert_array_equal(found["same"], np.ones((2, 3)))
        np.testing.assert_array_equal(found["c"], np.ones(3))

    def test_a_graph_of_nothing(self):
        assert compile_graph(Graph("g", (), ()), "cpu")({}) == {}
