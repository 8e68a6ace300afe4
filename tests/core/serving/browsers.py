"""Chromium without a screen, with a microphone that plays a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(EXECUTABLE is None, reason="the page is tested in Chromium, which is not installed")


@contextmanager
def chromium(microphone: Path | None = None) -> Iterator[Browser]:
    """A browser whose microphone plays a WAV file once."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if microphone is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser, url: str, locale: str = "en-US", **options: Any) -> Iterator[Page]:
    """A visitor's page of a service. It must ask no other host for anything, and show no error in its console."""
    context = browser.new_context(locale=locale, permissions=["microphone"], **options)
    # Longer as Playwright waits: other tests may have the processor.
    context.set_default_timeout(90_000)
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    assert len(asked) > 1
    assert [address for address in asked if not address.startswith((url, "data:", "blob:"))] == []
    assert problems == []
