"""python -m benchmarks [names] [--jitter SEED] [--claims none] [--compare FILE] [--markdown] [--json FILE]"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.report import as_data, as_markdown, old_medians
from benchmarks.runner import Result, Run
from benchmarks.workloads import GROUPS, WORKLOADS, chosen


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Ours and the peers, measured in turns. Every result is checked before it is timed."
    )
    parser.add_argument("names", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; or groups: {', '.join(GROUPS)}; all without one")
    parser.add_argument("--list", action="store_true", help="print the workloads with their goals, and measure nothing")
    parser.add_argument("--cases", help="comma-separated, of forward, backward, loss, train, update")
    parser.add_argument("--peers", help="comma-separated, of " + ", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="per peer, case and round")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="all of it N times in new processes; the best median counts")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--jitter", type=int, metavar="SEED", help="change every size by up to a fifth")
    parser.add_argument("--claims", choices=("default", "none"), default="default", help="none: no kernel that knows its operator, ours only")
    parser.add_argument("--cold", action="store_true", help="start with an empty kernel cache")
    parser.add_argument("--compare", metavar="FILE", help="an earlier --json: also how many times faster ours has become")
    parser.add_argument("--markdown", action="store_true", help="print only the tables, without progress")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, after each workload")
    args = parser.parse_args()

    try:
        workloads = chosen(args.names)
    except KeyError as error:
        parser.error(f"unknown: {error.args[0]}")
    peers = args.peers.split(",") if args.peers else list(PEERS)
    unknown = [p for p in peers if p not in PEERS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    if args.cases:
        workloads = [w.only(args.cases.split(",")) for w in workloads]
    if args.jitter is not None:
        workloads = [w.jittered(args.jitter) for w in workloads]
    if args.list:
        for w in workloads:
            for case, goal in w.cases.items():
                print(f"{w.name + '/' + case:32} {w.describe():90} {goal}")
        return 0
    os.environ["GRAPHC_BENCH_CLAIMS"] = args.claims
    old = old_medians(json.loads(Path(args.compare).read_text(encoding="utf-8"))) if args.compare else None

    def say(text: str) -> None:
        if not args.markdown:
            print(text, file=sys.stderr, flush=True)

    def keep(result: Result) -> None:
        if args.json:
            Path(args.json).write_text(json.dumps(as_data(result, args.threads), indent=1), encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        if args.cold:
            os.environ["GRAPHC_CACHE"] = folder
        result = Run(peers, args.rounds, args.seconds, args.threads, say).run(workloads, args.processes, keep)
    keep(result)
    print(as_markdown(result, args.threads, old))
    return 0


if __name__ == "__main__":
    sys.exit(main())
