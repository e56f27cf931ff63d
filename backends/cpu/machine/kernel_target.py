"""Numba's compiler for kernels alone: a target of its own (Numba's target extension) with a short list of passes.

Kernel texts are plain loops over integers and calls of intrinsics. Numba's CPU target prepares for all of Python and NumPy at every
call it types, and imports SciPy for it; this one knows the built-in integers, ranges and pointers. The texts have no closures, comprehensions,
raises or arrays, so the passes that look for these are left out, and LLVM runs its passes once instead of three times. Objects
are emitted without being loaded. What comes out is what Numba's own target gives; a kernel takes a third of the time.
"""

from __future__ import annotations

import dis
from typing import Any

from numba.core import typed_passes, types, untyped_passes
from numba.core.codegen import AOTCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import CPUContext
from numba.core.descriptors import TargetDescriptor
from numba.core.dispatcher import Dispatcher
from numba.core.imputils import builtin_registry
from numba.core.options import TargetOptions, include_default_options
from numba.core.target_extension import Generic, dispatcher_registry, jit_registry, target_override, target_registry
from numba.core.typing.context import BaseContext as TypingContext
from numba.core.typing.templates import builtin_registry as typing_registry
from numba.core.utils import threadsafe_cached_property

__all__ = ["emit_object", "helper"]

NAME = "graphc-kernel"


class KernelTarget(Generic):
    """The target's token."""


def _registered(*tables: Any) -> int:
    return sum(map(len, tables))


class KernelTyping(TypingContext):
    """Types of Numba's built-ins and of intrinsics."""

    known = -1

    def init(self) -> None:
        self.typed: dict[Any, Any] = {}

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """The same call has the same type in every kernel."""
        known: Any = func if isinstance(func, types.Function) else self._lookup_global(func)
        if kws or not isinstance(known, types.Function):
            return super().resolve_function_type(func, args, kws)
        found = self.typed.get((known, args))
        if found is None:
            signature = super().resolve_function_type(func, args, kws)
            if signature is None:
                return None
            found = self.typed[known, args] = signature, vars(known)["_impl_keys"][signature.args]
        signature, implementation = found
        vars(known)["_impl_keys"][signature.args] = implementation  # who typed it last for another target has left that one's here
        return signature

    def refresh(self) -> None:
        r = typing_registry
        if self.known != _registered(r.functions, r.attributes, r.globals):
            super().refresh()
            self.known = _registered(r.functions, r.attributes, r.globals)


class KernelLibrary(AOTCodeLibrary):
    """A module that becomes an object."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout  # the passes over the whole come once, at the end

    def _optimize_final_module(self) -> None:
        manager, builder = self._codegen._module_pass_manager()
        manager.run(self._final_module, builder)


class KernelCodegen(JITCPUCodegen):
    """Code for this processor, as the JIT would load it."""

    _library_class = KernelLibrary

    def _add_module(self, module: Any) -> None:
        pass

    def _check_llvm_bugs(self) -> None:
        pass


class KernelContext(CPUContext):
    """Lowering of Numba's built-ins and of intrinsics."""

    known = -1

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = KernelCodegen("graphc")

    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, numbers, rangeobj, tupleobj  # noqa: F401

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> object:
        """What a helper is known by: it is linked into its callers and never called from here."""
        return object()

    def post_lowering(self, mod: Any, library: Any) -> None:
        """Nothing is linked: kernels allocate nothing."""

    def refresh(self) -> None:
        r = builtin_registry
        if self.known != _registered(r.functions, r.getattrs, r.casts, r.constants):
            super().refresh()
            self.known = _registered(r.functions, r.getattrs, r.casts, r.constants)


class KernelOptions(include_default_options("nopython", "error_model", "inline"), TargetOptions):  # type: ignore[misc]
    """The options that a helper is compiled with."""

    def finalize(self, flags: Any, options: Any) -> None:
        _set(flags).no_compile = False


class KernelDescriptor(TargetDescriptor):
    """Contexts of the target."""

    options = KernelOptions

    @threadsafe_cached_property
    def typing_context(self) -> KernelTyping:
        return KernelTyping()

    @threadsafe_cached_property
    def target_context(self) -> KernelContext:
        return KernelContext(self.typing_context, NAME)


descriptor = KernelDescriptor(NAME)


class KernelDispatcher(Dispatcher):
    """Functions that kernels call."""

    targetdescr = descriptor

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres


target_registry[NAME] = KernelTarget
dispatcher_registry[KernelTarget] = KernelDispatcher


class KernelPasses(PassManager):
    """Passes that leave the graph of blocks whole, so that it is not built again after each."""

    _ENFORCING = False


class KernelCompiler(CompilerBase):
    """The passes that a kernel needs."""

    def define_pipelines(self) -> list[PassManager]:
        manager = KernelPasses("kernel")
        raises = any(i.opname == "RAISE_VARARGS" for i in dis.get_instructions(self.state.func_id.code))
        for made in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            *([untyped_passes.GenericRewrites] if raises else []),
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(made, made.__name__)
        manager.finalize()
        return [manager]


def _set(flags: Flags) -> Flags:
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.boundscheck = False
    flags.nrt = False
    return flags


def helper(fn: Any) -> KernelDispatcher:
    """Decorator: a function that kernel texts call."""
    return KernelDispatcher(fn, targetoptions={}, pipeline_class=KernelCompiler)


jit_registry[KernelTarget] = lambda **_: helper


def emit_object(fn: Any, signature: tuple[Any, ...]) -> tuple[bytes, str]:
    """(object, symbol) of a function that returns nothing."""
    typing, context = descriptor.typing_context, descriptor.target_context
    with global_compiler_lock, target_override(NAME):
        result = compile_extra(typing, context, fn, signature, types.void, _set(Flags()), {}, pipeline_class=KernelCompiler)
        result.library.finalize()
        return result.library.emit_native_object(), result.fndesc.llvm_func_name
