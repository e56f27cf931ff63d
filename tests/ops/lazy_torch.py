"""``torch`` and ``F`` (``torch.nn.functional``), imported when first used: tables that mention them need no torch."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["F", "torch"]


class _Lazy:
    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


torch = _Lazy("torch")
F = _Lazy("torch.nn.functional")
