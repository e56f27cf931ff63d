"""A causal language model: pre-norm blocks of self-attention and a GELU network, trained with Adam."""

from __future__ import annotations

from benchmarks.layers import Attention, Embedding, Gelu, LayerNorm, Linear, Positions, Residual, Rows, chain
from benchmarks.workload import Adam, Goal, Input, Task, Workload

ORDER = 13


def transformer(batch: int, steps: int, heads: int, head: int, layers: int, vocabulary: int) -> Task:
    width = heads * head
    blocks = [
        Residual(chain(LayerNorm(width), part))
        for _ in range(layers)
        for part in (Attention(width, heads), chain(Linear(width, 4 * width), Gelu("tanh"), Linear(4 * width, width)))
    ]
    ends = LayerNorm(width), Linear(width, vocabulary), Rows(vocabulary)
    net = chain(Embedding(vocabulary, width), Positions(steps, width), *blocks, *ends)
    labels = Input((batch * steps,), high=vocabulary)
    return Task(net, (Input((batch, steps), high=vocabulary),), "cross_entropy", labels, Adam())


TITLE = "Transformer, {layers} layers, {heads} heads of {head}, {steps} steps, batch {batch}"
SIZES = {"batch": 8, "steps": 128, "heads": 8, "head": 32, "layers": 4, "vocabulary": 256}
TINY = {"batch": 2, "steps": 5, "heads": 2, "head": 4, "layers": 1, "vocabulary": 11}
WORKLOADS = [
    Workload(
        "transformer", ("transformers",), TITLE, transformer, SIZES, {"forward": Goal(0.9), "train": Goal(0.6)}, TINY,
        limit="flops",
    )
]  # fmt: skip
