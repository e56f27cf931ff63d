"""The wheel holds the whole package under its installed names, and works where there is no checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.inspect.conftest import browser_path
from tests.packaging.folders import ROOT, sources

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that the checkout stays clean."""
    import shutil

    copy = tmp_path_factory.mktemp("sources")
    for name in ("graphc", "frontend", "backends"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy)]
    subprocess.run(command, check=True)
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_every_module_and_asset(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for module, path in sources().items():
        stem = module.replace(".", "/")
        assert (f"{stem}/__init__.py" if path.name == "__init__.py" else f"{stem}.py") in names
    assert "graphc/py.typed" in names
    assert not [n for n in names if n.startswith(("frontend/", "backends/", "tests/", "benchmarks/"))]
    assets = {
        f"graphc/{path.relative_to(ROOT / 'graphc').as_posix()}"
        for suffix in ("html", "css", "js", "json", "txt")
        for path in (ROOT / "graphc").rglob(f"*.{suffix}")
    }
    assert assets <= names


def test_wheel_works_elsewhere(wheel: Path, tmp_path: Path):
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True)
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in str(f)]\n"
        f"sys.path.insert(0, {str(target)!r})\n"
        "import graphc as gc\n"
        f"assert gc.__file__.startswith({str(target)!r}), gc.__file__\n"
        "from graphc import nn\n"
        "f = gc.compile(lambda a: a * 2 + 1, gc.spec('N'), target='reference')\n"
        "print(f([1.0, 2.0]).tolist())\n"
        "f.graph.save('report.html')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[3.0, 5.0]"
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for asset in (ROOT / "graphc" / "inspect" / "page").rglob("*.js"):
        assert asset.read_text(encoding="utf-8") in text, asset.name
    browser = browser_path()
    if browser is not None:
        shown = subprocess.run([browser, "--no-sandbox", "--disable-gpu", "--dump-dom", (tmp_path / "report.html").as_uri()], capture_output=True, text=True)
        assert 'data-ready="' in shown.stdout and "3 boxes" in shown.stdout
