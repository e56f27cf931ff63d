"""The simulator of CUDA kernels: :mod:`.interpret` runs their text, :mod:`.tensor` what tensor cores need, :mod:`.memory` watches what
they touch, :mod:`.report` takes notes."""

from __future__ import annotations

from . import tensor as tensor  # adds its functions to the interpreter's
from .interpret import launch
from .memory import Memory
from .report import Report

__all__ = ["Memory", "Report", "launch"]
