"""pyproject names every folder that holds code, and nothing else."""

from __future__ import annotations

import tomllib

from tests.packaging.folders import FOLDERS, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_package_list_equals_the_folders():
    on_disk = {
        ".".join((package, *path.parent.relative_to(ROOT / folder).parts))
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert listed == sorted(set(listed)), "keep the list sorted and without repeats"
    assert set(listed) == on_disk


def test_every_package_has_an_init_file():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), f"{path.parent.relative_to(ROOT)} has no __init__.py"


def test_folder_mapping():
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == {v: k for k, v in FOLDERS.items()}
