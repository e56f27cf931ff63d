"""What users read when they make a mistake: exact texts."""

from __future__ import annotations

import linecache
import subprocess
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import nn

LENET = """\
import graphc as gc
from graphc import nn


class LeNet(nn.Module):
    def __init__(self):
        self.body = nn.Identity()
        self.fc = nn.Sequential(
            nn.Linear(800, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))

    def forward(self, x):
        x = self.body(x)
        # 12 by 12 pixels, 6 channels
        return self.fc(x.flatten(1))
"""

TEXT = """\
matmul: inner dimensions differ: a (N, 864) @ b (800, 120)
  in    fc.0 (Linear)                built at  lenet.py:9
  used  lenet.py:14                  return self.fc(x.flatten(1))
  note  'flatten' made 864 = 6*12*12 features from (N, 6, 12, 12)
  hint  nn.Linear(864, 120)"""


def from_file(path, text):
    path.write_text(text)
    linecache.checkcache()
    names: dict = {}
    exec(compile(text, str(path), "exec"), names)
    return names


def test_the_example_of_the_design(tmp_path):
    names = from_file(tmp_path / "lenet.py", LENET)
    with pytest.raises(gc.ShapeError) as e:
        gc.compile(names["LeNet"](), gc.spec("N", 6, 12, 12), target="reference")
    assert str(e.value) == TEXT


def test_uncaught_errors_show_the_users_frames_only(tmp_path):
    script = tmp_path / "lenet.py"
    script.write_text(LENET + "\n\ngc.compile(LeNet(), gc.spec('N', 6, 12, 12), target='reference')\n")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.rstrip().endswith("graphc.errors.ShapeError: " + TEXT)
    frames = [line for line in run.stderr.splitlines() if line.startswith("  File ")]
    assert len(frames) == 2 and all("lenet.py" in f for f in frames)


def test_full_traceback_on_request(monkeypatch):
    monkeypatch.setenv("GRAPHC_TRACEBACK", "full")
    with pytest.raises(gc.ShapeError) as e:
        gc.trace(nn.Linear(3, 4), gc.spec("N", 5))
    assert any("linear.py" in str(entry.path) for entry in e.traceback)
    monkeypatch.delenv("GRAPHC_TRACEBACK")
    with pytest.raises(gc.ShapeError) as e:
        gc.trace(nn.Linear(3, 4), gc.spec("N", 5))
    assert not any("linear.py" in str(entry.path) for entry in e.traceback)


def test_an_operator_in_the_users_own_forward(tmp_path):
    text = (
        "from graphc import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        self.w = nn.Parameter((4, 5))\n\n"
        "    def forward(self, x):\n        y = x * 2\n        return y @ self.w\n\nclass Outer(nn.Module):\n"
        "    def __init__(self):\n        self.inner = [Net()]\n\n    def forward(self, x):\n        return self.inner[0](x)\n"
    )
    names = from_file(tmp_path / "own.py", text)
    with pytest.raises(gc.ShapeError) as e:
        gc.trace(names["Outer"](), gc.spec("N", 3))
    assert str(e.value) == (
        "matmul: inner dimensions differ: a (N, 3) @ b (4, 5)\n"
        "  in    inner.0 (Net)                built at  own.py:13\n"
        "  used  own.py:9                     return y @ self.w"
    )


def test_a_plain_function(tmp_path):
    names = from_file(tmp_path / "plain.py", "def f(a, b):\n    c = a.exp()\n    return c + b\n")
    with pytest.raises(gc.ShapeError) as e:
        gc.compile(names["f"], gc.spec(3), gc.spec(4), target="reference")
    assert str(e.value).splitlines()[0].startswith("add: shapes (3,) and (4,) do not broadcast")
    assert str(e.value).splitlines()[1] == "  used  plain.py:3                   return c + b"


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: gc.spec("N", -1), gc.ShapeError, "axis -1 of a spec"),
        (lambda: gc.spec("N", 2.5), gc.ShapeError, "axis 2.5"),
        (lambda: gc.spec("a b"), gc.ShapeError, "a dim needs a name"),
        (lambda: gc.spec(3, dtype="float8"), gc.DTypeError, "float8"),
        (lambda: gc.Dim("N", hint=-3), gc.ShapeError, "hint"),
        (lambda: gc.compile(lambda a, b: a, gc.spec(2)), gc.ArgumentError, "was given 1 specs"),
        (lambda: gc.compile(lambda a: a, 3), gc.TraceError, "3 is not a spec"),
        (lambda: gc.compile(lambda a: None, gc.spec(2)), gc.TraceError, "returned nothing"),
        (lambda: gc.compile(lambda a: "text", gc.spec(2)), gc.TraceError, "returned a str"),
        (lambda: gc.compile(lambda a: a if a else -a, gc.spec(2)), gc.TraceError, "the value of a tensor is not known"),
        (lambda: gc.compile(lambda a: np.exp(a), gc.spec(2)), gc.TraceError, "np.exp of a tensor"),
        (lambda: gc.compile(3, gc.spec(2)), gc.ArgumentError, "neither a module nor a function"),
        (lambda: gc.compile(lambda a: a, gc.spec(2), loss="mse"), gc.ArgumentError, "go with a module"),
        (lambda: gc.compile(nn.Linear(2, 2), gc.spec("N", 2), loss="mean"), gc.ArgumentError, "'mean' is not a loss"),
        (
            lambda: gc.compile(nn.Linear(2, 2), gc.spec("N", 2), loss="mse", optimizer="adafactor"),
            gc.ArgumentError,
            "is not an optimiser",
        ),
        (
            lambda: gc.compile(nn.Linear(2, 2), gc.spec("N", 2), loss="mse", metrics=["sharpness"]),
            gc.ArgumentError,
            "is not a metric",
        ),
        (lambda: gc.compile(nn.Linear(2, 2), gc.spec("N", 2), optimizer="adam"), gc.ArgumentError, "without a loss"),
        (
            lambda: gc.compile(nn.Linear(2, 2), gc.spec("N", 2), loss=lambda p, y: p - y, optimizer="sgd"),
            gc.ArgumentError,
            "spec does not follow",
        ),
        (lambda: gc.compile(nn.Linear(2, 2), gc.spec(2), loss="cross_entropy"), gc.ShapeError, "no class axis"),
        (
            lambda: gc.compile(nn.Linear(2, 2), gc.spec("N", 2), target="tpu"),
            gc.DeviceUnavailableError,
            "'tpu'",
        ),
        (lambda: nn.Linear(2, 2)(np.zeros((1, 2))), gc.TraceError, "called outside of a trace"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU), gc.TraceError, "did you mean to call it?"),
        (lambda: nn.Dropout(1.5), gc.ShapeError, "not in [0, 1]"),
        (lambda: gc.grad(lambda a: a.sum())(np.zeros(2)), gc.TraceError, "outside of a trace"),
        (lambda: gc.compile(gc.grad(lambda a: a), gc.spec(2)), gc.ShapeError, "needs a scalar"),
        (lambda: gc.compile(gc.grad(lambda a: a.sum(), wrt=3), gc.spec(2)), gc.ArgumentError, "wrt=3"),
        (lambda: gc.set_seed("x"), gc.ArgumentError, "a seed is an int"),
        (lambda: gc.optim.SGD(0.1, nesterov=True), gc.ArgumentError, "nesterov needs a momentum"),
        (lambda: gc.optim.Adam(-1.0), gc.ArgumentError, "lr = -1.0"),
    ],
)
def test_mistakes_when_building(make, kind, text):
    with pytest.raises(kind) as e:
        make()
    assert text in str(e.value)


def test_a_module_without_forward():
    class Empty(nn.Module):
        pass

    with pytest.raises(gc.TraceError, match="Empty has no forward"):
        gc.trace(Empty(), gc.spec(2))


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'optimizer'"):
        gc.optimizer
    with pytest.raises(AttributeError, match="softmx"):
        gc.trace(lambda a: a.softmx(), gc.spec(2))


def test_no_gradient_names_operator_and_line(tmp_path):
    names = from_file(tmp_path / "nograd.py", "def f(x):\n    return (x.cast('int32').cast('float32') * 2).sum()\n")
    with pytest.raises(gc.GradientError) as e:
        gc.compile(gc.grad(names["f"]), gc.spec(3), target="reference")
    assert "nograd.py" in str(e.value) or "does not influence" in str(e.value)
