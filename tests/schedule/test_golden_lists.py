"""Golden lists: kernels, barriers and in-place updates of whole programs. GRAPHC_UPDATE_GOLDEN=1 writes them again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import graphc.ops as ops
from graphc.autodiff import gradients
from graphc.ir.dims import sym
from graphc.ir.graph import Graph
from graphc.passes.pipeline import Settings, lower
from graphc.schedule.memory import plan_memory
from graphc.schedule.program import Check, Launch, Repeat, Schedule, schedule_graph
from tests.models import VARIANTS, Builder, mlp_step

FOLDER = Path(__file__).resolve().parents[1] / "golden"
N = sym("N")


def scheduled(graph: Graph, width: int = 16) -> Schedule:
    low = lower(graph, Settings(width, {}, may_choose=bool(graph.updates)))
    return schedule_graph(low.graph, low.layouts)


def listing(schedule: Schedule) -> str:
    """One line a launch: kind, operators, and what it writes; then copies and the arena at two sizes."""
    lines: list[str] = []

    def walk(items: list[Launch | Check | Repeat], indent: str) -> None:
        for i in items:
            if i.barrier:
                lines.append(f"{indent}--")
            if isinstance(i, Launch):
                writes = ", ".join(b.name if b.space in ("slot", "out") else b.space for b in i.writes)
                axes = "x".join(str(a.size) for a in i.nest.outer) or "1"
                static = " (once)" if i.static else ""
                lines.append(f"{indent}{i.nest.kind} [{axes}] {i.nest.name} -> {writes}{static}")
            elif isinstance(i, Repeat):
                lines.append(f"{indent}repeat {i.count}")
                walk(i.body, indent + "  ")
            else:
                lines.append(f"{indent}check {i.buffer.name}")

    walk(schedule.items, "")
    lines += [f"copied  {c}" for c in schedule.copies]
    dims = schedule.graph.dims
    for n in (1, 128):
        plan = plan_memory(schedule, dict.fromkeys(dims, n))
        lines.append(f"arena {plan.arena_bytes} of {plan.unplanned_bytes} bytes" + (f" at {n}" if dims else ""))
    return "\n".join(lines) + "\n"


def attention_block() -> Graph:
    b = Builder()
    x = b.arg("x", (N, 6, 16))
    q, k, v = (x @ b.param(w, (16, 16)) for w in ("q", "k", "v"))
    y = ops.scaled_dot_product_attention(q, k, v)
    z = ops.layer_norm(x + y, b.param("gain", (16,)), b.param("shift", (16,)))
    return b.graph({"out": z})


def transformer_block() -> Graph:
    b = Builder()
    x = b.arg("x", (N, 6, 16))
    qkv = ops.linear(x, b.param("qkv", (48, 16)), b.param("qkv_b", (48,))).reshape(N, 6, 3, 2, 8).transpose(2, 0, 3, 1, 4)
    y = ops.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True).transpose(0, 2, 1, 3).reshape(N, 6, 16)
    x = ops.layer_norm(x + ops.linear(y, b.param("out", (16, 16)), b.param("out_b", (16,))), b.param("g0", (16,)), b.param("s0", (16,)))
    h = ops.gelu(ops.linear(x, b.param("up", (64, 16)), b.param("up_b", (64,))))
    z = x + ops.linear(h, b.param("down", (16, 64)), b.param("down_b", (16,)))
    return b.graph({"out": ops.layer_norm(z, b.param("g1", (16,)), b.param("s1", (16,)))})


def classifier() -> Graph:
    b = Builder()
    x = b.arg("x", (N, 64))
    h = (x @ b.param("w0", (48, 64)).transpose() + b.param("b0", (48,))).relu()
    return b.graph({"out": ops.softmax(h @ b.param("w1", (10, 48)).transpose() + b.param("b1", (10,)), -1)})


def convolution() -> Graph:
    b = Builder()
    x = b.arg("x", (N, 3, 12, 12))
    y = ops.conv(x, b.param("w", (6, 3, 5, 5)), padding=2)
    return b.graph({"out": ops.max_pool2d((y + b.param("b", (6, 1, 1))).relu(), 2)})


def convolution_step() -> Graph:
    """Two layers of a network for images, with a batch norm between them, and plain gradient descent."""
    b = Builder()
    x, y = b.arg("x", (N, 3, 8, 8)), b.arg("y", (N,), "int64")
    w = [b.param("w0", (16, 3, 3, 3)), b.param("w1", (24, 16, 3, 3)), b.param("g", (16,)), b.param("s", (16,)), b.param("head", (10, 24))]
    h = ops.batch_norm_train(ops.conv(x, w[0], padding=1), w[2], w[3])[0].relu()
    h = ops.conv(h, w[1], stride=2, padding=1).relu().mean((2, 3))
    loss = ops.cross_entropy(h @ w[4].transpose(), y)
    grads = gradients([loss], None, w)
    return b.graph({"loss": loss}, {p.attrs["name"]: p - g * 0.1 for p, g in zip(w, grads, strict=True)})


def rnn() -> Graph:
    b = Builder()
    x, w = b.arg("x", (7, N, 5)), b.param("w", (9, 4))
    h = b.arg("h", (N, 4))
    last, all_ = ops.scan(lambda h, x: (lambda n: (n, n))(ops.tanh(ops.concat([x, h], 1) @ w)), h, x)
    return b.graph({"last": last, "all": all_})


MODELS = {f"mlp_step.{v}": lambda v=v: mlp_step((24, 20, 10), v)[0] for v in VARIANTS}
MODELS |= {"classifier": classifier, "attention_block": attention_block, "transformer_block": transformer_block, "convolution": convolution, "convolution_step": convolution_step, "rnn": rnn}


@pytest.mark.parametrize("name", MODELS)
def test_kernel_list(name: str):
    text = listing(scheduled(MODELS[name]()))
    path = FOLDER / f"{name}.txt"
    if os.environ.get("GRAPHC_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"GRAPHC_UPDATE_GOLDEN=1 accepts the new list of {name}"


@pytest.mark.parametrize("name", MODELS)
def test_the_same_graph_gives_the_same_schedule(name: str):
    assert listing(scheduled(MODELS[name]())) == listing(scheduled(MODELS[name]()))


def updated_in(schedule: Schedule, name: str) -> Launch:
    """The launch that writes a slot."""
    return next(i for i in schedule.launches() if any(b.space == "slot" and b.name == name for b in i.writes))


@pytest.mark.parametrize(
    "variant,kinds",
    [
        ("plain", ["contract"]),
        ("clipped", ["map", "row"]),  # the global norm needs every gradient first
        ("tied", ["contract"]),
        ("summed", ["contract"]),  # in the contraction that completes the sum
        ("accumulated", ["map"]),  # the sum is kept for later steps too
        ("returned", ["map"]),
    ],
)
def test_where_the_update_of_the_first_weight_happens(variant: str, kinds: list[str]):
    s = scheduled(mlp_step((24, 20, 10), variant)[0])
    launch = updated_in(s, "fc0.weight")
    assert launch.nest.kind in kinds, listing(s)
    written = {b.name for b in launch.writes if b.space == "slot"}
    assert {"fc0.weight", "optimizer.m.fc0.weight", "optimizer.v.fc0.weight"} <= written
    assert s.copies == []
    if variant in ("tied", "summed"):  # one contraction makes the first half of the sum, another the rest and the update
        name = "tied.weight" if variant == "tied" else "fc0.weight"
        last = updated_in(s, name)
        shape = [a.size for a in last.nest.outer]
        halves = [i for i in s.launches() if i.nest.kind == "contract" and [a.size for a in i.nest.outer] == shape]
        assert halves[-1] is last and len([i for i in halves if not any(b.space == "slot" for b in i.writes)]) >= 1
    if variant == "returned":
        first = next(i for i in s.launches() if "gradient" in {b.name for b in i.writes})
        assert first.nest.kind == "contract" and not any(b.space == "slot" for b in first.writes)
        assert any("returned or accumulated" in d.reason for d in s.decisions)
