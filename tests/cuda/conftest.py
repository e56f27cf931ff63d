"""Tests marked ``gpu`` run where a GPU can be used. GRAPHC_TEST_MADE_UP_GPU=1 runs them on the made-up one, which shows that they work."""

from __future__ import annotations

import os

import pytest

import graphc as gc

MADE_UP = os.environ.get("GRAPHC_TEST_MADE_UP_GPU") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = "" if MADE_UP or not any(i.get_closest_marker("gpu") for i in items) else gc.cuda.why_not()
    for item in items if why else ():
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(autouse=True)
def made_up_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if MADE_UP and request.node.get_closest_marker("gpu"):
        from graphc.backends.cuda import gpu

        from .fake_gpu import fake_gpu

        made = fake_gpu()
        monkeypatch.setattr(gpu, "open_gpu", lambda index=0: made)
