"""Damaged and hostile files: checkpoints, model files and entries of the kernel cache, changed at random.

    python -m tests.stress.mutate_files --count 5000 --seed 0

Each changed file is loaded. It must give an error of graphc's own (a cache entry: be built anew), or be a whole file that says
the same or something as valid, and the model must be as it was before. While a file is read an audit hook stops whatever would
execute code, and an allocation beyond a few times the file's size fails the run.
"""

from __future__ import annotations

import argparse
import gc as garbage
import json
import pickle
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gc
from graphc import nn, optim
from graphc.frontend.callbacks import EarlyStopping, ModelCheckpoint
from graphc.frontend.files import _canonical, _digest, read_file

FIXTURES = Path(__file__).parents[1] / "data_files"
FORBIDDEN = ("exec", "compile", "pickle.", "os.system", "os.exec", "os.posix_spawn", "subprocess.", "socket.", "ctypes.", "marshal.")
REBUILD_EVERY = 40
"""Of the damaged cache entries so many are one that is really built anew; the others are only asked for."""

_watching = False
_caught: list[str] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watching and event.startswith(FORBIDDEN):
        _caught.append(event)
        raise RuntimeError(f"a file made graphc do {event} {args!r:.100}")


@cache
def _watch() -> None:
    sys.addaudithook(_audit)  # stays for good: it cannot be taken away


class Small(nn.Module):
    """(N, 4) -> (N, 3)."""

    def __init__(self) -> None:
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.25))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x))


ROWS = np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4), np.arange(12) % 3


def make_model() -> gc.Model:
    gc.set_seed(7)
    return gc.compile(Small(), gc.spec("N", 4), loss="cross_entropy", optimizer=optim.Adam(1e-2), target="reference")


def callbacks(*more: Any) -> list[Any]:
    return [EarlyStopping("loss", patience=9, restore_best_weights=True), *more]


def make_files(folder: Path) -> dict[str, bytes]:
    """Whole files of each kind."""
    model = make_model()
    model.fit(*ROWS, batch_size=5, epochs=2, callbacks=callbacks(ModelCheckpoint(folder / "{epoch}-{batch}", save_freq=4, keep=3)))
    model.save(folder / "model")
    model.fit(*ROWS, callbacks=[ModelCheckpoint(folder / "weights", save_weights_only=True)])
    files = {"checkpoint": folder / "2-1", "model": folder / "model", "weights": folder / "weights"}
    return {k: p.read_bytes() for k, p in files.items()} | {"version 1": (FIXTURES / "checkpoint_v1.graphc").read_bytes()}


# -- changes ---------------------------------------------------------------------------------------------------------------
Change = Callable[[bytes, np.random.Generator], bytes]


def _split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    n = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def _join(text: bytes, data: bytes, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _signed(header: dict[str, Any], data: bytes) -> bytes:
    """The file with right digests, as somebody with bad intentions would write it."""
    meta = header.get("__metadata__")
    if isinstance(meta, dict):
        if meta.get("version") == "1":
            meta["digest"] = _digest(_canonical(header), data)
        else:
            meta["data"] = _digest(data)
            meta["digest"] = _digest(_canonical(header))
    return _join(json.dumps(header).encode(), data)


def bit_flips(raw: bytes, rng: np.random.Generator) -> bytes:
    m = bytearray(raw)
    for at in rng.integers(0, len(raw), int(rng.integers(1, 9))):
        m[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(m)


def truncated(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: int(rng.integers(0, len(raw)))]


def cut_out(raw: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(raw)))
    return raw[:at] + raw[at + int(rng.integers(1, 100)) :]


def inserted(raw: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(raw)))
    return raw[:at] + rng.bytes(int(rng.integers(1, 100))) + raw[at:]


def swapped_blocks(raw: bytes, rng: np.random.Generator) -> bytes:
    a, b = sorted(int(i) for i in rng.integers(0, len(raw), 2))
    return raw[:a] + raw[b:] + raw[a:b]


def repeated(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw * int(rng.integers(2, 5))


def zeroed_pages(raw: bytes, rng: np.random.Generator) -> bytes:
    """What a file system may leave of a file after a crash."""
    m = bytearray(raw)
    at = int(rng.integers(0, len(raw))) & ~511
    m[at : at + 512] = bytes(len(m[at : at + 512]))
    return bytes(m)


def noise(raw: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 2000)))


def foreign(raw: bytes, rng: np.random.Generator) -> bytes:
    """A pickle that runs something, in a file of its own, in the header, or behind it."""

    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("executed",))

    bad = pickle.dumps(Evil())
    return (bad, _join(bad, b""), _join(b'{"__metadata__":' + bad + b"}", raw))[int(rng.integers(0, 3))]


def absurd_length(raw: bytes, rng: np.random.Generator) -> bytes:
    n = (2**64 - 1, 2**63, 2**40, 64 << 20, len(raw), len(raw) - 7, len(raw) - 9, 0, 1)[int(rng.integers(0, 9))]
    return n.to_bytes(8, "little") + raw[8:]


def deep(raw: bytes, rng: np.random.Generator) -> bytes:
    """Nested thousands of times: the header, a tensor's entry, the place in the training."""
    n = int(rng.integers(500, 200_000))
    where = int(rng.integers(0, 4))
    nest = (b"[" * n + b"]" * n) if rng.integers(0, 2) else (b'{"a":' * n + b"1" + b"}" * n)
    if where == 0:
        return _join(nest, b"")
    header, data = _split(raw)
    if where == 1:
        return _join(json.dumps(header).encode()[:-1] + b',"x":' + nest + b"}", data)
    header["__metadata__"]["training" if where == 2 else "frozen"] = nest.decode()
    return _signed(header, data)


def swapped_tensors(raw: bytes, rng: np.random.Generator) -> bytes:
    """Two tensors exchange their bytes, or their whole entries: valid only where they are of one type."""
    header, data = _split(raw)
    a, b = (str(n) for n in rng.choice([k for k in header if k != "__metadata__"], 2, replace=False))
    if rng.integers(0, 2):
        header[a], header[b] = header[b], header[a]
    else:
        header[a]["data_offsets"], header[b]["data_offsets"] = header[b]["data_offsets"], header[a]["data_offsets"]
    return _signed(header, data)


JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**63, 2**70, -(2**70), 0.5, 1e308, "", "x", "F32", "F64", "O", "../../etc/passwd", "\ud800", "\x1b[2J",
    [], [1], [-1], [2**62, 2], [0, 2**62], [1] * 70, ["1"], [[]], {}, {"a": 1}, {"__array__": "nope"}, {"__array__": []}, {"__reduce__": "os.system"},
)  # fmt: skip


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(tree, k) for k, _ in items] + [p for _, v in items for p in _places(v)]


def _spoil(tree: Any, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        places = _places(tree)
        if not places:
            return
        owner, key = places[int(rng.integers(0, len(places)))]
        kind = int(rng.integers(0, 5))
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, dict):
            owner[("", "x", "random.seed", "training/x", "__proto__", "\x00")[int(rng.integers(0, 6))]] = owner.pop(key)
        else:
            owner[key] = deepcopy(JUNK[int(rng.integers(0, len(JUNK)))])


def junk_in_header(raw: bytes, rng: np.random.Generator) -> bytes:
    header, data = _split(raw)
    _spoil(header, rng)
    return _signed(header, data)


def junk_in_training(raw: bytes, rng: np.random.Generator) -> bytes:
    header, data = _split(raw)
    meta = header["__metadata__"]
    key = ("training", "extra", "frozen", "optimizer")[int(rng.integers(0, 4)) if rng.integers(0, 3) == 0 else 0]
    tree = [json.loads(meta.get(key, "null"))]
    _spoil(tree, rng)
    meta[key] = json.dumps(tree[0] if tree else None)
    return _signed(header, data)


def names_twice(raw: bytes, rng: np.random.Generator) -> bytes:
    header, data = _split(raw)
    k = list(header)[int(rng.integers(0, len(header)))]
    return _join(json.dumps(header).encode()[:-1] + b"," + json.dumps({k: header[k]}).encode()[1:], data)


def many_names(raw: bytes, rng: np.random.Generator) -> bytes:
    header, data = _split(raw)
    header |= {f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(int(rng.integers(1000, 20_000)))}
    return _signed(header, data)


def absurd_sizes(raw: bytes, rng: np.random.Generator) -> bytes:
    """Tensors of terabytes."""
    header, data = _split(raw)
    k = str(rng.choice([k for k in header if k != "__metadata__"]))
    n = 1 << int(rng.integers(30, 70))
    size = n * (8 if header[k]["dtype"] == "I64" else 4)
    header[k] |= {"shape": [n]} | ({"data_offsets": [0, size]} if rng.integers(0, 2) else {})
    return _signed(header, data)


ANY: tuple[Change, ...] = (bit_flips, truncated, cut_out, inserted, swapped_blocks, repeated, zeroed_pages, noise)
CHANGES: tuple[Change, ...] = (
    *ANY, foreign, absurd_length, deep, swapped_tensors, junk_in_header, junk_in_training, names_twice, many_names, absurd_sizes
)  # fmt: skip


# -- files of models ---------------------------------------------------------------------------------------------------------
class Files:
    """Loads changed files into one model, in each of the ways that there are."""

    def __init__(self, folder: Path):
        self.originals = make_files(folder)
        self.model = make_model()
        self.path = folder / "changed"
        self.ways: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("load", lambda: self.model.load(self.path)),
            ("load what fits", lambda: self.model.load(self.path, strict=False)),
            ("load_checkpoint", lambda: self.model.load_checkpoint(self.path)),
            ("resume", lambda: self.model.fit(*ROWS, batch_size=5, epochs=2, callbacks=callbacks(), resume=self.path)),
            ("read", lambda: read_file(self.path)),
        )
        for raw in self.originals.values():  # every module is imported before anything is watched
            self.path.write_bytes(raw)
            for _, way in self.ways:
                with suppress(gc.CheckpointError):
                    way()
        self.model.load(FIXTURES / "checkpoint_v1.graphc")
        self.start = self.values()

    def values(self) -> dict[str, bytes]:
        return {n: self.model.store.numpy(n).tobytes() for n in self.model.store.names()}

    def try_one(self, i: int, rng: np.random.Generator) -> tuple[str, str]:
        """(the change, what came of it). Raises AssertionError where that is wrong."""
        global _watching
        kind = list(self.originals)[i % len(self.originals)]
        change = CHANGES[int(rng.integers(0, len(CHANGES)))]
        way, load = self.ways[int(rng.integers(0, len(self.ways)))]
        raw = self.originals[kind]
        changed = change(raw, rng)
        self.path.write_bytes(changed)
        named = f"{change.__name__} of {kind}, {way}"
        tracemalloc.start()
        _watching = True
        try:
            load()
            result = "the same file" if changed == raw else "loaded: as valid as before"
        except gc.CheckpointError as e:
            result = f"refused: {type(e).__name__}"
            assert str(self.path) in str(e) or "place in the training" in str(e) or "callback" in str(e), f"{named}: the file is not named: {e}"
            assert str(e).isprintable() or str(e).replace("\n", "").isprintable(), f"{named}: {e!r}"
            assert len(str(e)) < 50_000, f"{named}: a message of {len(str(e))} characters"
        except BaseException as e:
            raise AssertionError(f"{named}: {type(e).__name__}: {e}") from e
        finally:
            _watching = False
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 60 * len(changed) + (4 << 20), f"{named}: {peak} bytes were allocated for a file of {len(changed)}"
        after = self.values()
        if result.startswith("refused") and way != "resume":
            assert after == self.start, f"{named}: refused, but something was written"
        if after != self.start or not all(p.trainable for p in self.model.module.parameters()):
            self.model.unfreeze()
            self.model.load(FIXTURES / "checkpoint_v1.graphc")
        return change.__name__, result


# -- entries of the kernel cache -----------------------------------------------------------------------------------------------


class Entries:
    """Damaged objects of the kernel cache: never used, built anew."""

    def __init__(self, folder: Path):
        from graphc.backends.cpu.machine.cache import KernelCache, key_of

        self.folder, self.make, self.key_of = folder, KernelCache, key_of
        self.texts = [f"# {i}\ndef kernel(tid, nthreads, args, trip):\n    args[{i}] = {i}\n" for i in range(2)]
        cache = KernelCache(folder)
        cache.get(self.texts)
        self.paths = [cache.path(key_of(t)).with_suffix(".o") for t in self.texts]
        self.originals = [p.read_bytes() for p in self.paths]
        self.done = 0

    def try_one(self, i: int, rng: np.random.Generator) -> tuple[str, str]:
        from graphc.backends.cpu.machine.cache import read_entry

        k = i % len(self.paths)
        path, raw, text = self.paths[k], self.originals[k], self.texts[k]
        changes: tuple[Change, ...] = (*ANY, self._deep, self._junk, self._other)
        change = changes[int(rng.integers(0, len(changes)))]
        changed = change(raw, rng)
        path.write_bytes(changed)
        key = self.key_of(text)
        found = read_entry(path, key)
        name = change.__name__.strip("_")
        if found is not None:
            info, _, data = raw.partition(b"\n")
            assert found.data == data and found.symbol == json.loads(info)["symbol"], f"{name}: a damaged entry was taken"
            return name, "the same entry"
        self.done += 1
        if self.done % REBUILD_EVERY:
            return name, "entry refused"
        cache = self.make(self.folder)
        kernel = cache.get([text])[0]
        assert kernel.address and cache.misses == 1 and read_entry(path, key) is not None, f"{name}: not built anew"
        return name, "entry built anew"

    def _deep(self, raw: bytes, rng: np.random.Generator) -> bytes:
        return b"[" * int(rng.integers(500, 200_000)) + b"\n" + raw

    def _junk(self, raw: bytes, rng: np.random.Generator) -> bytes:
        head, _, data = raw.partition(b"\n")
        info = [json.loads(head)]
        _spoil(info, rng)
        return json.dumps(info[0] if info else None).encode() + b"\n" + data

    def _other(self, raw: bytes, rng: np.random.Generator) -> bytes:
        """A whole entry of another kernel."""
        return next(o for o in self.originals if o != raw)


def run(count: int, seed: int = 0, tell: Callable[[str], Any] = lambda line: None) -> Counter[tuple[str, str]]:
    """Tries ``count`` changed files; gives how often each change had each result."""
    results: Counter[tuple[str, str]] = Counter()
    _caught.clear()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files, entries = Files(Path(folder)), Entries(Path(folder) / "cache")
        _watch()
        for i in range(count):
            rng = np.random.default_rng((seed, i))
            try:
                change, result = (entries if i % 5 == 4 else files).try_one(i, rng)
            except AssertionError as e:
                raise AssertionError(f"file {i} of seed {seed}: {e}") from e
            results[change, result] += 1
            if i % 200 == 199:
                garbage.collect()
            if i % 1000 == 999:
                tell(f"{i + 1} files")
    assert not _caught, _caught
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.perf_counter()
    results = run(args.count, args.seed, lambda line: print(line, flush=True))
    for (change, result), n in sorted(results.items()):
        print(f"{n:6}  {change:18} {result}")
    totals = Counter[str]()
    for (_, result), n in results.items():
        totals[result] += n
    print("\n" + "\n".join(f"{n:6}  {result}" for result, n in totals.most_common()))
    print(f"\n{args.count} files in {time.perf_counter() - start:.0f} s: no crash, nothing executed, every error a named one")


if __name__ == "__main__":
    main()
