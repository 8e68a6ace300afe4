"""Running one sample through the FSMN voice-activity detector."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sottovoce import Model, Prediction, Sample
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
    if not len(audio):
        return Prediction()
    results = model.native.inference(
        audio, model=model.module, kwargs=model.processor, fs=model.processor["frontend"].fs, disable_pbar=True
    )
    segments = results[0].get("value") or []
    return Prediction(tokens=tuple(f"{start}-{end}" for start, end in segments), timestamps=segments)
