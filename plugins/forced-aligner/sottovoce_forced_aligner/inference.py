"""Running one sample through the aligner: audio and its words in, the words' times out."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sottovoce import Model, Prediction, Sample
from sottovoce.errors import SamplesError, UsageError
from sottovoce.system.audio import FRAME, SAMPLE_RATE, read_audio
from sottovoce_forced_aligner.languages import language_name
from sottovoce_forced_aligner.reading import WINDOW, find_times, longest_window, prepare, run, split_words

_SHORTENED: list[str] = []
"""Key of the sample that was logged: a block's calibration hears every sample again."""
_log = logging.getLogger("sottovoce.forced_aligner")


def inputs(model: Model, sample: Sample) -> tuple[NDArray[np.float32], list[str]]:
    """Return the sample's audio at 16 kHz, and the words in its text.

    Raises:
        SamplesError: The sample has no audio or no words, or a language that cannot be aligned; names the sample.
    """
    name = f"sample {sample.key!r}"
    if sample.audio is None:
        raise SamplesError(f"{name}: has no audio to align")
    try:
        language = language_name(sample.language or "Chinese")
    except UsageError as error:
        raise SamplesError(f"{name}: {error}") from None
    audio = read_audio(sample.audio, shortest=FRAME, name=name)
    words = split_words(model.processor, sample.text or "", language)
    if not words:
        raise SamplesError(f"{name}: has no text with words to align ('target': {sample.text!r})")
    return audio, words


def forward(model: Model, sample: Sample) -> Tensor:
    """Return logits ``[positions, labels]``; audio that is longer than a window is cut off, which is logged."""
    audio, words = inputs(model, sample)
    audio = first_window(sample, audio, min(WINDOW, longest_window(model.native, model.processor)))
    return run(model.native, prepare(model.processor, audio, words))[0].float()


def first_window(sample: Sample, audio: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """Return as much of a sample's audio ``[time]`` as the model takes at once; log when that is not all."""
    if len(audio) <= round(seconds * SAMPLE_RATE):
        return audio
    if not _SHORTENED:
        _SHORTENED.append(sample.key)
        _log.warning(
            "sample %r: only the first %.0f s of its %.0f s of audio are heard in calibration, training and "
            "divergence, as of all longer samples; cut them, with their words",
            sample.key,
            seconds,
            len(audio) / SAMPLE_RATE,
        )
    return audio[: round(seconds * SAMPLE_RATE)]


def predict(model: Model, sample: Sample) -> Prediction:
    """Return the times of every word in seconds; a token is a word with its times."""
    if sample.too_short:
        return Prediction()
    audio, words = inputs(model, sample)
    window = min(WINDOW, longest_window(model.native, model.processor))
    times, _ = find_times(model.native, model.processor, audio, words, window)
    tokens = tuple(f"{word}@{start:.2f}-{end:.2f}" for word, (start, end) in zip(words, times, strict=True))
    return Prediction(text=sample.text, tokens=tokens, timestamps=times)


def probe(model: Model) -> Sample:
    """Return two seconds of noise with a text of six words."""
    noise = np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    return Sample(key="probe", audio=0.1 * noise, text="打开客厅的灯", language="Chinese")
