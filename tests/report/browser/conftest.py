"""Debian's Chromium, driven as a person would drive it, on one page that holds hostile text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ATTACK = "</script><img src=x onerror=alert(1)>"
FORMULA = "=1+1"  # a spreadsheet would run it
SHOTS = Path(__file__).parents[3] / "reports" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser, or a skip that says what is missing; one driver at a time may run in a process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(NAMES)} is on the path")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def page_file(made_up: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small made-up run with hostile tokens and domains, rendered once."""
    from moeaudit.front import Run
    from moeaudit.store.files import read_table, write_table

    folder = tmp_path_factory.mktemp("explored") / "run"
    shutil.copytree(made_up, folder)
    tokens, documents = (read_table(folder / f"{name}.parquet") for name in ("tokens", "documents"))
    tokens.loc[(tokens["document"] == 0) & (tokens["position"] == 3), "text"] = ATTACK
    for table in (tokens, documents):
        table["domain"] = table["domain"].astype(str).replace({"code": ATTACK, "law": FORMULA})
    write_table(folder / "tokens.parquet", tokens)
    write_table(folder / "documents.parquet", documents)
    went = {"criterion": "reap", "draw": 0, "scope": "layer", "depth": "all", "keep": 0.75}
    (folder / "pruning").mkdir()
    write_table(
        folder / "pruning" / "gone.parquet", pd.DataFrame([{**went, "layer": 1, "expert": 4}])
    )
    return Run.load(folder).report(folder / "page.html")


@dataclass
class Reader:
    """A browser window with the page, and what the page did that it must not do."""

    page: Any
    file: Path
    wrong: list[str] = field(default_factory=list)

    def go(self, fragment: str = "") -> Reader:
        """Load the page anew at a fragment."""
        self.page.goto("about:blank")
        self.page.goto(f"file://{self.file}{fragment}")
        return self

    def open(self, fragment: str = "#map") -> Reader:
        """Load the page and wait until the place is built."""
        self.go(fragment).page.wait_for_selector(".xp-tabs")
        return self

    def alone(self) -> Reader:
        """Take the rest of the page out, which a check of this place alone need not walk through."""
        self.page.evaluate(
            "document.querySelectorAll('main > :not(#tokens), #tokens-still, script').forEach((part) => part.remove())"
        )
        return self

    def follow(self, fragment: str) -> Reader:
        """Go to a fragment of the loaded page."""
        self.page.evaluate("(to) => { location.hash = to; }", fragment)
        return self

    @property
    def place(self) -> Any:
        """The place, apart from the rest of the page."""
        return self.page.locator("#explore")

    @property
    def hash(self) -> str:
        return self.page.evaluate("location.hash")

    @property
    def title(self) -> str:
        """The heading of what is open; empty where nothing is."""
        shown = self.page.locator(".xp-panel:not([hidden]) h3")
        return shown.inner_text() if shown.count() else ""

    def focused(self, what: str) -> str | None:
        """An attribute of what has the focus, or its text."""
        read = "textContent" if what == "text" else f"getAttribute('{what}')"
        return self.page.evaluate(f"document.activeElement.{read}")

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(500)  # the route fades in
        self.page.screenshot(path=str(SHOTS / f"{name}.png"))


@pytest.fixture
def reader_of(browser: Any, page_file: Path) -> Iterator[Any]:
    """Opens windows; at the end none may have asked for anything, failed, or run what text holds."""
    opened: list[tuple[Any, Reader]] = []

    def start(size: tuple[int, int] = DESKTOP, **options: Any) -> Reader:
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(viewport=viewport, **options)
        context.set_offline(True)
        context.set_default_timeout(60_000)  # machines are crowded
        reader = Reader(context.new_page(), page_file)
        note = reader.wrong.append
        reader.page.on("console", lambda m: note(f"{m.type}: {m.text}"))
        reader.page.on("pageerror", lambda e: note(f"error: {e}"))
        reader.page.on("dialog", lambda d: (note(f"dialog: {d.message}"), d.dismiss()))
        reader.page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith(("file:", "data:", "blob:", "about:"))
                else note(f"request: {r.url}")
            ),
        )
        opened.append((context, reader))
        return reader

    yield start
    wrong = [text for _, reader in opened for text in reader.wrong]
    for context, _ in opened:
        context.close()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def reader(reader_of: Any) -> Reader:
    return reader_of()
