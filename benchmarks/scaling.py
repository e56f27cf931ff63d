"""How times grow with a size: ``python -m benchmarks.scaling [curves] [--peers P,Q] [--rounds N] [--seconds S] [--plot FILE]``.

Each curve is one workload at sizes that double: the batch, the width and the depth of an MLP or Transformer, the steps of an LSTM, and the
number of threads. All peers run at every point, in turns, checked like the other benchmarks. ``--plot`` draws them (matplotlib).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import OURS, PEERS
from benchmarks.report import best_peer, our
from benchmarks.runner import Entry, Run, Say, duration
from benchmarks.workload import Workload
from benchmarks.workloads import WORKLOADS

__all__ = ["CURVES", "Curve", "measure", "main"]


@dataclass(frozen=True)
class Curve:
    """A case of a workload, and the sizes at each point by what is shown for it; no sizes: the number of threads grows instead."""

    title: str
    workload: str
    case: str
    points: Mapping[str, Mapping[str, int]]

    def workloads(self) -> list[Workload]:
        return [WORKLOADS[self.workload].with_sizes(sizes) for sizes in self.points.values()]


def doubled(name: str, first: int, last: int, *others: str) -> dict[str, dict[str, int]]:
    """Points from ``first`` to ``last`` for one size, and others that are equal to it."""
    values = [first << i for i in range((last // first).bit_length())]
    return {str(v): dict.fromkeys((name, *others), v) for v in values}


THREADS = {str(n): {} for n in sorted({1, *(2**i for i in range(1, 6) if 2**i <= (os.cpu_count() or 1)), os.cpu_count() or 1})}
CURVES = {
    "batch": Curve("batch of an MLP, training", "mlp", "train", doubled("batch", 1, 1024)),
    "width": Curve("width of an MLP, training", "mlp", "train", doubled("hidden1", 32, 2048, "hidden2")),
    "depth": Curve("layers of a Transformer, forward", "transformer", "forward", doubled("layers", 1, 8)),
    "steps": Curve("steps of an LSTM, training", "lstm", "train", doubled("steps", 8, 256)),
    "threads": Curve("threads, a product of 1024 x 1024 matrices", "gemm-1024", "forward", THREADS),
}


def measure(curve: Curve, peers: list[str], rounds: int, seconds: float, threads: int, say: Say = lambda text: None) -> dict[str, list[Entry]]:
    """The entries of all peers at each point."""
    if curve.points is THREADS:
        runs = {point: Run(peers, rounds, seconds, int(point), say).run(curve.workloads()[:1]) for point in curve.points}
        return {point: result.entries for point, result in runs.items()}
    workloads = curve.workloads()
    entries = Run(peers, rounds, seconds, threads, say).run([w.only([curve.case]) for w in workloads]).entries
    sizes = [dict(w.sizes) for w in workloads]
    return {p: [e for e in entries if dict(e.workload.sizes) == s] for p, s in zip(curve.points, sizes, strict=True)}


def table(curve: Curve, found: Mapping[str, list[Entry]], peers: list[str]) -> str:
    """A Markdown table: a row a point, with every peer's median and the ratio of ours to the best of the others."""
    lines = [f"**{curve.title}**", "", "| | " + " | ".join(peers) + " | ours / best |", "|" + "---|" * (len(peers) + 2)]
    for point, entries in found.items():
        cells = []
        for peer in peers:
            entry = next((e for e in entries if e.peer == peer and e.samples and not e.problem), None)
            cells.append(duration(entry.median) if entry else "")
        ours, best = our(entries), best_peer(entries)
        ratio = f"{ours.median / best.median:.2f}" if ours and best else ""
        lines.append("| " + " | ".join([point, *cells, ratio]) + " |")
    return "\n".join(lines)


def plot(path: Path, curves: Mapping[str, Mapping[str, list[Entry]]], peers: list[str]) -> None:
    """One picture, a panel a curve, both axes logarithmic."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(5 * len(curves), 4), squeeze=False)
    for panel, (name, found) in zip(panels[0], curves.items(), strict=True):
        for peer in peers:
            points = [(int(p), e.median * 1e3) for p, entries in found.items() for e in entries if e.peer == peer and e.samples and not e.problem]
            if points:
                panel.loglog(*zip(*points, strict=True), marker="o", label=peer, linewidth=2.5 if peer == OURS else 1.2)
        panel.set(title=CURVES[name].title, xlabel=name, ylabel="ms")
        panel.grid(True, which="both", alpha=0.3)
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="How times grow with a size.")
    parser.add_argument("curves", nargs="*", metavar="curve", help=f"of {', '.join(CURVES)}; all without one")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2, help="per peer, point and round")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--plot", metavar="FILE", type=Path)
    args = parser.parse_args(argv)
    peers = args.peers.split(",")
    unknown = [c for c in args.curves if c not in CURVES] + [p for p in peers if p not in PEERS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")

    found = {}
    for name in args.curves or CURVES:
        found[name] = measure(
            CURVES[name], peers, args.rounds, args.seconds, args.threads, lambda text: print(text, file=sys.stderr, flush=True)
        )
        print(table(CURVES[name], found[name], peers) + "\n", flush=True)
    if args.plot:
        plot(args.plot, found, peers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
