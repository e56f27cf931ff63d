"""``graphc datasets list|fetch|verify``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from graphc.errors import GraphcError

from .store import entries, entry, fetch, folder, status

__all__ = ["run"]


def run(action: str, names: Sequence[str]) -> int:
    """Runs one action for the data sets named (for all, if none is; ``fetch`` wants names or ``all``); the exit code."""
    try:
        if action == "fetch" and not names:
            raise GraphcError("which data sets?", hint="graphc datasets fetch digits iris, or fetch all")
        chosen = list(entries()) if not names or list(names) == ["all"] else [entry(n).name for n in names]
    except GraphcError as error:
        print(error, file=sys.stderr)
        return 2
    failed = 0
    if action == "list":
        print(f"in {folder()}")
        for name in chosen:
            e = entries()[name]
            size = sum(m.size for m in e.members)
            print(f"{name:16} {status(name):8} {size / 2**20:6.1f} MB  {e.about}  [{e.licence}; {e.archive.package} {e.archive.version}]")
        return 0
    for name in chosen:
        try:
            if action == "fetch" and status(name) != "ok":
                fetch(name)
            found = status(name)
        except GraphcError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed += 1
            continue
        print(f"{name:16} {found}")
        failed += found == "damaged" or (found == "absent" and (action == "fetch" or bool(names)))
    return 1 if failed else 0
