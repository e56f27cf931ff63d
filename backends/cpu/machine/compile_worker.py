"""A process that compiles kernels: reads lines of key and path, writes objects beside the texts."""

from __future__ import annotations

import sys
from pathlib import Path

from .cache import build_entry, key_of, read_entry


def main() -> None:
    for line in sys.stdin.read().splitlines():
        key, _, name = line.partition(" ")
        path = Path(name)
        text = path.read_text()
        if key_of(text) == key and read_entry(path.with_suffix(".o"), key) is None:
            build_entry(key, text, path)


if __name__ == "__main__":
    main()
