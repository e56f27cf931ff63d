"""``graphc warm script.py``: the kernels of a script are compiled now, so that it starts at once later.

The script runs as ``python script.py`` runs it, with ``GRAPHC_WARM=1``: each program is compiled when it is first used and runs once, since
only a run tells which programs there are. ``fit`` and ``evaluate`` take one batch, and files of models are not written: a model that was
trained for one step must not replace another. Everything else that the script does, it does; own loops may look at ``GRAPHC_WARM``.

With ``--arch`` the target "cuda" compiles for GPUs that are elsewhere: its programs give zeros, and nothing of them runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import GraphcError
from .inspect.command import run

__all__ = ["warm"]


def warm(script: Path, arguments: Sequence[str], out: Path | None = None, archs: Sequence[str] = ()) -> int:
    """The exit code: the script's own; 1 where there is no such script or it compiled nothing for the CPU, or with ``archs`` for CUDA."""
    if script.suffix != ".py" or not script.is_file():
        print(f"graphc warm: {script} is no Python script", file=sys.stderr)
        return 1
    settings = {"GRAPHC_WARM": "1"} | ({"GRAPHC_CACHE": str(out.absolute())} if out is not None else {})
    with _environment(settings | ({"GRAPHC_WARM_ARCH": ",".join(archs)} if archs else {})):
        return _for_gpus(script, arguments, archs) if archs else _for_cpu(script, arguments)


def _for_cpu(script: Path, arguments: Sequence[str]) -> int:
    # by name: the core does not depend on backends
    cache: Any = importlib.import_module("graphc.backends.cpu.machine.cache").default_cache()
    code, programs = run(script, arguments)
    compiled = sum(why != "loaded" for why in cache.history.values())
    there = len(cache.history) - compiled
    print(f"{script.name}: {len(programs)} programs ({', '.join(programs) or 'none'})", file=sys.stderr)
    where = cache.folder if cache.writable else "no folder: the cache cannot be written"
    print(f"{compiled} kernels compiled in {cache.seconds:.1f} s, {there} were there; {where}", file=sys.stderr)
    told = [f"{sum(not how.startswith('not kept') for _, how in cache.programs)} programs kept"]
    told += [f"{name} {how}" for name, how in dict.fromkeys(cache.programs) if how.startswith("not kept")]
    if cache.programs:
        print("; ".join(told), file=sys.stderr)
    if not cache.history:
        print("graphc warm: nothing was compiled for the CPU", file=sys.stderr)
    return code or int(not cache.history or not cache.writable)


def _for_gpus(script: Path, arguments: Sequence[str], archs: Sequence[str]) -> int:
    try:
        made: Any = importlib.import_module("graphc.backends.cuda.ahead").begin()
    except (GraphcError, OSError) as e:
        print(f"graphc warm: {e}", file=sys.stderr)
        return 1
    code, _ = run(script, arguments)
    print(f"{script.name}: {len(made.programs)} programs for CUDA ({', '.join(made.programs) or 'none'})", file=sys.stderr)
    print(f"{len(made.kernels)} kernels for {', '.join(archs)}: {made.compiled} compiled in {made.seconds:.1f} s, {made.there} were there; {made.folder}", file=sys.stderr)
    if not made.programs:
        print('graphc warm: nothing was compiled for CUDA: the script\'s models need target="cuda"', file=sys.stderr)
    return code or int(not made.programs)


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
