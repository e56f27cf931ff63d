"""``graphc doctor``: what it says is what the machine and the settings are."""

from __future__ import annotations

import os
from importlib.metadata import version

import pytest

import graphc as gc
from graphc import cli
from graphc.backends.cpu import doctor, peaks


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    """The measuring itself is tested in test_profile.py."""
    levels = (peaks.Level("L2", 1 << 20, 3e11, 2e11), peaks.Level("memory", 0, 2e10, 2.5e10))
    monkeypatch.setattr(doctor, "measured_peaks", lambda threads: peaks.Peaks(threads, 123e9 * threads, levels))


def said(capsys) -> str:
    assert cli.main(["doctor"]) == 0
    return capsys.readouterr().out


def test_what_it_says(capsys, monkeypatch):
    monkeypatch.setenv("GRAPHC_THREADS", "3")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 5, 6}, raising=False)
    monkeypatch.setattr(doctor, "cpu_quota", lambda: 1.5)
    monkeypatch.setattr("graphc.backends.cpu.machine.pool.cpu_quota", lambda: 2.5)
    text = said(capsys)
    assert f"graphc      {gc.__version__} in " in text and all(f"{name} {version(name)}" in text for name in ("numpy", "numba", "llvmlite"))
    assert "threads     2 (" in text and "5 allowed to this process" in text and "a quota of 1.5 CPUs" in text and "GRAPHC_THREADS=3" in text
    assert "1 thread    123 GFLOP/s" in text and "2 threads   246 GFLOP/s" in text
    assert "memory copy 20 GB/s, triad 25 GB/s" in text and "L2     copy 300 GB/s" in text
    assert "float32 at once" in text and "GRAPHC_CACHE=" in text  # the tests set it
    monkeypatch.delenv("GRAPHC_THREADS")
    monkeypatch.setattr(doctor, "cpu_quota", lambda: None)
    assert "no quota of a container" in said(capsys)


def test_the_cache(capsys, tmp_path, monkeypatch):
    from graphc.backends.cpu.machine.cache import KernelCache

    cache = KernelCache(tmp_path / "kernels")
    monkeypatch.setattr(doctor, "default_cache", lambda: cache)
    for name, size in (("k_1.py", 100), ("k_1.o", 3 << 20), ("k_2.o", 1 << 20), ("p_3.program", 1 << 20), ("else.txt", 5 << 20)):
        (tmp_path / "kernels" / name).write_bytes(bytes(size))
    assert f"{tmp_path}/kernels: 2 kernels, 1 programs, 5.0 MB" in said(capsys)
    cache.writable = False
    assert "cannot be written" in said(capsys)


def test_versions_of_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(cli, "version", lambda name: (_ for _ in ()).throw(cli.PackageNotFoundError(name)) if name == "rich" else "9.9")
    assert "numpy 9.9" in said(capsys) and "rich (not installed)" in said(capsys)


def test_cache_sizes_of_the_system(tmp_path, monkeypatch):
    for i, (level, kind, size) in enumerate([("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "512K")]):
        (tmp_path / f"index{i}").mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{i}" / name).write_text(value + "\n")
    monkeypatch.setattr(peaks, "CPU", tmp_path)
    assert peaks.cache_sizes() == {2: 512 << 10, 3: 0}
    monkeypatch.setattr(peaks, "CPU", tmp_path / "nowhere")
    assert peaks.cache_sizes() == {2: peaks.L2, 3: peaks.L3}
