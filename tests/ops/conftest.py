"""Fixtures of the operators' tests."""

from __future__ import annotations

import os

import numpy as np
import pytest

TARGETS = os.environ.get("GRAPHC_TEST_TARGETS", "reference").split(",")


@pytest.fixture(params=TARGETS)
def target(request):
    """Each target that can run here."""
    return request.param


@pytest.fixture
def rng():
    """Random numbers that are the same whatever other tests run."""
    return np.random.default_rng(0)
