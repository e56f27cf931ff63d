"""A kernel that does not compile is told with its file, its origin and a command that shows the same again, which works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.backends.cpu import program
from graphc.backends.cpu.machine.cache import KernelCache


class Scale(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter((4,), init="ones")

    def forward(self, x):
        return x * self.scale + 1


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Makes the printer of maps write something else, into a cache of its own (in a folder whose name a shell must not take apart)."""
    cache = KernelCache(tmp_path / "a cache; of $HOME")
    printer = program.PRINTERS["map"]

    def put(edit):
        def broken(*args):
            printed = printer(*args)
            return replace(printed, text=edit(printed.text))

        monkeypatch.setitem(program.PRINTERS, "map", broken)
        monkeypatch.setattr(program, "default_cache", lambda: cache)

    return put


EDITS = {
    "a name that does not exist": (lambda t: t.replace("= mul(", "= mull(", 1), "NameError: name 'mull' is not defined", "= mull("),
    "operands of wrong types": (lambda t: t.replace("= mul(", "= mul(None, ", 1), "TypeError: ", ""),
    "no Python": (lambda t: t.replace("for u in", "four u in", 1), "SyntaxError: invalid syntax", "four u in"),
}


@pytest.mark.parametrize("name", EDITS)
def test_the_error_and_its_command(name, change):
    edit, said, line = EDITS[name]
    change(edit)
    model = gc.compile(nn.Sequential(Scale()), gc.spec("N", 4))
    with pytest.raises(gc.CompileError) as e:
        model.predict(np.zeros((2, 4), "float32"))
    assert said in e.value.message
    file, does, used, scope = e.value.where
    path, _, at = file.removeprefix("file  ").partition(".py")
    assert os.path.exists(path + ".py") and (line in at) and (re.match(r":\d+   ", at) if line else True)
    assert does == "does  map: mul add" and scope == "in    0"
    assert used.startswith("used  test_kernel_errors.py:") and used.endswith("return x * self.scale + 1")
    assert "numba" not in "".join(str(f.path) for f in e.traceback) and e.value.__cause__ is None

    command = e.value.hint.partition("report: ")[2]
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 1
    assert f"graphc.errors.KernelCompileError: {e.value.message}" in done.stderr
    assert ("Traceback" in done.stderr and "numba" in done.stderr) or name == "no Python"


def test_the_command_for_a_kernel_that_compiles(change):
    change(lambda text: text)
    model = gc.compile(nn.Sequential(Scale()), gc.spec("N", 4))
    kernel = model.executables["predict"].kernels[0].kernel
    command = [sys.executable, "-m", "graphc.backends.cpu.machine.reproduce"]
    done = subprocess.run([*command, kernel.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "bytes of object code" in done.stdout
    assert subprocess.run([*command, "no_such_file"], capture_output=True, check=False).returncode == 2


def test_numbas_settings_are_part_of_the_command(change, monkeypatch):
    change(EDITS["no Python"][0])
    monkeypatch.setenv("NUMBA_OPT", "1")
    with pytest.raises(gc.CompileError) as e:
        gc.compile(nn.Sequential(Scale()), gc.spec("N", 4)).predict(np.zeros((2, 4), "float32"))
    assert f"report: NUMBA_OPT=1 {sys.executable}" in e.value.hint


def test_a_printer_that_fails_is_told_with_the_kernels_origin(change):
    change(lambda text: 1 / 0)
    model = gc.compile(nn.Sequential(Scale()), gc.spec("N", 4))
    with pytest.raises(gc.CompileError, match="a kernel could not be written: ZeroDivisionError") as e:
        model.predict(np.zeros((2, 4), "float32"))
    assert e.value.where[0] == "does  map: mul add" and "return x * self.scale + 1" in e.value.where[1]


@pytest.mark.parametrize(
    ("options", "kind", "message", "hint"),
    [
        ({"target": "metal"}, gc.DeviceUnavailableError, "no target 'metal'", "cpu"),
        ({"target": "referense"}, gc.DeviceUnavailableError, "no target 'referense'", "did you mean 'reference'?"),
        ({"target": None}, gc.DeviceUnavailableError, "no target None", "cpu"),
        ({"thread": 2}, gc.ArgumentError, "no argument 'thread'", "did you mean 'threads'?"),
        ({"optimiser": "adam"}, gc.ArgumentError, "no argument 'optimiser'", "did you mean 'optimizer'?"),
        ({"threads": 0}, gc.ArgumentError, "threads = 0", ""),
        ({"threads": True}, gc.ArgumentError, "threads = True", ""),
        ({"threads": "two"}, gc.ArgumentError, "threads = 'two'", ""),
        ({"width": 5}, gc.ArgumentError, "width = 5", ""),
        ({"progress": 3}, gc.ArgumentError, "progress = 3", ""),
        ({"target": "reference", "threads": 2}, gc.ArgumentError, "no option of the target reference", ""),
        ({"target": "reference", "mode": "fast"}, gc.ArgumentError, "mode = 'fast'", ""),
        ({"target": "cuda-sim", "threads": 2}, gc.ArgumentError, "no option of the target cuda-sim", ""),
    ],
)
def test_targets_and_options_are_refused_when_compile_is_called(options, kind, message, hint):
    calls = []
    with pytest.raises(kind) as e:
        gc.compile(nn.Linear(2, 2), gc.spec("N", 2), **options)
    assert message in e.value.message and hint in e.value.hint
    for compile in (gc.compile, gc.step):
        with pytest.raises(kind, match=re.escape(message)):
            compile(lambda x: calls.append(x) or x, gc.spec(2), **options)
    assert not calls  # nothing was traced


def test_a_variable_of_the_environment_that_means_nothing(monkeypatch):
    code = "import numpy as np, graphc as gc; gc.compile(lambda x: x + 1, gc.spec(2))(np.zeros(2, 'float32'))"
    env = {**os.environ, "GRAPHC_THREADS": "many"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "graphc.errors.SettingError: GRAPHC_THREADS='many' is not a number of threads" in done.stderr
