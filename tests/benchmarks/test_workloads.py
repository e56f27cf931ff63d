"""Every workload at tiny sizes: ours, torch and JAX compute the same, written with different libraries. No timing is judged."""

from __future__ import annotations

import pytest

from benchmarks.layers import Embedding, Linear, chain
from benchmarks.peers import NotAvailable, ours
from benchmarks.workload import CASES, Input, Task, digest, wrong
from benchmarks.workloads import GROUPS, WORKLOADS, chosen

NETWORKS = {"conv", "rnn", "transformers"}
"""Their kernels take long to compile and are tested elsewhere: here the reference runs them."""

CALLS = [(w.name, case) for w in WORKLOADS.values() if w.measure == "call" for case in w.cases]
DONE = {}


def tiny(name: str) -> Task:
    return WORKLOADS[name].at_tiny_sizes().task()


def expected(name: str, case: str) -> list[list[float]]:
    """In float64, by torch where it is installed, else by JAX."""
    from benchmarks.peers import reference

    if (name, case) not in DONE:
        try:
            DONE[name, case] = digest(reference.expected(tiny(name), case))
        except NotAvailable as error:
            pytest.skip(str(error))
    return DONE[name, case]


@pytest.mark.parametrize(("name", "case"), CALLS)
def test_ours_computes_what_the_reference_does(name: str, case: str):
    target = "reference" if NETWORKS & set(WORKLOADS[name].groups) else "cpu"
    assert wrong(digest(ours.Runner(tiny(name), case, target=target).check(case)), expected(name, case)) == ""


@pytest.mark.parametrize(("name", "case"), CALLS)
def test_torch_computes_what_the_reference_does(name: str, case: str):
    pytest.importorskip("torch", reason="torch is the oracle: pip install -r tests/oracles.txt")
    from benchmarks.peers.torch_model import Runner

    assert wrong(digest(Runner(tiny(name), case).check()), expected(name, case)) == ""


@pytest.mark.parametrize("name", ["gemm-256", "batchnorm", "embedding", "conv-3x3", "cross-entropy", "adam", "gru"])
def test_jax_computes_what_the_reference_does(name: str):
    """One of each kind; what a benchmark times is checked each time anyway."""
    pytest.importorskip("torch", reason="JAX would be checked against itself")
    from benchmarks.peers.jax_jit import Runner, in_float64

    for case in WORKLOADS[name].cases:
        assert wrong(digest(Runner(tiny(name), case).check(case)), expected(name, case)) == ""
        assert wrong(digest(in_float64(tiny(name), case)), expected(name, case), 1e-10) == ""


@pytest.mark.parametrize("name", ["gemm-256-activations", "resnet", "lstm", "gru", "transformer"])
def test_onnx_computes_what_the_reference_does(name: str):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is a peer: pip install 'graphc-dl[bench]'")
    from benchmarks.peers.onnx_runtime import session

    for fused in (True, False):
        call = session(tiny(name), fused, 1)
        out = call().numpy()  # a view of memory that the call holds
        assert wrong(digest([out]), expected(name, "forward")) == ""


@pytest.mark.parametrize("name", [n for n, case in CALLS if case == "train"])
def test_a_wrong_step_of_training_would_be_seen(name: str):
    """The losses move by far more than the tolerance."""
    pytest.importorskip("torch", reason="torch is the oracle: pip install -r tests/oracles.txt")
    from benchmarks.peers.torch_model import Runner

    (losses,) = Runner(tiny(name), "train").check()
    assert abs(losses[2] - losses[1]) > 0.01 * losses[0] < abs(losses[1] - losses[0])
    assert "computes something else" in wrong(digest([[losses[0]] * 3]), digest([losses]))


def test_groups_and_names_choose_workloads():
    assert [w.name for w in chosen(["rnn", "small"])] == ["small", "lstm", "gru"]
    assert chosen([]) == list(WORKLOADS.values())
    with pytest.raises(KeyError):
        chosen(["nothing"])
    assert set(GROUPS) & set(WORKLOADS) == {"threads"}
    assert {c for w in WORKLOADS.values() for c in w.cases} <= set(CASES)


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda w: w.name)
def test_jitter_changes_sizes_within_a_fifth(workload):
    varied = workload.jittered(3)
    assert varied == workload.jittered(3) and varied != workload.jittered(4)
    for key, n in workload.sizes.items():
        assert n - n // 5 <= varied.sizes[key] <= n + n // 5
        assert n < 5 or key in workload.fixed or varied.sizes[key] != n
    task = varied.task()
    if task.labels is not None and task.loss == "cross_entropy":  # shapes still fit
        assert task.labels.shape == task.output_shape()[:1]


def test_flops_and_bytes_of_an_mlp():
    task = tiny("mlp")
    batch, inputs, h1, h2, classes = 5, 20, 33, 17, 3
    products = [2 * batch * a * b for a, b in ((inputs, h1), (h1, h2), (h2, classes))]
    assert task.flops("forward") == sum(products)
    assert task.flops("train") == 2 * products[0] + 3 * sum(products[1:])
    weights = sum(a * b + b for a, b in ((inputs, h1), (h1, h2), (h2, classes)))
    assert task.bytes("forward") == 4 * (batch * inputs + weights + batch * classes)


def test_bytes_of_a_table_are_those_of_its_rows():
    task = Task(Embedding(1000, 8), (Input((10,), high=1000),))
    assert task.bytes("forward") == 8 * 10 + 2 * 4 * 80
    assert task.bytes("backward") == task.bytes("forward") + 4 * 80 + 4 * 8000


def test_flops_of_a_convolution_and_of_attention():
    assert tiny("conv-3x3").flops("forward") == 2 * 2 * 5 * 7 * 6 * 3 * 9
    width, pairs = 8, 2 * 15  # two samples, five steps of which each sees those before it and itself
    projections = 2 * 10 * width * 4 * width
    from benchmarks.layers import Attention

    assert Attention(width, 2).flops((2, 5, width)) == projections + 2 * 2 * pairs * width


def test_weights_and_data_are_the_same_each_time_and_differ_by_name():
    task = Task(chain(Linear(6, 6), Linear(6, 6)), (Input((6, 6)),))
    first, again = task.weights(), task.weights()
    assert all((first[k] == again[k]).all() for k in first)
    assert (first["0.weight"] != first["1.weight"]).any()


def test_wrong_results_are_told():
    right = digest([[1.0, 2.0], [3.0]])
    assert wrong(digest([[1.0, 2.0002], [3.0]]), right) == ""
    assert "array 1 of 2" in wrong(digest([[1.0, 2.0], [3.1]]), right)
    assert "array 0 of 2" in wrong(digest([[2.0, 1.0], [3.0]]), right)  # of the same norm
    assert "1 arrays instead of 2" in wrong(digest([[1.0, 2.0]]), right)
    assert "computes something else" in wrong(digest([[float("nan"), 2.0], [3.0]]), right)
