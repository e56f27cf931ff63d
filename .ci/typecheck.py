"""Run mypy on the package as it is installed: ``python .ci/typecheck.py [mypy arguments]``.

The folders frontend/ and backends/ are installed as graphc.frontend and graphc.backends, a renaming that mypy has no
setting for. So links in .mypy_src/ lay them out as installed; messages name the real files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / ".mypy_src"


def lay_out() -> None:
    shutil.rmtree(TREE, ignore_errors=True)
    package = TREE / "graphc"
    package.mkdir(parents=True)
    for entry in (ROOT / "graphc").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(os.path.relpath(entry, package))
    for folder in ("frontend", "backends"):
        (package / folder).symlink_to(os.path.relpath(ROOT / folder, package))


def main() -> int:
    lay_out()
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), "-p", "graphc", *sys.argv[1:]]
    result = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
    for line in result.stdout.splitlines():
        for folder in ("frontend", "backends"):
            if line.startswith(f"graphc/{folder}/"):
                line = line.removeprefix("graphc/")
        print(line)
    sys.stderr.write(result.stderr)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
