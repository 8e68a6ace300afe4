"""Transcription of audio of any length with one model, or with several that work together."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sottovoce.errors import CancelledError, UsageError
from sottovoce.model import Model, require_model
from sottovoce.report.number_format import counted
from sottovoce.samples import languages
from sottovoce.system.audio import FRAME, SAMPLE_RATE, AudioSegment, read_audio
from sottovoce.system.progress import Progress, shown, silent
from sottovoce.transcription import functions
from sottovoce.transcription.batches import batches, groups
from sottovoce.transcription.pieces import LONGEST, Piece, pieces
from sottovoce.transcription.speakers import split_by_speaker
from sottovoce.transcription.transcript import Recognition, Segment, SpeakerTurn, Transcript, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = logging.getLogger("sottovoce.transcription")


def never() -> bool:
    """Return false: nobody cancels the work."""
    return False


@dataclass
class _Work:
    """One audio on its way to a transcript."""

    name: str
    """Name of its file; empty for samples."""
    audio: NDArray[np.float32]
    hotwords: tuple[str, ...]
    language: str | None
    """Code of the language that the user said."""
    speakers: int | None
    cancelled: Callable[[], bool]
    progress: Progress = silent
    turns: tuple[SpeakerTurn, ...] = ()
    """Turns of speakers, once they are known."""
    heard: str | None = None
    """Code of the language that the model told first."""
    cut_off: list[float] = field(default_factory=list)
    """Starts in seconds of the pieces whose text ends at the model's limit of tokens."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return round(len(self.audio) / SAMPLE_RATE, 3)

    def samples(self, piece: Piece) -> NDArray[np.float32]:
        """Return the samples of a piece."""
        return self.audio[piece.start : piece.end]

    def raise_if_cancelled(self) -> None:
        """Raise an error if the caller does not want the result any more."""
        if self.cancelled():
            raise CancelledError("the transcription was cancelled")


class Transcriber:
    """Recognizer of speech, with models that find speech, tell speakers apart, punctuate text and time words beside it.

    It may be used by several threads at a time, as far as the models may.
    """

    def __init__(
        self,
        model: Model,
        *,
        vad: Model | None = None,
        punctuation: Model | None = None,
        aligner: Model | None = None,
        diarizer: Model | None = None,
    ) -> None:
        """Take models that :func:`sottovoce.load` returned.

        Args:
            model: Recognizer. Its own companions for voice activity, punctuation and speakers are used where no others
                are given.
            vad: Model that finds where somebody speaks. Without one, audio of more than a minute is cut where it is
                quietest.
            punctuation: Model that punctuates the text.
            aligner: Model that finds the times of words, used where the recognizer gives none.
            diarizer: Model that tells speakers apart, where ``vad`` finds speech.

        Raises:
            UsageError: The family of a model does not do what it is given for, and names those that do; or a diarizer
                is given without a model for voice activity.
        """
        self.model = require_model(model, "sottovoce.Transcriber")
        self.vad = vad or model.companions.get("vad")
        self.punctuation = punctuation or model.companions.get("punc")
        self.aligner = aligner
        self.diarizer = diarizer or model.companions.get("spk")
        functions.require(model, "recognize")
        helpers = {
            "detect_speech": self.vad,
            "punctuate": self.punctuation,
            "align": aligner,
            "diarize": self.diarizer,
        }
        for function, other in helpers.items():
            if other is not None:
                functions.require(require_model(other, "sottovoce.Transcriber"), function)
        if self.diarizer is not None and self.vad is None:
            raise UsageError("speakers are found in speech: give a model for voice activity too (--vad, or vad=)")

    def __repr__(self) -> str:
        """Return what works together, on one line."""
        beside = {"vad": self.vad, "punctuation": self.punctuation, "aligner": self.aligner, "diarizer": self.diarizer}
        names = ", ".join(name for name, model in beside.items() if model is not None)
        return f"<Transcriber {self.model.source.name}{f' with {names}' if names else ''}>"

    def transcribe(
        self,
        audio: Any,
        *,
        sampling_rate: int = SAMPLE_RATE,
        hotwords: Sequence[str] = (),
        language: str | None = None,
        speakers: int | None = None,
        progress: Progress | bool = False,
        cancelled: Callable[[], bool] = never,
    ) -> Transcript:
        """Return what is said in audio of any length; the arguments and errors are those of :meth:`segments`."""
        work = self._start(audio, sampling_rate, hotwords, language, speakers, cancelled)
        segments = tuple(segment for segment in self._shown_steps(work, progress) if segment is not None)
        return Transcript(segments=segments, duration=work.duration, language=work.heard or work.language)

    def segments(
        self,
        audio: Any,
        *,
        sampling_rate: int = SAMPLE_RATE,
        hotwords: Sequence[str] = (),
        language: str | None = None,
        speakers: int | None = None,
        progress: Progress | bool = False,
        cancelled: Callable[[], bool] = never,
    ) -> Iterator[Segment]:
        """Return an iterator over what is said in audio of any length, in order of time, as it becomes ready.

        The audio is read, and the arguments are checked, before the call returns.

        Args:
            audio: A file, a :class:`~sottovoce.system.audio.AudioSegment`, or samples as :func:`sottovoce.read_audio`
                takes them.
            sampling_rate: Rate of ``audio`` in Hz, when it is an array.
            hotwords: Words that are likely, for models that take them.
            language: Name or ISO code of what is spoken, such as ``English`` or ``en``.
            speakers: Number of speakers, if it is known and a model tells them apart.
            progress: True for a display on standard error; or a function, called with the seconds done and all seconds.
            cancelled: Asked before every batch; work ends when it returns true.

        Raises:
            SamplesError: The audio cannot be used.
            UsageError: The language is unknown, the model takes no hotwords, or no model tells speakers apart.
            CancelledError: ``cancelled`` returned true.
            SourceError: A model does not run.
        """
        work = self._start(audio, sampling_rate, hotwords, language, speakers, cancelled)
        return (segment for segment in self._shown_steps(work, progress) if segment is not None)

    def steps(
        self,
        audio: Any,
        *,
        hotwords: Sequence[str] = (),
        language: str | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Generator[Segment | None, None, str | None]:
        """Return a generator that yields the segments, and ``None`` after work that gives none yet.

        So a caller can do other work in between. It returns the code of the language as in a transcript; the arguments
        and errors are those of :meth:`segments`.
        """
        work = self._start(audio, SAMPLE_RATE, hotwords, language, None, cancelled)
        return self._steps(work)

    def _start(
        self,
        audio: Any,
        sampling_rate: int,
        hotwords: Sequence[str],
        language: str | None,
        speakers: int | None,
        cancelled: Callable[[], bool],
    ) -> _Work:
        words = _hotwords(hotwords)
        if speakers is not None and self.diarizer is None:
            raise UsageError(f"speakers={speakers}: give a model that tells speakers apart too (--spk, or diarizer=)")
        if speakers is not None and (not isinstance(speakers, int) or speakers < 1):
            raise UsageError(f"speakers={speakers!r}: there is at least one speaker; give a whole number")
        code = _language_code(language)
        samples = read_audio(audio, original_rate=sampling_rate, shortest=FRAME)
        name = str(audio) if isinstance(audio, str | os.PathLike | AudioSegment) else ""
        return _Work(name, samples, words, code, speakers, cancelled)

    def _shown_steps(self, work: _Work, progress: Progress | bool) -> Iterator[Segment | None]:
        with shown(progress) as work.progress:
            yield from self._steps(work)

    def _steps(self, work: _Work) -> Generator[Segment | None, None, str | None]:
        total = round(work.duration)
        work.progress("transcribe", 0, total)
        spans = self._spans(work)
        if self.diarizer is not None:
            yield from self._diarized(self.diarizer, work, spans)
        for group in groups(pieces(work.audio, spans)):
            yield from self._recognized(work, group)
            work.progress("transcribe", min(total, round(group[-1].end / SAMPLE_RATE)), total)
        work.progress("transcribe", total, total)
        if work.cut_off:
            _warn_of_cut_off(work.name, work.cut_off)
        return work.heard or work.language

    def _spans(self, work: _Work) -> Sequence[tuple[float, float]]:
        """Return start and end of the stretches in which somebody speaks, in seconds."""
        work.raise_if_cancelled()
        if self.vad is not None:
            spans: Sequence[tuple[float, float]] = functions.call(self.vad, "detect_speech", work.audio)
            return spans
        if work.duration > LONGEST:
            _note_cuts()
        return [(0.0, work.duration)]

    def _diarized(self, diarizer: Model, work: _Work, spans: Sequence[tuple[float, float]]) -> Iterator[None]:
        """Tell speakers apart, step by step."""
        steps = functions.diarize(diarizer, work.audio, spans, work.speakers)
        while True:
            work.raise_if_cancelled()
            try:
                seconds = next(steps)
            except StopIteration as end:
                work.turns = end.value
                return
            work.progress("diarize", round(seconds), round(work.duration))
            yield None

    def _recognized(self, work: _Work, group: Sequence[Piece]) -> Iterator[Segment]:
        """Yield the segments of pieces that follow one another."""
        recognitions: dict[int, Recognition] = {}
        for batch in batches([piece.seconds for piece in group]):
            work.raise_if_cancelled()
            waveforms = [work.samples(group[number]) for number in batch]
            results = functions.recognize(self.model, waveforms, work.hotwords, work.language)
            recognitions.update(zip(batch, results, strict=True))
        for number, piece in enumerate(group):
            if recognitions[number].cut_off:
                work.cut_off.append(piece.start / SAMPLE_RATE)
            if recognitions[number].text.strip():
                yield from split_by_speaker(self._segment(work, piece, recognitions[number]), work.turns)

    def _segment(self, work: _Work, piece: Piece, recognition: Recognition) -> Segment:
        """Return one segment, with its words timed and its text punctuated."""
        text, words = recognition.text.strip(), recognition.words
        work.heard = work.heard or recognition.language
        if not words and self.aligner is not None:
            work.raise_if_cancelled()
            words = functions.align(self.aligner, work.samples(piece), text, work.language or work.heard)
        if self.punctuation is not None:
            text = functions.call(self.punctuation, "punctuate", text)
        begin = piece.start / SAMPLE_RATE
        timed = tuple(_later(word, begin) for word in words)
        end = round(piece.end / SAMPLE_RATE, 3)
        return Segment(text=text, start=round(begin, 3), end=end, words=timed, cut_off=recognition.cut_off)


def _hotwords(hotwords: Sequence[str] | None) -> tuple[str, ...]:
    """Return the words that are not empty."""
    if isinstance(hotwords, str) or not isinstance(hotwords, Iterable | None):
        raise UsageError(f"hotwords={str(hotwords)[:40]!r}: give a list of words")
    words = tuple(hotwords or ())
    if other := [word for word in words if not isinstance(word, str)]:
        raise UsageError(f"hotwords: {other[0]!r} is of type {type(other[0]).__name__}; give a list of words")
    return tuple(filter(str.strip, words))


def _language_code(language: str | None) -> str | None:
    """Return the code of a language that the user named."""
    if language is None:
        return None
    entry = languages.find_language(language) if isinstance(language, str) else None
    if entry is None:
        raise UsageError(f"language={str(language)[:40]!r}: no such language; give a name or an ISO code, such as en")
    return entry.code


def _later(word: Word, seconds: float) -> Word:
    return replace(word, start=round(word.start + seconds, 3), end=round(word.end + seconds, 3))


def _warn_of_cut_off(name: str, starts: Sequence[float]) -> None:
    """Log where the model stopped because its text was long, not because nothing more is said."""
    _log.warning(
        "%sthe text of %s ends at the model's limit of tokens, %s %.1f s; listen there, or cut the audio shorter",
        f"{name}: " if name else "",
        counted(len(starts), "segment"),
        "that at" if len(starts) == 1 else "the first at",
        starts[0],
    )


@functools.cache
def _note_cuts() -> None:
    """Log once that audio is cut without a model that knows where somebody speaks."""
    _log.warning(
        "audio of more than %d s is cut where it is quietest; a voice-activity model (--vad) finds where people speak",
        LONGEST,
    )
