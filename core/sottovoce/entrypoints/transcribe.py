"""Transcription of one audio by models that are given by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.load_options import refuse_unused
from sottovoce.model import Model
from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.system.progress import Progress, shown
from sottovoce.transcription.transcriber import Transcriber, never
from sottovoce.transcription.transcript import Transcript

Name = Model | str | os.PathLike[str]
"""A model, or its directory, alias or hub id."""


def transcribe(
    model: Name,
    audio: Any,
    *,
    vad: Name | None = None,
    punctuation: Name | None = None,
    aligner: Name | None = None,
    diarizer: Name | None = None,
    sampling_rate: int = SAMPLE_RATE,
    hotwords: Sequence[str] = (),
    language: str | None = None,
    speakers: int | None = None,
    progress: Progress | bool = False,
    cancelled: Callable[[], bool] = never,
    **options: Any,
) -> Transcript:
    """Return what is said in audio of any length.

    For several audios, load the models once and use :class:`~sottovoce.Transcriber`.

    Args:
        model: Recognizer, or its directory, alias or hub id; as are the other models.
        audio: A file, a segment of one, or samples as :func:`sottovoce.read_audio` takes them.
        vad: Model that finds where somebody speaks.
        punctuation: Model that punctuates the text.
        aligner: Model that finds the times of words, used where the recognizer gives none.
        diarizer: Model that tells speakers apart, where ``vad`` finds speech.
        sampling_rate: Rate of ``audio`` in Hz, when it is an array.
        hotwords: Words that are likely, for models that take them.
        language: Name or ISO code of what is spoken.
        speakers: Number of speakers, if it is known.
        progress: True for a display on standard error; or a function, called with the seconds done and all seconds.
        cancelled: Asked before every batch; work ends when it returns true.
        **options: As for :func:`load`; ``device``, ``hub``, ``token`` and ``cache_dir`` count for all models, others
            for the recognizer.

    Raises:
        SamplesError: The audio cannot be used.
        UsageError: The family of a model does not do what it is given for; or an option is wrong.
        SourceError: A model cannot be loaded, or does not run.
        CancelledError: ``cancelled`` returned true.
    """
    transcriber = load_transcriber(
        model, vad=vad, punctuation=punctuation, aligner=aligner, diarizer=diarizer, **options
    )
    with shown(progress) as report:
        return transcriber.transcribe(
            audio,
            sampling_rate=sampling_rate,
            hotwords=hotwords,
            language=language,
            speakers=speakers,
            progress=report,
            cancelled=cancelled,
        )


_SHARED = ("device", "hub", "token", "cache_dir")
"""Options that count for all models."""


def load_transcriber(
    model: Name,
    *,
    vad: Name | None = None,
    punctuation: Name | None = None,
    aligner: Name | None = None,
    diarizer: Name | None = None,
    **options: Any,
) -> Transcriber:
    """Load the models that are given by name, and return what transcribes with them.

    Raises:
        UsageError: The family of a model does not do what it is given for; or an option is wrong.
        SourceError: A model cannot be loaded.
    """
    shared = {name: options[name] for name in _SHARED if name in options}
    others = {"vad": vad, "punctuation": punctuation, "aligner": aligner, "diarizer": diarizer}
    if isinstance(model, Model):
        named = any(other is not None and not isinstance(other, Model) for other in others.values())
        refuse_unused(options.keys() - (shared if named else ()), "sottovoce.transcribe")
    recognizer = model if isinstance(model, Model) else load(model, **options)
    loaded = {
        name: other if other is None or isinstance(other, Model) else load(other, **shared)
        for name, other in others.items()
    }
    return Transcriber(recognizer, **loaded)
