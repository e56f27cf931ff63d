"""Short forms of the long tests."""

from __future__ import annotations

import pytest

from tests.stress import mutate_files


def test_a_hundred_changed_files():
    results = mutate_files.run(100, seed=1)
    assert sum(results.values()) == 100
    assert sum(n for (_, result), n in results.items() if "refused" in result) > 60


def test_the_script_notices_what_must_not_happen(monkeypatch):
    code = compile("1 + 1", "evil", "exec")
    monkeypatch.setattr(mutate_files.gc.Model, "load_checkpoint", lambda self, path: exec(code))
    with pytest.raises(AssertionError, match="a file made graphc do exec"):
        mutate_files.run(200, seed=1)
