"""``graphc warm``: whether this process runs a script to fill the kernel cache, and not for its results."""

from __future__ import annotations

import os

__all__ = ["warming"]


def warming() -> bool:
    """Whether ``GRAPHC_WARM`` is set: ``fit`` and ``evaluate`` take one batch, and no file of a model is written."""
    return bool(os.environ.get("GRAPHC_WARM"))
