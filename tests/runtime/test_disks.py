"""Folders of kernels and checkpoints that are missing, read-only or full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import warnings

import numpy as np
import pytest

from graphc import callbacks
from graphc.backends.cpu.machine import cache as module
from graphc.backends.cpu.machine.cache import KernelCache
from graphc.backends.cpu.machine.pool import LaunchList
from graphc.frontend.files import read_file

from .common import X, Y, python, small

TEXT = """from graphc.backends.cpu.machine.tiles import ptr_i64


def kernel(tid, nthreads, args, trip):
    ptr_i64(args[0])[0] = {}
"""


def value(cache: KernelCache, number: int) -> int:
    """What a kernel writes that a cache gives."""
    out = np.zeros(1, np.int64)
    program = LaunchList()
    program.add_call(cache.get([TEXT.format(number)])[0].address, np.array([out.ctypes.data], np.int64))
    program.finish([], 0, 1)
    program.run()
    return int(out[0])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "graphc-test", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# -- kernels -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["file/cache", "/proc/graphc", "/dev/null"])
def test_a_folder_that_cannot_be_made(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="is not writable.*using") as told:
        cache = KernelCache(tmp_path / where)
        assert value(cache, 1001) == 1001
    assert len(told) == 1 and cache.folder.name.startswith("graphc-")
    assert list(cache.folder.glob("*.o"))
    module._remove(cache.folder, os.getpid() + 1)  # in a process that was forked
    assert cache.folder.exists()
    module._remove(cache.folder, os.getpid())
    assert not cache.folder.exists()


def test_no_folder_at_all(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="compiles what it needs without") as told:
        cache = KernelCache(tmp_path / "file" / "cache")
        assert [value(cache, n) for n in (1002, 1003, 1002)] == [1002, 1003, 1002]
    assert len(told) == 1


def test_no_home(tmp_path, monkeypatch):
    """Some containers run as a user whom nobody knows: the folder must not be called "~"."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("GRAPHC_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="no home folder"):
        cache = KernelCache()
    assert not os.listdir(tmp_path)
    module._remove(cache.folder, os.getpid())


def test_a_folder_that_is_deleted_is_made_again(tmp_path):
    cache = KernelCache(tmp_path / "a" / "b")
    assert value(cache, 1004) == 1004
    shutil.rmtree(tmp_path / "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert value(cache, 1005) == 1005
    assert len(list(cache.folder.iterdir())) == 2


def test_a_full_disk(small_disk):
    cache = KernelCache(small_disk / "cache")
    (small_disk / "filler").write_bytes(b"x" * (56 << 10))
    with pytest.warns(UserWarning, match="cannot be written .No space left on device.*without it") as told:
        assert [value(cache, n) for n in range(1010, 1015)] == list(range(1010, 1015))
    assert len(told) == 1
    assert not list(cache.folder.glob("*.tmp"))
    for path in cache.folder.glob("*.o"):  # what fitted is whole
        assert module.read_entry(path, next(k for k in cache.loaded if path.stem == f"k_{k[:16]}"))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_later(tmp_path, monkeypatch, error):
    cache = KernelCache(tmp_path)
    assert value(cache, 1020) == 1020
    replace = os.replace

    def fail(*args):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "replace", fail)
    number = 1030 + error % 100
    with pytest.warns(UserWarning, match=os.strerror(error)) as told:
        assert value(cache, number) == number and value(cache, number + 200) == number + 200
    monkeypatch.setattr(os, "replace", replace)
    assert len(told) == 1 and len(list(tmp_path.iterdir())) == 2


TRAIN = """
import resource, signal, sys
import numpy as np, graphc as gc
from tests.runtime.common import batch, model
if sys.argv[1] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
f = gc.compile(lambda a: (a * 3 + 1).sum(-1) - 7, gc.spec("N", 5))
print(f(np.ones((2, 5), "f")))
"""


def test_a_program_on_a_full_disk(tmp_path):
    """From the outside: one warning, and the same result."""
    done = python(TRAIN, "full", GRAPHC_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout) == (0, "[13. 13.]\n"), done.stderr
    assert done.stderr.count("Warning") == 1 and "File too large" in done.stderr
    fine = python(TRAIN, "", GRAPHC_CACHE=str(tmp_path / "cache"))
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, done.stdout, "")


# -- checkpoints -------------------------------------------------------------------------------------------------------------
def test_a_checkpoint_on_a_full_disk(small_disk, capsys):
    """The file that was there stays whole, the error says so, and with room again training goes on from it to the same end."""
    whole, m = small(), small()
    whole.fit(X, Y, epochs=6, verbose=0)
    folder = small_disk / "backup"
    filler = small_disk / "filler"

    class Fill(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 3:
                filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 4096))

    path = folder / "training.graphc"
    with pytest.raises(OSError, match="No space left") as e:
        m.fit(X, Y, epochs=6, callbacks=[Fill(), callbacks.BackupAndRestore(folder)], verbose=0)
    assert e.value.notes == ("the file is as it was before",)
    assert read_file(path)[1]["step"] == str(3 * 2)
    assert sorted(os.listdir(folder)) == ["training.1.graphc", "training.graphc"]
    filler.unlink()
    again = small()
    again.fit(X, Y, epochs=6, callbacks=[callbacks.BackupAndRestore(folder)], verbose=0)
    assert all(np.array_equal(v, whole.state_dict()[k]) for k, v in again.state_dict().items())
    m.fit(X, Y, epochs=6, initial_epoch=4, verbose=0)  # the model that could not be saved is as good as before
    assert all(np.array_equal(v, whole.state_dict()[k]) for k, v in m.state_dict().items())


@pytest.mark.parametrize("where", ["file/m.graphc", "missing/m.graphc", "/proc/m.graphc"])
def test_a_model_that_cannot_be_saved(tmp_path, where):
    (tmp_path / "file").write_text("")
    m = small()
    before, path = m.state_dict(), tmp_path / where
    for save in (m.save, m.save_checkpoint):
        with pytest.raises(OSError) as e:
            save(path)
        assert e.value.message.startswith(f"{path} cannot be written: ") and e.value.filename == str(path)
    assert all(np.array_equal(v, before[k]) for k, v in m.state_dict().items())
    m.train_on_batch(X, Y)


@pytest.mark.parametrize("make", [lambda p: callbacks.BackupAndRestore(p), lambda p: callbacks.ModelCheckpoint(p / "x" / "m.graphc")])
def test_a_folder_for_checkpoints_that_cannot_be_made(tmp_path, make):
    (tmp_path / "file").write_text("")
    m = small()
    with pytest.raises(OSError):
        m.fit(X, Y, callbacks=[make(tmp_path / "file" / "folder")], verbose=0)
    m.fit(X, Y, verbose=0)


def test_a_read_only_folder(tmp_path):
    """Without the rights of root, where permissions bind."""
    folder = tmp_path / "folder"
    folder.mkdir()
    m = small()
    m.save(folder / "m")
    before = (folder / "m").read_bytes()
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("permissions do not bind this user")
        with pytest.raises(OSError):
            m.save(folder / "m")
    finally:
        folder.chmod(0o700)
    assert (folder / "m").read_bytes() == before
