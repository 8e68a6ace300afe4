"""Tools for MCP clients, served by Gradio beside the page: the same work, queue and limits as the API's."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio

from sottovoce.samples.languages import find_language
from sottovoce.serving.alignment_route import Aligned, alignment, words_of
from sottovoce.serving.api_errors import ApiError, as_api_error
from sottovoce.serving.chat_route import answer
from sottovoce.serving.transcribe import Transcribed, transcription
from sottovoce.serving.uploads import read_limited
from sottovoce.transcription.files import FORMATS, to_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.samples import Prediction
    from sottovoce.serving.page.parts import Page

Tool = Callable[..., Awaitable[str]]


def add_tools(page: Page, directory: Path) -> None:
    """Add the tools of what the models do to the page that is being built.

    Args:
        page: The page.
        directory: Directory of the files that visitors uploaded.
    """
    models = page.service.models
    tools = []
    if models.first.transcribes:
        tools.append(_transcribe_tool(page, directory))
    if models.aligner is not None:
        tools.append(_align_tool(page, directory))
    if models.first.converses:
        tools.append(_ask_tool(page, directory))
    for tool in tools:
        # Not in Gradio's queue: requests wait for the model in the service's.
        gradio.api(_answering(tool), queue=False)


class _ToolError(gradio.Error):  # type: ignore[misc]
    """Error whose text is its sentence: that of Gradio's own has quotation marks around it."""

    def __str__(self) -> str:
        return str(self.message)


def _answering(tool: Tool) -> Tool:
    """Return a tool whose errors reach its caller as they are; Gradio hides others, and prints them to the log."""

    @functools.wraps(tool)
    async def answer_errors(*arguments: Any, **named: Any) -> str:
        try:
            return await tool(*arguments, **named)
        except Exception as error:
            raise _ToolError(str(as_api_error(error)), print_exception=False) from None

    return answer_errors


def _transcribe_tool(page: Page, directory: Path) -> Tool:
    async def transcribe(audio: str, language: str = "", hotwords: str = "", format: str = "txt") -> str:
        """Write down what is said in a recording, in its own language.

        Args:
            audio: The recording, as the base64 of an audio file (WAV, FLAC, MP3, OGG and others) or a data: URL of it;
                or the path that an upload to this server returned.
            language: Name or ISO code of what is spoken, such as Chinese or zh; empty if it is not known.
            hotwords: Words that are likely, such as names, with spaces between them; for models that take them.
            format: txt for the text alone, json for times and words, srt or vtt for subtitles, tsv for a table.
        """
        if format not in FORMATS:
            raise ApiError(400, f"format={format[:40]!r} is unknown; choose {', '.join(FORMATS)}")
        likely = tuple(hotwords.split())
        served = page.service.models.first
        if likely and not served.takes_hotwords:
            raise ApiError(400, f"the model {served.name} takes no hotwords")
        read = _reader(page, directory, audio)
        work = transcription(page.service, served, read, hotwords=likely, language=_language(language))
        transcribed: Transcribed = await page.service.result(None, work)
        text = to_text(transcribed.transcript, format)
        # The other formats are files, of which JSON has it.
        return _finished(text, format == "txt" and transcribed.transcript.cut_off > 0)

    return transcribe


def _align_tool(page: Page, directory: Path) -> Tool:
    async def align(audio: str, text: str, language: str = "") -> str:
        """Find when each word of a known text is said in a recording; return the words with their times as JSON.

        Args:
            audio: The recording, as the base64 of an audio file (WAV, FLAC, MP3, OGG and others) or a data: URL of it;
                or the path that an upload to this server returned.
            text: What is said in the recording, word for word.
            language: Name or ISO code of what is spoken, such as Chinese or zh; empty if it is not known.
        """
        served = page.service.models.aligner
        if served is None or not text.strip():
            raise ApiError(400, "the text with what is said is missing")
        work = alignment(page.service, served, _reader(page, directory, audio), text.strip(), _language(language))
        aligned: Aligned = await page.service.result(None, work)
        return json.dumps({"duration": aligned.duration, "words": words_of(aligned)}, ensure_ascii=False)

    return align


def _ask_tool(page: Page, directory: Path) -> Tool:
    async def ask(question: str, audio: str = "") -> str:
        """Answer a question, about a recording if one is given.

        Args:
            question: The question, or what to do with the recording.
            audio: The recording, as the base64 of an audio file (WAV, FLAC, MP3, OGG and others) or a data: URL of it;
                or the path that an upload to this server returned; empty for none.
        """
        if not (question.strip() or audio):
            raise ApiError(400, "the question is missing; write one, or send a recording to answer")
        content: list[dict[str, Any]] = []
        if audio:
            # Not in the thread that serves all callers.
            content.append({"type": "audio", "audio": await asyncio.to_thread(_reader(page, directory, audio))})
        if question.strip():
            content.append({"type": "text", "text": question.strip()})
        messages = [{"role": "user", "content": content}]
        prediction: Prediction = await page.service.result(
            None, answer(page.service, page.service.models.first, messages)
        )
        return _finished(prediction.text or "", prediction.cut_off)

    return ask


def _finished(text: str, is_cut_off: bool) -> str:
    """Return a text, with a line where it is not all of it."""
    return f"{text.rstrip()}\n[Not finished: the model's limit of tokens was reached.]\n" if is_cut_off else text


def _reader(page: Page, directory: Path, audio: str) -> Callable[[], NDArray[np.float32]]:
    """Return a function that decodes the audio, for a thread of work."""
    limits = page.service.settings.limits
    if (path := _uploaded(directory, audio)) is not None:
        return lambda: read_limited(path, limits)
    try:
        content = base64.b64decode(audio.partition(",")[2] if audio.startswith("data:") else audio, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise ApiError(400, "audio must be the base64 of an audio file, and not empty; this service fetches nothing")

    def read() -> NDArray[np.float32]:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            return read_limited(file, limits)

    return read


def _uploaded(directory: Path, audio: str) -> Path | None:
    """Return the path of an upload; ``None`` for all else, such as another file of this machine."""
    if len(audio) > 4096 or "\0" in audio or not audio.startswith(str(directory)):
        return None
    path = Path(audio).resolve()
    return path if path.is_relative_to(directory.resolve()) and path.is_file() else None


def _language(language: str) -> str | None:
    if language and find_language(language) is None:
        raise ApiError(400, f"{language[:40]!r} is not a language; give a name or an ISO code, such as zh")
    return language or None
