"""``graphc warm``: whether this process runs a script to fill the kernel cache, and not for its results."""

from __future__ import annotations

import os

__all__ = ["warm_architectures", "warming"]


def warming() -> bool:
    """Whether ``GRAPHC_WARM`` is set: ``fit`` and ``evaluate`` take one batch, and no file of a model is written."""
    return bool(os.environ.get("GRAPHC_WARM"))


def warm_architectures() -> list[str]:
    """The GPUs of ``graphc warm --arch``: the target "cuda" compiles for them and runs nothing."""
    return [a for a in os.environ.get("GRAPHC_WARM_ARCH", "").split(",") if a] if warming() else []
