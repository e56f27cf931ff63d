"""One self-contained HTML page of a compiled model: stages, graphs and kernels. No script, no network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from .program import kernels, passes, stages

__all__ = ["page", "write_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
pre { background: var(--soft); border-radius: 6px; font: 12.5px/1.45 ui-monospace, monospace; overflow-x: auto; padding: .8rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .3rem .8rem; }
summary { cursor: pointer; } summary small { opacity: .65; }
table { border-collapse: collapse; margin: .8rem 0; }
td, th { border-bottom: 1px solid var(--line); padding: .15rem .9rem .15rem 0; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } nav a { margin-right: 1rem; } .c { opacity: .6; }
"""


def page(title: str, executables: Mapping[str, Any], summary: str = "") -> str:
    """The page's text. ``executables`` maps a mode (``train_step``) to its compiled program; everything is escaped."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        "<nav>" + "".join(f'<a href="#{escape(m, quote=True)}">{escape(m)}</a>' for m in executables) + "</nav>",
    ]
    if summary:
        parts.append(f"<pre>{escape(summary)}</pre>")
    for mode, executable in executables.items():
        parts.append(f'<h2 id="{escape(mode, quote=True)}">{escape(mode)}</h2>')
        parts.append(_passes(executable))
        shown = stages(executable)
        parts.append(f"<h3>Stages ({len(shown)})</h3>")
        for i, (name, text) in enumerate(shown.items()):
            parts.append(_section(name, f"{text.count(chr(10)) + 1} lines", _lines(text), opened=i == 0))
        listed = kernels(executable)
        if listed:
            parts.append(f"<h3>Kernels ({len(listed)})</h3>")
            parts += [_section(k.name, k.about, _lines(k.source)) for k in listed]
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _passes(executable: Any) -> str:
    rows = passes(executable)
    if not rows:
        return ""
    body = "".join(
        f'<tr><td>{escape(p.name)}</td><td class="n">{p.seconds * 1e3:.2f} ms</td>'
        f'<td class="n">{p.before}</td><td class="n">{p.after}</td></tr>'
        for p in rows
    )
    return f"<h3>Passes ({len(rows)})</h3><table><tr><th>pass</th><th>time</th><th>nodes before</th><th>after</th></tr>{body}</table>"


def _section(name: str, note: str, body: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{escape(name)} <small>{escape(note)}</small></summary>{body}</details>"


def _lines(text: str) -> str:
    """Text with its comments dimmed."""
    out = []
    for line in text.splitlines():
        code, mark, comment = line.partition("  # ")
        out.append(escape(code) + (f'<span class="c">{escape(mark + comment)}</span>' if mark else ""))
    return "<pre>" + "\n".join(out) + "</pre>"


def write_page(path: str | os.PathLike[str], title: str, executables: Mapping[str, Any], summary: str = "") -> None:
    """Writes :func:`page` to a file."""
    Path(path).write_text(page(title, executables, summary), encoding="utf-8")
