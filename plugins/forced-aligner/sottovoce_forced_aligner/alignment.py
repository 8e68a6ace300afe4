"""The times of words, and the files that other programs read them from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from sottovoce import Word
from sottovoce.transcription import subtitles
from sottovoce.transcription.textgrid import textgrid
from sottovoce_forced_aligner.languages import UNSPACED


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The words of a transcript, in order and with their times, as :func:`~sottovoce_forced_aligner.align` found them.

    Words have no punctuation; ``text`` has it. The model can give a word no length (``start`` and ``end`` the same).
    """

    words: tuple[Word, ...]
    text: str
    """The whole transcript, with punctuation."""
    language: str
    """The language's name, such as ``Chinese``."""
    duration: float
    """Length of the audio in seconds."""
    warnings: tuple[str, ...] = ()
    """Signs that the text is not all that is said, a sentence for each; none where it fits."""

    def to_json(self) -> str:
        """Return a JSON object: ``language``, ``duration``, ``text``, ``words`` with their times, and ``warnings``."""
        form = {"language": self.language, "duration": self.duration, "text": self.text}
        words, warnings = [asdict(word) for word in self.words], list(self.warnings)
        return json.dumps(form | {"words": words, "warnings": warnings}, ensure_ascii=False)

    def to_srt(self, *, width: int = 42, pause: float = 0.6) -> str:
        """Return SubRip subtitles; a new subtitle begins after a sentence, a pause, or a full line.

        Args:
            width: Columns of a line; a Chinese character takes two.
            pause: Seconds of silence that end a subtitle.
        """
        space = "" if self.language in UNSPACED else " "
        cues = subtitles.word_cues(self.words, self.text, space=space, width=width, pause=pause)
        return subtitles.to_text(cues, "srt")

    def to_textgrid(self) -> str:
        """Return Praat's TextGrid (long format): the tier ``words``, and a tier of points for words without length.

        Words without length at one time are one point.
        """
        space = "" if self.language in UNSPACED else " "
        return textgrid({"words": self.words}, self.duration, space=space)
