"""The reference backend: NumPy interprets any graph at any stage. It is slow, short, and by definition right."""

from __future__ import annotations

from .executable import BACKEND, ReferenceBackend, ReferenceExecutable
from .interpreter import NonFinite, first_nonfinite, interpret

__all__ = ["BACKEND", "NonFinite", "ReferenceBackend", "ReferenceExecutable", "first_nonfinite", "interpret"]
