"""The kernels of these tests lie where those of the CPU backend's tests do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("GRAPHC_CACHE", str(Path(tempfile.gettempdir()) / f"graphc-test-kernels-{os.getuid()}"))
