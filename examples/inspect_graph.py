"""Looking at what the compiler does: the tour of every view, on a small network that reads digits.

    python examples/inspect_graph.py

Prints the text views and writes two reports: the network's, and the same with another activation, to compare the two. Open
``out/inspect_graph/inspect_graph.html`` in a browser; it needs no network. ``docs/inspect.md`` explains what it shows.
"""

from __future__ import annotations

import numpy as np
from common import options

import graphc as gc
from graphc import nn, optim


class Block(nn.Module):
    """x + f(x), normalised."""

    def __init__(self, width: int, activation: nn.Module):
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.activation = activation
        self.down = nn.Linear(2 * width, width)

    def forward(self, x):
        h = self.norm(x)
        h = self.activation(self.up(h))
        return x + self.down(h)


class Digits(nn.Module):
    """(N, 64) pixels -> (N, 10) logits, by three equal blocks."""

    def __init__(self, width: int = 64, activation: type[nn.Module] = nn.GELU):
        self.inlet = nn.Linear(64, width)
        self.blocks = nn.Sequential(*(Block(width, activation()) for _ in range(3)))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.inlet(x)
        x = self.blocks(x)
        return self.head(x)


def build(target: str, activation: type[nn.Module] = nn.GELU):
    return gc.compile(
        Digits(activation=activation),
        gc.spec(gc.Dim("N", hint=64), 64),
        loss="cross_entropy",
        optimizer=optim.Adam(1e-3),
        metrics=["accuracy"],
        target=target,
    )


def measure(model: gc.Model):
    """The profile of a hundred training steps and predictions."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(256, 64)).astype("float32"), rng.integers(0, 10, 256)
    model.train_on_batch(x, y)
    model.predict(x)
    with gc.profile() as p:
        for _ in range(100):
            model.train_on_batch(x, y)
            model.predict(x)
    return p


def main(argv: list[str] | None = None) -> dict[str, str]:
    args = options(__doc__, "inspect_graph", argv)
    said: dict[str, str] = {}

    def show(title: str, text: object, lines: int = 24) -> None:
        said[title] = str(text)
        shown = said[title].splitlines()
        print(f"\n---- {title}\n" + "\n".join(shown[:lines]) + (f"\n... {len(shown) - lines} more lines" if len(shown) > lines else ""))

    model = build(args.target)
    show("model.summary(): the layers", model.summary(print_fn=None))
    show("model.summary(depth=1)", model.summary(print_fn=None, depth=1))
    show("print(model.graph): the graph, with your lines", model.graph)
    show("gc.dprint(model, depth=4): what the result is made of", gc.dprint(model, depth=4, print_fn=None))

    lowered = model.graph.lower("cpu")  # all that the compiler would do, without compiling
    show("lowered.as_text('decompose'): composites written out", lowered.as_text("decompose"))
    show("lowered.as_text('fused'): nodes by kernel", lowered.as_text("fused"))
    show("lowered.as_text('kernels'): the source", lowered.as_text("kernels"), lines=50)
    show("lowered.cost_analysis()", lowered.cost_analysis())
    show("lowered.memory_analysis()", lowered.memory_analysis())
    show("gc.explain(lowered, 'sqrt'): where a node comes from", gc.explain(lowered, "sqrt"))
    show("gc.explain_fusion(lowered, 'dot_general', 'add')", gc.explain_fusion(lowered, "dot_general", "add"))
    show("gc.explain_fusion(lowered, 'add', 'sum')", gc.explain_fusion(lowered, "add", "sum"))

    other = build(args.target, nn.ReLU)
    show("gc.diff(model, other): ReLU instead of GELU", gc.diff(model, other))
    profile = None
    if args.target == "cpu" and not args.quick:
        model.compile_all()
        show("gc.explain_cache(): which kernels were compiled, and why", gc.explain_cache())
        profile = measure(model)
        show("with gc.profile() as p: print(p)", profile, lines=30)
        show("model.summary(profile=p): each layer's share of the time", model.summary(print_fn=None, profile=profile))

    if args.target != "cpu":
        rng = np.random.default_rng(0)
        model.train_on_batch(rng.normal(size=(8, 64)).astype("float32"), rng.integers(0, 10, 8))
        step = model.executables["train_step"]
        show(f"the launches of a training step on {args.target}", step.listing())
        show("model.executables['train_step'].as_text('kernels'): their source", step.as_text("kernels"), lines=50)

    args.out.mkdir(parents=True, exist_ok=True)
    modes = ["predict"] if args.quick else None
    model.report(args.out / "inspect_graph.html", modes=modes, profile=profile)
    other.report(args.out / "with_relu.html", modes=modes)
    for form in ("dot", "mmd"):
        model.graph.save(args.out / f"inspect_graph.{form}")
    print(f"\nwrote {args.out}/inspect_graph.html and with_relu.html (compare them: the button in the upper right corner), .dot and .mmd")
    return said


if __name__ == "__main__":
    main()
