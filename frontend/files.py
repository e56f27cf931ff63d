"""The one file format: safetensors with a JSON header, written atomically and read with every bound checked.

A file is the header's length (8 bytes), the header, and the bytes of the tensors. The header's ``__metadata__`` holds texts: the
format and its version, who wrote the file, and a digest of the header, which names that of the tensors. Reading parses JSON and
copies numbers; nothing is ever executed, and nothing is allocated before the header is known to fit the file's size.

Versions: 1 had one digest for everything; since 2 a header can be trusted before the tensors are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, FileFormatError, GraphcError, access_error
from graphc.ir.dtypes import bfloat16
from graphc.runtime.interrupts import no_interrupts
from graphc.runtime.warming import warming

try:
    import fcntl
except ImportError:  # pragma: no cover - not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["File", "pack", "printable", "read_file", "remove_stale", "unpack", "write_atomic", "write_file"]

FORMAT, VERSION = "graphc", 2
MAX_HEADER = 64 << 20
MAX_RANK = 32
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}
_CODES = {v: k for k, v in _DTYPES.items()}


# -- writing -------------------------------------------------------------------------------------------------------------
def write_atomic(path: str | os.PathLike[str], data: Iterable[Any], keep: int = 1) -> None:
    """Replaces a file by new contents (pieces of bytes), or leaves it as it was: temporary file, fsync, rename.

    ``keep=3`` leaves the two files before this one under the names of :func:`older`. At every moment a whole file has the name
    ``path``, if there was one before. What a killed process left of an earlier attempt is removed first. ``graphc warm`` writes nothing.
    """
    if warming():
        return
    target = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(target)
    remove_stale(target)
    temporary = ""
    try:
        with no_interrupts():
            handle, temporary = _temporary(target)
            f = os.fdopen(handle, "wb")
        with f:
            for piece in data:
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
            with contextlib.suppress(OSError):
                os.chmod(temporary, os.stat(target).st_mode & 0o777 if os.path.exists(target) else 0o666 & ~_umask())
            if keep > 1:
                _rotate(target, keep)
            os.replace(temporary, target)
    except BaseException as e:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(e, OSError):
            kept = "the file is as it was before" if os.path.exists(target) else ""
            raise access_error(e, os.fspath(path), "written", notes=kept) from None
        raise
    with contextlib.suppress(OSError):  # the rename itself is on disk only when the folder is
        folder_handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(folder_handle)
        finally:
            os.close(folder_handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _marks(target: str) -> tuple[str, str]:
    return f".{os.path.basename(target)}.", ".tmp"


def _temporary(target: str) -> tuple[int, str]:
    """An open temporary file beside the target, locked for as long as it is open: :func:`remove_stale` of others leaves it."""
    before, after = _marks(target)
    while True:
        handle, name = tempfile.mkstemp(prefix=before, suffix=after, dir=os.path.dirname(target))
        if fcntl is None:
            return handle, name
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # taken for a stale one between its making and the lock


def remove_stale(path: str | os.PathLike[str]) -> None:
    """Removes temporary files of this target that no living process writes (a lock on them is free)."""
    if fcntl is None:
        return
    target = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(target)
    before, after = _marks(target)
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if not (name.startswith(before) and name.endswith(after)):
                continue
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as f:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(os.path.join(folder, name))


def older(path: str | os.PathLike[str], i: int) -> str:
    """The name of the i-th file before this one: "a.graphc" -> "a.1.graphc".

    >>> older("run/a.graphc", 2)
    'run/a.2.graphc'
    """
    stem, extension = os.path.splitext(os.fspath(path))
    return f"{stem}.{i}{extension}"


def _rotate(target: str, keep: int) -> None:
    """Gives the present file the name of the first older one, and so on; it keeps its own name too until it is replaced."""
    if not os.path.exists(target):
        return
    for i in range(keep - 1, 1, -1):
        if os.path.exists(older(target, i - 1)):
            os.replace(older(target, i - 1), older(target, i))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(older(target, 1))
    try:
        os.link(target, older(target, 1))
    except OSError:  # a file system without links: for a moment only the older name is there
        os.replace(target, older(target, 1))


def _numpy(code: str) -> np.dtype[Any]:
    return bfloat16.numpy if code == "BF16" else np.dtype(_DTYPES[code])


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype in the file's byte order (bfloat16 has the machine's only: NumPy would make bytes of it)."""
    return dtype if dtype == bfloat16.numpy else dtype.newbyteorder("<")


def _canonical(header: Mapping[str, Any]) -> bytes:
    """The header without its own digest, as one text."""
    meta = {k: v for k, v in header.get("__metadata__", {}).items() if k != "digest"}
    return json.dumps({**header, "__metadata__": meta}, sort_keys=True, separators=(",", ":")).encode()


def _digest(*parts: Any) -> str:
    h = hashlib.blake2b(digest_size=16)
    for p in parts:
        h.update(p)
    return h.hexdigest()


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def write_file(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], meta: Mapping[str, str], keep: int = 1) -> None:
    """Writes tensors and texts: the same bytes for the same contents."""
    from graphc import __version__

    arrays = {k: np.ascontiguousarray(v, _little(v.dtype)).reshape(v.shape) for k, v in tensors.items()}
    order = sorted(arrays, key=lambda k: (-arrays[k].itemsize, k))  # so that every tensor is aligned
    header: dict[str, Any] = {}
    at = 0
    for k in order:
        a = arrays[k]
        header[k] = {"dtype": _CODES[a.dtype.name], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    pieces = [_bytes(arrays[k]) for k in order]
    about = {"format": FORMAT, "version": str(VERSION), "graphc": __version__, "python": platform.python_version()}
    texts = {**meta, **about, "numpy": np.__version__, "data": _digest(*pieces)}
    header["__metadata__"] = texts
    texts["digest"] = _digest(_canonical(header))
    text = json.dumps({"__metadata__": dict(sorted(texts.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_atomic(path, [len(text).to_bytes(8, "little"), text, *pieces], keep)


# -- reading -------------------------------------------------------------------------------------------------------------
def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} in the header")


@dataclass(frozen=True)
class Entry:
    """Where a tensor stands in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


_FOREIGN = {b"PK\x03\x04": "a zip file (as torch.save and Keras write)", b"\x89HDF": "an HDF5 file (as Keras wrote)", b"\x80\x02": "a pickle", b"\x80\x04": "a pickle"}


class File:
    """A file whose header is checked; :meth:`tensors` reads the rest.

    Raises :class:`FileFormatError` saying what is wrong with it.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        if not stat.S_ISREG(os.stat(self.path).st_mode):
            raise FileFormatError(f"{self.path} is not a file")
        with self._named(), open(self.path, "rb") as f:
            self._read_header(f)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors that name the file."""
        try:
            yield
        except GraphcError as e:
            e.message = f"{self.path}: {e.message}"
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, MemoryError) as e:
            raise FileFormatError(f"{self.path}: damaged header: {printable(e)}", hint="the file is incomplete or was changed") from None

    def _read_header(self, f: Any) -> None:
        size = os.fstat(f.fileno()).st_size
        if size < 8:
            raise FileFormatError(f"{size} bytes are no model file")
        first = f.read(8)
        length = int.from_bytes(first, "little")
        if length > MAX_HEADER or length > size - 8:
            other = next((program for mark, program in _FOREIGN.items() if first.startswith(mark)), "")
            if other:
                raise FileFormatError(f"the file is {other}, not one of graphc", hint="read it there and hand over arrays: model.load_state_dict({name: array, ...})")
            raise FileFormatError(f"the header claims {length} bytes, the file has {size - 8} after its length")
        header = json.loads(f.read(length).decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        meta = header.get("__metadata__") if isinstance(header, dict) else None
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise FileFormatError("the file was not written by graphc", hint="model.load_state_dict(safetensors.numpy.load_file(path))")
        self.version = _version(meta)
        if not all(isinstance(v, str) for v in meta.values()):
            raise FileFormatError("damaged metadata")
        self.meta: dict[str, str] = meta
        self.entries = _entries({k: v for k, v in header.items() if k != "__metadata__"}, size - 8 - length)
        self._start = 8 + length
        self._canonical = _canonical(header)
        if self.version > 1 and meta.get("digest") != _digest(self._canonical):
            raise FileFormatError("the header does not match its digest", hint="the file is incomplete or was changed")

    def tensors(self) -> dict[str, np.ndarray]:
        """Every tensor, read from the file now and checked against its digest."""
        with self._named(), open(self.path, "rb") as f:
            f.seek(self._start)
            h = hashlib.blake2b(b"" if self.version > 1 else self._canonical, digest_size=16)
            found: dict[str, np.ndarray] = {}
            for name, e in sorted(self.entries.items(), key=lambda pair: (pair[1].start, pair[1].end)):
                found[name] = array = np.empty(e.shape, _little(e.dtype))
                view = _bytes(array)
                if f.readinto(view) != len(view):
                    raise FileFormatError("the file became shorter while it was read")
                h.update(view)
                if array.dtype == bool and array.size and view.tobytes().strip(b"\0\1"):
                    raise FileFormatError(f"{name[:200]!r}: a truth value that is neither 0 nor 1")
            if self.meta.get("data" if self.version > 1 else "digest") != h.hexdigest():
                raise FileFormatError("the contents do not match their digest", hint="the file is incomplete or was changed")
            return {k: found[k].astype(e.dtype, copy=False) for k, e in self.entries.items()}

    def json(self, key: str, default: Any = None) -> Any:
        """The value that a text of the metadata spells."""
        if key not in self.meta:
            return default
        with self._named():
            return json.loads(self.meta[key], object_pairs_hook=_unique)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors, metadata) of a file. Raises :class:`FileFormatError` saying what is wrong with it."""
    file = File(path)
    return file.tensors(), file.meta


def _version(meta: Mapping[str, Any]) -> int:
    text, writer = meta.get("version"), meta.get("graphc")
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or not 0 < len(text) < 10 or int(text) < 1:
        raise FileFormatError(f"damaged metadata: format version {str(text)[:20]!r}")
    if int(text) > VERSION:
        raise FileFormatError(
            f"format version {text}, written by graphc {str(writer)[:40]}; this graphc reads versions up to {VERSION}",
            hint="install the graphc that wrote it, or a later one",
        )
    return int(text)


def _entries(items: Mapping[str, Any], size: int) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name, item in items.items():
        if not isinstance(item, dict) or set(item) != {"dtype", "shape", "data_offsets"}:
            raise FileFormatError(f"damaged entry of {name[:200]!r}")
        shape, offsets = item["shape"], item["data_offsets"]
        numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
        if (
            len(offsets) != 2
            or len(shape) > MAX_RANK
            or not all(type(n) is int and n >= 0 for n in numbers)
            or item["dtype"] not in _DTYPES
        ):
            raise FileFormatError(f"damaged entry of {name[:200]!r}")
        dtype = _numpy(item["dtype"])
        count = 1
        for n in shape:
            count *= n  # exact: Python integers do not overflow
        start, end = offsets
        if end - start != count * dtype.itemsize or end > size:
            raise FileFormatError(f"{name[:200]!r}: {item['dtype']}{shape} does not fill bytes {start} to {end} of {size}")
        entries[name] = Entry(dtype, tuple(shape), start, end)
    at = 0
    for start, end in sorted((e.start, e.end) for e in entries.values()):
        if start != at:
            raise FileFormatError(f"the bytes {min(start, at)} to {max(start, at)} belong to no tensor, or to two")
        at = end
    if at != size:
        raise FileFormatError(f"{size - at} bytes after the last tensor")
    return entries


def printable(told: object) -> str:
    """A text from a file, or an error about one, as it may stand in a message: on a line of its own, and not too long."""
    text = str(told)
    return (text if text.isascii() and text.replace("\n", " ").isprintable() else ascii(text))[:300]


# -- trees of values -----------------------------------------------------------------------------------------------------
_ARRAY = "__array__"


def pack(tree: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """A tree of numbers, texts, lists, dicts and arrays as JSON values; the arrays go into ``tensors``, below ``name``.

    >>> tensors = {}
    >>> pack({"best": 0.5, "weights": {"w": np.ones(2)}}, "state", tensors), list(tensors)
    ({'best': 0.5, 'weights': {'w': {'__array__': 'state/weights/w'}}}, ['state/weights/w'])
    """
    if isinstance(tree, np.generic):
        tree = tree.item()
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    if isinstance(tree, np.ndarray) and tree.dtype.name in _CODES:
        tensors[name] = tree.copy()
        return {_ARRAY: name}
    if isinstance(tree, (list, tuple)):
        return [pack(v, f"{name}/{i}", tensors) for i, v in enumerate(tree)]
    if isinstance(tree, Mapping) and all(isinstance(k, str) and k != _ARRAY for k in tree):
        return {k: pack(v, f"{name}/{k}", tensors) for k, v in tree.items()}
    raise ArgumentError(f"{name}: a file cannot hold {tree!r:.80}", hint="numbers, texts, arrays, and lists and dicts (by text) of them")


def unpack(tree: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """What :func:`pack` was given (a tuple comes back as a list)."""
    if isinstance(tree, dict):
        if set(tree) == {_ARRAY}:
            return tensors[tree[_ARRAY]]
        return {k: unpack(v, tensors) for k, v in tree.items()}
    return [unpack(v, tensors) for v in tree] if isinstance(tree, list) else tree
