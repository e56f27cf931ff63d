"""The error hierarchy: every message says what, where, why, and what to do."""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CompileError",
    "DTypeError",
    "DatasetError",
    "DeviceUnavailableError",
    "FileFormatError",
    "GradientError",
    "GraphcError",
    "GuardError",
    "NonFiniteError",
    "OutOfMemoryError",
    "ParameterError",
    "ShapeError",
    "TraceError",
    "VerifyError",
    "WorkerError",
]


class GraphcError(Exception):
    """Base of all errors that graphc raises on purpose.

    ``message`` is the first line; ``where`` lines, ``notes`` and ``hint`` are printed below it, aligned.
    """

    def __init__(self, message: str, *, where: str | tuple[str, ...] = (), notes: str | tuple[str, ...] = (), hint: str = ""):
        super().__init__(message)
        self.message = message
        self.where: tuple[str, ...] = (where,) if isinstance(where, str) and where else tuple(where)
        self.notes: tuple[str, ...] = (notes,) if isinstance(notes, str) and notes else tuple(notes)
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"  {w}" for w in self.where]
        lines += [f"  note  {n}" for n in self.notes]
        if self.hint:
            lines.append(f"  hint  {self.hint}")
        return "\n".join(lines)


class ShapeError(GraphcError, ValueError):
    """Shapes, ranks or axes that do not fit."""


class DTypeError(GraphcError, TypeError):
    """A dtype that an operation or argument does not take."""


class ArgumentError(GraphcError, TypeError):
    """Too few, too many or unknown arguments."""


class TraceError(GraphcError):
    """A model or function that cannot be turned into a graph."""


class GradientError(GraphcError):
    """No gradient along a path that was asked for."""


class VerifyError(GraphcError):
    """A graph that breaks an invariant: a defect of a pass, not of the user's model."""


class CompileError(GraphcError):
    """A backend could not turn a graph into a program."""


class GuardError(GraphcError, ValueError):
    """Sizes at call time that contradict what the graph was built for."""


class ParameterError(GraphcError, KeyError):
    """Parameter names or shapes that do not match the model."""

    __str__ = GraphcError.__str__


class CheckpointError(GraphcError):
    """A model file or checkpoint that cannot be used: damaged, of another model, or without what was asked for."""


class CheckpointMismatchError(CheckpointError, ParameterError):
    """A file whose names, shapes or dtypes are not those of the model; every one is listed."""

    __str__ = GraphcError.__str__


class FileFormatError(CheckpointError, ValueError):
    """A file that is damaged, foreign or from an unknown version."""


class DeviceUnavailableError(GraphcError, RuntimeError):
    """The chosen target cannot run here."""


class NonFiniteError(GraphcError, ArithmeticError):
    """A loss became NaN or infinite; nothing was written."""


class OutOfMemoryError(GraphcError, MemoryError):
    """An array that cannot be had; the message names its bytes. Nothing was changed, and the process can go on."""


class WorkerError(GraphcError, RuntimeError):
    """A worker that reads data has died, cannot start or does not answer."""


class DatasetError(GraphcError, OSError):
    """A data set that cannot be fetched, or whose files are not what they should be."""

    __str__ = GraphcError.__str__
