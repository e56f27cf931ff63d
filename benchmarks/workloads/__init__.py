"""One file per workload; this folder is searched, so that a new workload is a new file with ``WORKLOADS``, a list of records."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.workload import Workload


def _found() -> dict[str, Workload]:
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    records = [w for m in sorted(modules, key=lambda m: m.ORDER) for w in m.WORKLOADS]
    assert len({w.name for w in records}) == len(records), "two workloads have one name"
    return {w.name: w for w in records}


WORKLOADS = _found()
GROUPS = tuple(dict.fromkeys(g for w in WORKLOADS.values() for g in w.groups))


def chosen(names: list[str]) -> list[Workload]:
    """The workloads of these names and groups, in the table's order; all without one. Raises KeyError for an unknown name."""
    for name in names:
        if name not in WORKLOADS and name not in GROUPS:
            raise KeyError(name)
    return [w for w in WORKLOADS.values() if not names or w.name in names or set(w.groups) & set(names)]
