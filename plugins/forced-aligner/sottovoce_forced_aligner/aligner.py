"""``align``: audio of any length and its transcript in, the times of the words out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce import Model, Word
from sottovoce.errors import SamplesError, UsageError
from sottovoce.system.audio import FRAME, SAMPLE_RATE, read_audio
from sottovoce_forced_aligner.alignment import Alignment
from sottovoce_forced_aligner.fit import doubts
from sottovoce_forced_aligner.languages import language_name
from sottovoce_forced_aligner.reading import WINDOW, find_times, longest_window, split_words

DEFAULT_LANGUAGE = "Chinese"

_log = logging.getLogger("sottovoce.forced_aligner")


def align(
    model: Any,
    audio: Any,
    text: str,
    language: str = DEFAULT_LANGUAGE,
    *,
    processor: Any = None,
    sampling_rate: int = SAMPLE_RATE,
    window: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Alignment:
    """Find when each word of ``text`` is said in ``audio``.

    Audio longer than a window is cut at silences; see :mod:`sottovoce_forced_aligner.windows`.

    Args:
        model: A model of ``sottovoce.load``; or a ``Qwen3ASRForTokenClassification``, such as
            ``sottovoce.from_pretrained`` returns, with its ``processor``.
        audio: A file of any rate; or samples ``[time]`` or ``[time, channels]``. Channels are averaged.
        text: All words that are said, in order.
        language: A name or an ISO code: Chinese (zh), English (en), Cantonese (yue), French (fr), German (de),
            Italian (it), Japanese (ja), Korean (ko), Portuguese (pt), Russian (ru), Spanish (es).
        processor: The ``Qwen3ASRProcessor``, where ``model`` does not bring it.
        sampling_rate: The rate of ``audio`` in Hz, when it is not a file.
        window: Seconds of audio that the model takes at once, by default 180: 2 to 300, and no more than it has times
            for.
        progress: Called after every window with the seconds that are done, and all seconds.

    Returns:
        The words with their times in seconds. Where the text does not seem to be what is said, ``warnings`` has why,
        and the logger ``sottovoce.forced_aligner`` says it.

    Raises:
        UsageError: The language cannot be aligned, ``window`` is out of range, or there is no processor.
        SamplesError: The audio cannot be used (see :func:`sottovoce.read_audio`), or ``text``
            has no words.
    """
    native, processor = (model.native, model.processor) if isinstance(model, Model) else (model, processor)
    if processor is None:
        raise UsageError("align: the model came without its processor; give processor=, or what sottovoce.load gives")
    name = language_name(language)
    seconds = _checked(window, native, processor)
    samples = read_audio(audio, original_rate=sampling_rate, shortest=FRAME)
    words = split_words(processor, text, name)
    if not words:
        raise SamplesError(f"the text {text[:40]!r} has no words to align")
    times, windows = find_times(native, processor, samples, words, seconds, progress)
    warnings = doubts(times, windows, samples)
    for warning in warnings:
        _log.warning("%s", warning)
    return Alignment(
        words=tuple(Word(word, start, end) for word, (start, end) in zip(words, times, strict=True)),
        text=text,
        language=name,
        duration=round(len(samples) / SAMPLE_RATE, 3),
        warnings=tuple(warnings),
    )


def word_times(model: Model, waveform: NDArray[np.float32], text: str, language: str | None) -> tuple[Word, ...]:
    """Return the words of a text with the times at which they are said in samples ``[time]`` of 16 kHz.

    Raises:
        UsageError: The language cannot be aligned.
    """
    name = language_name(language or DEFAULT_LANGUAGE)
    if not split_words(model.processor, text, name):
        return ()
    return align(model, waveform, text, name).words


def _checked(window: float | None, native: Any, processor: Any) -> float:
    most = longest_window(native, processor)
    if window is None:
        return min(WINDOW, most)
    if not 2 <= window <= most:
        raise UsageError(f"window={window:g}: this model takes windows of 2 to {most:g} seconds")
    return window
