"""When each word was said, and the files that other programs read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from sottovoce_forced_aligner import subtitles, textgrid
from sottovoce_forced_aligner.languages import UNSPACED
from sottovoce_forced_aligner.words import Word


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The words of a transcript, in order and with their times, as :func:`~sottovoce_forced_aligner.align` found them.

    Words have no punctuation; ``text`` has it. The model can give a word no length (``start`` and ``end`` the same).
    """

    words: tuple[Word, ...]
    text: str
    """The transcript as it was given."""
    language: str
    """The language's name, such as ``Chinese``."""
    duration: float
    """Length of the audio in seconds."""
    warnings: tuple[str, ...] = ()
    """What speaks against the text being all that is said, a sentence each; nothing where it fits."""

    def to_json(self) -> str:
        """One JSON object: ``language``, ``duration``, ``text``, ``words`` with their times, and ``warnings``."""
        form = {"language": self.language, "duration": self.duration, "text": self.text}
        words, warnings = [asdict(word) for word in self.words], list(self.warnings)
        return json.dumps(form | {"words": words, "warnings": warnings}, ensure_ascii=False)

    def to_srt(self, *, width: int = 42, pause: float = 0.6) -> str:
        """SubRip subtitles; a new one begins after a sentence, a pause, or a full line.

        Args:
            width: Columns of a line; a Chinese character takes two.
            pause: Seconds of silence that end a subtitle.
        """
        return subtitles.srt(self.words, self.text, self.language, width=width, pause=pause)

    def to_textgrid(self) -> str:
        """Praat's TextGrid (long format): the tier ``words``, and words without length as points of a second tier.

        Words without length at one time are one point.
        """
        space = "" if self.language in UNSPACED else " "
        return textgrid.textgrid(self.words, self.duration, space=space)
