"""Curves in the terminal: what is drawn where, and when."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, nn
from graphc.frontend.callbacks.curves import DOTS, drawn

SCRIPT = """
import numpy as np, graphc as gc
from graphc import callbacks, nn
model = gc.compile(nn.Linear(3, 1), gc.spec("N", 3), loss="mse", optimizer="sgd", target="reference")
x = np.ones((8, 3))
model.fit(x, x[:, :1], epochs=4, callbacks=[callbacks.LivePlot(height=3)])
print("done")
"""


def dots(text: str, height: int) -> set[tuple[int, int]]:
    """The dots of a panel, (x, y) from the upper left corner."""
    out = set()
    for row, line in enumerate(text.splitlines()[1 : 1 + height]):
        for column, c in enumerate(line[11:]):
            bits = ord(c) - 0x2800
            out |= {(2 * column + dx, 4 * row + dy) for dy in range(4) for dx in range(2) if bits & DOTS[dy][dx]}
    return out


def test_a_line_falls_from_corner_to_corner():
    text = str(drawn({"loss": [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]}, 10, 5))
    assert dots(text, 5) == {(i, i) for i in range(20)}
    lines = text.splitlines()
    assert lines[0].split() == ["loss", "1"] and lines[1].startswith("         4 ") and lines[5].startswith("         1 ")
    assert lines[6].split() == ["1", "epoch", "4"] and len(lines) == 7 and {len(line) for line in lines[1:]} == {21}


def test_two_curves_share_an_axis():
    text = drawn({"loss": [(1, 2.0), (3, 0.0)], "val_loss": [(1, 1.0), (3, 1.0)]}, 8, 3)
    assert {(0, 0), (15, 11)} <= dots(str(text), 3) and {(x, 6) for x in range(16)} <= dots(str(text), 3)
    assert {s.style for s in text.spans} == {"cyan", "yellow"} and "val_loss 1" in str(text)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0, 2.0], [1.0, float("nan"), 3.0], [float("inf"), 1.0], [float("nan")], [1e-30, 1e30], [-5.0, 5.0]])
def test_any_values_make_a_panel(values):
    text = str(drawn({"loss": list(enumerate(values, 1))}, 12, 4))
    assert len(text.splitlines()) == 6 and all(0 <= x < 24 and 0 <= y < 16 for x, y in dots(text, 4))


def fitted(**options):
    model = gc.compile(nn.Linear(3, 1), gc.spec("N", 3), loss="mse", optimizer="sgd", metrics=["mae"], target="reference")
    x = np.ones((8, 3))
    model.fit(x, x[:, :1], epochs=3, validation_split=0.25, callbacks=[callbacks.LivePlot(**options)], verbose=1)


def test_without_a_terminal_there_are_lines_and_a_last_picture(capsys):
    fitted(names=["loss", "mae"], height=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["1/3", "2/3", "3/3"]  # its own, and no second bar's
    assert len(lines) == 3 + 2 * 6 and "val_loss" in lines[3] and "val_mae" in lines[9]


def test_mistakes():
    with pytest.raises(gc.ArgumentError, match="no 'acc' in the logs") as caught:
        fitted(names=["acc"])
    assert "loss, mae" in str(caught.value)
    for options in ({"names": "loss"}, {"names": []}, {"height": 1}, {"height": 2.5}):
        with pytest.raises(gc.ArgumentError, match=next(iter(options))):
            callbacks.LivePlot(**options)


def test_in_a_terminal_the_picture_is_redrawn(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "60"})
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    text = said.decode()
    assert done.wait() == 0 and text.rstrip().endswith("done")
    assert text.count("epoch 4") >= 2 and "\x1b[2K" in text and "epoch 4/4" in text  # drawn over, with a bar
    assert "epoch 4" in text.rpartition("\x1b[2K")[2]  # and left there at the end
