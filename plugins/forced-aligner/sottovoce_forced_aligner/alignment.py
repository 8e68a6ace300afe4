"""Running one sample through the aligner: audio and its words in, the words' times out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sottovoce import Model, Prediction, Sample

SAMPLE_RATE = 16000


def inputs(model: Model, sample: Sample) -> tuple[Any, Any]:
    """The processor's inputs, without a chat prefix (one would shift every boundary), and the words they stand for."""
    return tuple(
        model.processor.prepare_forced_aligner_inputs(
            audio=[_samples(sample)], transcript=[sample.text or ""], language=[sample.language or "Chinese"]
        )
    )


def forward(model: Model, sample: Sample) -> Tensor:
    """Logits ``[positions, labels]``."""
    batch, _ = inputs(model, sample)
    logits: Tensor = model.native(**batch.to(model.native.device)).logits
    return logits[0].float()


def predict(model: Model, sample: Sample) -> Prediction:
    """The times of every word in seconds; each token is a word with its times."""
    batch, words = inputs(model, sample)
    batch = batch.to(model.native.device)
    with torch.inference_mode():
        logits = model.native(**batch).logits
    marker = model.native.config.timestamp_token_id
    aligned = model.processor.decode_forced_alignment(logits, batch["input_ids"], words, marker)[0]
    times = [(item["start_time"], item["end_time"]) for item in aligned]
    tokens = tuple(f"{item['text']}@{item['start_time']:.2f}-{item['end_time']:.2f}" for item in aligned)
    return Prediction(text=sample.text, tokens=tokens, timestamps=times)


def probe(model: Model) -> Sample:
    """Two seconds of noise that is said to hold six words."""
    noise = np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    return Sample(key="probe", audio=0.1 * noise, text="打开客厅的灯", language="Chinese")


def _samples(sample: Sample) -> Any:
    if not isinstance(sample.audio, Path):
        return sample.audio
    import soundfile

    audio, rate = soundfile.read(str(sample.audio), dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE:
        raise ValueError(f"{sample.audio}: {rate} Hz; the aligner takes {SAMPLE_RATE} Hz")
    return audio.mean(axis=1)
