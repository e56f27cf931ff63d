"""What the packaging tests know about the checkout: the three folders and the modules in them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"graphc": "graphc", "frontend": "graphc.frontend", "backends": "graphc.backends"}


def sources() -> dict[str, Path]:
    """The file of every module, by the name under which it is installed."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            found[".".join((package, *parts))] = path
    return found
