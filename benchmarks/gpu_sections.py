"""What ``python -m benchmarks.gpu_first_run`` measures on a GPU: a function a section and a measured side, each run in a process of its own.

Results are emitted one by one as plain dicts: ``what``, ``seconds``, and where it makes sense ``flops``, ``bytes``, ``losses`` of three steps,
``digest`` (to compare sides) or a ``note``. With ``tiny`` sizes and the made-up GPU every line runs on any machine.
"""

from __future__ import annotations

import gc as collector
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.layers import LastStep, Linear, Recurrent, chain
from benchmarks.workload import Adam, Input, Task, digest
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.adam import adam
from benchmarks.workloads.mlp import mlp
from benchmarks.workloads.resnet import resnet
from benchmarks.workloads.transformer import transformer

__all__ = ["MODELS", "OURS", "PEERS", "ROWS", "Context"]

Emit = Callable[..., None]


@dataclass
class Context:
    """How a section runs. ``ahead``: for its kernels to be compiled alone, on a machine that may have no GPU."""

    emit: Emit
    tiny: bool = False
    precision: str = "float32"
    ahead: bool = False
    seconds: float = 1.0
    """How long one thing is measured."""
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.options = {"target": "cuda", "precision": self.precision}

    def put(self, array: np.ndarray) -> Any:
        """The array on the GPU."""
        return array if self.ahead else gc.cuda.asarray(array)

    def size(self, full: int, tiny: int) -> int:
        return tiny if self.tiny else full


def median_of(call: Callable[[], float], seconds: float, least: int = 5, most: int = 1000) -> float:
    """The median of what calls give, for some seconds."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < least or (time.perf_counter() < end and len(found) < most):
        found.append(call())
    return statistics.median(found)


# -- ours --------------------------------------------------------------------------------------------------------------------
def device_seconds(gpu: Any, start: Callable[[], Any], c: Context) -> float:
    """Seconds that the GPU needs for what a function starts: between two events."""
    d = gpu.driver
    before, after = d.event(True), d.event(True)

    def once() -> float:
        d.record(before, d.compute)
        start()
        d.record(after, d.compute)
        d.finish(after)
        return float(d.elapsed(before, after))

    start()
    d.synchronize()
    return median_of(once, 0.0 if c.tiny else c.seconds, 1 if c.tiny else 10)


def host_seconds(gpu: Any, start: Callable[[], Any], c: Context, many: int = 200) -> float:
    """Seconds that the host needs to start something, while the GPU keeps up."""
    many = 1 if c.tiny else many

    def once() -> float:
        began = time.perf_counter()
        for _ in range(many):
            start()
        passed = time.perf_counter() - began
        gpu.synchronize()
        return passed / many

    return median_of(once, 0.0, 1 if c.tiny else 6)


def wall_seconds(call: Callable[[], Any], c: Context) -> float:
    def once() -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    return median_of(once, 0.0 if c.tiny else c.seconds, 1 if c.tiny else 6)


def kernels(executable: Any) -> tuple[Any, Callable[[], None]]:
    """The GPU of an executable that has run, and a function that starts its kernels once more."""
    parts = executable.bindings()[-1].parts

    def start() -> None:
        for part in parts:
            part()

    return executable.gpu, start


def smoke(c: Context) -> None:
    """A few operators and a training step: whether anything works at all."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(33, 20)).astype(np.float32), rng.normal(size=(20, 50)).astype(np.float32)
    wide = x.astype(np.float64)
    soft = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    for name, fn, wanted in (
        ("x * 2", lambda x, w: x * 2.0, wide * 2), ("sums", lambda x, w: x.sum(0), wide.sum(0)),
        ("softmax", lambda x, w: x.softmax(-1), soft), ("x @ w", lambda x, w: x @ w, wide @ w),
    ):  # fmt: skip
        found = gc.compile(fn, gc.spec("N", 20), gc.spec(20, 50), target="cuda")(x, w)
        c.emit(what=name, error=float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)), most=1e-5)
    from benchmarks.peers import ours

    task = WORKLOADS["mlp"].at_tiny_sizes().task()
    losses = {target: ours.Runner(task, "train", target=target).check("train")[0] for target in (["cuda"] if c.ahead else ["cuda", "reference"])}
    if not c.ahead:
        c.emit(what="three steps of an MLP", error=max(abs(a - b) / b for a, b in zip(losses["cuda"], losses["reference"], strict=True)), most=1e-4)


def copies(c: Context) -> None:
    """What memory can do: the limit of every kernel that only moves numbers."""
    n = c.size(1 << 28, 1 << 12)
    f = gc.compile(lambda x: x * 2.0, gc.spec(n), target="cuda")
    host = np.arange(n, dtype=np.float32)
    x = c.put(host)
    y = f(x)
    if c.ahead:
        return
    seen = np.asarray(y)
    c.emit(what="x * 2 of the last element", error=abs(float(seen[-1]) / (2.0 * (n - 1)) - 1), most=1e-6)
    gpu, start = kernels(f.executable)
    c.emit(what=f"x * 2, {4 * n >> 20} MiB", seconds=device_seconds(gpu, start, c), bytes=8 * n, limit="copy")
    copy = lambda: gpu.driver.copy(y.address, x.address, x.nbytes)
    c.emit(what=f"the driver's copy, {4 * n >> 20} MiB", seconds=device_seconds(gpu, copy, c), bytes=8 * n, limit="copy")
    part = host[: n // 4]

    def up() -> None:
        gpu.send([(x.address, part)])
        gpu.synchronize()

    c.emit(what="host to GPU, through pinned memory", seconds=wall_seconds(up, c), bytes=part.nbytes)
    into = np.empty_like(part)
    c.emit(what="GPU to host, through pinned memory", seconds=wall_seconds(lambda: gpu.fetch([(into, x.address)]), c), bytes=part.nbytes)


def launches(c: Context) -> None:
    """What starting kernels costs."""
    f = gc.compile(lambda x: x * 2.0, gc.spec(32), target="cuda")
    f(c.put(np.zeros(32, np.float32)))
    if c.ahead:
        return
    binding, gpu = f.executable.bindings()[-1], f.executable.gpu
    call = binding._call(f.executable.schedule.launches()[0], 0)
    single = lambda: gpu.launch(call.kernel, call.blocks, call.threads, call.args)
    c.emit(what="one launch, host", seconds=host_seconds(gpu, single, c))
    many = c.size(100, 3)
    graph = gpu.capture(lambda: [single() for _ in range(many)])
    c.emit(what=f"a captured graph of {many} launches, host", seconds=host_seconds(gpu, graph, c, 20))
    c.emit(what="a launch inside of it, on the GPU", seconds=device_seconds(gpu, graph, c) / many)
    x = np.zeros(32, np.float32)
    c.emit(what="a whole call, NumPy in and out", seconds=wall_seconds(lambda: f(x), c))
    there = gc.cuda.asarray(x)
    c.emit(what="a whole call, arrays on the GPU", seconds=wall_seconds(lambda: f(there), c))


def products(c: Context) -> None:
    """Matrix products by precision."""
    rng = np.random.default_rng(0)
    for n in (64,) if c.tiny else (4096, 1024):
        a, b = (rng.standard_normal((n, n), np.float32) for _ in range(2))
        x, y = c.put(a), c.put(b)
        for precision, most in (("float32", 1e-6), ("tf32", 1e-3), ("bf16", 1e-2)):
            f = gc.compile(lambda a, b: a @ b, gc.spec(n, n), gc.spec(n, n), target="cuda", precision=precision)
            out = f(x, y)
            if c.ahead:
                continue
            wanted = a[:4].astype(np.float64) @ b
            c.emit(what=f"{n}^3 {precision}", error=float(np.linalg.norm(np.asarray(out)[:4] - wanted) / np.linalg.norm(wanted)), most=most)
            gpu, start = kernels(f.executable)
            c.emit(what=f"{n}^3 {precision}", seconds=device_seconds(gpu, start, c), flops=2 * n**3)


ROWS = {
    "gelu-tanh": ({"numbers": 1 << 26}, ("forward",)),
    "softmax": ({"rows": 32768, "width": 1024}, ("forward", "backward")),
    "layernorm": ({"rows": 32768, "width": 1024}, ("forward", "backward")),
    "rmsnorm": ({"rows": 32768, "width": 1024}, ("forward", "backward")),
    "batchnorm": ({"rows": 32768, "width": 1024}, ("forward",)),
    "cross-entropy": ({"rows": 4096, "vocabulary": 32_000}, ("loss",)),
}
"""Workloads of the CPU's table with sizes that no cache holds, and what is done with them."""


def row_tasks(c: Context) -> list[tuple[str, Task, str]]:
    found = []
    for name, (sizes, cases) in ROWS.items():
        w = WORKLOADS[name]
        task = (w.at_tiny_sizes() if c.tiny else w.with_sizes(sizes)).task()
        found += [(f"{name} {case}", task, case) for case in cases]
    return found


def rows(c: Context, tasks: list[tuple[str, Task, str]] | None = None) -> None:
    """Kernels whose limit is memory."""
    from benchmarks.peers import ours

    for name, task, case in row_tasks(c) if tasks is None else tasks:
        runner = ours.Runner(task, case, **c.options)
        if c.ahead:
            runner.function()
            continue
        seen = digest(runner.check(case))
        gpu, start = kernels(runner.executable())
        c.emit(what=name, seconds=device_seconds(gpu, start, c), bytes=task.bytes(case), limit="memory", digest=seen)
        del runner, start
        collector.collect()


def adam_task(c: Context) -> Task:
    return adam(c.size(80, 2), c.size(512, 5), c.size(612, 19))


def optimiser(c: Context) -> None:
    rows(c, [("Adam", adam_task(c), "update")])


def mlp_task(c: Context) -> Task:
    return mlp(128, 784, 1024, 1024, 10) if not c.tiny else mlp(5, 20, 33, 17, 3)


def resnet_task(c: Context) -> Task:
    return resnet(128, 32, 16, 3, 10) if not c.tiny else resnet(2, 8, 4, 1, 3)


def lstm_task(c: Context) -> Task:
    batch, steps, hidden = (64, 128, 512) if not c.tiny else (3, 4, 8)
    net = chain(Recurrent("LSTM", hidden, hidden), Recurrent("LSTM", hidden, hidden), LastStep(), Linear(hidden, 1))
    return Task(net, (Input((batch, steps, hidden)),), "mse", Input((batch, 1)), Adam())


def transformer_task(c: Context) -> Task:
    return transformer(32, 256, 8, 64, 6, 4096) if not c.tiny else transformer(2, 5, 2, 4, 1, 11)


MODELS: Mapping[str, tuple[str, Callable[[Context], Task]]] = {
    "mlp": ("MLP 784-1024-1024-10, batch 128", mlp_task),
    "resnet": ("ResNet-20, batch 128", resnet_task),
    "lstm": ("LSTM, 2 layers of 512, 128 steps, batch 64", lstm_task),
    "transformer": ("Transformer, 6 layers of 512, 256 steps, batch 32", transformer_task),
}


def train(c: Context, name: str) -> None:
    """A training step as a user calls it, with a batch that is on the GPU, and what the GPU does of it."""
    from benchmarks.peers import ours

    task = MODELS[name][1](c)
    (x,), labels = task.values(), task.label_values()
    specs = [ours.spec(x.shape, x.dtype, task.named_batch)]
    model = gc.compile(ours.module(task), *specs, loss=task.loss, optimizer=ours.optimizer(task), **c.options)
    batch = c.put(x), c.put(labels)
    began = time.perf_counter()
    losses = [model.train_on_batch(*batch)["loss"] for _ in range(1 if c.ahead else 3)]
    if c.ahead:
        return
    executable = model.executables["train_step"]
    c.emit(what="until the first step", seconds=time.perf_counter() - began, note=f"{len(executable.kernels)} launches, {len({k.kernel.name for k in executable.kernels})} kernels")
    c.emit(what="step", seconds=wall_seconds(lambda: model.train_on_batch(*batch), c), losses=losses, flops=task.flops("train"))
    c.emit(what="step, batch from NumPy", seconds=wall_seconds(lambda: model.train_on_batch(x, labels), c))
    gpu, start = kernels(executable)
    c.emit(what="starting its captured graphs, host", seconds=host_seconds(gpu, start, c, 20))
    c.emit(what="its captured graphs, on the GPU", seconds=device_seconds(gpu, start, c))


OURS: dict[str, Callable[[Context], None]] = {
    "smoke": smoke, "copy": copies, "launch": launches, "gemm": products, "rows": rows, "optimiser": optimiser,
    **{name: (lambda c, name=name: train(c, name)) for name in MODELS},
}  # fmt: skip


# -- torch -------------------------------------------------------------------------------------------------------------------
def _torch(c: Context) -> tuple[Any, str]:
    """torch and its device, with products in the precision that is compared."""
    import torch

    if not c.tiny and not torch.cuda.is_available():
        raise ImportError("this torch has no CUDA")
    fast = c.precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cudnn.benchmark = True
    return torch, "cpu" if c.tiny else "cuda"


def _torch_seconds(call: Callable[[], Any], c: Context) -> float:
    """Seconds a call of many that are started one after another."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() and not c.tiny else lambda: None
    many = 1
    if not c.tiny:
        for _ in range(5):
            call()
        wait()
        began = time.perf_counter()
        call()
        wait()
        many = max(1, min(50, int(0.2 / (time.perf_counter() - began))))

    def once() -> float:
        began = time.perf_counter()
        for _ in range(many):
            call()
        wait()
        return (time.perf_counter() - began) / many

    return median_of(once, 0.0 if c.tiny else c.seconds, 1 if c.tiny else 3)


def _compiled(c: Context) -> Callable[[Callable], Callable]:
    import torch

    # a tiny run shows that the code works: "eager" is torch.compile's way to compile nothing
    return lambda f: torch.compile(f, backend="eager") if c.tiny else torch.compile(f, mode="reduce-overhead", dynamic=False)


def torch_train(c: Context, name: str, compiled: bool) -> None:
    torch, device = _torch(c)
    from benchmarks.peers.torch_model import Runner, formats

    task = MODELS[name][1](c)
    wrap = _compiled(c) if compiled else lambda f: f
    runner = Runner(task, "train", next(iter(formats(task).values())), wrap=wrap, kinds=("fused",), device=device)
    began = time.perf_counter()
    losses = runner.check()[0]
    c.emit(what="until the third step", seconds=time.perf_counter() - began)
    c.emit(what="step", seconds=_torch_seconds(runner.function, c), losses=losses, note=f"torch {torch.__version__}, fused optimiser, the loss stays on the GPU")


def torch_lstm_at_once(c: Context) -> None:
    """Both layers in one call of cuDNN, which may overlap them."""
    torch, device = _torch(c)
    batch, steps, hidden = (64, 128, 512) if not c.tiny else (3, 4, 8)
    torch.manual_seed(0)
    net = torch.nn.LSTM(hidden, hidden, 2, batch_first=True).to(device)
    head = torch.nn.Linear(hidden, 1).to(device)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], fused=True)
    x, y = torch.randn(batch, steps, hidden, device=device), torch.randn(batch, 1, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.mse_loss(head(net(x)[0][:, -1]), y).backward()
        optimizer.step()

    c.emit(what="step", seconds=_torch_seconds(step, c), note="nn.LSTM(512, 512, num_layers=2)")


def torch_rows(c: Context, compiled: bool, tasks: list[tuple[str, Task, str]] | None = None) -> None:
    _, device = _torch(c)
    from benchmarks.peers.torch_model import Runner

    for name, task, case in row_tasks(c) if tasks is None else tasks:
        kinds = ("foreach",) if compiled else ("fused",)
        runner = Runner(task, case, wrap=_compiled(c) if compiled else lambda f: f, kinds=kinds, device=device)
        seen = digest(runner.check())
        c.emit(what=name, seconds=_torch_seconds(runner.function, c), bytes=task.bytes(case), digest=seen)
        del runner
        collector.collect()


def torch_products(c: Context) -> None:
    torch, device = _torch(c)
    for n in (64,) if c.tiny else (4096, 1024):
        for precision in ("float32", "tf32", "bf16"):
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            kind = torch.bfloat16 if precision == "bf16" else torch.float32
            a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
            out = torch.empty(n, n, device=device, dtype=kind)
            c.emit(what=f"{n}^3 {precision}", seconds=_torch_seconds(lambda a=a, b=b, out=out: torch.matmul(a, b, out=out), c), flops=2 * n**3)


# -- JAX ---------------------------------------------------------------------------------------------------------------------
def jax_train(c: Context, name: str) -> None:
    import jax

    if not c.tiny and jax.devices()[0].platform != "gpu":
        raise ImportError("this JAX has no CUDA")
    jax.config.update("jax_default_matmul_precision", "float32" if c.precision == "float32" else "tensorfloat32")
    from benchmarks.peers.jax_jit import Runner

    task = MODELS[name][1](c)
    runner = Runner(task, "train")
    began = time.perf_counter()
    losses = runner.check("train")[0]
    c.emit(what="until the third step", seconds=time.perf_counter() - began)
    c.emit(what="step", seconds=wall_seconds(runner.function, c), losses=losses, note=f"jax {jax.__version__}, state donated, waits for every step")


PEERS: dict[tuple[str, str], Callable[[Context], None]] = {
    ("gemm", "torch eager"): torch_products,
    ("rows", "torch eager"): lambda c: torch_rows(c, False),
    ("rows", "torch.compile"): lambda c: torch_rows(c, True),
    ("optimiser", "torch eager"): lambda c: torch_rows(c, False, [("Adam", adam_task(c), "update")]),
    ("lstm", "cuDNN, both layers"): torch_lstm_at_once,
    **{(name, "torch eager"): (lambda c, name=name: torch_train(c, name, False)) for name in MODELS},
    **{(name, "torch.compile"): (lambda c, name=name: torch_train(c, name, True)) for name in MODELS},
    **{(name, "JAX"): (lambda c, name=name: jax_train(c, name)) for name in MODELS},
}
