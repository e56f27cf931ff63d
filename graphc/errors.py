"""The error hierarchy: every message says what, where, why, and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CompileError",
    "DTypeError",
    "DatasetError",
    "DeviceUnavailableError",
    "FileAccessError",
    "FileFormatError",
    "FilePermissionError",
    "GradientError",
    "GraphcError",
    "GuardError",
    "KernelCompileError",
    "MissingFileError",
    "NonFiniteError",
    "OutOfMemoryError",
    "ParameterError",
    "SettingError",
    "ShapeError",
    "SimulationError",
    "TraceError",
    "UnknownNameError",
    "VerifyError",
    "WorkerError",
    "access_error",
    "did_you_mean",
    "unknown_name",
]


def did_you_mean(name: object, known: Iterable[str], shown: int = 12) -> str:
    """The hint for a name that is not among the known ones: those that are close to it, else all if they are few.

    >>> did_you_mean("accuracy_", ["accuracy", "auc", "mae"])
    "did you mean 'accuracy'?"
    >>> did_you_mean("xyz", ["auc", "mae"])
    'one of auc, mae'
    """
    import difflib

    names = list(dict.fromkeys(known))
    wanted = str(name).lower()
    near = difflib.get_close_matches(wanted, [n.lower() for n in names], 3, 0.6)
    ratios = {w: difflib.SequenceMatcher(None, wanted, w).ratio() for w in near}
    close = [n for w in near for n in names if n.lower() == w and ratios[w] > 0.9 * ratios[near[0]]]
    if close:
        return "did you mean " + " or ".join(repr(n) for n in dict.fromkeys(close)) + "?"
    if not names or not shown:
        return ""
    return "one of " + ", ".join(names[:shown]) + (f", and {len(names) - shown} more" if len(names) > shown else "")


def unknown_name(owner: str, name: str, known: Iterable[str], instead: Mapping[str, str] | None = None) -> UnknownNameError:
    """The error of a name that ``owner`` does not have; ``instead`` says what stands for names of other libraries."""
    hint = (instead or {}).get(name) or did_you_mean(name, [k for k in known if not k.startswith("_")], 0)
    return UnknownNameError(f"{owner} has no attribute {name!r}", hint=hint)


class GraphcError(Exception):
    """Base of all errors that graphc raises on purpose.

    ``message`` is the first line; ``where`` lines, ``notes`` and ``hint`` are printed below it, aligned. ``advice`` is the hint of those
    of a class that have no better one.
    """

    advice = ""

    def __init__(self, message: str, *, where: str | tuple[str, ...] = (), notes: str | tuple[str, ...] = (), hint: str = ""):
        super().__init__(message)
        self.message = message
        self.where: tuple[str, ...] = (where,) if isinstance(where, str) and where else tuple(where)
        self.notes: tuple[str, ...] = (notes,) if isinstance(notes, str) and notes else tuple(notes)
        self.hint = hint or self.advice

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


class UnknownNameError(GraphcError, AttributeError, KeyError):
    """A name that a module, a tensor or a table does not have."""

    __str__ = GraphcError.__str__


class TraceError(GraphcError):
    """A model or function that cannot be turned into a graph."""


class GradientError(GraphcError):
    """No gradient along a path that was asked for; ``node`` is the tensor that has none, where it is one tensor."""

    node: object = None


class VerifyError(GraphcError):
    """A graph that breaks an invariant: a defect of a pass, not of the user's model."""

    advice = "this is a defect of graphc"


class CompileError(GraphcError):
    """A backend could not turn a graph into a program."""


class KernelCompileError(CompileError):
    """A kernel that Numba or LLVM refused; names the file that holds its text and the command that shows the same again."""


class SimulationError(GraphcError):
    """A kernel that the CUDA simulator refused: a race, a bad address, a barrier that not all threads reach."""


class GuardError(GraphcError, ValueError):
    """Sizes at call time that contradict what the graph was built for."""


class ParameterError(GraphcError, KeyError):
    """Parameter names or shapes that do not match the model."""

    __str__ = GraphcError.__str__


class CheckpointError(GraphcError):
    """A model file or checkpoint that cannot be used: damaged, of another model, or without what was asked for."""

    advice = "an older copy may be whole; model.load(path) reads the weights alone"


class CheckpointMismatchError(CheckpointError, ParameterError):
    """A file whose names, shapes or dtypes are not those of the model; every one is listed."""

    __str__ = GraphcError.__str__


class FileFormatError(CheckpointError, ValueError):
    """A file that is damaged, foreign or from an unknown version."""

    advice = "the file is incomplete or was changed: write it again, or take an older copy"


class FileAccessError(GraphcError, OSError):
    """A file that cannot be read or written; ``errno`` and ``filename`` as in OSError."""

    __str__ = GraphcError.__str__


class MissingFileError(FileAccessError, FileNotFoundError):
    """A file or folder that does not exist."""

    __str__ = GraphcError.__str__


class FilePermissionError(FileAccessError, PermissionError):
    """A file or folder that this user may not read or write."""

    __str__ = GraphcError.__str__


def access_error(error: OSError, path: str, done: str, notes: str = "") -> FileAccessError:
    """What graphc says of an error of the operating system: the file, what could not be ``done``, and names like it."""
    kind, hint = FilePermissionError if isinstance(error, PermissionError) else FileAccessError, ""
    folder, name = os.path.split(path)
    if isinstance(error, FileNotFoundError):
        kind = MissingFileError
        if os.path.isdir(folder or "."):
            hint = did_you_mean(name, os.listdir(folder or "."), 0)
        else:
            hint = f"there is no folder {folder!r}" + (f": os.makedirs({folder!r})" if done == "written" else "")
    told = kind(f"{path} cannot be {done}: {error.strerror or error}", hint=hint, notes=notes)
    told.errno, told.strerror, told.filename = error.errno, error.strerror, path
    return told


class DeviceUnavailableError(GraphcError, RuntimeError):
    """The chosen target cannot run here."""


class NonFiniteError(GraphcError, ArithmeticError):
    """A loss became NaN or infinite; nothing was written."""


class OutOfMemoryError(GraphcError, MemoryError):
    """An array that cannot be had; the message names its bytes. Nothing was changed, and the process can go on."""

    advice = "smaller batches or a smaller model; model.memory_analysis() tells the bytes before a run"


class WorkerError(GraphcError, RuntimeError):
    """A worker that reads data has died, cannot start or does not answer."""

    advice = "num_workers=0 reads in this process, where a debugger works"


class SettingError(GraphcError, ValueError):
    """A setting with a value that means nothing: an environment variable, or what a protocol lets others ask for."""


class DatasetError(GraphcError, OSError):
    """A data set that cannot be fetched, or whose files are not what they should be."""

    advice = "`graphc datasets fetch NAME` gets it again"

    __str__ = GraphcError.__str__
