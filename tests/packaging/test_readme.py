"""The README keeps its promises: its example runs, and its commands are one line each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.folders import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_learns(tmp_path: Path):
    pytest.importorskip("sklearn", reason="the example reads scikit-learn's digits")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    result = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (accuracy,) = re.findall(r"'accuracy': ([\d.]+)", result.stdout)
    assert float(accuracy) > 0.93
    assert (tmp_path / "digits.graphc").exists()


def test_the_commands_are_one_line_each():
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        assert len(block.splitlines()) == 1


def test_the_files_it_names_exist():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"python (examples/\S+\.py)", README):
        assert (ROOT / path).exists(), path
