"""From the text of a kernel to machine code for a GPU, without needing one: Numba -> NVVM -> PTX -> nvJitLink -> cubin.

Compiled kernels are kept on disk under the hash of everything they depend on: the text, the types of the parameters, the
architecture, the device functions and the versions of the toolchain. A file that is damaged or foreign is compiled again.
A folder that was filled ahead of time (:mod:`.ahead`) says which toolchain filled it, so that kernels are found where there is none.

Products and sums are not contracted to fused ones behind the text's back: where a kernel wants one it says so, and the error terms
of the vector mathematics stay what they are. So a GPU rounds as the simulator does.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from graphc.errors import ArgumentError, DeviceUnavailableError, GraphcError, KernelCompileError

from .printers.text import Param, Printed

__all__ = [
    "ARCHITECTURES", "INDEX", "INSTALL", "Cubin", "Index", "architectures", "check_architecture", "compile_kernel", "cubin_folder", "device_functions", "find_kernel", "kernel_key", "kernel_path", "ptx_of",
    "read_index", "toolchain_missing", "toolchain_words", "write_file",
]  # fmt: skip

ARCHITECTURES = {
    "sm_75": (7, 5), "sm_80": (8, 0), "sm_86": (8, 6), "sm_87": (8, 7), "sm_89": (8, 9), "sm_90": (9, 0), "sm_90a": (9, 0),
    "sm_100": (10, 0), "sm_103": (10, 3), "sm_120": (12, 0),
}  # fmt: skip
"""Architectures that CUDA 13.0 compiles for, and their compute capability."""
INDEX = "index.json"
INSTALL = "pip install 'graphc-dl[cuda13]'"
PACKAGES = ("numba", "numba-cuda", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink")
"""What machine code depends on, and what has to be installed."""
FORMAT = 1


@dataclass(frozen=True)
class Cubin:
    """Machine code of one kernel: the name of its entry, and what ptxas says it needs (bytes, but for registers)."""

    code: bytes
    entry: str
    arch: str
    registers: int
    stack: int
    spills: int
    shared: int


def toolchain_missing() -> str:
    """The first package that compiling needs and that is not installed, or an empty string. Nothing is imported."""
    for name in PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return name
    return ""


def cubin_folder() -> Path:
    """Where machine code is kept: ``cuda`` in GRAPHC_CACHE, or in ~/.cache/graphc."""
    return Path(os.environ.get("GRAPHC_CACHE") or os.path.expanduser("~/.cache/graphc")) / "cuda"


def architectures(capability: tuple[int, int]) -> list[str]:
    """The architectures whose machine code a GPU of a compute capability runs, the best first."""
    able = [a for a, c in ARCHITECTURES.items() if (c == capability if a.endswith("a") else c[0] == capability[0] and c <= capability)]
    return sorted(able, key=lambda a: (ARCHITECTURES[a], a.endswith("a")), reverse=True)


def check_architecture(arch: str) -> None:
    """Raises :class:`ArgumentError` for an architecture that does not exist."""
    if arch not in ARCHITECTURES:
        raise ArgumentError(f"there is no architecture {arch!r}", hint=f"CUDA 13.0 compiles for {', '.join(ARCHITECTURES)}")


def compile_kernel(printed: Printed, arch: str = "sm_90a", folder: Path | None = None) -> Cubin:
    """The machine code of a kernel for an architecture: from disk, or compiled and kept there.

    Raises :class:`ArgumentError` for an architecture that does not exist, :class:`DeviceUnavailableError` where a package is missing
    or the architecture has no such tensor cores, and :class:`KernelCompileError` where the compiler refuses the text.
    """
    check_architecture(arch)
    if ARCHITECTURES[arch] < (8, 0) and "mma_" in printed.text:
        raise DeviceUnavailableError(f"{arch} has no tensor cores for TF32 and bfloat16", hint='precision="float32", or a GPU of compute capability 8.0')
    missing = toolchain_missing()
    if missing:
        raise DeviceUnavailableError(f"kernels for {arch} cannot be compiled: {missing} is not installed", hint=INSTALL)
    key = kernel_key(printed, arch, toolchain_words())
    path = kernel_path(folder or cubin_folder(), arch, key)
    found = _read(path, key)
    if found is None:
        found = _compile(printed, arch)
        write_file(path.with_suffix(".py"), printed.text.encode())
        write_file(path, _packed(found, key))
    return found


def find_kernel(printed: Printed, archs: Sequence[str], gpu: str, folder: Path | None = None) -> Cubin:
    """The machine code of a kernel for a GPU that runs ``archs``: from disk, where the first one that is there is taken, or compiled.

    Raises :class:`DeviceUnavailableError`, which says what is missing, where there is none and no compiler.
    """
    root = folder or cubin_folder()
    missing = toolchain_missing()
    for arch in archs:
        index = read_index(root, arch)
        for words in ([] if missing else [toolchain_words()]) + ([] if index is None else [index.words]):
            key = kernel_key(printed, arch, words)
            found = _read(kernel_path(root, arch, key), key)
            if found is not None:
                return found
    if not missing:
        return compile_kernel(printed, archs[0], folder)
    raise _not_there(printed, archs, gpu, root, missing)


def _not_there(printed: Printed, archs: Sequence[str], gpu: str, root: Path, missing: str) -> DeviceUnavailableError:
    """The error of a kernel that is not on disk where nothing can be compiled."""
    made = {a: index for a in ARCHITECTURES if (index := read_index(root, a)) is not None}
    able = next((a for a in archs if a in made), None)
    warm = f"graphc warm --arch {able or archs[0]} -o FOLDER script.py, where there is a compiler, and GRAPHC_CACHE=FOLDER here; or {INSTALL}"
    why = f"nothing is compiled here: {missing} is not installed"
    if not made:
        return DeviceUnavailableError(f"there is no machine code for {gpu} ({archs[0]}) in {root}", notes=why, hint=warm)
    if able is None:
        return DeviceUnavailableError(f"{root} has kernels for {', '.join(made)}; {gpu} runs {' or '.join(archs)}", notes=why, hint=warm)
    index = made[able]
    what = next((line.strip("# ") for line in printed.text.splitlines() if line.startswith("#")), "a kernel")
    notes = [f"it has {len(index.kernels)} kernels of {', '.join(index.programs)}, made by graphc {index.graphc}", why]
    if kernel_key(printed, able, index.words) in index.kernels:
        return DeviceUnavailableError(f"the machine code for {able} of {what!r} in {root} is damaged or gone", notes=tuple(notes), hint=warm)
    if index.device != device_functions():
        notes.insert(1, "that graphc had other device functions than this one")
    return DeviceUnavailableError(f"{root} has no kernel {what!r} for {able}", notes=tuple(notes), hint=f"{warm}; with the script, the options and the graphc that run here")


# -- folders filled ahead of time ------------------------------------------------------------------------------------------------
@dataclass
class Index:
    """What a folder says of the kernels for one architecture that were compiled ahead of time."""

    words: list[str]
    """The packages that compiled them; part of their keys."""
    device: str
    graphc: str
    kernels: dict[str, str]
    """What each does, by its key."""
    programs: list[str]


def read_index(root: Path, arch: str) -> Index | None:
    """The index of an architecture in a folder; None where there is none."""
    try:
        return Index(**json.loads((root / arch / INDEX).read_text()))
    except (OSError, ValueError, TypeError):
        return None


# -- files -----------------------------------------------------------------------------------------------------------------
def toolchain_words() -> list[str]:
    """The packages that compile here, with their versions."""
    return [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]


@cache
def device_functions() -> str:
    """A hash of what kernels call (:mod:`.device`)."""
    return blake2b(Path(__file__).with_name("device.py").read_bytes(), digest_size=16).hexdigest()


def kernel_path(root: Path, arch: str, key: str) -> Path:
    """The file of a kernel's machine code."""
    return root / arch / key[:2] / f"{key}.cubin"


def kernel_key(printed: Printed, arch: str, words: Sequence[str]) -> str:
    """The name of a kernel's file: a hash of everything that its machine code depends on."""
    # comments do not count: a kernel of another model, with other lines of the user, is the same kernel
    code = "\n".join(line for line in printed.text.splitlines() if not line.startswith("#"))
    types = " ".join(f"{p.kind} {p.dtype}" for p in printed.params)
    versions = "\n".join([*words, device_functions(), str(FORMAT)])
    return blake2b("\0".join((code, types, str(printed.team.threads), arch, versions)).encode(), digest_size=20).hexdigest()


def _packed(c: Cubin, key: str) -> bytes:
    head = {**asdict(c), "code": None, "key": key, "check": blake2b(c.code, digest_size=16).hexdigest()}
    return json.dumps(head).encode() + b"\n" + c.code


def _read(path: Path, key: str) -> Cubin | None:
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        info = json.loads(head)
        if info.pop("key") == key and info.pop("check") == blake2b(code, digest_size=16).hexdigest():
            return Cubin(**{**info, "code": code})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def write_file(path: Path, data: bytes) -> None:
    """A whole file or none; where the folder cannot be written to, the kernel is compiled again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    except OSError as e:
        warnings.warn(f"compiled kernels are not kept: {path.parent}: {e.strerror or e}", stacklevel=2)
        return
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# -- the compiler ------------------------------------------------------------------------------------------------------------
@cache
def _numba() -> Any:
    """``numba.cuda`` of the package numba-cuda. Numba still holds an old one of the same name, which must not be taken."""
    import numpy as np

    if not hasattr(np, "row_stack"):  # numba-cuda 0.30 reads it, NumPy 2.5 has no longer
        np.row_stack = np.vstack  # type: ignore[attr-defined]
    importlib.import_module("_numba_cuda_redirector")  # for installations whose .pth files are not read
    from numba import cuda

    if cuda.implementation != "NVIDIA":
        raise DeviceUnavailableError("numba.cuda was imported from numba itself before numba-cuda could take its place", hint=INSTALL)
    return cuda


def _compile(printed: Printed, arch: str) -> Cubin:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _link(ptx_of(printed, arch), arch)
        except GraphcError:
            raise
        except Exception as e:
            first = next((line.strip() for line in str(e).splitlines() if line.strip()), "")
            raise KernelCompileError(
                f"a kernel does not compile for {arch}: {type(e).__name__}: {first}",
                hint="this is a defect of graphc; as_text('kernels') shows the text",
            ) from e


def ptx_of(printed: Printed, arch: str) -> str:
    """The PTX of a kernel; what Numba's front end made of it is kept for other architectures."""
    capability = ARCHITECTURES[arch]
    (ptx,) = _library(printed.text, _kinds(printed.params), printed.team.threads).get_asm_strs(cc=capability)
    return str(ptx)


@lru_cache(maxsize=4)
def _library(text: str, kinds: tuple[tuple[str, bool], ...], threads: int) -> Any:
    """The kernel as LLVM code, which is the same for all architectures."""
    cuda = _numba()
    from numba.cuda import types
    from numba.cuda.compiler import compile_cuda, kernel_fixup
    from numba.cuda.cudadrv.nvvm import set_launch_bounds

    made: dict[str, Any] = {}
    exec(compile(text, "<kernel>", "exec"), made)
    assert isinstance(made["kernel"], cuda.dispatcher.CUDADispatcher)
    params = tuple(types.CPointer(getattr(types, name)) if pointer else getattr(types, name) for name, pointer in kinds)
    options = {"opt": 3, "fma": False}
    result = compile_cuda(made["kernel"].py_func, types.void, params, nvvm_options=options, cc=(8, 0))
    library, name = result.library, result.fndesc.llvm_func_name
    library._entry_name = name
    kernel = library.get_function(name)
    kernel_fixup(kernel, False)
    set_launch_bounds(kernel, threads)
    return library


def _kinds(params: Sequence[Param]) -> tuple[tuple[str, bool], ...]:
    return tuple((p.dtype.name, p.kind == "buffer") for p in params)


def _link(ptx: str, arch: str) -> Cubin:
    from cuda.core import Linker, LinkerOptions, ObjectCode

    found = re.search(r"\.visible \.entry ([^\s(]+)", ptx)
    assert found is not None
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=LinkerOptions(arch=arch, fma=False, verbose=True, ptxas_options=["-v"]))
    code = bytes(linker.link("cubin").code)
    log = linker.get_info_log()

    def number(pattern: str) -> int:
        m = re.search(pattern, log)
        return int(m.group(1)) if m else 0

    spills = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
    return Cubin(
        code, found.group(1), arch, number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame"), spills, number(r"(\d+) bytes smem")
    )
