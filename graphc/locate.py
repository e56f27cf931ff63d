"""The user's own source line: which frame of the stack made a tensor, and tracebacks without graphc's frames.

Public functions, methods and constructors are *boundaries*: an exception that leaves one shows the user's frames only, its causes too.
``GRAPHC_TRACEBACK=full`` in the environment keeps every frame. Nothing here costs a call that goes well.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

from .errors import ArgumentError, GraphcError, VerifyError, access_error, did_you_mean
from .ir.provenance import Loc, active

__all__ = [
    "Remote",
    "boundary",
    "error_loc",
    "guarded",
    "hide_frames",
    "leaving",
    "misfit",
    "of_the_call",
    "public",
    "used_line",
    "user_loc",
    "whole_traceback",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_LIBRARIES = ("numpy", "numba", "llvmlite", "safetensors", "rich", "networkx")
_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


@functools.cache
def _roots() -> tuple[str, ...]:
    """The folders of the package; frontend and backends stand elsewhere in a source tree."""
    specs = [find_spec(name) for name in (__package__, f"{__package__}.frontend", f"{__package__}.backends")]
    return tuple(os.path.dirname(os.path.abspath(s.origin)) + os.sep for s in specs if s is not None and s.origin)


@functools.cache
def _is_internal(filename: str) -> bool:
    return os.path.abspath(filename).startswith(_roots())


@functools.cache
def _is_library(filename: str) -> bool:
    """A file of Python's own library or of a package that graphc is built on."""
    path = os.path.abspath(filename)
    _, found, rest = path.partition(f"{os.sep}site-packages{os.sep}")
    if found:
        return rest.split(os.sep)[0] in _LIBRARIES
    return filename.startswith("<frozen ") or path.startswith(_STDLIB)


def _internal(frame: types.FrameType) -> bool:
    """Whether a frame is graphc's; ``<string>`` is an ``__init__`` that dataclasses wrote."""
    name = frame.f_code.co_filename
    if name == "<string>":
        return str(frame.f_globals.get("__name__", "")).startswith(f"{__package__}.")
    return _is_internal(name)


def _loc(code: types.CodeType, line: int, module_globals: dict[str, Any]) -> Loc:
    return Loc(code.co_filename, line, linecache.getline(code.co_filename, line, module_globals).strip())


def user_loc(depth: int = 1) -> Loc | None:
    """The innermost line of user code on the stack, from ``depth`` frames above the caller on; None if there is none (a thread)."""
    frame: types.FrameType | None = sys._getframe(depth)
    while frame is not None:  # asked for every node of a trace, from deep inside
        name = frame.f_code.co_filename
        passed = _passed.get(name)
        if passed is None:
            passed = _internal(frame) or _is_library(name)
            if name != "<string>":
                _passed[name] = passed
        if not passed:
            return _loc(frame.f_code, frame.f_lineno, frame.f_globals)
        frame = frame.f_back
    return None


_passed: dict[str, bool] = {}
"""Whether a file is graphc's or a library's, of those that were met."""


def error_loc(error: BaseException) -> Loc | None:
    """The innermost line of user code that an error went through below here, else the one that led here."""
    kept, _ = _users(error.__traceback__)
    if kept:
        frame = kept[-1].tb_frame
        return _loc(frame.f_code, kept[-1].tb_lineno, frame.f_globals)
    return user_loc(2)


def used_line(loc: Loc) -> str:
    """A line of user code, as errors show it."""
    return f"used  {loc!s:<29}{loc.text}".rstrip()


# -- tracebacks ----------------------------------------------------------------------------------------------------------
def whole_traceback() -> bool:
    """Whether ``GRAPHC_TRACEBACK=full`` asks for every frame."""
    return os.environ.get("GRAPHC_TRACEBACK") == "full"


def _users(tb: types.TracebackType | None) -> tuple[list[types.TracebackType], bool]:
    """The entries that are the user's, and whether graphc (or a library that it called) raised the error."""
    kept, inside = [], False
    while tb is not None:
        if _internal(tb.tb_frame):
            inside = True
        elif not (inside and _is_library(tb.tb_frame.f_code.co_filename)):
            inside = False
            kept.append(tb)
        tb = tb.tb_next
    return kept, inside


def hide_frames(error: BaseException) -> None:
    """Leaves the user's frames in the traceback of an error and of the errors that it came from.

    What graphc handled on the way (a context without a frame of the user's) goes away. A :class:`VerifyError`, and an error of
    graphc's that is no :class:`GraphcError`, is a defect: whoever mends it needs all frames, so they stay.
    """
    if whole_traceback():
        return
    todo, seen = [error], set()
    while todo:
        e = todo.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        kept, ours = _users(e.__traceback__)
        ours = ours and not isinstance(e.__cause__, Remote)  # raised there, and filtered there
        if e is error and (isinstance(e, VerifyError) or (ours and not isinstance(e, GraphcError))):
            return
        made: types.TracebackType | None = None
        for tb in reversed(kept):
            made = types.TracebackType(made, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
        e.__traceback__ = made
        context = e.__context__
        if context is not None and context is not e.__cause__ and context.__traceback__ is not None and not _users(context.__traceback__)[0]:
            e.__context__ = None
        todo += [x for x in (e.__cause__, e.__context__) if x is not None]


class Remote(Exception):
    """The traceback of another process, as the cause of an exception that is raised again here."""

    def __init__(self, text: str):
        super().__init__(f'\n"""\n{text.rstrip()}\n"""')


def leaving(error: BaseException) -> None:
    """What happens to an exception that leaves a public function: it tells the user's line and forgets graphc's."""
    if isinstance(error, GraphcError) and not error.where and active() is None:  # a trace knows more: the module
        loc = error_loc(error)
        error.where = (used_line(loc),) if loc is not None else ()
    hide_frames(error)


def boundary(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorator of public functions: exceptions leave without graphc's frames, and arguments that do not fit are explained."""

    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            try:
                return fn(*args, **kwargs)
            except TypeError as e:
                if of_the_call(e):
                    raise misfit(fn, kwargs, e, type(args[0]).__name__ if fn.__name__ == "__init__" else "") from None
                raise
            except OSError as e:
                if not isinstance(e, GraphcError) and isinstance(e.filename, (str, os.PathLike)) and _users(e.__traceback__)[1]:
                    raise access_error(e, os.fspath(e.filename), "opened") from None
                raise
        except Exception as e:
            leaving(e)
            raise  # a bare raise adds no frame

    wrapper._graphc_boundary = True  # type: ignore[attr-defined]
    return wrapper


def guarded(items: Iterator[T]) -> Iterator[T]:
    """The items of a generator of graphc's, which is a boundary."""
    try:
        yield from items
    except Exception as e:
        leaving(e)
        raise


def of_the_call(error: Exception) -> bool:
    """Where an error is caught: whether a call raised it because its arguments did not fit, and nothing has run."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is None


def misfit(fn: Callable[..., Any], kwargs: Mapping[str, Any], error: TypeError, title: str = "") -> ArgumentError:
    """The error of a call whose arguments a function does not take."""
    owner, _, name = getattr(fn, "__qualname__", str(fn)).rpartition(".")
    title = title or (f"{owner}.{name}" if owner and "<" not in owner else name)
    try:
        parameters = [p for n, p in inspect.signature(fn).parameters.items() if n != "self"]
    except (TypeError, ValueError):
        return ArgumentError(f"{title}: {error}")
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    unknown = [k for k in kwargs if k not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        return ArgumentError(f"{title}: there is no argument {unknown[0]!r}", hint=did_you_mean(unknown[0], known))
    shown = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters if p.kind is not p.VAR_KEYWORD)
    return ArgumentError(f"{title}: {str(error).partition('() ')[2] or error}", hint=f"{title}({shown})")


def public(namespace: dict[str, Any]) -> None:
    """Makes boundaries of what a module offers in ``__all__``: its functions and the constructors of its classes. Called at its end."""
    for name in namespace["__all__"]:
        value = namespace.get(name)
        if isinstance(value, type) and not issubclass(value, BaseException):
            _open_constructors(value)
        elif isinstance(value, types.FunctionType) and value.__module__ == namespace["__name__"] and not hasattr(value, "_graphc_boundary"):
            namespace[name] = boundary(value)


def _open_constructors(cls: type) -> None:
    for c in cls.__mro__:
        init = vars(c).get("__init__")
        if isinstance(init, types.FunctionType) and c.__module__.startswith(f"{__package__}.") and not hasattr(init, "_graphc_boundary"):
            type.__setattr__(c, "__init__", boundary(init))
