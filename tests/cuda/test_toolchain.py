"""Kernels become machine code without a GPU: every kernel of the models, for two architectures; and the files they are kept in."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from graphc.backends.cuda import toolchain
from graphc.backends.cuda.printers import contract
from graphc.backends.cuda.toolchain import compile_kernel, ptx_of, toolchain_missing
from graphc.compiler import compile_graph
from graphc.errors import ArgumentError, DeviceUnavailableError, KernelCompileError
from graphc.testing import build_graph

from .models import MODELS, batch, compiled

needs_compiler = pytest.mark.skipif(bool(toolchain_missing()), reason=f"{toolchain_missing()} is not installed: pip install 'graphc-dl[cuda13]'")
REGISTERS = {"thread": 128, "warp": 128, "share": 128, "block": 128, "column": 128, "tile": 128}
"""Registers a thread may take: with 128, two blocks of 256 threads fit on a multiprocessor."""


SEEN: set[str] = set()
"""Kernels that an earlier model has had too."""


def kernels_of(name):
    """The distinct kernels of a model's training step."""
    model = compiled(name, "cuda-sim")
    model.train_on_batch(*batch(name, 2))
    return {k.kernel.name: k.printed for k in model.executables["train_step"].kernels}.values()


def printed(fn, *arrays):
    (k,) = compile_graph(build_graph(fn, *arrays)[0], "cuda-sim").kernels
    return k.printed


X = np.zeros((64, 72), np.float32)


@needs_compiler
@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_of_a_model_compiles_without_spills(name, tmp_path):
    for p in kernels_of(name):
        if p.text in SEEN:
            continue
        SEEN.add(p.text)
        for arch in ("sm_80", "sm_90a"):
            made = compile_kernel(p, arch, tmp_path)
            where = f"{arch}\n{p.text}"
            assert made.code.startswith(b"\x7fELF") and made.entry, where
            assert made.spills == 0, where
            assert 0 < made.registers <= REGISTERS[p.team.name], where
            assert made.shared <= 49 * 1024, where  # of which the newer architecture keeps 1 KB for itself
            # sums of a tile that are picked by a loop lie in memory; nothing else does
            assert made.stack <= (256 if p.team.name == "tile" else 0), where
        ptx = ptx_of(p, "sm_90a")
        assert not re.search(r"(div|rem)\.[su]64", ptx) or "np.int64" in p.text, p.text  # indices are int32
        if p.team.name == "tile":
            assert "ld.shared.v4.f32" in ptx and "bar.sync" in ptx and "fma.rn.f32" in ptx, p.text
        if "shuffle_xor" in p.text:
            assert "shfl.sync.bfly.b32" in ptx
        if "load4" in p.text and p.team.name in ("thread", "warp", "block", "share"):
            assert "ld.global.v4" in ptx or "ld.v4" in ptx, p.text


@needs_compiler
@pytest.mark.parametrize(
    "fn,wanted",
    [
        (lambda x: x * 3.0, [r"ld\.(global\.)?v4\.f32", r"st\.(global\.)?v4\.f32", r"mul\.rn\.f32"]),
        (lambda x: x * 3.0 + x, [r"mul\.rn\.f32", r"add\.rn\.f32"]),  # two roundings: as everywhere else
        (lambda x: x.softmax(-1), [r"shfl\.sync\.bfly", r"fma\.rn\.f32"]),
        (lambda x: x.cast("int8").sum(-1), [r"shfl\.sync\.bfly"]),
        (lambda x: x.max(0), [r"bar\.sync", r"st\.shared"]),
        (lambda x: (x < 0.0).logical_and(x > -1.0), [r"st\.(global\.)?v4\.u8"]),
        (lambda x: x.cast("bfloat16"), [r"st\.(global\.)?v4\.u16", "0x7fff|32767"]),
        (lambda x: x.cast("float16").cast("float32") + 1.0, [r"cvt\.rn\.f16\.f32", r"cvt\.f32\.f16"]),
        (lambda x: x.cast("float64").sum(-1), [r"shfl\.sync\.bfly", r"add\.rn\.f64"]),
    ],
)
def test_kernels_have_the_instructions_that_they_are_made_for(fn, wanted):
    ptx = ptx_of(printed(fn, X), "sm_80")
    for pattern in wanted:
        assert re.search(pattern, ptx), f"{pattern} is not in\n{ptx}"


COPY16, COPY4 = r"cp\.async\.cg\.shared\.global \[%r\d+\], \[%rd\d+\], 16, %r", r"cp\.async\.ca\.shared\.global \[%r\d+\], \[%rd\d+\], 4, %r"
LDMATRIX, TRANSPOSED = r"ldmatrix\.sync\.aligned\.m8n8\.x4\.shared\.b16", r"ldmatrix\.sync\.aligned\.m8n8\.x4\.trans\.shared\.b16"
TF32, BF16 = r"mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32", r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32"
H = X.astype(ml_dtypes.bfloat16)
PRODUCTS = {
    "float32": ("float32", lambda a: a @ a.transpose(1, 0), X, {COPY4: 1}, ["LDGSTS.E"]),
    "float32 along rows": ("float32", lambda a: a.transpose(1, 0) @ a, X, {COPY16: 2}, ["LDGSTS.E.BYPASS.128"]),
    "tf32": ("tf32", lambda a: (a @ a.transpose(1, 0)).relu(), X, {COPY16: 2, LDMATRIX: 4, TF32: 8}, ["LDGSTS.E.BYPASS.128", "LDSM.16.M88.4", "HMMA.1688.F32.TF32"]),
    "tf32 along rows": ("tf32", lambda a: a.transpose(1, 0) @ a, X, {COPY16: 2, TF32: 8}, ["LDGSTS.E.BYPASS.128", "HMMA.1688.F32.TF32"]),
    "bf16": ("bf16", lambda a: a @ a.transpose(1, 0), X, {r"cvt\.rn\.bf16x2\.f32": 8, LDMATRIX: 6, BF16: 8}, ["LDSM.16.M88.4", "HMMA.16816.F32.BF16", "STS.64"]),
    "bf16 along rows": ("bf16", lambda a: a.transpose(1, 0) @ a, X, {TRANSPOSED: 6, BF16: 8}, ["LDSM.16.MT88.4", "HMMA.16816.F32.BF16"]),
    "bf16 as it is": ("bf16", lambda a: a @ a.transpose(1, 0), H, {COPY16: 2, LDMATRIX: 6, BF16: 8}, ["LDGSTS.E.BYPASS.128", "LDSM.16.M88.4", "HMMA.16816.F32.BF16"]),
}
"""Precision, function, operand; instructions of PTX and how many there are at least; instructions of the machine."""


def product(name):
    """The kernel of one of those."""
    precision, fn, array, *_ = PRODUCTS[name]
    (k,) = compile_graph(build_graph(fn, array)[0], "cuda-sim", precision=precision).kernels
    return k.printed


@needs_compiler
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_have_the_instructions_that_they_are_made_for(name, tmp_path):
    p, wanted = product(name), PRODUCTS[name][3]
    for arch in ("sm_80", "sm_90a"):
        made = compile_kernel(p, arch, tmp_path)
        assert made.spills == made.stack == 0 and made.registers <= 128, arch
        ptx = ptx_of(p, arch)
        for pattern, least in wanted.items():
            assert len(re.findall(pattern, ptx)) >= least, f"{least} times {pattern} are not in\n{ptx}"
        assert ("cp.async.wait_group" in ptx) == ("copy" in p.text)


def disassembler():
    """The program that lists machine code, where there is one."""
    beside = [Path(p) / "nvidia" / "cu13" / "bin" / "nvdisasm" for p in sys.path]
    return shutil.which("nvdisasm") or next((str(p) for p in beside if p.is_file()), "")


@needs_compiler
@pytest.mark.skipif(not disassembler(), reason="nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("name", PRODUCTS)
def test_machine_code_copies_beside_the_threads_and_multiplies_on_tensor_cores(name, tmp_path):
    for arch in ("sm_80", "sm_90a"):
        (tmp_path / "k.cubin").write_bytes(compile_kernel(product(name), arch, tmp_path).code)
        listing = subprocess.run([disassembler(), "-c", tmp_path / "k.cubin"], capture_output=True, text=True, check=True).stdout
        for word in PRODUCTS[name][4]:
            assert re.search(rf"\b{re.escape(word)}\b", listing), f"{arch}: {word} is not in\n{listing}"
        assert not re.search(r"\b(STL|LDL)\b", listing), arch  # nothing that should be in registers lies in memory


@needs_compiler
@pytest.mark.parametrize("tile", contract.TENSOR_TILES, ids=lambda t: f"{t.rows}x{t.columns}")
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_every_tile_of_tensor_cores_leaves_room_for_two_blocks(tile, precision, tmp_path, monkeypatch):
    monkeypatch.setattr(contract, "TENSOR_TILES", (tile,))
    for fn in (lambda a, b: (a @ b).relu(), lambda a, b: (a.transpose(1, 0) @ a + b.sum()).gelu()):
        for k in compile_graph(build_graph(fn, X, np.zeros((72, 80), np.float32))[0], "cuda-sim", precision=precision).kernels:
            for arch in ("sm_80", "sm_90a"):
                made = compile_kernel(k.printed, arch, tmp_path)
                assert made.spills == 0 and made.registers <= 128 and made.shared <= 49 * 1024, f"{arch}\n{k.printed.text}"


@needs_compiler
def test_every_product_of_a_model_compiles_for_tensor_cores_without_spills(tmp_path):
    model = compiled("transformer", "cuda-sim", precision="bf16")
    model.train_on_batch(*batch("transformer", 2))
    products = {k.kernel.name: k.printed for k in model.executables["train_step"].kernels if k.printed.team.name == "tile"}
    assert products
    for p in products.values():
        for arch in ("sm_80", "sm_90a"):
            made = compile_kernel(p, arch, tmp_path)
            assert made.spills == 0 and made.registers <= REGISTERS["tile"], f"{arch}\n{p.text}"
        assert re.search(BF16, ptx_of(p, "sm_80")), p.text


@needs_compiler
def test_older_gpus_copy_by_their_threads(tmp_path):
    """Turing has no copies beside the threads: the same text stores what it loads there, and nothing of the question is left."""
    p = product("float32")
    ptx = ptx_of(p, "sm_75")
    assert "cp.async" not in ptx and "nvvm_reflect" not in ptx and compile_kernel(p, "sm_75", tmp_path).spills == 0


@needs_compiler
def test_scatters_vote():
    from graphc import ops

    graph, _ = build_graph(lambda b, i, u: ops.scatter_add(b, i, u), X, np.zeros(9, np.int64), np.zeros((9, 72), np.float32))
    ptx = "".join(ptx_of(k.printed, "sm_80") for k in compile_graph(graph, "cuda-sim").kernels)
    assert "vote.sync.ballot" in ptx and "atom" not in ptx


# -- files -------------------------------------------------------------------------------------------------------------------
@needs_compiler
def test_machine_code_is_kept_on_disk_and_never_trusted(tmp_path, monkeypatch):
    p = printed(lambda x: x + 1.0, X)
    first = compile_kernel(p, "sm_80", tmp_path)
    (file,) = tmp_path.rglob("*.cubin")
    assert file.with_suffix(".py").read_text() == p.text
    with monkeypatch.context() as m:
        m.setattr(toolchain, "_compile", lambda *a: pytest.fail("it was compiled again"))
        assert compile_kernel(p, "sm_80", tmp_path) == first
        # what is said in comments is not part of a kernel
        assert compile_kernel(dataclasses.replace(p, text="# other lines\n" + p.text), "sm_80", tmp_path) == first
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:200], whole.replace(b"\x7fELF", b"\x7fELG"), b"{}\n", b"[1]\n"):
        file.write_bytes(damaged)
        assert compile_kernel(p, "sm_80", tmp_path) == first
        assert file.read_bytes() == whole
    compile_kernel(p, "sm_90a", tmp_path)
    compile_kernel(dataclasses.replace(p, team=dataclasses.replace(p.team, threads=64)), "sm_80", tmp_path)
    assert len(list(tmp_path.rglob("*.cubin"))) == 3


# -- errors ------------------------------------------------------------------------------------------------------------------
def test_an_unknown_architecture_is_named():
    with pytest.raises(ArgumentError, match="no architecture 'sm_42'") as e:
        compile_kernel(printed(lambda x: x + 1.0, X), "sm_42")
    assert "sm_80" in e.value.hint


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_an_architecture_without_such_tensor_cores_is_named(precision):
    (k,) = compile_graph(build_graph(lambda a: a @ a.transpose(1, 0), X)[0], "cuda-sim", precision=precision).kernels
    with pytest.raises(DeviceUnavailableError, match="sm_75 has no tensor cores") as e:
        compile_kernel(k.printed, "sm_75")
    assert "float32" in e.value.hint


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain, "PACKAGES", ("numba", "no-such-package"))
    with pytest.raises(DeviceUnavailableError, match="no-such-package is not installed") as e:
        compile_kernel(printed(lambda x: x + 1.0, X), "sm_80", tmp_path)
    assert "graphc-dl[cuda13]" in e.value.hint


@needs_compiler
def test_a_text_that_does_not_compile_is_one_error(tmp_path):
    p = printed(lambda x: x + 1.0, X)
    with pytest.raises(KernelCompileError, match="does not compile for sm_80: TypingError"):
        compile_kernel(dataclasses.replace(p, text=p.text.replace("+ np.float32(1.0)", "+ 'a'")), "sm_80", tmp_path)
    assert not list(tmp_path.rglob("*.cubin"))
