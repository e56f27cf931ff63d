"""``graphc warm script.py``: the kernels of a script are compiled now, so that it starts at once later.

The script runs as ``python script.py`` runs it, with ``GRAPHC_WARM=1``: each program is compiled when it is first used and runs once, since
only a run tells which programs there are. ``fit`` and ``evaluate`` take one batch, and files of models are not written: a model that was
trained for one step must not replace another. Everything else that the script does, it does; own loops may look at ``GRAPHC_WARM``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .inspect.command import run

__all__ = ["warm"]


def warm(script: Path, arguments: Sequence[str]) -> int:
    """The exit code: the script's own; 1 where there is no such script or it compiled nothing for the CPU."""
    if script.suffix != ".py" or not script.is_file():
        print(f"graphc warm: {script} is no Python script", file=sys.stderr)
        return 1
    # by name: the core does not depend on backends
    cache: Any = importlib.import_module("graphc.backends.cpu.machine.cache").default_cache()
    before = os.environ.get("GRAPHC_WARM")
    os.environ["GRAPHC_WARM"] = "1"
    try:
        code, programs = run(script, arguments)
    finally:
        if before is None:
            del os.environ["GRAPHC_WARM"]
        else:
            os.environ["GRAPHC_WARM"] = before
    compiled = sum(why != "loaded" for why in cache.history.values())
    there = len(cache.history) - compiled
    print(f"{script.name}: {len(programs)} programs ({', '.join(programs) or 'none'})", file=sys.stderr)
    where = cache.folder if cache.writable else "no folder: the cache cannot be written"
    print(f"{compiled} kernels compiled in {cache.seconds:.1f} s, {there} were there; {where}", file=sys.stderr)
    if not cache.history:
        print("graphc warm: nothing was compiled for the CPU", file=sys.stderr)
    return code or int(not cache.history or not cache.writable)
