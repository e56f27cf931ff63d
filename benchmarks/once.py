"""One measurement in a process of its own: ``python -m benchmarks.once PEER WORKLOAD SIZES CASE MEASURE THREADS STARTED``.

``STARTED`` is the ``time.monotonic()`` of the one who started the process. Prints one JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any


def main(peer: str, name: str, sizes: str, case: str, measure: str, threads: int, started: float) -> dict[str, Any]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from benchmarks.peers import PEERS, NotAvailable
    from benchmarks.workloads import WORKLOADS

    task = WORKLOADS[name].with_sizes(json.loads(sizes)).task()
    try:
        module = importlib.import_module(f"benchmarks.peers.{PEERS[peer][0]}")
        if measure == "memory":
            return {"value": module.memory(task, case, threads)}
        if not hasattr(module, "first"):
            raise NotAvailable("has nothing to compile")
        imported = time.monotonic()
        module.first(task, case, threads)
        return {"value": time.monotonic() - (imported if measure == "cold" else started)}
    except NotAvailable as error:
        return {"error": str(error)}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answer
    peer, name, sizes, case, measure, threads, started = sys.argv[1:]
    print(json.dumps(main(peer, name, sizes, case, measure, int(threads), float(started))), file=answers)
