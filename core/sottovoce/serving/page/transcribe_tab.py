"""The tab that transcribes one recording, and compares two models on it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio

from sottovoce.errors import SottovoceError
from sottovoce.serving.jobs import Ready
from sottovoce.serving.page import status
from sottovoce.serving.page.comparison import Result, plain_text, table_html, texts_html
from sottovoce.serving.page.downloads import contents_of
from sottovoce.serving.page.parts import Page, audio_input, files_output, shown_files, stop_button
from sottovoce.serving.page.recording import Recording
from sottovoce.serving.page.texts import language_of, say
from sottovoce.serving.page.words import words_html
from sottovoce.serving.transcribe import transcription
from sottovoce.transcription.transcript import Segment, Transcript

if TYPE_CHECKING:
    from sottovoce.serving.models import ServedModel


def add_tab(page: Page) -> None:
    """Add the tab to the page that is being built."""
    compared = page.service.models.compared is not None
    takes_hotwords = page.service.models.first.takes_hotwords
    with gradio.Tab(page.label("transcribe"), id="transcribe"):
        with gradio.Row():
            with gradio.Column(scale=2):
                audio = audio_input(page)
            with gradio.Column(scale=1):
                hotwords = gradio.Textbox(label=page.label("hotwords"), visible=takes_hotwords)
                language = gradio.Textbox(label=page.label("language"), max_lines=1)
                start = gradio.Button(page.label("transcribe"), variant="primary", elem_id="transcribe-start")
                stop = stop_button(page)
        state = gradio.HTML(elem_id="transcribe-status")
        with gradio.Row():
            second = gradio.HTML(
                label=page.label("compared"), show_label=True, elem_id="text-compared", container=True, visible=compared
            )
            first = gradio.HTML(
                label=page.label("small" if compared else "result"), show_label=True, elem_id="text", container=True
            )
        table = gradio.HTML(elem_id="comparison")
        words = gradio.HTML(elem_id="words", js_on_load=page.script("words.js"))
        files = files_output(page, "files")

    def run(path: str | None, likely: str, spoken: str, request: gradio.Request) -> Iterator[tuple[Any, ...]]:
        for *values, paths in _transcribe(page, path, likely or "", spoken or "", request):
            yield *values, shown_files(paths)

    page.on(start.click, run, [audio, hotwords, language], [state, first, second, table, words, files])
    page.on_stop(stop)


Values = tuple[str, str, str, str, str, list[str] | None]
"""Status, two texts, table, words and paths of files."""


def _transcribe(page: Page, path: str | None, likely: str, spoken: str, request: gradio.Request) -> Iterator[Values]:
    language = language_of(request)
    if not path:
        yield status.alert(say("audio_missing", language)), "", "", "", "", None
        return
    yield status.busy(language), "", "", "", "", None
    recording = Recording(Path(path), page.service.settings.limits)
    models = page.service.models
    results: list[Result] = []
    texts = ("", "")
    try:
        for served in filter(None, (models.first, models.compared)):
            for line, text in _run(page, served, recording, likely, spoken, results, request):
                texts = (text, "") if not results else (plain_text(results[0].text, language), text)
                yield line, *texts, "", "", None
    except SottovoceError as error:
        # What was heard until then is worth something, as when a visitor stops a long recording.
        yield status.failure(error, language), *texts, "", "", None
        return
    transcript = results[0].transcribed.transcript
    yield (
        status.message(_done(results, language)),
        *texts_html(results, language),
        table_html(results, language),
        words_html(transcript.segments, recording.peaks, path, language),
        page.downloads.files(Path(path).stem, contents_of(transcript)),
    )


def _done(results: list[Result], language: str) -> str:
    """Return what was done, and how many of the texts are unfinished."""
    transcripts = [result.transcribed.transcript for result in results]
    time = sum(result.transcribed.seconds for result in results)
    done = say("done", language, seconds=transcripts[0].duration, time=time)
    count = sum(transcript.cut_off for transcript in transcripts)
    return f"{done} · {say('cut_off', language, count=count)}" if count else done


def _run(
    page: Page,
    served: ServedModel,
    recording: Recording,
    likely: str,
    spoken: str,
    results: list[Result],
    request: gradio.Request,
) -> Iterator[tuple[str, str]]:
    """Yield status and text of one model as it advances; its result is appended to ``results``."""
    language = language_of(request)
    hotwords = tuple(likely.split()) if served.takes_hotwords else ()
    work = transcription(page.service, served, recording.read, hotwords=hotwords, language=spoken.strip() or None)
    segments: list[Segment] = []
    for event in page.sessions.run(request, work):
        if not isinstance(event, Ready):
            results.append(Result(served, event.value))
            return
        if event.value.segment is None:
            continue
        segments.append(event.value.segment)
        text = Transcript(segments=tuple(segments), duration=0.0).text
        line = status.progress(segments[-1].end, event.value.duration, language, served.name)
        yield line, f'<div class="sv-text">{html.escape(text)}</div>'
