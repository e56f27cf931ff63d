"""One folder of kernels for all tests of the CPU backend, kept from run to run unless GRAPHC_CACHE says otherwise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("GRAPHC_CACHE", str(Path(tempfile.gettempdir()) / f"graphc-test-kernels-{os.getuid()}"))


@pytest.fixture(scope="session", autouse=True)
def kernels(request: pytest.FixtureRequest) -> None:
    """Compiles the kernels of all graphs that test modules name in ``to_compile()`` at once: a worker process helps."""
    from contextlib import suppress

    from graphc.backends.cpu.machine.cache import default_cache
    from graphc.backends.cpu.machine_facts import host_facts
    from graphc.backends.cpu.program import PRINTERS, comment_of
    from graphc.errors import GraphcError
    from graphc.passes.pipeline import Settings, lower
    from graphc.schedule.program import schedule_graph

    texts: list[str] = []
    modules = {item.module for item in request.session.items if hasattr(getattr(item, "module", None), "to_compile")}
    for module in sorted(modules, key=lambda m: m.__name__):
        for graph, width in module.to_compile():
            with suppress(GraphcError):  # the test that compiles it will say what is wrong
                facts = host_facts(width)
                low = lower(graph, Settings(facts.width, {}, may_choose=bool(graph.updates)))
                s = schedule_graph(low.graph, low.layouts)
                texts += [PRINTERS[i.nest.kind](i.nest, s.buffers, facts, comment_of(i, s.graph)).text for i in s.launches()]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if int(worker.removeprefix("gw")) % 2:
        texts.reverse()  # two processes of tests begin at either end and take over what the other has done
    with suppress(GraphcError):
        default_cache().get(texts)
