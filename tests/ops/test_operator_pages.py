"""docs/operators.md is what the records say now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_committed_pages_are_up_to_date(tmp_path):
    out = tmp_path / "operators.md"
    subprocess.run([sys.executable, "-m", "graphc.inspect.opdoc", str(out)], check=True)
    committed = Path(__file__).parents[2] / "docs" / "operators.md"
    assert out.read_text() == committed.read_text(), "run: python -m graphc.inspect.opdoc docs/operators.md"
