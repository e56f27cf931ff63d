"""Short forms of the long tests."""

from __future__ import annotations

import sys

import pytest

from tests.stress import kill_training, mutate_files


def test_a_hundred_changed_files():
    results = mutate_files.run(100, seed=1)
    assert sum(results.values()) == 100
    assert sum(n for (_, result), n in results.items() if "refused" in result) > 60


def test_the_script_notices_what_must_not_happen(monkeypatch):
    code = compile("1 + 1", "evil", "exec")
    monkeypatch.setattr(mutate_files.gc.Model, "load_checkpoint", lambda self, path: exec(code))
    with pytest.raises(AssertionError, match="a file made graphc do exec"):
        mutate_files.run(200, seed=1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_three_kills():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    seen = kill_training.run(3, seed=2)
    assert seen["kills"] == 3 and seen["trainings"] >= 1
