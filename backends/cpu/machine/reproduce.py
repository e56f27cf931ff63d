"""``python -m graphc.backends.cpu.machine.reproduce FILE`` compiles one kernel of the cache again and shows the compiler's whole report."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .compile import compile_text

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """0 for a kernel that compiles; the error of one that does not ends the process."""
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) != 1 or not Path(given[0]).is_file():
        print(__doc__, file=sys.stderr)
        return 2
    path = Path(given[0])
    os.environ["GRAPHC_TRACEBACK"] = "full"
    code = compile_text(path.read_text(encoding="utf-8"), path.stem, str(path))
    print(f"{path} compiles: {len(code.data)} bytes of object code")
    return 0


if __name__ == "__main__":
    sys.exit(main())
