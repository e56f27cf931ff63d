"""The kernel cache: readable source text and its object code, named by content, shared by processes.

A key is the SHA-256 of the text without its head comment (models that share a kernel differ there), the sources of this
package, the processor and the tool versions. Beside ``k_<hash>.py`` lies ``k_<hash>.o``: one line of JSON (key, symbol, checksum) and the object. An entry that is damaged,
truncated or made for something else is rebuilt, never loaded. Files appear by atomic rename, so processes may race.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from .compile import KernelCompileError, ObjectCode, compile_text
from .loader import host_cpu, load_object

__all__ = ["Kernel", "KernelCache", "default_cache"]

PARALLEL_FROM = 4
"""Missing kernels from which on worker processes pay for their start."""
CODE_SETTINGS = frozenset(
    f"NUMBA_{name}"
    for name in ("OPT", "CPU_NAME", "CPU_FEATURES", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO", "BOUNDSCHECK")
)
"""Numba's own variables that change the code of a kernel: part of the key."""
Progress = Callable[[int, int, str], None]
"""Called with kernels done, kernels to build, and the file of the next or last one."""


@dataclass(frozen=True)
class Kernel:
    """A loaded kernel: where it is, and where its text can be read."""

    name: str
    address: int
    path: Path


@cache
def environment_key() -> str:
    """What an object depends on besides its text."""
    h = hashlib.sha256()
    root = Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        h.update(str(file.relative_to(root)).encode())
        h.update(file.read_bytes())
    settings = sorted((k, v) for k, v in os.environ.items() if k in CODE_SETTINGS)
    h.update(repr((host_cpu(), sys.version_info[:2], version("numba"), version("llvmlite"), settings)).encode())
    return h.hexdigest()


def key_of(text: str) -> str:
    return hashlib.sha256((environment_key() + "\n" + code_of(text)).encode()).hexdigest()


def code_of(text: str) -> str:
    """The text without the comment at its head, which says for whom it was printed."""
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[first:])


class KernelCache:
    """A folder of kernels and the table of those that this process has loaded."""

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self.folder = _writable(Path(folder or os.environ.get("GRAPHC_CACHE") or os.path.expanduser("~/.cache/graphc")))
        self.loaded: dict[str, Kernel] = {}
        self.lock = threading.RLock()
        _caches.add(self)
        self.hits = 0
        self.misses = 0

    def get(self, texts: Sequence[str], progress: Progress | None = None) -> list[Kernel]:
        """The kernels of texts, in order; compiles what the folder does not have."""
        with self.lock:
            keys = [key_of(t) for t in texts]
            missing: dict[str, str] = {}
            for key, text in zip(keys, texts, strict=True):
                if key in self.loaded or key in missing:
                    continue
                if self._load(key):
                    self.hits += 1
                else:
                    missing[key] = text
            self.misses += len(missing)
            self._build(missing, progress)
            return [self.loaded[k] for k in keys]

    def path(self, key: str) -> Path:
        return self.folder / f"k_{key[:16]}.py"

    def _load(self, key: str) -> bool:
        found = read_entry(self.path(key).with_suffix(".o"), key)
        if found is None:
            return False
        address = load_object(found.data, found.symbol)
        if not address:
            return False
        self.loaded[key] = Kernel(f"k_{key[:16]}", address, self.path(key))
        return True

    def _build(self, missing: dict[str, str], progress: Progress | None) -> None:
        if not missing:
            return
        for key, text in missing.items():
            _write(self.path(key), text.encode())
        left = list(missing)
        workers = _start_workers([(k, self.path(k)) for k in left]) if len(left) >= PARALLEL_FROM else []
        try:
            for done, key in enumerate(left):  # workers begin at the other end; what one leaves undone is built here
                if progress is not None:
                    progress(done, len(left), self.path(key).name)
                if not self._load(key):
                    build_entry(key, missing[key], self.path(key))
                    if not self._load(key):
                        raise KernelCompileError(
                            "a compiled kernel could not be loaded", where=f"text  {self.path(key)}"
                        )
            if progress is not None:
                progress(len(left), len(left), self.path(left[-1]).name)
        finally:
            for p in workers:
                p.kill()
                p.wait()


def build_entry(key: str, text: str, path: Path) -> None:
    """Compiles a text and puts the object beside it."""
    code = compile_text(text, f"k_{key[:16]}", str(path))
    head = json.dumps({"key": key, "symbol": code.symbol, "sha256": _checksum(key, code)})
    _write(path.with_suffix(".o"), head.encode() + b"\n" + code.data)


def _checksum(key: str, code: ObjectCode) -> str:
    return hashlib.sha256(f"{key}\n{code.symbol}\n".encode() + code.data).hexdigest()


def read_entry(path: Path, key: str) -> ObjectCode | None:
    """The object of an entry if it is whole and made for this key, else None."""
    try:
        raw = path.read_bytes()
        head, _, data = raw.partition(b"\n")
        info = json.loads(head)
        code = ObjectCode(data, info["symbol"])
        if info["key"] == key and info["sha256"] == _checksum(key, code) and f"k_{key[:16]}" in code.symbol:
            return code
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        pass
    return None


def _write(path: Path, data: bytes) -> None:
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as e:
        other = Path(tempfile.mkdtemp(prefix="graphc-"))
        warnings.warn(
            f"the kernel cache {folder} is not writable ({e.strerror}); using {other} for this process", stacklevel=3
        )
        return other


def _start_workers(jobs: list[tuple[str, Path]]) -> list[subprocess.Popen[str]]:
    """Processes that fill the folder from the end of the list, while the caller works from its beginning."""
    from .pool import default_threads

    count = min(default_threads(), len(jobs) // 2)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", f"{__package__}.compile_worker"]
    workers = []
    for k in range(1, count):
        lines = "".join(f"{key} {path}\n" for key, path in jobs[::-1][k - 1 :: count - 1])
        try:
            p = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True)
        except OSError:  # no more processes, or no interpreter to start: the caller compiles alone
            break
        workers.append(p)
        with suppress(OSError):  # a worker that died at once closes the pipe
            assert p.stdin is not None
            p.stdin.write(lines)
            p.stdin.close()
    return workers


@cache
def default_cache() -> KernelCache:
    """The cache of this process: GRAPHC_CACHE, or ~/.cache/graphc."""
    return KernelCache()


def _after_fork() -> None:
    """Another thread may have been compiling when the process was copied."""
    for c in _caches:
        c.lock = threading.RLock()


_caches: weakref.WeakSet[KernelCache] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
