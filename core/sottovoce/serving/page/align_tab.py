"""The tab that finds when each word of a text is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio

from sottovoce.errors import SottovoceError
from sottovoce.serving.alignment_route import Aligned, alignment
from sottovoce.serving.jobs import Done
from sottovoce.serving.page import status
from sottovoce.serving.page.downloads import contents_of, words_json
from sottovoce.serving.page.parts import Page, audio_input, files_output, shown_files, stop_button
from sottovoce.serving.page.recording import Recording
from sottovoce.serving.page.texts import language_of, say
from sottovoce.serving.page.words import words_html
from sottovoce.transcription.transcript import Segment, Transcript


def add_tab(page: Page) -> None:
    """Add the tab to the page that is being built."""
    with gradio.Tab(page.label("align"), id="align"):
        gradio.Markdown(page.label("align_hint"))
        with gradio.Row():
            with gradio.Column(scale=2):
                audio = audio_input(page)
            with gradio.Column(scale=1):
                text = gradio.Textbox(label=page.label("text"), lines=3, elem_id="align-text")
                language = gradio.Textbox(label=page.label("language"), max_lines=1)
                start = gradio.Button(page.label("align"), variant="primary", elem_id="align-start")
                stop = stop_button(page)
        state = gradio.HTML(elem_id="align-status")
        words = gradio.HTML(elem_id="align-words", js_on_load=page.script("words.js"))
        files = files_output(page, "align-output")

    def run(path: str | None, said: str, spoken: str, request: gradio.Request) -> Iterator[tuple[Any, ...]]:
        for *values, paths in _align(page, path, said or "", spoken or "", request):
            yield *values, shown_files(paths)

    page.on(start.click, run, [audio, text, language], [state, words, files])
    page.on_stop(stop)


def _align(
    page: Page, path: str | None, text: str, spoken: str, request: gradio.Request
) -> Iterator[tuple[str, str, list[str] | None]]:
    language = language_of(request)
    text = text.strip()
    served = page.service.models.aligner
    if not path or not text or served is None:
        yield status.alert(say("text_missing" if path else "audio_missing", language)), "", None
        return
    yield status.busy(language), "", None
    recording = Recording(Path(path), page.service.settings.limits)
    work = alignment(page.service, served, recording.read, text, spoken.strip() or None)
    try:
        aligned: Aligned = next(event.value for event in page.sessions.run(request, work) if isinstance(event, Done))
    except SottovoceError as error:
        yield status.failure(error, language), "", None
        return
    segment = Segment(text=text, start=0.0, end=aligned.duration, words=aligned.words)
    contents = contents_of(Transcript(segments=(segment,), duration=aligned.duration))
    contents["json"] = words_json(text, aligned.words, aligned.duration)
    yield (
        status.message(""),
        words_html([segment], recording.peaks, path, language),
        page.downloads.files(Path(path).stem, contents),
    )
