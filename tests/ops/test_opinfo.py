"""PyTorch's operator database, up to some 20 samples an entry in float64; ``python -m tests.ops.opinfo docs/opinfo.md`` runs all."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is the oracle: pip install -r tests/oracles.txt")
pytest.importorskip("expecttest", reason="torch's operator database needs it: pip install -r tests/oracles.txt")

from tests.ops.opinfo import database, ours, run_operator
from tests.ops.opinfo_table import LEFT_OUT, REASONS

ENTRIES = [e for e in database() if ours(e.name) is not None]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.name}-{e.variant_test_name}".rstrip("-"))
def test_samples_are_equal_or_explained(entry):
    outcome = run_operator(entry, "float64", limit=20)
    assert not outcome.failures, "\n".join(outcome.failures[:5])


def test_reasons_name_operators_of_the_database():
    names = {e.name for e in database()}
    assert set(REASONS) | set(LEFT_OUT) <= names | {"*"}, sorted((set(REASONS) | set(LEFT_OUT)) - names)
