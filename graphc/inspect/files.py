"""Graphs written to files, in the form that the name asks for; and reports of what files hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, CompileError, FileFormatError
from ..ir.graph import Graph
from ..ir.text import parse_graph
from .data import FORMAT
from .drawing import to_dot, to_mermaid, to_svg
from .html import write_page, write_report

__all__ = ["read_graph", "save_graph"]


def save_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """See :meth:`Graph.save`."""
    target = Path(path)
    texts: dict[str, Callable[[Graph], str]] = {".txt": str, ".dot": to_dot, ".gv": to_dot, ".svg": to_svg, ".mmd": to_mermaid}
    if target.suffix in (".html", ".htm", ".json"):
        write_report(target, {graph.name: staged(graph)}, graph.name)
    elif target.suffix in texts:
        target.write_text(texts[target.suffix](graph) + ("\n" if target.suffix == ".txt" else ""), encoding="utf-8", errors="backslashreplace")
    else:
        raise ArgumentError(f"{target.name}: a graph has no form {target.suffix or 'without an ending'}", hint=".html, .json, .txt, .dot, .svg or .mmd")


def staged(graph: Graph, target: str = "cpu") -> Any:
    """The graph with all its stages on a target; alone where the target cannot have it."""
    try:
        return graph.lower(target)
    except CompileError:
        return graph


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph of a file: its text form, or a saved model's."""
    file = Path(path)
    if file.suffix == ".txt":
        return parse_graph(file.read_text(encoding="utf-8"))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as f:
            text = (f.metadata() or {}).get("graph")
    except (SafetensorError, OSError) as e:
        raise FileFormatError(f"{file}: {e}") from None
    if not text:
        raise FileFormatError(f"{file} holds no graph", hint="a file that model.save wrote")
    return parse_graph(text)


def page_of_data(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """The page for the data of a report that was kept as JSON."""
    data = json.loads(Path(source).read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FileFormatError(f"{source} holds no data of a report", hint='model.report("data.json")')
    write_page(out, data)
