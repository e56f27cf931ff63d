"""Where the time of a training step goes, and why large batches are cheaper: profiles and the roofline.

    python examples/profile_training.py

``gc.profile()`` measures every kernel on every thread. A kernel can be no faster than the processor multiplies, nor than memory gives
it what it reads: over operations a byte these two limits draw a roof. With small batches a training step reads and writes all weights
(and Adam's two moments) for little work, and its kernels lie under the slope; with large ones they come to the flat part. The profile
is also written as a report, and as a trace for https://ui.perfetto.dev. Only the CPU is measured; other targets show work and bytes alone.
"""

from __future__ import annotations

import numpy as np
from common import BLUE, GREEN, ORANGE, amount, figure, options, table

import graphc as gc
from graphc import nn, optim
from graphc.inspect.measured import ProgramProfile

BATCHES = (8, 32, 128)


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        self.first = nn.Linear(784, width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, 10)

    def forward(self, x):
        x = self.first(x).relu()
        x = self.second(x).relu()
        return self.out(x)


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "profile_training", argv)
    rng = np.random.default_rng(args.seed)
    x, y = rng.normal(size=(128, 784)).astype("float32"), rng.integers(0, 10, 128)
    model = gc.compile(
        Net(amount(args, 512, 512, 64)), gc.spec("N", 784), loss="cross_entropy", optimizer=optim.Adam(1e-3), target=args.target
    )
    # compiled, and bound to each size, before anything is measured
    losses = [model.train_on_batch(x[:batch], y[:batch])["loss"] for batch in (*BATCHES, BATCHES[0])]
    if args.target != "cpu":
        return unmeasured(args, model) | {"first": losses[0], "last": losses[-1]}

    with gc.profile() as p:
        for batch in BATCHES:
            for _ in range(20 if args.quick else 200):
                model.train_on_batch(x[:batch], y[:batch])
    print(p)

    steps: dict[int, ProgramProfile] = {q.dims["N"]: q for q in p.programs}
    rows = []
    for batch, q in sorted(steps.items()):
        work = sum(t.flops for t in q.launches)
        least = sum(t.least for t in q.launches)
        rows.append([str(batch), 1e6 * q.seconds / batch, work / q.seconds / 1e9, 100 * q.busy, 100 * q.waiting, 100 * least / q.seconds])
    print()
    table(["batch", "us a sample", "GFLOP/s", "% in kernels", "% waiting", "% of the limit"], rows)

    args.out.mkdir(parents=True, exist_ok=True)
    p.chrome_trace(args.out / "profile_training.trace.json")
    model.report(args.out / "profile_training.html", modes=["train_step"], profile=p)
    print(f"wrote {args.out}/profile_training.html and profile_training.trace.json (open it in https://ui.perfetto.dev)")

    with figure(args, 1, 2, size=(9, 3.6)) as (_, (left, right)):
        roof(left, steps)
        shares(right, steps[BATCHES[0]], steps[BATCHES[-1]])
    small, large = steps[BATCHES[0]], steps[BATCHES[-1]]
    intensity = [sum(t.flops for t in q.launches) / sum(t.bytes for t in q.launches) for q in (small, large)]
    return {
        "ratio": small.seconds / BATCHES[0] / (large.seconds / BATCHES[-1]),
        "share": sum(t.share for t in small.launches),
        "memory": sum(t.share for t in small.launches if t.bound == "memory"),
        "intensity": intensity[1] / intensity[0],
    }


def unmeasured(args, model: gc.Model) -> dict[str, float]:
    """What is known without a clock: the work of a step, and the bytes that its kernels read and write."""
    costs = {batch: model.executables["train_step"].cost_analysis({"N": batch}) for batch in BATCHES}
    print(costs[BATCHES[-1]])
    print()
    table(
        ["batch", "operations a sample", "bytes a sample", "operations a byte"],
        [[str(batch), c.flops / batch, c.bytes / batch, c.flops / c.bytes] for batch, c in costs.items()],
    )
    with figure(args, size=(5, 3.4)) as (_, ax):
        for (batch, c), colour in zip(costs.items(), (ORANGE, GREEN, BLUE), strict=True):
            kernels = [k for k in c.kernels if k.flops]
            ax.scatter([k.intensity for k in kernels], [k.flops for k in kernels], s=12, color=colour, alpha=0.7, label=f"batch {batch}")
        ax.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="operations", title=f"kernels of a step, {args.target}")
        ax.legend(loc="upper left")
    small, large = costs[BATCHES[0]], costs[BATCHES[-1]]
    return {"ratio": small.bytes / BATCHES[0] / (large.bytes / BATCHES[-1]), "intensity": large.flops / large.bytes / (small.flops / small.bytes)}


def roof(ax, steps: dict[int, ProgramProfile]) -> None:
    """The kernels of each batch size, their areas by their share of the time, under the two limits."""
    machine = steps[BATCHES[0]].machine
    peak, rate = machine["flops_per_second"] / 1e9, machine["bytes_per_second"] / 1e9
    intensity = np.logspace(-1.5, 3, 200)
    ax.plot(intensity, np.minimum(peak, intensity * rate), color="0.3", linewidth=1.2)
    ax.text(900, 1.15 * peak, f"{peak:.0f} GFLOP/s", ha="right", fontsize=8)
    ax.text(0.033, 0.16 * rate, f"{rate:.0f} GB/s", fontsize=8)
    for (batch, q), colour in zip(sorted(steps.items()), (ORANGE, GREEN, BLUE), strict=True):
        shown = [t for t in q.launches if t.flops and t.share > 0.002]
        ax.scatter(
            [t.flops / t.bytes for t in shown], [t.flops_per_second / 1e9 for t in shown], s=[8 + 300 * t.share for t in shown],
            color=colour, alpha=0.7, linewidth=0, label=f"batch {batch}",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("operations a byte")
    ax.set_ylabel("GFLOP/s")
    ax.set_title("kernels under the roof")
    legend = ax.legend(loc="lower right")
    for handle in legend.legend_handles:
        handle.set_sizes([30])


def shares(ax, small: ProgramProfile, large: ProgramProfile) -> None:
    """The launches that take most of a step, in a small batch and in a large one."""
    most = small.launches[:7][::-1]
    of = {t.launch: t.share for t in large.launches}
    for i, (values, colour, q) in enumerate((([t.share for t in most], ORANGE, small), ([of[t.launch] for t in most], BLUE, large))):
        ax.barh([j + 0.2 - 0.4 * i for j in range(len(most))], [100 * v for v in values], 0.4, color=colour, label=f"batch {q.dims['N']}, {q.seconds * 1e3:.2f} ms")
    names = [f"{t.name if len(t.name) < 26 else t.name[:24] + '…'}\n{t.lines[0].partition('  ')[2].removesuffix('.relu()')}" for t in most]
    ax.set_yticks(range(len(most)), names, fontsize=7)
    ax.set_xlabel("% of the time in kernels")
    ax.set_title("what a step does")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right")


if __name__ == "__main__":
    main()
