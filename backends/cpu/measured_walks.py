"""The table of measured walks of contractions (``gc.tune``): a small file in the folder of the kernel cache.

For each machine (processor, its features, number of threads) it has the walk of each contraction signature that was faster than the cost
model's. It is read once a process and written by atomic rename. A table that cannot be read is ignored with a warning, and one that cannot be
written holds for this process: it only makes programs faster.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graphc.runtime.locks import COMPILING, held_for_forks

from .machine.cache import default_cache, write_whole
from .machine.loader import host_cpu

__all__ = ["FILE", "WalkTable", "default_table", "machine_key", "measured_walks"]

FILE = "tuned.json"
FORMAT = 1
"""Walks and signatures of another format say nothing to this version."""


def machine_key(threads: int) -> str:
    """What measurements hold for."""
    name, features = host_cpu()
    return f"{name} {hashlib.sha256(features.encode()).hexdigest()[:8]}, {threads} thread{'s' * (threads != 1)}"


class WalkTable:
    """The table in one folder; ``path`` is its file."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.path = Path(folder) / FILE
        self._lock = held_for_forks(threading.RLock(), COMPILING)
        self._machines: dict[str, dict[str, dict[str, str]]] | None = None

    def walks(self, threads: int) -> dict[str, str]:
        """The walks for so many threads by the digests of signatures."""
        with self._lock:
            return {digest: entry["walk"] for digest, entry in self._all().get(machine_key(threads), {}).items()}

    def keep(self, threads: int, found: Mapping[str, tuple[str, str | None]]) -> None:
        """Keeps (signature, walk) by digest; an entry whose walk is None is taken out. What other processes wrote meanwhile stays."""
        with self._lock:
            known = self._all()
            for machine, entries in _read(self.path).items():
                known[machine] = known.get(machine, {}) | entries
            mine = known.setdefault(machine_key(threads), {})
            for digest, (signature, walk) in found.items():
                if walk is None:
                    mine.pop(digest, None)
                else:
                    mine[digest] = {"walk": walk, "signature": signature}
            try:
                write_whole(self.path, json.dumps({"format": FORMAT, "machines": known}, indent=1).encode() + b"\n")
            except OSError as e:
                warnings.warn(f"{self.path} cannot be written ({e.strerror}); what was measured holds for this process", stacklevel=3)

    def _all(self) -> dict[str, dict[str, dict[str, str]]]:
        if self._machines is None:
            self._machines = _read(self.path)
        return self._machines


def _read(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """The machines of a file; none, with a warning, where it is not such a table."""
    try:
        raw: Any = json.loads(path.read_bytes())
        if raw["format"] != FORMAT:
            return {}
        return {
            str(machine): {str(d): {"walk": str(e["walk"]), "signature": str(e["signature"])} for d, e in entries.items()}
            for machine, entries in raw["machines"].items()
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        warnings.warn(f"{path} is no table of measured walks and is ignored ({type(e).__name__}); gc.tune writes a new one", stacklevel=4)
        return {}


@cache
def default_table() -> WalkTable:
    """The table of this process, beside its kernels."""
    return WalkTable(default_cache().folder)


def measured_walks(threads: int) -> Mapping[str, str]:
    """The walks of this machine for programs of so many threads."""
    return default_table().walks(threads)
