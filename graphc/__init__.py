"""graphc: a graph compiler for deep learning in pure Python.

Names are imported when they are first used, so that ``import graphc`` costs almost nothing.

>>> import graphc as gc
>>> f = gc.compile(lambda a: a * 2 + 1, gc.spec("N"), target="reference")
>>> f([1.0, 2.0]).tolist()
[3.0, 5.0]
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from typing import Any

__version__ = "0.1.0"

# where each public name lives: "module" is the module itself, "module:name" a name in it
_NAMES = {
    "Dim": ".frontend.specs:Dim",
    "Model": ".frontend.model:Model",
    "callbacks": ".frontend.callbacks",
    "compile": ".frontend.compile:compile",
    "cuda": ".cuda",
    "custom_op": ".ops.custom:custom_op",
    "data": ".frontend.data",
    "datasets": ".frontend.datasets",
    "diff": ".inspect.difference:diff",
    "dprint": ".inspect.tree:dprint",
    "errors": ".errors",
    "explain": ".inspect.explain:explain",
    "explain_cache": ".inspect.explain:explain_cache",
    "explain_fusion": ".inspect.explain:explain_fusion",
    "grad": ".frontend.differentiate:grad",
    "init": ".frontend.init",
    "inspect": ".inspect",
    "load_bundle": ".frontend.deploy:load_bundle",
    "lr_finder": ".frontend.rate_finder:lr_finder",
    "losses": ".frontend.losses",
    "metrics": ".frontend.metrics",
    "nn": ".frontend.nn",
    "ops": ".ops",
    "optim": ".frontend.optim",
    "profile": ".inspect.measured:profile",
    "random": ".frontend.sampling",
    "set_seed": ".frontend.random:set_seed",
    "spec": ".frontend.specs:spec",
    "step": ".frontend.step:step",
    "stop_gradient": ".frontend.differentiate:stop_gradient",
    "text": ".frontend.text",
    "trace": ".frontend.trace:trace",
    "tune": ".frontend.tune:tune",
    "value_and_grad": ".frontend.differentiate:value_and_grad",
}
_ERRORS = (
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
)

_INSTEAD = {  # names that users of other libraries look for
    "Module": "nn.Module",
    "Tensor": "arrays are NumPy arrays; inside of forward() tensors are made by graphc",
    "device": 'gc.compile(..., target="cpu")',
    "functional": "gc.nn.functional, gc.ops",
    "jit": "gc.compile(fn, *specs)",
    "layers": "gc.nn",
    "load": "model = gc.compile(...); model.load(path)",
    "manual_seed": "gc.set_seed",
    "no_grad": "gradients are computed in training steps only: model.predict needs no context",
    "optimizers": "gc.optim",
    "save": "model.save(path)",
    "tensor": "arrays are NumPy arrays: np.array(...)",
}

__all__ = ["__version__", *sorted(_NAMES), *_ERRORS]  # noqa: PLE0604


class _Aliases:
    """Finds ``graphc.nn.functional`` where it is, in ``graphc.frontend``: ``import graphc.nn.functional as F``.

    It stands before Python's own finder, which would make a second module of the same file.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        first, _, rest = name.removeprefix("graphc.").partition(".")
        place = _NAMES.get(first, "") if name.startswith("graphc.") else ""
        if not place.startswith(".frontend.") or ":" in place:
            return None
        module = importlib.import_module(f"{place}.{rest}" if rest else place, __name__)
        return ModuleSpec(name, _Alias(module))  # type: ignore[arg-type]


class _Alias:
    """The loader of a module that is loaded already."""

    def __init__(self, module: Any):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.module

    def exec_module(self, module: Any) -> None:
        module.__spec__ = self.spec  # the import system has put the alias' there


sys.meta_path.insert(0, _Aliases)


def __getattr__(name: str) -> Any:
    target = f".errors:{name}" if name in _ERRORS else _NAMES.get(name)
    if target is None:
        if name.startswith("__"):
            raise AttributeError(name)
        from .errors import unknown_name
        from .locate import leaving

        try:
            raise unknown_name("graphc", name, __all__, _INSTEAD)
        except AttributeError as e:
            leaving(e)
            raise
    module, _, attribute = target.partition(":")
    value: Any = importlib.import_module(module, __name__)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
