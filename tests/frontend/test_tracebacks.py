"""Tracebacks show the user's frames and nothing of graphc's; GRAPHC_TRACEBACK=full shows all."""

from __future__ import annotations

import code
import importlib
import inspect
import linecache
import subprocess
import sys
import traceback

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, data, nn, optim
from graphc.locate import boundary, leaving

TRAIN = 'x, y = np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32")\n'
MODEL = 'model = gc.compile(nn.Linear(2, 1), gc.spec("N", 2), loss="mse", optimizer="sgd", target="reference")\n'

# name -> (script, functions of the frames that its traceback has)
SCRIPTS = {
    "layer": ("net = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6))\ngc.compile(net, gc.spec('N', 3))\n", ["<module>"]),
    "own module": (
        "class Net(nn.Module):\n    def forward(self, x):\n        return helper(x)\ndef helper(x):\n    return x @ x\n"
        "gc.compile(nn.Sequential(Net()), gc.spec('N', 3))\n",
        ["<module>", "forward", "helper"],
    ),
    "user's exception in forward": (
        "class Net(nn.Module):\n    def forward(self, x):\n        return self.fc2(x)\ngc.compile(Net(), gc.spec('N', 3))\n",
        ["<module>", "forward"],
    ),
    "forward that takes more": (
        "class Inner(nn.Module):\n    def forward(self, x, mask):\n        return x * mask\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        self.inner = Inner()\n    def forward(self, x):\n        return self.inner(x)\ngc.compile(Net(), gc.spec('N', 3))\n",
        ["<module>", "forward"],
    ),
    "constructor": ("nn.Conv2d(3, 4, 3, groups=2)\n", ["<module>"]),
    "constructor of a dataclass": ("optim.SGD(-1.0)\n", ["<module>"]),
    "argument that does not exist": ("nn.Conv2d(3, 4, 3, strides=2)\n", ["<module>"]),
    "name that does not exist": ("gc.optimizer\n", ["<module>"]),
    "layer that does not exist": ("nn.Dense(3)\n", ["<module>"]),
    "operator that does not exist": ("gc.ops.sofmax\n", ["<module>"]),
    "method of tensors that does not exist": ("gc.trace(lambda x: x.softmx(), gc.spec(3))\n", ["<module>", "<lambda>"]),
    "operator outside of a trace": ("gc.ops.concat([1, 2], axis=3)\n", ["<module>"]),
    "property": (MODEL + "model.optimizer = None\nmodel.learning_rate\n", ["<module>"]),
    "fit": (TRAIN + MODEL + "model.fit(x, y[:3])\n", ["<module>"]),
    "callback": (
        TRAIN + MODEL + "class Mine(callbacks.Callback):\n    def on_epoch_end(self, *a, **k):\n        {}['key']\nmodel.fit(x, y, callbacks=[Mine()])\n",
        ["<module>", "on_epoch_end"],
    ),
    "data set": (
        MODEL + "class Mine(data.Dataset):\n    def __len__(self):\n        return 4\n    def __getitem__(self, i):\n        return {}[i]\n"
        "model.fit(data.DataLoader(Mine(), batch_size=2))\n",
        ["<module>", "__getitem__"],
    ),
    "data loader": ("for batch in data.DataLoader([np.zeros(2), np.zeros(3)], batch_size=2):\n    pass\n", ["<module>"]),
    "threads of a data loader": (
        "class Mine(data.Dataset):\n    def __len__(self):\n        return 4\n    def __getitem__(self, i):\n        return {}[i]\n"
        "for batch in data.DataLoader(Mine(), batch_size=2, num_workers=1, workers='thread'):\n    pass\n",
        ["<module>", "__getitem__"],
    ),
    "data read ahead": ("def items():\n    yield 1\n    yield {}['key']\nfor item in data.ahead(items()):\n    pass\n", ["<module>", "items"]),
    "loss that is not finite": (TRAIN + MODEL + "x[0] = np.nan\nmodel.train_on_batch(x, y)\n", ["<module>"]),
}  # fmt: skip


def run(script, name="script.py"):
    """The exception of a script."""
    linecache.cache[name] = (len(script), None, script.splitlines(True), name)
    names = {"gc": gc, "nn": nn, "optim": optim, "data": data, "callbacks": callbacks, "np": np, "__name__": "__main__"}
    try:
        exec(compile(script, name, "exec"), names)
    except Exception as e:
        return e.with_traceback(e.__traceback__.tb_next)  # without this function
    raise AssertionError("no exception")


def chain(error):
    """An exception, and those that a traceback shows above it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def frames(error):
    return [f for e in chain(error) for f in traceback.extract_tb(e.__traceback__)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_only_the_users_frames(name, monkeypatch):
    script, functions = SCRIPTS[name]
    monkeypatch.delenv("GRAPHC_TRACEBACK", raising=False)
    error = run(script)
    assert [f.name for f in frames(error)] == functions
    assert {f.filename for f in frames(error)} == {"script.py"}
    if isinstance(error, gc.GraphcError):  # the message alone tells the line too
        assert any("script.py:" in line for line in error.where), str(error)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_frame_on_request(name, monkeypatch):
    script, functions = SCRIPTS[name]
    monkeypatch.setenv("GRAPHC_TRACEBACK", "full")
    assert len(frames(run(script))) > len(functions)


def test_a_script_that_ends_with_an_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import graphc as gc\nfrom graphc import nn\n" + SCRIPTS["own module"][0])
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    shown = [line.strip() for line in done.stderr.splitlines() if line.startswith("  File ")]
    assert [line.rpartition(", in ")[2] for line in shown] == ["<module>", "forward", "helper"]
    assert all(str(script) in line for line in shown)


def test_a_notebook_cell():
    shown = []
    shell = code.InteractiveInterpreter({"gc": gc, "nn": nn})
    shell.write = shown.append
    shell.runcode(compile("gc.compile(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6)), gc.spec('N', 3))", "<ipython-input-1-0a>", "exec"))
    text = "".join(shown)
    assert text.count("  File ") == 1 and "<ipython-input-1-0a>" in text and "built at  <ipython-input-1-0a>:1" in text


def test_pytest_shows_no_file_of_graphc():
    with pytest.raises(gc.ShapeError) as e:
        gc.compile(nn.Linear(3, 4), gc.spec("N", 5))
    assert [entry.path.name for entry in e.traceback] == ["test_tracebacks.py"]


def test_causes_are_told_without_frames_and_what_graphc_handled_is_not(monkeypatch):
    @boundary
    def caused():
        try:
            np.zeros(3).reshape(2)
        except ValueError as e:
            raise gc.ArgumentError("wrong") from e

    @boundary
    def handled():
        try:
            np.zeros(3).reshape(2)
        except ValueError:
            raise gc.ArgumentError("wrong")  # noqa: B904

    # these functions count as graphc's: their code is said to be in a file of the package
    for fn in (caused, handled):
        inner = fn.__wrapped__
        inner.__code__ = inner.__code__.replace(co_filename=inspect.getsourcefile(nn.Linear))
    with pytest.raises(gc.ArgumentError) as e:
        caused()
    assert isinstance(e.value.__cause__, ValueError) and e.value.__cause__.__traceback__ is None
    with pytest.raises(gc.ArgumentError) as e:
        handled()
    assert e.value.__context__ is None
    try:
        {}["mine"]
    except KeyError:
        with pytest.raises(gc.ArgumentError) as e:
            caused()
        assert isinstance(e.value.__cause__.__context__, KeyError)  # what the user handles stays
    monkeypatch.setenv("GRAPHC_TRACEBACK", "full")
    with pytest.raises(gc.ArgumentError) as e:
        handled()
    assert isinstance(e.value.__context__, ValueError)


def test_a_defect_of_graphc_keeps_its_frames(monkeypatch):
    monkeypatch.setattr("graphc.frontend.trace.tree_map", None)
    error = run("gc.trace(lambda a: a, gc.spec(3))\n")
    assert type(error) is TypeError and len(frames(error)) > 2
    error = gc.VerifyError("a graph is wrong")
    try:
        raise error
    except gc.VerifyError:
        before = error.__traceback__
        leaving(error)
    assert error.__traceback__ is before


def test_the_exception_of_a_worker_process_has_the_users_frames(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from graphc import data\n\n\nclass Mine(data.Dataset):\n    def __len__(self):\n        return 4\n\n    def __getitem__(self, i):\n"
        "        return {}[i]\n\n\nif __name__ == '__main__':\n    for batch in data.DataLoader(Mine(), batch_size=2, num_workers=1):\n        pass\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    shown = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("File ")]
    assert [line.rpartition(", in ")[2] for line in shown] == ["__getitem__", "<module>"], done.stderr


# -- the public surface --------------------------------------------------------------------------------------------------
MODULES = [
    "graphc", "graphc.frontend.callbacks", "graphc.frontend.data", "graphc.frontend.datasets", "graphc.frontend.init", "graphc.frontend.losses",
    "graphc.frontend.metrics", "graphc.frontend.nn", "graphc.frontend.optim", "graphc.frontend.optim.schedules", "graphc.frontend.sampling",
    "graphc.frontend.text", "graphc.testing",
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_offers_are_boundaries(module):
    offered = importlib.import_module(module)
    missing = []
    for name in offered.__all__:
        value = getattr(offered, name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            init = value.__init__
            if inspect.isfunction(init) and not hasattr(init, "_graphc_boundary"):
                missing.append(name)
        elif inspect.isfunction(value) and not hasattr(value, "_graphc_boundary"):
            missing.append(name)
    assert not missing, "public(globals()) at the end of their modules"


def test_operators_and_methods_of_models_are_boundaries():
    from graphc.ir.op import functions

    assert not [name for name, fn in functions().items() if not hasattr(fn, "_graphc_boundary")]
    written_out = {"state_dict", "modes"}  # they cannot fail, or hand on
    methods = {n for n, v in vars(gc.Model).items() if inspect.isfunction(v) and not n.startswith("_")}
    assert not {n for n in methods if not hasattr(getattr(gc.Model, n), "_graphc_boundary")} - written_out


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        (lambda: nn.Conv2d(3, 4, 3, strides=2), "Conv2d: there is no argument 'strides'", "did you mean 'stride'?"),
        (lambda: nn.Linear(3), "Linear: missing 1 required positional argument: 'out_features'", "Linear(in_features, out_features, bias=True"),
        (lambda: optim.Adam(weight_deca=0.1), "Adam: there is no argument 'weight_deca'", "did you mean 'weight_decay'?"),
        (lambda: gc.trace(lambda x: x.sum(axes=0), gc.spec(3)), "sum: there is no argument 'axes'", "did you mean 'axis'?"),
        (lambda: gc.trace(lambda x: x.softmax(foo=0), gc.spec(3)), "softmax: there is no argument 'foo'", "one of x, axis"),
        (lambda: gc.trace(lambda x: x.exp(1), gc.spec(3)), "exp: takes 1 operand, got 2", ""),
        (lambda: callbacks.EarlyStopping(patience_=2), "EarlyStopping: there is no argument 'patience_'", "did you mean 'patience'?"),
        (lambda: type("Net", (nn.Module,), {})(3), "Net takes no arguments", "it has no __init__"),
    ],
)
def test_arguments_that_do_not_fit(call, message, hint):
    with pytest.raises(TypeError) as e:
        call()
    assert isinstance(e.value, gc.GraphcError) and e.value.message == message and hint in e.value.hint


def test_a_type_error_of_the_users_own_is_left_as_it_is():
    def fn(x):
        return len(3)

    with pytest.raises(TypeError, match="has no len") as e:
        gc.trace(fn, gc.spec(3))
    assert not isinstance(e.value, gc.GraphcError)


def test_signatures_stay_readable():
    assert list(inspect.signature(nn.Linear).parameters) == ["in_features", "out_features", "bias", "dtype", "init"]
    assert list(inspect.signature(gc.compile).parameters)[:2] == ["fn", "specs"]


def test_errors_of_the_operating_system_keep_their_kind(tmp_path, monkeypatch):
    model = gc.compile(nn.Linear(2, 1), gc.spec("N", 2), target="reference")
    with pytest.raises(FileNotFoundError) as e:
        model.load(tmp_path / "none.graphc")
    assert isinstance(e.value, gc.MissingFileError) and e.value.errno == 2 and e.value.filename == str(tmp_path / "none.graphc")

    def refused(path):
        raise PermissionError(13, "Permission denied", path)

    refused.__code__ = refused.__code__.replace(co_filename=inspect.getsourcefile(nn.Linear))
    monkeypatch.setattr("graphc.frontend.files.os.stat", refused)
    with pytest.raises(PermissionError) as e:
        model.load(tmp_path / "none.graphc")
    assert isinstance(e.value, gc.FilePermissionError) and e.value.message.endswith("none.graphc cannot be opened: Permission denied")
