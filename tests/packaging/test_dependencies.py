"""Whatever a test or an example imports is named in pyproject, so a fresh environment has it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.folders import FOLDERS, ROOT
from tests.packaging.test_packages import PYPROJECT

IMPORTED_AS = {"scikit-learn": "sklearn", "pytest-timeout": "pytest_timeout", "pytest-xdist": "xdist", "pillow": "PIL"}
OURS = {"graphc", "tests", "examples", "benchmarks", "common", *FOLDERS}
# asked for with pytest.importorskip or through tests.ops.lazy_torch: skipped where it is missing
OPTIONAL = {"torch", "optax", "expecttest"}


def _declared(*extras: str) -> set[str]:
    listed = list(PYPROJECT["project"]["dependencies"])
    for extra in extras:
        listed += PYPROJECT["project"]["optional-dependencies"][extra]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in listed]  # type: ignore[index]
    return {IMPORTED_AS.get(name, name) for name in names}


def _imported(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            else:
                continue
            for module in modules:
                yield module.partition(".")[0], f"{path.relative_to(ROOT)}:{node.lineno}"


@pytest.mark.parametrize(("folder", "extras"), [("tests", ["test"]), ("examples", ["examples"])])
def test_what_is_imported_is_declared(folder: str, extras: list[str]):
    known = _declared(*extras) | OURS | OPTIONAL | set(sys.stdlib_module_names)
    missing = {f"{module} ({where})" for module, where in _imported(ROOT / folder) if module not in known}
    assert not missing
