"""A process that compiles kernels: reads lines of key and path, writes objects beside the texts.

It says "+key" when it begins one and "-key" at its end.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from . import kernel_target, tiles  # noqa: F401  (now, while there is nothing to do)
from .cache import build_entry, key_of, read_entry


def main() -> None:
    gc.disable()  # a short life: looking for garbage takes a tenth of the time
    for line in sys.stdin:
        key, _, name = line.rstrip("\n").partition(" ")
        print(f"+{key}", flush=True)
        path = Path(name)
        text = path.read_text()
        if key_of(text) == key and read_entry(path.with_suffix(".o"), key) is None:
            build_entry(key, text, path)
        print(f"-{key}", flush=True)


if __name__ == "__main__":
    main()
