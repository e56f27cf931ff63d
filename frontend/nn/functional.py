"""Every operator as a function, under torch's usual name: ``nn.functional.relu(x)`` is ``graphc.ops.relu(x)``."""

from __future__ import annotations

from typing import Any

from graphc import ops


def __getattr__(name: str) -> Any:
    return getattr(ops, name)


def __dir__() -> list[str]:
    return dir(ops)
