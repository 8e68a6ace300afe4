"""A transcript: what is said in audio, by segments, with times where the model has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Word:
    """One word, or one character of a language written without spaces, with its times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Text that a model recognizes in one waveform."""

    text: str = ""
    words: tuple[Word, ...] = ()
    """Words with their times from the waveform's start; none where the model has no times."""
    language: str | None = None
    """ISO code of the language, where the model tells it."""
    cut_off: bool = False
    """If true, the text ends at the model's limit of tokens, and more may be said."""


@dataclass(frozen=True)
class SpeakerTurn:
    """Stretch of audio in which one speaker speaks."""

    start: float
    """Start in seconds."""
    end: float
    """End in seconds."""
    speaker: int
    """Number of the speaker, from 0."""

    @property
    def label(self) -> str:
        """Label of the speaker in transcripts, such as ``SPEAKER_00``."""
        return f"SPEAKER_{self.speaker:02}"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Stretch of audio and what is said in it."""

    text: str
    """Text, with punctuation where it was asked for."""
    start: float
    """Start in seconds."""
    end: float
    """End in seconds."""
    words: tuple[Word, ...] = ()
    """Words with their times, without punctuation; none where neither the model nor an aligner has times."""
    speaker: str | None = None
    """Label of the speaker, where speakers were told apart."""
    cut_off: bool = False
    """If true, the text ends at the model's limit of tokens, and more may be said."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Text of audio, segment by segment."""

    segments: tuple[Segment, ...]
    duration: float
    """Length of the audio in seconds."""
    language: str | None = None
    """ISO code of the language: the model's where it tells one, else what the user said, else ``None``."""

    @property
    def text(self) -> str:
        """The whole text; segments are joined by a space where letters meet that are written with spaces."""
        text = ""
        for segment in self.segments:
            joint = " " if text and segment.text and _is_spaced(text[-1]) and _is_spaced(segment.text[0]) else ""
            text += joint + segment.text
        return text

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def cut_off(self) -> int:
        """Number of segments whose text ends at the model's limit of tokens."""
        return sum(segment.cut_off for segment in self.segments)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds: ``text``, ``language``, ``duration``, and ``segments`` with their ``words``."""
        segments = [asdict(segment) for segment in self.segments]
        return {"text": self.text, "language": self.language, "duration": self.duration, "segments": segments}


def _is_spaced(character: str) -> bool:
    """Return true for what is written with spaces around it: not for Chinese, Japanese and their punctuation."""
    return not ("\u3000" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or character >= "\uff00")
