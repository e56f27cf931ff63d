"""``graphc warm --arch``: machine code for GPUs that are elsewhere, found again where there is no compiler."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cuda import ahead, toolchain
from graphc.backends.cuda.toolchain import Cubin, architectures, find_kernel
from graphc.errors import ArgumentError, DeviceUnavailableError

from .test_toolchain import X, needs_compiler, printed

SCRIPT = """
import sys
import numpy as np
import graphc as gc
from graphc import nn, optim

gc.set_seed(0)
x, y = np.random.default_rng(0).normal(size=(40, 6)).astype("float32"), np.arange(40) % 3
net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
model = gc.compile(net, gc.spec("N", 6), loss="cross_entropy", optimizer=optim.Adam(1e-2), target=sys.argv[1])
before = model.state_dict()
losses = model.fit(x, y, batch_size=20, epochs=3, verbose=0)["loss"]
print(gc.cuda.is_available(), len(losses), losses[-1], model.predict(x[:7]).shape, all((v == before[k]).all() for k, v in model.state_dict().items()))
"""

ELSEWHERE = """
import sys

class Blocked:
    # a machine without a compiler: its packages cannot be imported, and are not installed
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("numba", "numba_cuda", "llvmlite", "_numba_cuda_redirector") or name.startswith("cuda."):
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocked)
import importlib.metadata as metadata
real = metadata.version
def version(name):
    if name.startswith(("numba", "nvidia", "cuda")):
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version

from graphc.backends.cuda import gpu as module
from tests.cuda.fake_gpu import fake_gpu
made = fake_gpu(archs={archs!r})
module.open_gpu = lambda index=0: made
sys.argv[0:] = ["script.py", "cuda"]
exec(compile(open("script.py").read(), "script.py", "exec"))
assert len(made.driver.loaded) > 10 and all(c.code.startswith(b"\\x7fELF") and c.entry for c in made.driver.loaded)
print(sorted({{c.arch for c in made.driver.loaded}}))
"""


def start(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parents[2]), *(p for p in sys.path if p)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "GRAPHC_CACHE": str(folder / "unused")}
    return subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A script with the folder that was made for it, and what the command said."""
    folder = tmp_path_factory.mktemp("ahead")
    (folder / "script.py").write_text(SCRIPT)
    return folder, start(folder, "-m", "graphc.cli", "warm", "--arch", "sm_90a", "-o", "kernels", "script.py", "cuda")


def elsewhere(folder: Path, archs=("sm_90a", "sm_90")) -> subprocess.CompletedProcess[str]:
    (folder / "elsewhere.py").write_text(ELSEWHERE.format(archs=list(archs)))
    done = start(folder, "-c", "import os; os.environ['GRAPHC_CACHE'] = 'kernels'; exec(open('elsewhere.py').read())")
    return done


@needs_compiler
def test_a_script_is_compiled_for_a_gpu_that_is_not_here(filled):
    folder, done = filled
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "1", "0.0", "(7,", "3)", "True"]  # one step, which ran nothing and changed nothing
    found = re.search(r"2 programs for CUDA \(Sequential_train_step, .*\n(\d+) kernels for sm_90a: (\d+) compiled in .* s, 0 were there; .*kernels", done.stderr)
    assert found and found[1] == found[2] and int(found[1]) > 10
    index = json.loads((folder / "kernels/cuda/sm_90a/index.json").read_text())
    assert len(index["kernels"]) == int(found[1]) == len(list((folder / "kernels").rglob("*.cubin"))) and len(index["programs"]) == 2


@needs_compiler
def test_a_machine_without_a_compiler_runs_from_the_folder(filled):
    done = elsewhere(filled[0])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['sm_90a']"
    assert float(done.stdout.split()[2]) > 0 and "False" in done.stdout.splitlines()[0]  # it trains there


@needs_compiler
def test_what_is_not_in_the_folder_is_named(filled):
    folder, _ = filled
    done = elsewhere(folder, ["sm_86", "sm_80"])
    assert "kernels has kernels for sm_90a; a made-up GPU runs sm_86 or sm_80" in done.stderr.replace("kernels/cuda", "kernels")
    assert "nothing is compiled here: numba is not installed" in done.stderr and "graphc warm --arch sm_86 -o FOLDER script.py" in done.stderr
    (folder / "script.py").write_text(SCRIPT.replace("nn.Tanh()", "nn.GELU()"))
    done = elsewhere(folder)
    (folder / "script.py").write_text(SCRIPT)
    assert re.search(r"has no kernel '.*gelu.*|has no kernel '.*(erf|tanh|mul).*' for sm_90a", done.stderr), done.stderr
    assert "kernels of Sequential_train_step, Sequential_predict, made by graphc" in done.stderr


# -- without a compiler: what it would make is made up ---------------------------------------------------------------------------
@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A compiler that gives the text as machine code, and a folder to fill."""
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    monkeypatch.setattr(toolchain, "toolchain_missing", lambda: "")
    monkeypatch.setattr(ahead, "toolchain_missing", lambda: "")
    for module in (toolchain, ahead):
        monkeypatch.setattr(module, "toolchain_words", lambda: ["made-up 1.0"])
    monkeypatch.setattr(toolchain, "_compile", lambda p, arch: Cubin(p.text.encode(), "kernel", arch, 32, 0, 0, 0))
    return monkeypatch


def gone(monkeypatch):
    monkeypatch.setattr(toolchain, "toolchain_missing", lambda: "numba-cuda")


def model_ahead(compiler, archs="sm_80,sm_90a"):
    compiler.setenv("GRAPHC_WARM", "1")
    compiler.setenv("GRAPHC_WARM_ARCH", archs)
    model = gc.compile(nn.Linear(6, 3), gc.spec("N", 6), loss="mse", optimizer=optim.SGD(0.1), target="cuda")
    x = np.ones((4, 6), np.float32)
    assert model.train_on_batch(x, np.ones((4, 3), np.float32)) == {"loss": 0.0} and not model.predict(x).any()
    compiler.delenv("GRAPHC_WARM")
    return [k.printed for name in ("train_step", "predict") for k in model.executables[name].kernels]


def test_kernels_are_found_by_the_toolchain_that_made_them(compiler, tmp_path):
    kernels = model_ahead(compiler)
    gone(compiler)
    for p in kernels:
        assert find_kernel(p, ["sm_90a", "sm_90"], "H200").arch == "sm_90a"
        assert find_kernel(p, ["sm_86", "sm_80"], "A10").arch == "sm_80"
    with pytest.raises(DeviceUnavailableError, match=r"has kernels for sm_80, sm_90a; T4 runs sm_75") as e:
        find_kernel(kernels[0], ["sm_75"], "T4")
    assert "graphc warm --arch sm_75" in e.value.hint and "numba-cuda is not installed" in e.value.notes[0]
    with pytest.raises(DeviceUnavailableError, match=r"has no kernel '.*' for sm_80") as e:
        find_kernel(printed(lambda x: x * 7.0, X), ["sm_80"], "A100")
    assert "2 kernels" not in e.value.notes[0] and "Linear_train_step, Linear_predict" in e.value.notes[0]
    for file in (tmp_path / "cuda" / "sm_80").rglob("*.cubin"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DeviceUnavailableError, match="is damaged or gone"):
        find_kernel(kernels[0], ["sm_80"], "A100")
    compiler.setattr(toolchain, "device_functions", lambda: "other")
    with pytest.raises(DeviceUnavailableError) as e:
        find_kernel(kernels[0], ["sm_80"], "A100")
    assert "that graphc had other device functions than this one" in e.value.notes
    for file in (tmp_path / "cuda").rglob("index.json"):
        file.unlink()
    with pytest.raises(DeviceUnavailableError, match=r"there is no machine code for A100 \(sm_80\) in"):
        find_kernel(kernels[0], ["sm_80"], "A100")


def test_where_there_is_a_compiler_what_is_missing_is_compiled(compiler):
    p = printed(lambda x: x * 7.0, X)
    assert find_kernel(p, ["sm_90a", "sm_90"], "H200").arch == "sm_90a"
    compiler.setattr(toolchain, "_compile", lambda *a: pytest.fail("it was compiled again"))
    assert find_kernel(p, ["sm_90a", "sm_90"], "H200").arch == "sm_90a"


def test_an_index_of_another_toolchain_is_replaced(compiler, tmp_path):
    model_ahead(compiler)
    for module in (toolchain, ahead):
        compiler.setattr(module, "toolchain_words", lambda: ["made-up 2.0"])
    model_ahead(compiler, "sm_80")
    words = {a: json.loads((tmp_path / "cuda" / a / "index.json").read_text())["words"] for a in ("sm_80", "sm_90a")}
    assert words == {"sm_80": ["made-up 2.0"], "sm_90a": ["made-up 1.0"]}


def test_architectures_that_a_gpu_runs():
    assert architectures((9, 0)) == ["sm_90a", "sm_90"]
    assert architectures((8, 9)) == ["sm_89", "sm_87", "sm_86", "sm_80"]
    assert architectures((7, 5)) == ["sm_75"] and architectures((10, 3)) == ["sm_103", "sm_100"] and architectures((99, 0)) == []


def test_mistakes_are_told_before_anything_runs(tmp_path, compiler, capsys):
    from graphc.warm import warm

    script = tmp_path / "script.py"
    script.write_text("print('it ran')")
    assert warm(script, [], tmp_path, ["sm_91"]) == 1
    assert warm(script, [], script, ["sm_80"]) == 1  # no folder
    gone(compiler)
    compiler.setattr(ahead, "toolchain_missing", toolchain.toolchain_missing)
    assert warm(script, [], tmp_path, ["sm_80"]) == 1
    told = capsys.readouterr()
    assert "it ran" not in told.out
    assert "no architecture 'sm_91'" in told.err and "numba-cuda is not installed" in told.err
    assert "GRAPHC_WARM" not in os.environ and "GRAPHC_WARM_ARCH" not in os.environ


def test_a_script_without_cuda_is_told(tmp_path, compiler, capsys):
    from graphc.warm import warm

    script = tmp_path / "script.py"
    script.write_text("import graphc as gc\nassert gc.cuda.is_available() and not gc.cuda.why_not()")
    assert warm(script, [], tmp_path, ["sm_80"]) == 1
    assert 'need target="cuda"' in capsys.readouterr().err
    with pytest.raises(ArgumentError):
        compiler.setenv("GRAPHC_WARM", "1")
        compiler.setenv("GRAPHC_WARM_ARCH", "sm_1")
        gc.compile(nn.Linear(2, 3), gc.spec("N", 2), target="cuda", eager=True)


