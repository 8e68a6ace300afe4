"""Work that transcribes the audio of one request."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.jobs import Job
from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.transcription.transcript import Segment, Transcript

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.serving.models import ServedModel
    from sottovoce.serving.service import Service, Work


@dataclass(frozen=True)
class Transcribed:
    """Transcript with the time that it took."""

    transcript: Transcript
    seconds: float
    """Seconds that the model worked."""


@dataclass(frozen=True)
class Part:
    """One segment, or a step of the work that gave none yet."""

    segment: Segment | None
    duration: float
    """Length of the whole audio in seconds."""


def untimed() -> ApiError:
    """Return the error for times of words that the model does not give."""
    message = "this model has no times of words; start the service with --aligner"
    return ApiError(400, message, parameter="timestamp_granularities")


def transcription(
    service: Service,
    served: ServedModel,
    read: Callable[[], NDArray[np.float32]],
    *,
    hotwords: tuple[str, ...] = (),
    language: str | None = None,
    needs_words: bool = False,
) -> Work:
    """Return work that transcribes: it yields a :class:`Part` after each step, and returns :class:`Transcribed`.

    Args:
        service: The service.
        served: The model.
        read: Function that decodes the audio, in the worker's thread; ``[time]`` of 16 kHz.
        hotwords: Words that are likely.
        language: Name or code of the language.
        needs_words: If true, the work ends at the first text whose words have no times, where nothing else finds them.
    """
    transcriber = served.transcriber
    if transcriber is None:
        raise ApiError(400, f"the model {served.name} does not transcribe", parameter="model")

    def work(job: Job) -> Generator[Any, None, Any]:
        audio = read()
        duration, begin = len(audio) / SAMPLE_RATE, job.elapsed()
        options: dict[str, Any] = {"hotwords": hotwords, "language": language, "cancelled": job.is_cancelled}
        segments: list[Segment] = []
        steps = transcriber.steps(audio, **options)
        while True:
            try:
                segment = next(steps)
            except StopIteration as end:
                code = end.value
                break
            if segment is not None:
                if needs_words and segment.text and not segment.words and getattr(transcriber, "aligner", None) is None:
                    raise untimed()
                segments.append(segment)
            yield Part(segment, duration)
        seconds = job.elapsed() - begin
        service.measures.count_work(served.name, duration, seconds)
        transcript = Transcript(segments=tuple(segments), duration=round(duration, 3), language=code)
        return Transcribed(transcript, seconds)

    return work
