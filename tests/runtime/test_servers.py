"""Short forms of the scripts on servers, neighbours and idle processes."""

from __future__ import annotations

import os

import pytest

from tests.stress import neighbours, prefork_server

from .common import PATIENCE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_server_that_forks_its_workers():
    forked, _ = prefork_server.run(2, 60, lives=25, patience=PATIENCE)
    assert forked >= 5  # 120 answers of at most 25 each


def test_the_server_notices_another_answer(monkeypatch):
    model = prefork_server.make()
    wrong = []

    class Wrong:
        def __getattr__(self, name):
            return getattr(model, name)

        def predict(self, x):
            wrong.append(1)
            return model.predict(x) + (len(wrong) > 20)

    monkeypatch.setattr(prefork_server, "make", Wrong)
    with pytest.raises(AssertionError, match="another answer"):
        prefork_server.run(2, 60, patience=PATIENCE)


def test_two_trainings_at_once_both_end():
    assert len(neighbours.training(2, 30, 64, patience=PATIENCE)) == 2


def test_an_idle_model_takes_no_time():
    assert neighbours.idle(3.0) < 0.1  # of the CPU: others do not count
