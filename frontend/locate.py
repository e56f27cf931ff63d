"""The user's own source line: which frame of the stack made a tensor, and tracebacks without graphc's frames."""

from __future__ import annotations

import functools
import linecache
import os
import sys
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from graphc.errors import GraphcError
from graphc.ir.provenance import Loc

__all__ = ["boundary", "error_loc", "user_loc"]

P = ParamSpec("P")
R = TypeVar("R")

_here = os.path.dirname(os.path.abspath(__file__))
_core = os.path.dirname(os.path.abspath(sys.modules[GraphcError.__module__].__file__ or ""))
_INTERNAL = (_core + os.sep, _here + os.sep, os.path.join(os.path.dirname(_here), "backends") + os.sep)
_SKIPPED = (os.path.dirname(functools.__file__) + os.sep + "contextlib.py", functools.__file__)


@functools.cache
def _is_internal(filename: str) -> bool:
    path = os.path.abspath(filename)
    return path.startswith(_INTERNAL) or path in _SKIPPED


def _loc(code: types.CodeType, line: int, module_globals: dict[str, Any]) -> Loc:
    return Loc(code.co_filename, line, linecache.getline(code.co_filename, line, module_globals).strip())


def user_loc(depth: int = 1) -> Loc | None:
    """The innermost line of user code on the stack, from ``depth`` frames above the caller on; None if there is none."""
    frame: types.FrameType | None = sys._getframe(depth)
    while frame is not None:
        if not _is_internal(frame.f_code.co_filename):
            return _loc(frame.f_code, frame.f_lineno, frame.f_globals)
        frame = frame.f_back
    return None


def error_loc(error: BaseException) -> Loc | None:
    """The innermost line of user code that an error went through below here, else the one that led here."""
    found = None
    tb = error.__traceback__
    while tb is not None:
        if not _is_internal(tb.tb_frame.f_code.co_filename):
            found = _loc(tb.tb_frame.f_code, tb.tb_lineno, tb.tb_frame.f_globals)
        tb = tb.tb_next
    return found or user_loc(2)


def _user_frames(tb: types.TracebackType | None) -> types.TracebackType | None:
    if tb is None:
        return None
    rest = _user_frames(tb.tb_next)
    if _is_internal(tb.tb_frame.f_code.co_filename):
        return rest
    return types.TracebackType(rest, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)


def boundary(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorator of public entry points: graphc's own errors leave without graphc's frames.

    ``GRAPHC_TRACEBACK=full`` keeps the whole traceback.
    """

    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return fn(*args, **kwargs)
        except GraphcError as e:
            if os.environ.get("GRAPHC_TRACEBACK") == "full":
                raise
            error = e.with_traceback(_user_frames(e.__traceback__))
        raise error from error.__cause__

    return wrapper
