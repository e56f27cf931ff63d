"""What a container allows: quota of CPUs and bytes, in groups of version 1 and 2, from folders made for the test."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu.machine import pool
from graphc.runtime import limits

from .common import batch, model, python


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine("0::/a/b", {"a/cpu.max": "..."})``: a group tree, and where this process stands in it."""

    def make(own, files):
        (tmp_path / "cgroup").mkdir()
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        (tmp_path / "own").write_text(own + "\n")
        (tmp_path / "meminfo").write_text("MemTotal:       8000000 kB\nMemFree: 1 kB\nSwapTotal:      1000000 kB\n")
        monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(limits, "OWN", tmp_path / "own")
        monkeypatch.setattr(limits, "MEMINFO", tmp_path / "meminfo")

    return make


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2.0),  # a container with a name space of its own
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),  # a group around it limits too
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/a", {"b/cpu.max": "50000 100000"}, None),  # another's group
        ("0::/docker/0123", {"cpu.max": "300000 100000"}, 3.0),  # the host's path, which is not there
        ("0::/../../x", {"cpu.max": "300000 100000"}, 3.0),
        ("4:cpu,cpuacct:/\n1:name=systemd:/", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "30000", "cpu/a/cpu.cfs_period_us": "10000", "cpu/cpu.cfs_quota_us": "-1"}, 3.0),
        ("0::/", {"cpu.max": "nonsense"}, None),
        ("0::/", {"cpu.max": ""}, None),
        ("nonsense", {}, None),
        ("0::/", {}, None),
    ],
)
def test_the_quota_of_cpus(machine, own, files, quota):
    machine(own, files)
    assert limits.cpu_quota() == quota


def test_no_groups_at_all(monkeypatch, tmp_path):
    for name in ("CGROUPS", "OWN", "MEMINFO"):
        monkeypatch.setattr(limits, name, tmp_path / "nothing")
    assert limits.cpu_quota() is None and limits.memory_limit() is None


@pytest.mark.parametrize(
    ("own", "files", "kib"),
    [
        ("0::/", {"memory.max": "max"}, 9_000_000),
        ("0::/a", {"a/memory.max": str(2_000_000 << 10)}, 3_000_000),  # swap may come on top
        ("0::/a/b", {"a/memory.max": str(1_000_000 << 10), "a/b/memory.max": "max"}, 2_000_000),
        ("7:memory:/a", {"memory/a/memory.limit_in_bytes": str(4_000_000 << 10)}, 5_000_000),
        ("7:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 9_000_000),  # none
    ],
)
def test_the_limit_of_memory(machine, own, files, kib):
    machine(own, files)
    assert limits.memory_limit() == kib << 10


@pytest.mark.parametrize(("quota", "cpus", "threads"), [("400000", 8, 4), ("150000", 8, 1), ("20000", 8, 1), ("max", 8, 8), ("900000", 2, 2)])
def test_threads_follow_the_quota(machine, monkeypatch, quota, cpus, threads):
    machine("0::/", {"cpu.max": f"{quota} 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
    monkeypatch.delenv("GRAPHC_THREADS", raising=False)
    assert pool.default_threads() == threads
    f = gc.compile(lambda a: a * 2, gc.spec("N"))
    assert f.executable.threads == threads
    monkeypatch.setenv("GRAPHC_THREADS", "1")
    assert pool.default_threads() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
class TestAffinity:
    def test_what_is_compiled_later_follows_it(self, monkeypatch):
        monkeypatch.delenv("GRAPHC_THREADS", raising=False)
        cpus = os.sched_getaffinity(0)
        before = pool.default_threads()
        os.sched_setaffinity(0, {min(cpus)})
        try:
            assert pool.default_threads() == 1
        finally:
            os.sched_setaffinity(0, cpus)
        assert pool.default_threads() == before

    @pytest.mark.parametrize("all_threads", [False, True])
    def test_one_cpu_and_back_while_a_model_runs(self, all_threads):
        """Of the caller alone, as Python's function does it, and of the whole process, as taskset does."""
        m = model()
        x, y = batch()
        wanted = m.predict(x)
        cpus = os.sched_getaffinity(0)
        tasks = [int(t) for t in os.listdir("/proc/self/task")] if all_threads else [0]

        def move(to):
            for t in tasks:
                with suppress(ProcessLookupError):  # a thread of somebody else may have ended
                    os.sched_setaffinity(t, to)

        try:
            for _ in range(3):
                for to in (*({c} for c in sorted(cpus)[:3]), cpus):
                    move(to)
                    for _ in range(30):
                        assert np.array_equal(m.predict(x), wanted)
        finally:
            move(cpus)
        m.train_on_batch(x, y)

    def test_a_process_that_is_bound_to_one_cpu(self):
        """Both threads share it: the same bits, and no wait for the other that the scheduler must end."""
        code = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests.runtime.common import *
m = model()
x, y = batch()
m.fit(x, y, batch_size=64, verbose=0)
for _ in range(100):
    m.predict(x)
print(m.executables["predict"].threads, hash(weights(m)))
"""
        done = python(code, PYTHONHASHSEED="0")
        assert (done.returncode, done.stderr) == (0, "")
        free = python(code.replace("os.sched_setaffinity", "(lambda *a: 0)"), PYTHONHASHSEED="0")
        assert done.stdout == free.stdout and done.stdout.startswith("2 ")
