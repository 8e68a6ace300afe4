"""The tab that asks a model about text, audio and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio

from sottovoce.errors import SottovoceError
from sottovoce.samples import Prediction
from sottovoce.serving.chat_route import answer
from sottovoce.serving.jobs import Done
from sottovoce.serving.page import status
from sottovoce.serving.page.comparison import marked_block, plain_text
from sottovoce.serving.page.differences import marked
from sottovoce.serving.page.parts import Page, audio_input, stop_button
from sottovoce.serving.page.texts import language_of, say
from sottovoce.serving.uploads import read_limited


def add_tab(page: Page) -> None:
    """Add the tab to the page that is being built."""
    compared = page.service.models.compared is not None
    with gradio.Tab(page.label("conversation"), id="conversation"):
        gradio.Markdown(page.label("conversation_hint"))
        with gradio.Row():
            audio = audio_input(page)
            image = gradio.Image(label=page.label("image"), type="pil", elem_id="ask-image", buttons=[])
        question = gradio.Textbox(label=page.label("question"), lines=2, elem_id="ask-question")
        with gradio.Row():
            start = gradio.Button(page.label("ask"), variant="primary", elem_id="ask-start")
            stop = stop_button(page)
        state = gradio.HTML(elem_id="ask-status")
        with gradio.Row():
            second = gradio.HTML(label=page.label("compared"), show_label=True, container=True, visible=compared)
            first = gradio.HTML(
                label=page.label("small" if compared else "answer"), show_label=True, elem_id="answer", container=True
            )

    def run(path: str | None, picture: Any, text: str, request: gradio.Request) -> Iterator[tuple[str, str, str]]:
        yield from _ask(page, path, picture, text or "", request)

    page.on(start.click, run, [audio, image, question], [state, first, second])
    page.on_stop(stop)


def _ask(
    page: Page, path: str | None, picture: Any, text: str, request: gradio.Request
) -> Iterator[tuple[str, str, str]]:
    language = language_of(request)
    if not (path or picture is not None or text.strip()):
        yield status.alert(say("question_missing", language)), "", ""
        return
    yield status.busy(language), "", ""
    answers: list[str] = []
    unfinished: list[str] = []
    try:
        content = _content(page, path, picture, text)
        for served in filter(None, (page.service.models.first, page.service.models.compared)):
            work = answer(page.service, served, [{"role": "user", "content": content}])
            prediction: Prediction = next(
                event.value for event in page.sessions.run(request, work) if isinstance(event, Done)
            )
            answers.append(prediction.text or "")
            if prediction.cut_off:
                unfinished.append(say("answer_cut_off", language, model=served.name))
            yield status.busy(language), plain_text(answers[0], language), ""
    except SottovoceError as error:
        # The first answer is worth something, as when a visitor stops the second.
        yield status.failure(error, language), plain_text(answers[0], language) if answers else "", ""
        return
    done = status.message(" ".join(unfinished))
    if len(answers) == 1:
        yield done, plain_text(answers[0], language), ""
        return
    original, compressed = marked(answers[1], answers[0])
    yield done, marked_block(compressed, language), marked_block(original, language)


def _content(page: Page, path: str | None, picture: Any, text: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if path:
        content.append({"type": "audio", "audio": read_limited(Path(path), page.service.settings.limits)})
    if picture is not None:
        content.append({"type": "image", "image": picture})
    if text.strip():
        content.append({"type": "text", "text": text.strip()})
    return content
