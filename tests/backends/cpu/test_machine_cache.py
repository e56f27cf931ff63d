"""The kernel cache: hits, misses, damage, processes that race, folders that cannot be written, starts without Numba."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphc.backends.cpu.machine import cache as module
from graphc.backends.cpu.machine.cache import KernelCache, key_of, read_entry
from graphc.backends.cpu.machine.compile import compile_text
from graphc.backends.cpu.machine.elf import undefined_symbols
from graphc.backends.cpu.machine.loader import load_object
from graphc.backends.cpu.machine.pool import LaunchList
from graphc.errors import KernelCompileError

TEXT = """from graphc.backends.cpu.machine.tiles import ptr_i64


def kernel(tid, nthreads, args, trip):
    ptr_i64(args[0])[0] = {}
"""


def value_of(address: int) -> int:
    out = np.zeros(1, np.int64)
    program = LaunchList()
    program.add_call(address, np.array([out.ctypes.data], np.int64))
    program.finish([], 0, 1)
    program.run()
    return int(out[0])


def run_python(code: str, **env: str) -> str:
    full = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **env}
    done = subprocess.run([sys.executable, "-c", code], env=full, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_miss_then_hit(tmp_path: Path) -> None:
    first = KernelCache(tmp_path)
    a, b, again = first.get([TEXT.format(11), TEXT.format(12), TEXT.format(11)])
    assert (first.misses, first.hits) == (2, 0) and a is again
    assert [value_of(a.address), value_of(b.address)] == [11, 12]
    assert a.path.read_text() == TEXT.format(11) and a.path.name == f"{a.name}.py"
    assert not list(tmp_path.glob("*.tmp"))
    second = KernelCache(tmp_path)
    (hit,) = second.get([TEXT.format(11)])
    assert (second.misses, second.hits) == (0, 1)
    assert hit.address == a.address  # mapped once a process


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "not json"])
def test_a_damaged_entry_is_rebuilt(tmp_path: Path, damage: str) -> None:
    text, other = TEXT.format(f"20 + {len(damage)}"), TEXT.format(f"40 + {len(damage)}")
    KernelCache(tmp_path).get([text, other])
    path = tmp_path / f"k_{key_of(text)[:16]}.o"
    good = path.read_bytes()
    foreign = (tmp_path / f"k_{key_of(other)[:16]}.o").read_bytes()
    bad = {
        "truncated": good[:-100],
        "flipped": good[:-50] + bytes([good[-50] ^ 1]) + good[-49:],
        "empty": b"",
        "foreign": foreign,
        "not json": b"[]\n" + good,
    }[damage]
    path.write_bytes(bad)
    assert read_entry(path, key_of(text)) is None
    again = KernelCache(tmp_path)
    assert value_of(again.get([text])[0].address) == 20 + len(damage)
    assert again.misses == 1 and read_entry(path, key_of(text)) is not None


def test_keys_depend_on_text_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_of("a") == key_of("a") != key_of("b")
    # for whom it was printed does not count; a comment inside does, as everything else
    assert key_of("# from a.py:1\n# in fc\nx = 1") == key_of("# from b.py:2\nx = 1") == key_of("x = 1")
    assert key_of("x = 1\n# from a.py:1") != key_of("x = 1") and key_of("# a") == key_of("# b") != key_of("a")
    before = module.environment_key.__wrapped__()
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert module.environment_key.__wrapped__() != before


def test_many_are_compiled_by_workers(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    cache = KernelCache(tmp_path)
    kernels = cache.get([TEXT.format(100 + i) for i in range(6)], lambda *a: seen.append(a))
    assert [value_of(k.address) for k in kernels] == list(range(100, 106))
    assert [s[:2] for s in seen] == [(i, 6) for i in range(7)] and seen[0][2].endswith(".py")


@pytest.mark.parametrize("command", ["/bin/false", "/nowhere/python"])
def test_workers_that_fail_are_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(module.sys, "executable", command)
    base = 200 + len(command) * 10
    kernels = KernelCache(tmp_path).get([TEXT.format(base + i) for i in range(4)])
    assert [value_of(k.address) for k in kernels] == list(range(base, base + 4))


def test_the_worker_fills_the_folder(tmp_path: Path) -> None:
    text = TEXT.format(301)
    path = tmp_path / f"k_{key_of(text)[:16]}.py"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "graphc.backends.cpu.machine.compile_worker"],
        input=f"{key_of(text)} {path}\n",
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = read_entry(path.with_suffix(".o"), key_of(text))
    assert found is not None and value_of(load_object(found.data, found.symbol)) == 301


def test_a_kernel_that_does_not_compile_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelCompileError) as e:
        KernelCache(tmp_path).get([TEXT.format("no_such_name")])
    assert "no_such_name" in str(e.value) and str(tmp_path) in str(e.value)
    with pytest.raises(KernelCompileError, match="SyntaxError"):
        KernelCache(tmp_path).get(["def kernel(:\n"])


def test_a_folder_that_cannot_be_written_is_replaced_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="not writable") as w:
        cache = KernelCache(tmp_path / "file" / "cache")
    assert len(w) == 1
    assert value_of(cache.get([TEXT.format(401)])[0].address) == 401


USE = """
import sys
import numpy as np
from graphc.backends.cpu.machine.cache import default_cache
from graphc.backends.cpu.machine.pool import LaunchList
out = np.zeros(1, np.int64)
kernels = default_cache().get([{text!r}.format(i) for i in {numbers}])
for threads in (1, 2):
    program = LaunchList()
    for k in kernels:
        program.add_call(k.address, np.array([out.ctypes.data], np.int64))
    program.finish([], 0, threads)
    program.run()
print(out[0], default_cache().misses, 'numba' in sys.modules)
"""


def test_a_warm_start_does_without_numba(tmp_path: Path) -> None:
    code = USE.format(text=TEXT, numbers=[501, 502])
    assert run_python(code, GRAPHC_CACHE=str(tmp_path)).split() == ["502", "3", "True"]  # two kernels and the driver
    assert run_python(code, GRAPHC_CACHE=str(tmp_path)).split() == ["502", "0", "False"]


def test_processes_may_race(tmp_path: Path) -> None:
    code = USE.format(text=TEXT, numbers=[601, 602])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "GRAPHC_CACHE": str(tmp_path)}
    procs = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [p.communicate(timeout=120)[0].split()[0] for p in procs] == ["602"] * 3
    assert not list(tmp_path.glob("*.tmp"))


def test_a_script_without_a_main_guard_may_compile_in_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('begin')\n" + USE.format(text=TEXT, numbers=list(range(701, 706))))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "GRAPHC_CACHE": str(tmp_path / "c")}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.split()[:2] == ["begin", "705"], done.stderr


def test_objects_need_nothing_but_the_c_library() -> None:
    code = compile_text(TEXT.format(801), "symbols_801", "<801>")
    assert undefined_symbols(code.data) == []
    assert undefined_symbols(b"not an object") == []
    allocates = (
        "import numpy as np\n\n\ndef kernel(tid, nthreads, args, trip):\n    args[0] = int(np.zeros(args[1]).sum())\n"
    )
    with pytest.raises(KernelCompileError):
        compile_text(allocates, "symbols_802", "<802>")


def test_workers_start_early_for_what_nobody_has_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(module, "start_early", begun.append)
    texts = [TEXT.format(i) for i in (901, 902)]
    cache = KernelCache(tmp_path)
    cache.expect("a program")
    assert len(begun) == 1
    cache.get(texts)
    again = KernelCache(tmp_path)
    again.expect("a program")
    again.get(texts)
    assert len(begun) == 1 and (again.hits, again.misses) == (2, 0)
    again.expect("another")
    assert len(begun) == 2


def test_workers_that_started_early_are_used_or_ended(tmp_path: Path) -> None:
    from graphc.backends.cpu.machine import workers

    workers.start_early(1)
    (early,) = workers._early
    (one,) = early._workers
    cache = KernelCache(tmp_path)
    kernels = cache.get([TEXT.format(910 + i) for i in range(12)])
    assert [value_of(k.address) for k in kernels] == list(range(910, 922))
    assert not workers._early and one.process.returncode is not None
    workers.start_early(1)
    (one,) = workers._early[0]._workers
    cache.get([TEXT.format(910)])
    assert not workers._early and one.process.returncode is not None
