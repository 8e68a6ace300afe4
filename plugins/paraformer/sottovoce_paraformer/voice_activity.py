"""Running one sample through the FSMN voice-activity detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sottovoce import Model, Prediction, Sample, read_audio
from sottovoce_paraformer.recognition import features, waveform


def forward(model: Model, sample: Sample) -> Tensor:
    """Return scores ``[frames, states]`` before the thresholds."""
    module: Any = model.module
    speech, _ = features(model, sample)
    scores: Tensor = module.encoder(speech, cache={})
    return scores[0].float()


def predict(model: Model, sample: Sample) -> Prediction:
    """Return segments of speech; a token is a segment ``start-end`` in milliseconds."""
    audio = waveform(model, sample)
    segments = _segments(model, audio) if len(audio) else []
    return Prediction(tokens=tuple(f"{start}-{end}" for start, end in segments), timestamps=segments)


def detect_speech(model: Model, waveform: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return start and end of each stretch of speech in seconds, in order, for samples ``[time]`` of 16 kHz."""
    audio = read_audio(waveform, int(model.processor["frontend"].fs))
    # By default FunASR changes the silence that ends a segment once a minute, between 2 s and 0.2 s, which is meant for
    # streams. Without, it is the model's own: 0.8 s in published ones.
    return [(start / 1000, end / 1000) for start, end in _segments(model, audio, dynamic_silence=False)]


def _segments(model: Model, audio: NDArray[np.float32], **options: Any) -> list[list[int]]:
    """Return start and end of each stretch of speech in milliseconds."""
    settings = {"kwargs": dict(model.processor), "fs": model.processor["frontend"].fs, "disable_pbar": True}
    results = model.native.inference(audio, model=model.module, **settings, **options)
    return results[0].get("value") or []
