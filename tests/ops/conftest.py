"""Fixtures of the operators' tests."""

from __future__ import annotations

import os

import pytest

TARGETS = os.environ.get("GRAPHC_TEST_TARGETS", "reference").split(",")


@pytest.fixture(params=TARGETS)
def target(request):
    """Each target that can run here."""
    return request.param
