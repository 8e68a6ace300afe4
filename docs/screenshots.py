"""Takes the pictures of the page that docs/how-to/serve.md shows: ``python docs/screenshots.py``.

It needs Chromium, Playwright, and a Chinese font such as fonts-wqy-microhei.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

import sottovoce
from sottovoce.serving.app import build_app
from sottovoce.serving.loading import load_models
from sottovoce.serving.run import address_of, build_server, listening
from sottovoce.serving.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
EXAMPLES = DOCS.parent / "examples"
COMMANDS = EXAMPLES / "data" / "mandarin-commands"
COMPARED = "0063"
"""Test clip that the compressed model hears differently."""
BATCH = ("0001", "0002", "0063", "0075")


@contextmanager
def service(model: Path) -> Iterator[str]:
    """Serve a model beside its original, with the aligner."""
    models, settings = EXAMPLES / "models", Settings(port=0)
    original, aligner = (str(models / name) for name in ("tiny-paraformer", "tiny-aligner"))
    with listening(settings) as listener:
        served = load_models(str(model), original, aligner=aligner)
        server = build_server(build_app(served, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            yield address_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def take(page: Page, name: str) -> None:
    """Write a picture of the whole page."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(700)
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)


def compared(page: Page) -> None:
    """Transcribe a clip with both models."""
    page.wait_for_selector("#transcribe-start")
    page.set_input_files("input[type=file] >> nth=0", COMMANDS / "test" / f"test-{COMPARED}.flac")
    page.wait_for_timeout(1500)
    page.click("#transcribe-start")
    page.wait_for_selector("#words button[data-start]")


def batch(page: Page) -> None:
    """Transcribe several files."""
    page.locator("[role=tab]").nth(1).click()
    paths = [COMMANDS / "test" / f"test-{name}.flac" for name in BATCH]
    page.set_input_files("#batch-files input[type=file]", paths)
    page.wait_for_timeout(1500)
    page.click("#batch-start")
    page.wait_for_selector("#batch-archive a[download]")


def main() -> None:
    """Compress the bundled model, serve it, and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        small = Path(directory) / "paraformer-int4"
        model = sottovoce.load(EXAMPLES / "models" / "tiny-paraformer")
        sottovoce.compress(model, "int4", samples=COMMANDS / "calibration.jsonl")
        sottovoce.save(model, small)
        with service(small) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for locale, name in (("en-US", "serve-compare"), ("zh-CN", "serve-compare-zh")):
                page = browser.new_page(locale=locale, viewport={"width": 1000, "height": 600})
                page.goto(url)
                compared(page)
                take(page, name)
                if locale == "en-US":
                    batch(page)
                    take(page, "serve-batch")
                page.close()
            browser.close()


if __name__ == "__main__":
    main()
