"""One hierarchy of errors: what graphc raises on a user's mistake is a GraphcError, and all of them stand in graphc/errors.py."""

from __future__ import annotations

import ast
import builtins
import pickle

import graphc
from graphc import errors
from tests.packaging.folders import sources

BUILTIN = {n for n, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, BaseException)}
PROTOCOL = {"AttributeError", "KeyError", "StopIteration", "KeyboardInterrupt", "NotImplementedError", "AssertionError", "SystemExit"}
"""What Python's own protocols ask for: lookups that try one name after another, iteration, Ctrl-C and exit, methods that a subclass defines, tests."""
ALLOWED = {  # (module, exception) -> why it is no error of graphc
    ("graphc.frontend.files", "ValueError"): "parts of reading a header: File gives them to the user as a FileFormatError that names the file",
    ("graphc.frontend.data.samples", "IndexError"): "ends `for sample in dataset`, as Python's sequences do",
    ("graphc.backends.cuda.arrays", "BufferError"): "what DLPack asks of `__dlpack__`: takers go on without it",
    ("graphc.backends.cpu.machine.pool", "ValueError"): "a launch list that the scheduler built wrong: no mistake of a user's",
    ("graphc.backends.cpu.machine.timed_code", "ValueError"): "a kernel that hands on what another raised: the driver says which",
    ("graphc.backends.cpu.machine.cache", "OSError"): "caught five lines below, where another folder is taken",
    ("graphc.backends.cpu.machine.compile", "TypeError"): "becomes a KernelCompileError ten lines below",
    **{
        (f"graphc.backends.cpu.machine.tiles.{name}", "TypeError"): "typing of emitted kernels inside Numba: becomes a KernelCompileError"
        for name in ("arithmetic", "memory", "types")
    },
}


def raised(text: str) -> list[tuple[str, int]]:
    """(name of the exception, line) of the raises of names and calls of names."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(what, ast.Name | ast.Attribute):
                found.append((what.id if isinstance(what, ast.Name) else what.attr, node.lineno))
    return found


def test_errors_of_users_are_graphc_errors():
    wrong, used = [], set()
    for module, path in sources().items():
        for name, line in raised(path.read_text(encoding="utf-8")):
            if name in BUILTIN - PROTOCOL:
                used.add((module, name))
                if (module, name) not in ALLOWED:
                    wrong.append(f"{module}:{line} raises {name}")
    assert not wrong, "a class of graphc.errors says what, where, why and what to do:\n" + "\n".join(wrong)
    assert used == set(ALLOWED), "entries that are not needed any more"


def test_errors_of_users_say_what_to_do():
    """What the frontend raises has a hint, its own or that of its class."""
    missing = []
    for module, path in sources().items():
        if not module.startswith("graphc.frontend"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                cls = getattr(errors, node.exc.func.id, None)
                if isinstance(cls, type) and not cls.advice and not any(k.arg == "hint" for k in node.exc.keywords):
                    missing.append(f"{module}:{node.lineno} {cls.__name__}")
    assert not missing, "hint=...:\n" + "\n".join(missing)


def test_all_errors_stand_in_one_file():
    # no errors: the traceback of another process, shown as a cause; a kernel that the simulator cannot translate and then interprets
    elsewhere = {"_Remote", "Remote", "UnknownError"}
    for module, path in sources().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and module != "graphc.errors" and node.name not in elsewhere:
                bases = {b.id if isinstance(b, ast.Name) else getattr(b, "attr", "") for b in node.bases}
                assert not bases & (BUILTIN | set(errors.__all__) - {"did_you_mean"}), f"{module}: {node.name}"


def test_every_error_can_be_caught_by_name():
    classes = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.GraphcError)]
    assert len(classes) > 15
    for cls in classes:
        assert cls.__name__ in errors.__all__ and getattr(graphc, cls.__name__) is cls and cls.__doc__
        assert issubclass(cls, errors.GraphcError)
        told = cls("what", where="used  a.py:1", notes=("why",), hint="do")
        assert str(pickle.loads(pickle.dumps(told))) == str(told)  # as workers send it
        assert str(told) == "what\n  used  a.py:1\n  note  why\n  hint  do", cls
