"""The main example runs and learns."""

from __future__ import annotations

import pytest

from tests.examples import load


def test_digits(target, tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    accuracy = load("digits_mlp").main(["--target", target, "--quick", "--out", str(tmp_path)])
    assert accuracy > 0.93
    out = capsys.readouterr().out
    for text in ("body.0 (Linear)", "passes of train_step", "kernels of train_step", "epoch 5/5", "test accuracy"):
        assert text in out
    assert (tmp_path / "model.graphc").stat().st_size > 300_000
    assert (tmp_path / "model.html").read_text().startswith("<!doctype html>")
    assert list((tmp_path / "stages").glob("train_step.*"))
