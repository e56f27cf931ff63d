"""The report as one HTML file that needs no network: the data of :mod:`graphc.inspect.data` and the page that shows it.

The page is made of small files in ``page/``: a template, a style sheet, scripts in the order of :data:`SCRIPTS`, and the libraries in
``page/vendor`` (their versions, licences and checksums stand beside them). Everything a user can name is data, never markup: the page
puts it into the document as text, and ``<`` does not occur in the JSON.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from .data import report_data

__all__ = ["SCRIPTS", "VENDORED", "page", "write_page", "write_report"]

FOLDER = Path(__file__).parent / "page"
VENDORED = ("cytoscape.min.js", "cytoscape-dagre.min.js")
SCRIPTS = (
    "tools.js", "model.js", "state.js", "tree.js", "layout.js", "graph.js", "stages.js", "source.js", "kernels.js", "panel.js",
    "memory.js", "launches.js", "tables.js", "compare.js", "search.js", "export.js", "keys.js", "main.js",
)  # fmt: skip


@cache
def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def page(data: Mapping[str, Any]) -> str:
    """The page's text for the data of a report."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts = {
        "TITLE": escape(f"{data['title']} - graphc report"),
        "STYLE": _asset("style.css"),
        "VENDOR": "\n".join(_asset(f"vendor/{name}") for name in VENDORED),
        "SCRIPT": "\n".join(_asset(name) for name in SCRIPTS),
        # inside a script element only "<" could end it or start a comment
        "DATA": text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
    }
    out = []
    for i, piece in enumerate(_asset("page.html").split("@@")):
        out.append(parts[piece] if i % 2 else piece)
    return "".join(out)


def write_page(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Writes :func:`page` to a file, which appears whole or not at all."""
    target = Path(path)
    fd, name = tempfile.mkstemp(dir=target.parent, prefix=target.stem[:50], suffix=".tmp")
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as f:
            f.write(page(data))
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def write_report(
    path: str | os.PathLike[str],
    programs: Mapping[str, Any],
    title: str,
    *,
    modules: Sequence[Mapping[str, Any]] = (),
    profiles: Mapping[str, Mapping[str, Any]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> None:
    """The report of programs (see :func:`graphc.inspect.data.report_data`) as one HTML file; a path that ends in ``.json`` gets the data."""
    data = report_data(programs, title, modules=modules, profiles=profiles, dims=dims)
    if Path(path).suffix == ".json":
        Path(path).write_text(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1), encoding="utf-8", errors="backslashreplace")
    else:
        write_page(path, data)
