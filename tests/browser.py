"""A real browser on a page from disk, without a network."""

import contextlib
from pathlib import Path

import pytest

_CHROMIUM = Path("/usr/bin/chromium")

needed = pytest.mark.skipif(not _CHROMIUM.exists(), reason="no Chromium in /usr/bin")


@contextlib.contextmanager
def offline_page(path, width, scheme):
    """The page of a file; that it has said nothing and is not too wide is asserted at the end."""
    from playwright.sync_api import sync_playwright

    said = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        shown = context.new_page()
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.goto(Path(path).as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        yield shown
        browser.close()
    assert said == []
