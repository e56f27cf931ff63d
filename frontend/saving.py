"""Model files: safetensors with a JSON header, written atomically and read with every bound checked.

The metadata holds the format's version, the graph's text, optimiser settings, step, seed, and a digest of everything, so
that damage anywhere is noticed. Reading parses JSON and copies numbers; nothing is ever executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import FileFormatError, GraphcError, ParameterError

if TYPE_CHECKING:
    from .model import Model

__all__ = ["load_model", "read_file", "save_model", "write_atomic"]

FORMAT, VERSION = "graphc", 1
MAX_HEADER = 64 << 20
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "F32": "float32",
    "F64": "float64",
}


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Replaces a file by new contents, or leaves it as it was: temporary file, fsync, rename."""
    target = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(target)
    handle, temporary = tempfile.mkstemp(prefix=".graphc-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        with contextlib.suppress(OSError):
            os.chmod(temporary, os.stat(target).st_mode & 0o777 if os.path.exists(target) else 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
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


def _digest(header: Mapping[str, Any], data: bytes | memoryview) -> str:
    """A hash of the tensors' bytes and of the header without the digest itself."""
    meta = {k: v for k, v in header.get("__metadata__", {}).items() if k != "digest"}
    text = json.dumps({**header, "__metadata__": meta}, sort_keys=True, separators=(",", ":"))
    h = hashlib.blake2b(text.encode(), digest_size=16)
    h.update(data)
    return h.hexdigest()


def _encode(tensors: Mapping[str, np.ndarray], meta: Mapping[str, str]) -> bytes:
    from safetensors.numpy import save

    arrays = {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in tensors.items()}
    raw = save(arrays, {**meta, "digest": ""})
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    data = raw[8 + size :]
    header["__metadata__"]["digest"] = _digest(header, data)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))  # the same bytes every time
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} in the header")


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors, metadata) of a model file. Raises :class:`FileFormatError` saying what is wrong with it."""
    name = os.fspath(path)
    with open(name, "rb") as f:
        raw = f.read()
    try:
        return _decode(raw)
    except GraphcError as e:
        e.message = f"{name}: {e.message}"
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, MemoryError) as e:
        raise FileFormatError(f"{name}: damaged header: {e}", hint="the file is incomplete or was changed") from None


def _decode(raw: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if len(raw) < 8:
        raise FileFormatError(f"{len(raw)} bytes are no model file")
    size = int.from_bytes(raw[:8], "little")
    if size > MAX_HEADER or size > len(raw) - 8:
        raise FileFormatError(f"the header claims {size} bytes, the file has {len(raw) - 8} after its length")
    header = json.loads(raw[8 : 8 + size].decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    data = memoryview(raw)[8 + size :]
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise FileFormatError(
            "the file was not written by graphc", hint="model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    meta = header["__metadata__"]
    if meta.get("format") != FORMAT:
        raise FileFormatError(
            "the file was not written by graphc", hint="model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    if meta.get("version") != str(VERSION):
        raise FileFormatError(
            f"format version {meta.get('version')!r}; this graphc reads {VERSION}",
            hint="read it with the graphc that wrote it",
        )
    if not all(isinstance(v, str) for v in meta.values()):
        raise FileFormatError("damaged metadata")
    tensors = _tensors({k: v for k, v in header.items() if k != "__metadata__"}, data)
    if meta.get("digest") != _digest(header, data):
        raise FileFormatError("the contents do not match their digest", hint="the file is incomplete or was changed")
    return tensors, meta


def _tensors(entries: Mapping[str, Any], data: memoryview) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise FileFormatError(f"damaged entry of {name!r}")
        shape, offsets = entry["shape"], entry["data_offsets"]
        numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
        if len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in numbers) or entry["dtype"] not in _DTYPES:
            raise FileFormatError(f"damaged entry of {name!r}")
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        count = 1
        for n in shape:
            count *= n  # exact: Python integers do not overflow
        start, end = offsets
        if end - start != count * dtype.itemsize or end > len(data):
            raise FileFormatError(
                f"{name!r}: {entry['dtype']}{shape} does not fill bytes {start} to {end} of {len(data)}"
            )
        spans.append((start, end))
        tensors[name] = np.frombuffer(data[start:end], dtype).reshape(shape).copy()
    at = 0
    for start, end in sorted(spans):
        if start != at:
            raise FileFormatError(f"the bytes {min(start, at)} to {max(start, at)} belong to no tensor, or to two")
        at = end
    if at != len(data):
        raise FileFormatError(f"{len(data) - at} bytes after the last tensor")
    return tensors


# -- models --------------------------------------------------------------------------------------------------------------
def _names(model: Model) -> tuple[dict[str, str], dict[str, str]]:
    """Names in the file -> names in the store: (parameters and buffers, optimiser and random state)."""
    from .parameter import Parameter

    values = {path: v.name for path, v in model.module.walk() if isinstance(v, Parameter)}
    state = {"random.seed": "random.seed"}
    mark = f"{model.prefix}."
    owned = {v: k for k, v in values.items()}
    if model.optimizer is not None:
        for n in model.store.names("state"):
            if n.startswith(mark):
                slot, _, parameter = n[len(mark) :].partition(".")
                if not parameter:
                    state[f"optimizer.{slot}"] = n
                elif parameter in owned:
                    state[f"optimizer.{slot}.{owned[parameter]}"] = n
    return values, state


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """See :meth:`Model.save`."""
    from graphc import __version__

    values, state = _names(model)
    with model.store.lock:
        tensors = {k: model.store.numpy(n) for k, n in (values | state).items()}
    meta = {
        "format": FORMAT,
        "version": str(VERSION),
        "graphc": __version__,
        "model": model.name,
        "graph": str(model.graph),
        "optimizer": json.dumps(model.optimizer.settings() if model.optimizer is not None else None),
        "step": str(model.steps),
        "seed": str(int(tensors["random.seed"][0]) | int(tensors["random.seed"][1]) << 32),
    }
    write_atomic(path, _encode(tensors, meta))


def load_model(model: Model, path: str | os.PathLike[str], optimizer: bool = True) -> None:
    """See :meth:`Model.load`."""
    tensors, _meta = read_file(path)
    values, state = _names(model)
    has_state = any(k.startswith("optimizer.") for k in tensors)
    wanted = dict(values)
    if optimizer:
        wanted["random.seed"] = "random.seed"
        if model.optimizer is not None and has_state:
            wanted |= state
    ignored = [
        k
        for k in tensors
        if k.startswith(("optimizer.", "random.")) and not (optimizer and model.optimizer is not None)
    ]
    problems = [f"missing: {k}" for k in wanted if k not in tensors]
    problems += [f"unexpected: {k}" for k in tensors if k not in wanted and k not in ignored]
    for k, n in wanted.items():
        if k in tensors:
            t, a = model.store.type(n), tensors[k]
            if a.shape != t.shape or a.dtype != t.dtype.numpy:
                problems.append(f"{k}: the file has {a.dtype}{a.shape}, the model {t.dtype}{tuple(t.shape)}")
    if problems:
        only_state = all(p.split(": ")[-1].startswith("optimizer.") or p.startswith("optimizer.") for p in problems)
        raise ParameterError(
            f"{os.fspath(path)} does not fit {model.name}",
            notes=tuple(problems),
            hint="load(path, optimizer=False)" if only_state else "",
        )
    model.store.write({n: tensors[k] for k, n in wanted.items()})
