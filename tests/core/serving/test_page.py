"""People hear and compare models in a browser, without a request to another host."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from core.serving.browsers import chromium, needs_browser, visit
from core.serving.servers import SAID, SPEECH, Paced, load, paced, running, until
from sottovoce.serving.keys import Keys
from sottovoce.serving.models import ServedModels
from sottovoce.serving.page import mount
from sottovoce.serving.settings import Limits
from sottovoce.transcription.transcript import Segment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    needs_browser,
    # Gradio asks pandas for an option of which that warns.
    pytest.mark.filterwarnings("default:.*no_silent_downcasting"),
]

OTHER = "请把卧室的灯关闭吧"
"""What the original says, in a stand-in: three characters are different."""


class Fixed:
    """Stand-in for a transcriber that always says the same."""

    def steps(self, audio: Any, **options: Any) -> Iterator[Segment]:
        """Yield one segment."""
        yield Segment(text=OTHER, start=0.0, end=2.0)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    samples, rate = soundfile.read(SPEECH)
    microphone = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(microphone, samples, rate, subtype="PCM_16")
    with chromium(microphone) as opened:
        yield opened


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    models = load("tiny-paraformer", aligner="tiny-aligner")
    original = replace(models.first, name="original", transcriber=Fixed())
    served = ServedModels((models.first, original), models.aligner)
    with running(served, page=True, limits=Limits(audio_seconds=60)) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with visit(browser, url) as opened:
        yield opened


def upload(page: Page, *paths: Path, to: str = "input[type=file] >> nth=0") -> None:
    """Choose files, and wait until the page has them."""
    page.wait_for_selector(to, state="attached")
    with page.expect_response(lambda response: "/upload" in response.url):
        page.set_input_files(to, list(paths))


def test_a_recording_is_compared_heard_and_taken_home(page: Page, tmp_path: Path) -> None:
    upload(page, SPEECH)
    page.click("#transcribe-start")
    page.wait_for_selector("#words button[data-start]")
    assert page.inner_text("#text .sv-text") == SAID
    assert page.inner_text("#text-compared .sv-text") == OTHER
    assert page.locator("#text-compared del").all_inner_texts() == ["卧室", "吧"]
    assert page.locator("#text ins").all_inner_texts() == ["客厅"]
    table = page.inner_text("#comparison")
    assert "Differing characters: 3 (33.3%)" in table
    assert table.count("13.2 MB") == 2
    assert table.index("original") < table.index("tiny-paraformer")
    words = page.locator("#words button[data-start]")
    assert "".join(words.all_inner_texts()) == SAID
    # By the keyboard: a word is a button, and it plays from its start to its end.
    words.nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#words audio').currentTime > 0")
    page.wait_for_function("document.querySelector('#words audio').paused")
    stopped = page.evaluate("document.querySelector('#words audio').currentTime")
    assert stopped == pytest.approx(float(words.nth(3).get_attribute("data-end") or 0), abs=0.15)
    with page.expect_download() as downloading:
        page.locator("#files a[download]").filter(has_text="B").nth(2).click()
    downloading.value.save_as(tmp_path / "subtitles")
    assert SAID in (tmp_path / "subtitles").read_text(encoding="utf-8")


def record(page: Page, seconds: float) -> None:
    """Record by the microphone, and wait until the page has the recording."""
    page.get_by_role("button", name="Record", exact=True).first.click()
    page.wait_for_timeout(1000 * seconds)
    with page.expect_response(lambda response: "/upload" in response.url):
        page.get_by_role("button", name="Stop", exact=True).first.click()
    page.get_by_role("button", name="Play").first.wait_for()


def test_a_voice_is_recorded_and_transcribed(page: Page) -> None:
    page.get_by_label("Record audio").first.click()
    record(page, seconds=3.5)
    page.click("#transcribe-start")
    page.wait_for_selector("#comparison table")
    assert set(page.inner_text("#text .sv-text")) & set(SAID)


def test_garbage_is_said_and_the_page_keeps_working(page: Page, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.wav"
    garbage.write_bytes(b"garbage" * 100)
    upload(page, garbage)
    page.click("#transcribe-start")
    page.wait_for_selector("#transcribe-status [role=alert]")
    assert "the audio" in page.inner_text("#transcribe-status")
    assert "/tmp" not in page.inner_text("#transcribe-status")


def test_audio_that_is_too_long_is_refused(page: Page, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", [0.0] * 16000 * 61, 16000)
    upload(page, tmp_path / "long.flac")
    page.click("#transcribe-start")
    page.wait_for_selector("#transcribe-status [role=alert]")
    assert "61 s" in page.inner_text("#transcribe-status")


def test_nothing_to_transcribe_is_said_in_chinese(browser: Browser, url: str) -> None:
    with visit(browser, url, "zh-CN") as page:
        page.get_by_role("button", name="转写").first.click()
        page.wait_for_selector("#transcribe-status [role=alert]")
        assert page.inner_text("#transcribe-status") == "请先选择文件或录音。"
        assert page.get_by_role("tab", name="批量").is_visible()


def test_many_files_become_one_archive_without_those_that_fail(page: Page, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"garbage" * 100)
    page.get_by_role("tab", name="Batch").click()
    other = tmp_path / "test-0001.wav"
    soundfile.write(other, *soundfile.read(SPEECH))
    upload(page, SPEECH, tmp_path / "bad.mp3", other, to="#batch-files input[type=file]")
    page.click("#batch-start")
    page.wait_for_selector("#batch-archive a[download]")
    rows = page.locator("#batch-table tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["test-0001.flac", "bad.mp3", "test-0001.wav"]
    assert page.inner_text("#batch-status") == "Transcribed files: 2 of 3."
    assert SAID in rows[0]
    assert "the audio" in rows[1]
    with page.expect_download() as downloading:
        page.locator("#batch-archive a[download]").first.click()
    downloading.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = set(archive.namelist())
        assert {"test-0001.flac.txt", "test-0001.flac.srt", "test-0001.wav.json"} <= names
        assert json.loads(archive.read("test-0001.flac.json"))["text"] == SAID


def test_words_lie_beside_each_other_on_a_phone(browser: Browser, url: str) -> None:
    with visit(browser, url, viewport={"width": 390, "height": 800}) as page:
        upload(page, SPEECH)
        page.click("#transcribe-start")
        page.wait_for_selector("#words button[data-start]")
        boxes = [word.bounding_box() for word in page.locator("#words button[data-start]").all()]
        ends = [box["x"] + box["width"] for box in boxes if box]
        assert len(ends) == len(SAID)
        assert all(box["x"] >= end - 2 for box, end in zip(boxes[1:], ends, strict=False) if box)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_text_is_aligned(page: Page) -> None:
    page.get_by_role("tab", name="Align").click()
    upload(page, SPEECH, to="input[type=file]:visible, [role=tabpanel]:visible input[type=file]")
    page.locator("#align-text textarea").fill(SAID)
    page.click("#align-start")
    page.wait_for_selector("#align-words button[data-start]")
    assert "".join(page.locator("#align-words button[data-start]").all_inner_texts()) == SAID


def test_two_visitors_get_their_own_texts(browser: Browser, url: str) -> None:
    other = SPEECH.with_name("test-0000.flac")
    with visit(browser, url) as first, visit(browser, url) as second:
        upload(first, SPEECH)
        upload(second, other)
        first.click("#transcribe-start")
        second.click("#transcribe-start")
        for page, text in ((first, SAID), (second, "六三零一四")):
            page.wait_for_selector("#comparison table")
            assert page.inner_text("#text .sv-text") == text


def test_stop_and_leaving_end_the_work(browser: Browser) -> None:
    transcriber = Paced(count=2)
    with running(paced(transcriber), page=True) as url:
        with visit(browser, url) as page:
            upload(page, SPEECH)
            page.click("#transcribe-start")
            transcriber.released.release()
            page.wait_for_selector("#text .sv-text")
            page.get_by_role("button", name="Stop").first.click()
            until(lambda: transcriber.cancelled == 1)
            page.wait_for_function("document.querySelector('#transcribe-status').innerText.includes('Stopped')")
            assert page.inner_text("#text .sv-text")  # what was heard until then stays
            page.click("#transcribe-start")
            until(lambda: transcriber.begun == 2)
        until(lambda: transcriber.cancelled == 2)


def test_files_of_visitors_are_removed(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "_KEPT", (1, 1))
    with running(load("tiny-paraformer"), page=True) as url:
        directory = Path(os.environ["GRADIO_TEMP_DIR"])
        with visit(browser, url) as page:
            upload(page, SPEECH)
            page.click("#transcribe-start")
            page.wait_for_selector("#comparison table")
            assert list(directory.rglob("*.flac"))
        until(lambda: not list(directory.rglob("*.flac")))


def test_with_keys_the_page_asks_for_one(browser: Browser) -> None:
    keys = Keys(("first-secret",))
    with running(load("tiny-paraformer"), page=True, keys=keys) as url, visit(browser, url) as page:
        for key, status in (("wrong-secret", 400), ("first-secret", 200)):
            page.get_by_label("username").fill("me")
            page.get_by_label("password").fill(key)
            with page.expect_response("**/login") as answer:
                page.get_by_role("button", name="Login").click()
            assert answer.value.status == status
        page.wait_for_selector("#transcribe-start")


def test_an_omni_model_is_asked(browser: Browser) -> None:
    with running(load("tiny-omni"), page=True) as url, visit(browser, url) as page:
        page.locator("#ask-question textarea").fill("What does this say?")
        page.click("#ask-start")
        page.wait_for_selector("#answer .sv-text")
        assert page.inner_text("#answer .sv-text")


def test_an_answer_that_ends_at_the_limit_of_tokens_says_so(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    models = load("tiny-omni")
    monkeypatch.setattr(models.first.model.native.generation_config, "max_new_tokens", 1)
    with running(models, page=True) as url, visit(browser, url) as page:
        page.locator("#ask-question textarea").fill("find:MBA")
        page.click("#ask-start")
        page.wait_for_selector("#answer .sv-text")
        page.wait_for_function("document.querySelector('#ask-status').innerText.includes('limit of tokens')")
        assert page.inner_text("#ask-status").startswith("tiny-omni: the answer ends")


class Stopping:
    """Stand-in for a transcriber whose model reaches its limit of tokens."""

    def steps(self, audio: Any, **options: Any) -> Iterator[Segment]:
        """Yield one segment."""
        yield Segment(text=OTHER, start=0.0, end=2.0, cut_off=True)


def test_a_text_that_ends_at_the_limit_of_tokens_says_so(browser: Browser) -> None:
    with running(paced(Stopping()), page=True) as url, visit(browser, url, "zh-CN") as page:
        upload(page, SPEECH)
        page.click("#transcribe-start")
        page.wait_for_selector("#comparison table")
        assert page.inner_text("#transcribe-status").endswith("因达到模型的 token 上限而中断的片段：1。")
        page.get_by_role("tab", name="批量").click()
        upload(page, SPEECH, to="#batch-files input[type=file]")
        page.click("#batch-start")
        page.wait_for_selector("#batch-archive a[download]")
        assert "中断的片段：1。" in page.inner_text("#batch-table tbody tr")
