"""The tab that transcribes many files."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio

from sottovoce.errors import SottovoceError
from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.jobs import Done, Ready
from sottovoce.serving.page import status
from sottovoce.serving.page.parts import Page, files_output, shown_files, stop_button
from sottovoce.serving.page.recording import Recording
from sottovoce.serving.page.texts import language_of, say
from sottovoce.serving.transcribe import transcription
from sottovoce.transcription.transcript import Transcript


def add_tab(page: Page) -> None:
    """Add the tab to the page that is being built."""
    with gradio.Tab(page.label("batch"), id="batch"):
        gradio.Markdown(page.label("batch_hint"))
        uploads = gradio.File(label=page.label("files"), file_count="multiple", type="filepath", elem_id="batch-files")
        with gradio.Row():
            start = gradio.Button(page.label("transcribe"), variant="primary", elem_id="batch-start")
            stop = stop_button(page)
        state = gradio.HTML(elem_id="batch-status")
        table = gradio.HTML(elem_id="batch-table")
        archive = files_output(page, "batch-archive")

    def run(paths: list[str] | None, request: gradio.Request) -> Iterator[tuple[Any, ...]]:
        for *values, path in _transcribe(page, paths or [], request):
            yield *values, shown_files([path] if path else None)

    page.on(start.click, run, [uploads], [state, table, archive])
    page.on_stop(stop)


def _transcribe(page: Page, paths: Sequence[str], request: gradio.Request) -> Iterator[tuple[str, str, str | None]]:
    language = language_of(request)
    if not paths:
        yield status.alert(say("audio_missing", language)), "", None
        return
    rows: list[tuple[str, str]] = []
    transcripts: list[tuple[str, Transcript]] = []
    for path in map(Path, paths):
        yield status.busy(language), _table(rows, language), None
        recording = Recording(path, page.service.settings.limits)
        work = transcription(page.service, page.service.models.first, recording.read)
        try:
            for event in page.sessions.run(request, work):
                if isinstance(event, Ready) and event.value.segment is not None:
                    line = status.progress(event.value.segment.end, event.value.duration, language, path.name)
                    yield line, _table(rows, language), None
                elif isinstance(event, Done):
                    transcript = event.value.transcript
                    transcripts.append((path.name, transcript))
                    rows.append((path.name, _text(transcript, language)))
        except SottovoceError as error:
            if isinstance(error, ApiError) and error.code == "cancelled":
                break
            # The other files are worth something without this one.
            rows.append((path.name, f'<span class="sv-error">{html.escape(str(error))}</span>'))
    archive = page.downloads.archive(transcripts) if transcripts else None
    done = say("transcribed", language, done=len(transcripts), total=len(paths))
    yield status.message(done), _table(rows, language), archive


def _text(transcript: Transcript, language: str) -> str:
    """Return a text as HTML, with how many of its segments are unfinished."""
    text = html.escape(transcript.text) or say("nothing", language)
    if not transcript.cut_off:
        return text
    return f'{text} <span class="sv-error">{html.escape(say("cut_off", language, count=transcript.cut_off))}</span>'


def _table(rows: Sequence[tuple[str, str]], language: str) -> str:
    head = "".join(f'<th scope="col">{say(key, language)}</th>' for key in ("file", "result"))
    body = "".join(f'<tr><th scope="row">{html.escape(name)}</th><td>{text}</td></tr>' for name, text in rows)
    return f'<table class="sv"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>' if rows else ""
