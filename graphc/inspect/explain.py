"""Questions about a compiled program."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError

__all__ = ["explain_fusion"]


def explain_fusion(compiled: Any, a: Any, b: Any) -> str:
    """One sentence: why two operators of a compiled model or function share a kernel, or do not.

    ``a`` and ``b`` are nodes of its graph, or names of operators in it.
    """
    if not hasattr(compiled, "explain_fusion"):
        raise ArgumentError(
            f"{type(compiled).__name__} is not compiled", hint="gc.explain_fusion(gc.compile(...), a, b)"
        )
    return str(compiled.explain_fusion(a, b))
