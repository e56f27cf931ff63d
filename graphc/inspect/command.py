"""``graphc viz``: reports from the command line."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import GraphcError
from .capture import collecting
from .files import page_of_data, read_graph, staged
from .html import write_report
from .measured import profile as measure
from .text import kernel_table, pass_table

__all__ = ["view"]


def view(source: str, out: Path | None, target: str, text: bool, arguments: Sequence[str], profile: bool = False) -> int:
    """Writes the report of a script, a saved model, a graph's text or a report's data; the exit code. With ``profile`` the script is
    measured while it runs."""
    given = Path(source)
    # options may stand behind the source, where the script's own arguments stand
    rest = list(arguments)
    while rest:
        if out is None and len(rest) >= 2 and rest[0] in ("-o", "--out"):
            out, rest = Path(rest[1]), rest[2:]
        elif not text and rest[0] == "--text":
            text, rest = True, rest[1:]
        elif not profile and rest[0] == "--profile":
            profile, rest = True, rest[1:]
        else:
            break
    measured: Any = None
    wanted = out or given.with_suffix(".html").name
    try:
        if given.suffix == ".json":
            page_of_data(given, wanted)
            print(f"wrote {wanted}")
            return 0
        if profile and given.suffix == ".py":
            with measure() as measured:
                code, programs = run(given, rest)
        else:
            code, programs = run(given, rest) if given.suffix == ".py" else (0, _stored(given, target))
    except (GraphcError, OSError, ValueError) as e:
        print(f"graphc viz: {e}", file=sys.stderr)
        return 1
    if not programs:
        print(f"graphc viz: {given.name} compiled nothing", file=sys.stderr)
        return code or 1
    if text:
        print("\n\n".join([*(_told(name, p) for name, p in programs.items()), *([str(measured)] if measured is not None else [])]))
    else:
        records = {name: found.record() for name, p in programs.items() if measured is not None and (found := measured.of(p)) is not None}
        write_report(wanted, programs, given.stem, profiles=records)
        print(f"wrote {wanted}: {', '.join(programs)}")
    return code


def run(script: Path, arguments: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Runs a script as ``python script`` does; its exit code and every program that it compiled, also where it failed."""
    code = 0
    with collecting() as programs:
        before, path = sys.argv, sys.path[:]
        sys.argv, sys.path[0:0] = [str(script), *arguments], [str(script.parent.resolve())]
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(e.code is not None)
            if isinstance(e.code, str):
                print(e.code, file=sys.stderr)
        except Exception:
            traceback.print_exc()
            code = 1
        finally:
            sys.argv, sys.path[:] = before, path
    return code, programs


def _stored(path: Path, target: str) -> dict[str, Any]:
    graph = read_graph(path)
    return {graph.name: staged(graph, target)}


def _told(name: str, program: Any) -> str:
    cost = f"\n{program.cost_analysis()}\n{program.memory_analysis()}" if hasattr(program, "cost_analysis") else ""
    return f"{name}\n{pass_table(program)}\n{kernel_table(program)}{cost}"
