"""docs/operators/ and docs/coverage.md are what the records say now."""

from __future__ import annotations

from pathlib import Path

from graphc.inspect.opdoc import write_pages
from tests.ops.coverage import coverage_table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_pages_are_up_to_date(tmp_path: Path):
    write_pages(tmp_path)
    made, kept = ({p.name: p.read_text() for p in folder.glob("*.md")} for folder in (tmp_path, DOCS / "operators"))
    changed = [n for n in sorted(made | kept) if made.get(n) != kept.get(n)]
    assert not changed, f"run: python -m graphc.inspect.opdoc docs/operators   ({', '.join(changed[:5])})"


def test_the_committed_coverage_table_is_up_to_date():
    assert coverage_table() == (DOCS / "coverage.md").read_text(), "run: python -m tests.ops.coverage docs/coverage.md"
