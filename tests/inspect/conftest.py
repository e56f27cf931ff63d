"""A headless browser for reports: Debian's chromium-headless-shell or chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import graphc as gc
from graphc.inspect.html import write_page
from tests.inspect.nets import data_of

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def browser_path() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser that runs; the test is skipped where there is none.

    It ends with its module: while playwright is open an event loop runs in this thread, and tests that start one of their own would fail.
    """
    path = browser_path()
    if path is None:
        pytest.skip("no browser: apt-get install chromium-headless-shell")
    sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright drives the browser")
    with sync_api.sync_playwright() as p:
        # root has no sandbox; without --disable-gpu some machines without a screen warn
        running = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


class Page:
    """An open report: its page, and what it complained about or asked of the network."""

    def __init__(self, browser: Any, path: Path, hash: str = "", dark: bool = False):
        self.path = path
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": 1500, "height": 950}, color_scheme="dark" if dark else "light")
        self.page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.complaints.append(f"error: {e}"))
        self.page.on("dialog", lambda d: (self.complaints.append(f"dialog: {d.message}"), d.dismiss()))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(path.as_uri() + hash)
        self.page.wait_for_function("document.documentElement.dataset.ready !== undefined")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def js(self, code: str, argument: Any = None) -> Any:
        """The value of an expression; ``r`` is the report."""
        return self.page.evaluate(f"(argument) => {{ const r = window.graphcReport; return ({code}); }}", argument)

    def stage(self, key: str) -> None:
        self.page.click(f'#stages [data-stage="{key}"]')

    def boxes(self) -> list[str]:
        """The labels of all boxes that are drawn, frames left out."""
        return self.js("r.cy.nodes().filter(n => !n.isParent()).map(n => n.data('label'))")

    def at(self, id: str) -> tuple[float, float]:
        """Where a box is on the screen."""
        self.js("void r.cy.center(r.cy.getElementById(argument))", id)
        x, y = self.js("(p => [p.x, p.y])(r.cy.getElementById(argument).renderedPosition())", id)
        corner = self.page.locator("#graph").bounding_box()
        return corner["x"] + x, corner["y"] + y

    def click_box(self, id: str, times: int = 1) -> None:
        self.page.mouse.click(*self.at(id), click_count=times, delay=20)
        self.page.wait_for_timeout(50)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def fine(self) -> None:
        """Nothing was logged, no script failed, nothing but the file was asked for."""
        assert not self.complaints, self.complaints
        foreign = [u for u in self.requests if not u.startswith((self.path.as_uri(), "data:", "blob:"))]
        assert not foreign, foreign


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """``open_page(data)`` opens a report of data (or of a model, by its name); what it complains about fails the test."""
    opened: list[Page] = []

    def open_it(data: Any = "mlp", hash: str = "", dark: bool = False, check: bool = True) -> Page:
        path = data if isinstance(data, Path) else tmp_path / f"report{len(opened)}.html"
        if not isinstance(data, Path):
            write_page(path, data_of(data) if isinstance(data, str) else data)
        page = Page(browser, path, hash, dark)
        page.checked = check
        opened.append(page)
        return page

    yield open_it
    for page in opened:
        if page.checked:
            page.fine()
        page.page.close()


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    gc.set_seed(0)
    yield
