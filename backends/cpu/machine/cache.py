"""The kernel cache: readable source text and its object code, named by content, shared by processes.

A key is the SHA-256 of the text without its head comment (models that share a kernel differ there), the sources of this
package, the processor and the tool versions. Beside ``k_<hash>.py`` lies ``k_<hash>.o``: one line of JSON (key, symbol, checksum) and the object. An entry that is damaged,
truncated or made for something else is rebuilt, never loaded. Files appear by atomic rename, so processes may race.
Without a folder that takes them (read-only, full, deleted) kernels are compiled all the same, in each process.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from graphc.errors import KernelCompileError
from graphc.runtime.garbage import no_collecting
from graphc.runtime.interrupts import no_interrupts
from graphc.runtime.locks import COMPILING, held_for_forks

from .compile import CODE_SETTINGS, ObjectCode, compile_text
from .loader import host_cpu, load_object
from .workers import Workers, start_early, started, stop_early

__all__ = ["Kernel", "KernelCache", "default_cache", "write_whole"]

PARALLEL_FROM = 4
"""Missing kernels from which on worker processes pay for their start."""
Progress = Callable[[int, int, str], None]
"""Called with kernels done, kernels to build, and the file of the next or last one."""


@dataclass(frozen=True)
class Kernel:
    """A loaded kernel: where it is, and where its text can be read."""

    key: str
    address: int
    path: Path

    @property
    def name(self) -> str:
        return f"k_{self.key[:16]}"


@cache
def environment_key() -> str:
    """What an object depends on besides its text."""
    h = hashlib.sha256()
    root = Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        h.update(str(file.relative_to(root)).encode())
        h.update(file.read_bytes())
    settings = sorted((k, v) for k, v in os.environ.items() if k in CODE_SETTINGS)
    h.update(repr((host_cpu(), sys.version_info[:2], package_state("numba"), package_state("llvmlite"), settings)).encode())
    return h.hexdigest()


def package_state(name: str) -> str:
    """What tells versions of a package apart, from the file in which it says its own: asking importlib.metadata takes ten times as long."""
    spec = find_spec(name)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        with suppress(OSError):
            return hashlib.sha256((Path(folder) / "_version.py").read_bytes()).hexdigest()
    return version(name)


def version(name: str) -> str:
    """The version of an installed package."""
    from importlib.metadata import version as installed

    return installed(name)


def key_of(text: str) -> str:
    return hashlib.sha256((environment_key() + "\n" + code_of(text)).encode()).hexdigest()


def code_of(text: str) -> str:
    """The text without the comment at its head, which says for whom it was printed."""
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[first:])


def explain() -> str:
    """What the cache of this process did, in a few lines; kernels that had to be compiled by name, with the reason."""
    c = default_cache()
    files = c.files()
    made = {k: why for k, why in c.history.items() if why != "loaded"}
    settings = sorted(f"{k}={v}" for k, v in os.environ.items() if k in CODE_SETTINGS)
    lines = [
        f"folder    {c.folder}: {len(files)} files, {sum(f.stat().st_size for f in files) / 2**20:.1f} MB"
        + ("  (GRAPHC_CACHE)" if os.environ.get("GRAPHC_CACHE") else ""),
        f"here      {len(c.history)} kernels: {len(c.history) - len(made)} loaded, {len(made)} compiled",
        f"key       text, processor {host_cpu()[0]}, python {'.'.join(map(str, sys.version_info[:2]))}, numba {version('numba')}, "
        f"llvmlite {version('llvmlite')}, graphc's own code for the processor" + (f", {', '.join(settings)}" if settings else ""),
    ]
    if c.programs:
        whole = sum(how == "loaded" for _, how in c.programs)
        lines.append(f"programs  {len(c.programs)}: {whole} loaded whole, {len(c.programs) - whole} made by passes and printers")
        lines += [f"made      {name}: {how}" for name, how in dict.fromkeys(c.programs) if how != "loaded"]
    texts: dict[str, set[str]] = {}
    for f in files if "new" in made.values() else ():
        if f.suffix == ".py":
            texts.setdefault(code_of(f.read_text(encoding="utf-8", errors="replace")), set()).add(f.stem)
    known = {name for names in texts.values() if len(names) > 1 for name in names}
    reasons: dict[str, list[str]] = {}
    for name, why in made.items():
        before = "its text was compiled before, for other versions, settings or another processor"
        reasons.setdefault(why if why != "new" else before if name in known else "its text is new", []).append(name)
    for why, names in reasons.items():
        lines.append(f"compiled  {why}: {', '.join(names[:6])}" + (f" and {len(names) - 6} more" if len(names) > 6 else ""))
    return "\n".join(lines)


class KernelCache:
    """A folder of kernels and the table of those that this process has loaded."""

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self.folder = Path(folder or os.environ.get("GRAPHC_CACHE") or os.path.expanduser("~/.cache/graphc"))
        self.writable = True
        self.behind: Path | None = None
        """The folder that was asked for, if it can only be read: what is missing there goes to one of this process."""
        self._read_only = ""
        self.loaded: dict[str, Kernel] = {}
        self.lock = held_for_forks(threading.RLock(), COMPILING)
        self._find_folder()
        self.hits = 0
        self.misses = 0
        self._expected: list[Path] = []
        self.seconds = 0.0
        """Spent on compiling."""
        self.history: dict[str, str] = {}
        """How each kernel of this process was had, by name."""
        self.programs: list[tuple[str, str]] = []
        """Name of each program that this process has compiled, and how: "loaded", or why not (see :mod:`graphc.backends.cpu.kept`)."""

    def get(self, texts: Sequence[str], progress: Progress | None = None) -> list[Kernel]:
        """The kernels of texts, in order; compiles what the folder does not have."""
        with self.lock:
            keys = [key_of(t) for t in texts]
            missing: dict[str, str] = {}
            for key, text in zip(keys, texts, strict=True):
                if key in self.loaded or key in missing:
                    continue
                name = self.path(key).stem
                damaged = self.there(self.path(key).with_suffix(".o")).exists()
                if self._load(key):
                    self.hits += 1
                    self.history[name] = "loaded"
                else:
                    missing[key] = text
                    self.history[name] = "its entry was damaged or foreign" if damaged else "new"
            self.misses += len(missing)
            begin = time.perf_counter()
            self._build(missing, progress)
            self.seconds += time.perf_counter() - begin
            stop_early()
            while self._expected:
                self._keep(self._expected.pop(), b"")
            return [self.loaded[k] for k in keys]

    def find(self, keys: Sequence[str]) -> list[Kernel] | None:
        """The kernels of keys, in order; None where one of them is not in the folder, or its object is damaged."""
        with self.lock:
            for key in keys:
                if key not in self.loaded:
                    if not self._load(key):
                        return None
                    self.hits += 1
                    self.history[self.path(key).stem] = "loaded"
            return [self.loaded[k] for k in keys]

    def expect(self, what: str) -> None:
        """Kernels will be asked for soon: those of ``what``, in words that tell programs apart. Where nobody has had them before, workers start
        now, beside passes and printing. A guess: a file without contents tells next time, and nothing depends on it."""
        from .pool import default_threads

        mark = self.folder / f"g_{key_of(what)[:16]}"
        if self.writable and not mark.exists():
            self._expected.append(mark)
            start_early(default_threads() - 1)

    def object_of(self, text: str) -> ObjectCode:
        """The object of a text: from the folder, or compiled now."""
        key = key_of(text)
        return read_entry(self.there(self.path(key).with_suffix(".o")), key) or compile_entry(key, text, self.path(key))

    def path(self, key: str) -> Path:
        return self.folder / f"k_{key[:16]}.py"

    def program_path(self, key: str) -> Path:
        """The file of a whole program."""
        return self.folder / f"p_{key[:16]}.program"

    def there(self, path: Path) -> Path:
        """Where a file of the folder is: there, or in the one that can only be read."""
        other = path if self.behind is None else self.behind / path.name
        return other if other is not path and other.exists() and not path.exists() else path

    def files(self) -> list[Path]:
        """Texts, objects and programs."""
        return [f for f in self.folder.glob("[kp]_*") if f.suffix in (".py", ".o", ".program")]

    def keep_program(self, key: str, name: str, data: bytes) -> None:
        """Keeps a program, if that is possible."""
        self._keep(self.program_path(key), sealed(key, ObjectCode(data, name)))

    def _find_folder(self) -> None:
        try:
            if str(self.folder).startswith("~"):
                raise OSError(0, "no home folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                return
        except OSError as e:
            told = f"the kernel cache {self.folder} is not writable ({e.strerror})"
        if self.folder.is_dir():
            self._read_only = told  # said when something is missing
        else:
            self._own_folder(told)

    def _own_folder(self, told: str) -> None:
        try:
            own = Path(tempfile.mkdtemp(prefix="graphc-"))
            self.behind, self.folder = self.folder if self._read_only else None, own
            atexit.register(_remove, self.folder, os.getpid())
            warnings.warn(f"{told}; using {self.folder} for this process", stacklevel=5)
        except OSError:
            self._give_up(told)
        self._read_only = ""

    def _give_up(self, told: str) -> None:
        """No files from now on; says so once."""
        if self.writable:
            self.writable = False
            warnings.warn(f"{told}; this process compiles what it needs without it", stacklevel=4)

    def _keep(self, path: Path, data: bytes) -> None:
        """Writes a file if that is possible."""
        if self._read_only:
            self._own_folder(self._read_only)
        if self.writable:
            try:
                write_whole(self.folder / path.name, data)
            except OSError as e:
                self._give_up(f"the kernel cache {self.folder} cannot be written ({e.strerror})")

    def _load(self, key: str) -> bool:
        found = read_entry(self.there(self.path(key).with_suffix(".o")), key)
        return found is not None and self._map(key, found)

    def _map(self, key: str, code: ObjectCode) -> bool:
        address = load_object(code.data, code.symbol)
        if address:
            self.loaded[key] = Kernel(key, address, self.path(key))
        return bool(address)

    def _build(self, missing: dict[str, str], progress: Progress | None) -> None:
        if not missing:
            return
        for key, text in missing.items():
            self._keep(self.path(key), text.encode())
        from .pool import default_threads

        pending = deque(sorted(((k, self.path(k)) for k in missing), key=lambda job: -len(missing[job[0]])))  # long ones first
        workers = started(default_threads() - 1) if len(pending) >= PARALLEL_FROM and self.writable else Workers(0)
        done, last = 0, pending[0][1].name
        with no_collecting():
            try:
                while done < len(missing):
                    workers.fill(pending)
                    key = pending.popleft()[0] if pending else workers.take_back()
                    if key:
                        last = self.path(key).name
                        if progress is not None:
                            progress(done, len(missing), last)
                        self._have(key, missing[key])
                        done += 1
                    for ended in workers.ended(wait=not key):
                        self._have(ended, missing[ended])
                        done += 1
                        if progress is not None and done < len(missing):
                            progress(done, len(missing), self.path(ended).name)
                if progress is not None:
                    progress(done, done, last)
            finally:
                workers.stop()

    def _have(self, key: str, text: str) -> None:
        """Loads the object of a text, which a worker may have made; makes it otherwise."""
        if not self._load(key):
            code = compile_entry(key, text, self.path(key))
            self._keep(*entry_file(key, code, self.path(key)))
            if not self._map(key, code):
                raise KernelCompileError("a compiled kernel could not be loaded", where=f"file  {self.path(key)}")


def compile_entry(key: str, text: str, path: Path) -> ObjectCode:
    """The object of a text whose file is, or would be, ``path``."""
    return compile_text(text, f"k_{key[:16]}", str(path))


def entry_file(key: str, code: ObjectCode, path: Path) -> tuple[Path, bytes]:
    """Name and contents of the file that keeps an object beside its text."""
    return path.with_suffix(".o"), sealed(key, code)


def build_entry(key: str, text: str, path: Path) -> None:
    """Compiles a text and puts the object beside it."""
    write_whole(*entry_file(key, compile_entry(key, text, path), path))


def _checksum(key: str, code: ObjectCode) -> str:
    return hashlib.sha256(f"{key}\n{code.symbol}\n".encode() + code.data).hexdigest()


def program_name(path: Path) -> str:
    """The name of the program in a file ("" where it is none)."""
    try:
        with path.open("rb") as f:
            return str(json.loads(f.readline())["symbol"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def sealed(key: str, code: ObjectCode) -> bytes:
    """What a file of the folder holds: a line of JSON (key, symbol or name, checksum), then the data."""
    head = json.dumps({"key": key, "symbol": code.symbol, "sha256": _checksum(key, code)})
    return head.encode() + b"\n" + code.data


def unsealed(path: Path, key: str) -> ObjectCode | None:
    """What was sealed for a key, if the file is whole."""
    try:
        raw = path.read_bytes()
        head, _, data = raw.partition(b"\n")
        info = json.loads(head)
        code = ObjectCode(data, info["symbol"])
        if info["key"] == key and info["sha256"] == _checksum(key, code):
            return code
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        pass
    return None


def read_entry(path: Path, key: str) -> ObjectCode | None:
    """The object of an entry if it is whole and made for this key, else None."""
    code = unsealed(path, key)
    return code if code is not None and f"k_{key[:16]}" in code.symbol else None


def write_whole(path: Path, data: bytes) -> None:
    with no_interrupts():
        path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have emptied ~/.cache meanwhile
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
        try:
            with os.fdopen(fd, "wb") as f:
                f.write(data)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not a process that was forked later
        shutil.rmtree(folder, ignore_errors=True)


@cache
def default_cache() -> KernelCache:
    """The cache of this process: GRAPHC_CACHE, or ~/.cache/graphc."""
    return KernelCache()
