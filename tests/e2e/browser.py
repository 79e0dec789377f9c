"""A real browser, without a window, on the pages that runs write."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """This machine's Chromium; tests that want it are skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on the PATH: apt install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page and what it did on its own."""

    page: Page
    asked: list[str] = field(default_factory=list)
    """URLs of everything that it loaded or tried to."""
    faults: list[str] = field(default_factory=list)
    """Errors of its scripts, and what its policy kept from running."""

    @property
    def read(self) -> list[Path]:
        """Files that it read; fails where it asked for anything else."""
        assert all(url.startswith("file:") for url in self.asked), self.asked
        return [Path(unquote(urlparse(url).path)) for url in self.asked]

    def texts(self, selector: str) -> list[str]:
        """Texts of all elements that fit, in order."""
        return self.page.locator(selector).all_text_contents()


@contextmanager
def opened(browser: Browser, file: Path, behind: str = "") -> Iterator[Opened]:
    """The page in `file` when it has read its run; `behind`: the address's part behind #."""
    page = browser.new_page(viewport={"width": 1440, "height": 950})
    page.set_default_timeout(20_000)
    made = Opened(page)
    page.on("request", lambda request: made.asked.append(request.url))
    page.on("pageerror", lambda error: made.faults.append(str(error)))
    page.on("console", lambda said: made.faults.append(said.text) if said.type == "error" else None)
    page.goto(f"{file.resolve().as_uri()}{behind and '#'}{behind}")
    page.wait_for_selector("body[data-ready]", state="attached")
    yield made
    page.close()
