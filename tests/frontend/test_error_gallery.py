"""docs/errors.md is what graphc says now, and every message in it says what, where and what to do."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import graphc as gc
from tests.frontend.error_gallery import Entry, entries, page

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> list[Entry]:
    monkeypatch = pytest.MonkeyPatch()
    request.addfinalizer(monkeypatch.undo)
    monkeypatch.delenv("GRAPHC_TRACEBACK", raising=False)
    return entries()


def test_the_page_is_up_to_date(found: list[Entry]):
    assert page(found) == PAGE.read_text(encoding="utf-8"), "run: python -m tests.frontend.error_gallery docs/errors.md"


def test_the_page_shows_thirty_mistakes_or_more(found: list[Entry]):
    assert len({type(e.error) for e in found}) >= 12 and len(found) >= 30


def test_messages_say_what_where_and_what_to_do(found: list[Entry]):
    for e in found:
        if not isinstance(e.error, gc.GraphcError):
            assert "your own code" in e.mistake.title
            continue
        assert e.error.message and e.error.hint, e.text
        assert any("train.py:" in line for line in e.error.where), e.text


def test_tracebacks_show_the_script_only(found: list[Entry]):
    for e in found:
        assert {f.filename for f in traceback.extract_tb(e.error.__traceback__)} == {"train.py"}, e.text
        assert e.error.__cause__ is None and e.error.__context__ is None


def test_no_path_of_this_machine_and_no_address(found: list[Entry]):
    text = page(found)
    for word in ("/tmp", "/home", "/root", "site-packages", " at 0x", str(Path.cwd())):
        assert word not in text
