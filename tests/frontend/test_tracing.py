"""gc.trace, provenance, text forms, inspection, the package's surface."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops
from graphc.ir.text import parse_graph


def test_user_lines_and_scopes(mlp):
    graph = gc.trace(mlp(), gc.spec("N", 6))
    for node in graph.nodes:
        if node.op.kind == "input":
            continue
        locs, scopes = graph.provenance.locs(node), graph.provenance.scopes(node)
        assert locs and locs[0].text == "return self.fc(x)" and locs[0].file.endswith("conftest.py")
        assert scopes and all(s.startswith("fc.") for s in scopes)


def test_equal_nodes_from_two_lines_keep_both():
    def f(x):
        a = x.exp()
        b = x.exp()
        return a + b

    graph = gc.trace(f, gc.spec(3))
    exp = next(n for n in graph.nodes if n.op.name == "exp")
    assert [loc.text for loc in graph.provenance.locs(exp)] == ["a = x.exp()", "b = x.exp()"]


def test_gradients_keep_the_line(classifier):
    graph = classifier().graphs["train_step"]
    assert any(s.startswith("grad:") for n in graph.nodes for s in graph.provenance.scopes(n))


def test_two_traces_are_one_graph(mlp):
    m = mlp()
    a, b = gc.trace(m, gc.spec("N", 6)), gc.trace(m, gc.spec("N", 6))
    assert a.structural_key == b.structural_key


def test_training_mode_is_a_constant(mlp):
    m = mlp(dropout=0.5)
    assert not m.training
    plain, train = gc.trace(m, gc.spec("N", 6)), gc.trace(m, gc.spec("N", 6), training=True)
    assert len(train.nodes) > len(plain.nodes)


def test_text_of_every_graph_reads_back(classifier):
    for graph in classifier(dropout=0.1).graphs.values():
        again = parse_graph(str(graph))
        assert str(parse_graph(str(again))) == str(again)
        assert [i.name for i in again.inputs] == [
            i.name for i in graph.inputs
        ] and again.structural_key == graph.structural_key


def test_text_of_names_that_start_with_a_digit():
    graph = gc.trace(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))), gc.spec("N", 2))
    assert [i.name for i in graph.inputs] == ["x", "0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert parse_graph(str(graph)).structural_key == graph.structural_key


def test_arguments_named_like_the_function(target):
    graph = gc.trace(lambda left, right: left - right, gc.spec(2), gc.spec(2))
    assert [i.name for i in graph.inputs] == ["left", "right"]
    f = gc.compile(lambda *parts: parts[0] - parts[1], gc.spec(2), gc.spec(2), target=target)
    assert f([3.0, 3.0], [1.0, 2.0]).tolist() == [2, 1]


def test_constants_and_repeated_outputs(target):
    f = gc.compile(lambda x: (x, x, 3.0, np.arange(2)), gc.spec(1), target=target)
    a, b, c, d = f([1.0])
    assert a.tolist() == b.tolist() == [1] and c == 3.0 and d.tolist() == [0, 1]


def test_report_and_stage_files(classifier, tmp_path):
    from graphc.inspect.text import dump_stages, kernel_table, pass_table

    model = classifier()
    model.report(tmp_path / "m.html")
    text = (tmp_path / "m.html").read_text()
    assert "train_step" in text and "fc.0.weight" in text
    program = model.executables["predict"]
    files = dump_stages(tmp_path / "stages", "predict", program)
    assert files and all(p.read_text() for p in files)
    assert pass_table(program) and kernel_table(program)


def test_import_is_cheap():
    code = (
        "import sys, time; t = time.perf_counter(); import graphc; s = time.perf_counter() - t; "
        "assert s < 0.15, s; assert 'numba' not in sys.modules and 'numpy' not in sys.modules; "
        "from graphc import nn, optim, losses, metrics, callbacks, init, data, ops; "
        "assert not {'numba', 'rich'} & set(sys.modules); print('ok')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "ok", run.stderr


def test_every_public_name_exists():
    for name in gc.__all__:
        assert getattr(gc, name) is not None
    assert set(gc.__all__) <= set(dir(gc))


def test_explain_fusion_wants_something_compiled():
    with pytest.raises(gc.ArgumentError, match="is not compiled"):
        gc.explain_fusion(3, "a", "b")


def test_philox_streams():
    from graphc.frontend.random import Random

    a = Random(7, "a")
    assert np.array_equal(a.words(10)[:5], a.words(5))
    assert not np.array_equal(a.words(8), Random(7, "b").words(8))
    assert not np.array_equal(a.words(8), Random(8, "a").words(8))
    assert not np.array_equal(a.words(8), Random(7, "a", step=1).words(8))
    assert sorted(a.permutation(1000)) == list(range(1000))
    u = a.uniform((100000,))
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.005
    n = a.normal((100000,))
    assert abs(n.mean()) < 0.02 and abs(n.std() - 1) < 0.02


def test_split():
    x, y = np.arange(10), np.arange(10) * 2
    a, b, c, d = gc.data.split(x, y, fraction=0.3, seed=1)
    assert len(a) == 7 and len(b) == 3 and sorted([*a, *b]) == list(range(10))
    assert (c == a * 2).all() and (d == b * 2).all()


def test_sizes_and_tensors_calculate(target):
    def fn(x):
        n = x.shape[0]
        return n * x, n + x, n - x, n // x, n % x, x / n, ops.dim(n) * 0.5 * x, 1 / ops.dim(n) * x

    x = np.array([1.0, 2.0, 4.0], np.float32)
    found = gc.compile(fn, gc.spec("N"), target=target)(x)
    for got, expected in zip(found, (3 * x, 3 + x, 3 - x, 3 // x, 3 % x, x / 3, 1.5 * x, x / 3), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "fn", [lambda n: 0.5 * n, lambda n: n * 0.5, lambda n: n / 2, lambda n: 1 / n, lambda n: n - 0.5, lambda n: n // 0.5, lambda n: n % 0.5]
)
def test_a_size_is_no_fraction(fn):
    with pytest.raises(gc.ShapeError, match=r"N is a size.*\n.*\n?.*ops\.dim"):
        gc.compile(lambda x: x * fn(x.shape[0]), gc.spec("N"), target="reference")
    with pytest.raises(TypeError):
        gc.compile(lambda x: x.shape[0] + "a", gc.spec("N"), target="reference")


def test_a_slash_divides_integers_as_numpy_does(target):
    a, b = np.array([7, -7, 3], np.int32), np.array([2, 2, 4], np.int64)
    found = gc.compile(lambda a, b: (a / b, 1 / a, a / 2, (a > 0) / 4), gc.spec("N", dtype="int32"), gc.spec("N", dtype="int64"), target=target)(a, b)
    for got, expected in zip(found, (a / b, 1 / a, a / 2, (a > 0) / 4), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-6)
