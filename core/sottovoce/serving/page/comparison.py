"""Two models on the same audio: their texts, and a table of what each took."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.report.number_format import size
from sottovoce.serving.models import ServedModel
from sottovoce.serving.page.differences import distance, marked
from sottovoce.serving.page.texts import say
from sottovoce.serving.transcribe import Transcribed
from sottovoce.transcription.files import to_text


@dataclass(frozen=True)
class Result:
    """Transcript of one model, and its time."""

    served: ServedModel
    transcribed: Transcribed

    @property
    def text(self) -> str:
        """The whole text."""
        return self.transcribed.transcript.text

    @property
    def shown(self) -> str:
        """The text as the page shows it: a line for each segment where speakers were told apart."""
        transcript = self.transcribed.transcript
        return to_text(transcript, "txt") if any(segment.speaker for segment in transcript.segments) else self.text


def texts_html(results: Sequence[Result], language: str) -> tuple[str, str]:
    """Return the text of the compressed model and that of the original, the second empty without comparison.

    Args:
        results: The compressed model's, and the original's where there is one.
        language: Language of the page.
    """
    if len(results) == 1:
        return plain_text(results[0].shown, language), ""
    original, compressed = marked(results[1].text, results[0].text)
    return marked_block(compressed, language), marked_block(original, language)


def plain_text(text: str, language: str) -> str:
    """Return a text as HTML, or a sentence where nothing was recognized."""
    return marked_block(html.escape(text), language)


def table_html(results: Sequence[Result], language: str) -> str:
    """Return a table with time, speed, memory, and the characters in which the texts differ."""
    numbers = "".join(
        f'<th scope="col" class="number">{say(key, language)}</th>' for key in ("time", "speed", "memory")
    )
    head = f'<th scope="col">{say("model", language)}</th>{numbers}'
    rows = "".join(_row(result) for result in reversed(results))
    table = f'<table class="sv"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    if len(results) == 1:
        return table
    count = distance(results[1].text, results[0].text)
    share = f" ({count / max(1, len(results[1].text)):.1%})" if count else ""
    sentence = f"{say('differing', language)}: {count}{share}. " + ("" if count else say("same", language))
    return f'{table}<p class="sv-count">{sentence}</p>'


def _row(result: Result) -> str:
    seconds = max(result.transcribed.seconds, 1e-6)
    speed = result.transcribed.transcript.duration / seconds
    cells = (f"{seconds:.2f} s", f"{speed:.1f}", size(result.served.model.size_bytes))
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{html.escape(result.served.name)}</th>{numbers}</tr>'


def marked_block(content: str, language: str) -> str:
    """Return HTML of a text as a block, or a sentence where there is none."""
    return f'<div class="sv-text">{content or say("nothing", language)}</div>'
