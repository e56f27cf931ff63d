"""Settings for the whole suite, made before graphc is imported."""

from __future__ import annotations

import os

# numpy is an oracle for speed nowhere and for values everywhere: let it use the kernels that fit this machine
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
