"""What this process may use of the machine: CPUs and bytes, also where a container (a control group, v1 or v2) allows less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "memory_limit"]

CGROUPS, OWN, MEMINFO = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/meminfo")


def cpu_quota() -> float | None:
    """CPUs' worth of time that the control groups leave to this process; None without a limit."""
    found = []
    for folder in _groups("cpu"):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0] > 0 and words[1] > 0:
            found.append(words[0] / words[1])
    return min(found, default=None)


def memory_limit() -> int | None:
    """Bytes, swap included, that this process can have at most, whatever others use; None where the system does not say."""
    sizes = {}
    try:
        for line in MEMINFO.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "SwapTotal"):
                sizes[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if "MemTotal" not in sizes:
        return None
    limits = [words[0] for g in _groups("memory") for f in ("memory.max", "memory.limit_in_bytes") if (words := _words(g / f))]
    return min([sizes["MemTotal"], *limits]) + sizes.get("SwapTotal", 0)


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's group and of all groups around it: each of them limits it. A container may show its own as the root."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", f"1:{controller}:/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        place = Path(path)
        for inner in (place, *place.parents):
            folder = root / str(inner).lstrip("/")
            if ".." not in inner.parts and folder.is_dir():
                yield folder


def _words(file: Path) -> list[int]:
    """The numbers of a file; none where it is missing or says "max"."""
    try:
        return [int(w) for w in file.read_text().split()]
    except (OSError, ValueError):
        return []
