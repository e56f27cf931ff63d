"""python -m benchmarks [names] [--markdown] [--json FILE] [--rounds N]"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile

from benchmarks.peers import PEERS
from benchmarks.report import as_data, as_markdown
from benchmarks.runner import run
from benchmarks.workloads import WORKLOADS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours and the peers, measured in turns.")
    parser.add_argument("names", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; all without one")
    parser.add_argument("--peers", help="comma-separated, of " + ", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="per peer, case and round")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--jitter", type=int, metavar="SEED", help="change every size by up to a fifth")
    parser.add_argument("--cold", action="store_true", help="start with an empty kernel cache")
    parser.add_argument("--markdown", action="store_true", help="print only the tables, without progress")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    args = parser.parse_args()

    unknown = [n for n in args.names if n not in WORKLOADS]
    peers = args.peers.split(",") if args.peers else list(PEERS)
    unknown += [p for p in peers if p not in PEERS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    workloads = [WORKLOADS[n] for n in args.names or WORKLOADS]
    if args.jitter is not None:
        workloads = [w.jittered(args.jitter) for w in workloads]

    def say(text: str) -> None:
        if not args.markdown:
            print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        if args.cold:
            os.environ["GRAPHC_CACHE"] = folder
        result = run(workloads, peers, args.rounds, args.seconds, args.threads, say)
    print(as_markdown(result, args.threads))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(as_data(result, args.threads), file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
