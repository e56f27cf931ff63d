"""The pages "coming from PyTorch" and "coming from Keras": their scripts run, and print what the page says.

The pages are the only place where the scripts stand. A section with a pair has two blocks of Python, theirs and ours, and a block of
text with what both print. Numbers agree to one unit of their last printed place.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.folders import ROOT

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
PACKAGES = {"pytorch": "torch", "keras": "keras"}


@dataclass(frozen=True)
class Pair:
    page: str
    title: str
    shared: str
    theirs: str
    ours: str
    printed: str

    @property
    def first(self) -> str:
        """The side that runs first: ours, unless it reads a file that theirs writes."""
        written = re.findall(r'save\w*\((?:.*, )?"([^"]+)"', self.theirs)
        return "theirs" if any(re.search(rf'load\w*\("{re.escape(f)}"', self.ours) for f in written) else "ours"


def pairs(page: str) -> list[Pair]:
    text = (ROOT / f"docs/coming_from_{page}.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    found, shared = [], ""
    for section in sections:
        code = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        printed = re.findall(r"^```text\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        if printed:
            theirs, ours = code
            found.append(Pair(page, section.splitlines()[0], shared, theirs, ours, printed[0]))
        else:
            shared += "\n".join(code)
    return found


PAIRS = [pair for page in PACKAGES for pair in pairs(page)]


def name(pair: Pair) -> str:
    return f"{pair.page}-{pair.title.split('.')[0]}"


CASES = [pytest.param(pair, id=name(pair), marks=() if pair.title.startswith("1.") else pytest.mark.slow) for pair in PAIRS]


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """``printed(pair, side)``: what a script prints; the side that comes first has run before."""
    done: dict[tuple[str, str, str], str] = {}
    folders: dict[tuple[str, str], Path] = {}

    def run(pair: Pair, side: str) -> str:
        key = (pair.page, pair.title, side)
        if side != pair.first:
            run(pair, pair.first)
        if key in done:
            return done[key]
        if side == "theirs" and importlib.util.find_spec(PACKAGES[pair.page]) is None:
            pytest.skip(f"{PACKAGES[pair.page]} is not installed: pip install -r tests/oracles.txt")
        pytest.importorskip("sklearn", reason="the scripts read scikit-learn's digits")
        folder = folders.setdefault(key[:2], tmp_path_factory.mktemp(name(pair)))
        (folder / f"{side}.py").write_text(pair.shared + "\n" + getattr(pair, side), encoding="utf-8")
        environment = os.environ | {"KERAS_BACKEND": "jax"}
        result = subprocess.run([sys.executable, f"{side}.py"], cwd=folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        done[key] = result.stdout
        return result.stdout

    return run


def check(got: str, said: str) -> None:
    assert NUMBER.sub("#", got).split() == NUMBER.sub("#", said).split(), got
    for a, b in zip(NUMBER.findall(got), NUMBER.findall(said), strict=True):
        place = 10.0 ** -len(b.partition(".")[2])
        assert abs(float(a) - float(b)) < 1.01 * place if "." in b else a == b, f"{a} is not {b}\n{got}"


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("pair", CASES)
def test_a_script_prints_what_the_page_says(pair, side, printed):
    check(printed(pair, side), pair.printed)


def test_numbers_are_compared_to_their_last_place():
    check("loss 1.2346 in epoch 3\n", "loss 1.2345  in epoch 3")
    for wrong in ("loss 1.2347 in epoch 3", "loss 1.2345 in epoch 4", "lose 1.2345 in epoch 3", "loss 1.2345"):
        with pytest.raises(AssertionError):
            check(wrong, "loss 1.2345 in epoch 3")


@pytest.mark.parametrize("page", PACKAGES)
def test_the_pages_are_whole(page):
    text = (ROOT / f"docs/coming_from_{page}.md").read_text(encoding="utf-8")
    assert len(pairs(page)) >= 5
    headings = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", text, re.MULTILINE)}
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link[1:] in headings if link.startswith("#") else (ROOT / "docs" / link).exists(), link
