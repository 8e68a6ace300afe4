"""Running one sample through the FSMN voice-activity detector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from funasr.frontends.wav_frontend import apply_cmvn
from numpy.typing import NDArray
from torch import Tensor

from sottovoce import Model, Prediction, Sample, read_audio
from sottovoce.system.audio import FRAME
from sottovoce_paraformer.filter_banks import SHIFT, WINDOW
from sottovoce_paraformer.recognition import features, waveform
from sottovoce_paraformer.speech_segments import Rules, segments
from sottovoce_paraformer.torch_filter_banks import computes, filter_banks

_BLOCK = 1000
"""Frames whose scores are computed at once: memory does not grow with the audio, and no smaller block is faster."""
_QUIETEST = -60.0
"""Level in dB that FunASR gives to silence."""
_STREAMING = frozenset({"chunk_size", "is_streaming_input", "max_end_silence_time", "speech_noise_thres"})
"""Settings of a call that a model's configuration may hold."""


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
    rate = int(model.processor["frontend"].fs)
    audio = read_audio(waveform, rate)
    if len(audio) < FRAME * rate:
        return []
    if _is_usual(model, audio):
        rules = Rules.of(_options(model))
        return [(start / 1000, end / 1000) for start, end in segments(_speech(model, audio), rules)]
    # By default FunASR changes the silence that ends a segment once a minute, from 2 s to 0.2 s and back, which is
    # meant for streams; without, it is the model's own, 0.8 s in published ones.
    return [(start / 1000, end / 1000) for start, end in _segments(model, audio, dynamic_silence=False)]


def _segments(model: Model, audio: NDArray[np.float32], **options: Any) -> list[list[int]]:
    """Return start and end of each stretch of speech in milliseconds."""
    settings = {"kwargs": dict(model.processor), "fs": model.processor["frontend"].fs, "disable_pbar": True}
    results = model.native.inference(audio, model=model.module, **settings, **options)
    return results[0].get("value") or []


def _options(model: Model) -> Any:
    """Return FunASR's ``VADXOptions`` of a model."""
    module: Any = model.module
    return module.vad_opts


def _is_usual(model: Model, audio: NDArray[np.float32]) -> bool:
    """Return whether a model is configured as published ones are: by its scores alone, and without streaming."""
    frontend, options = model.processor["frontend"], _options(model)
    loudest = float(np.abs(audio).max(initial=0.0))
    # A level is never so far below that of noise that it decides.
    deepest = _QUIETEST - 10 * np.log10(WINDOW * loudest**2 + 1)
    rules = Rules.of(options)
    return (
        computes(frontend)
        and frontend.lfr_n == 1
        and (options.frame_in_ms, options.frame_length_ms, options.sample_rate) == (10, 25, frontend.fs)
        and options.detect_mode == 1
        and bool(options.sil_pdf_ids)
        and options.decibel_thres < _QUIETEST - 1
        and options.snr_thres < deepest
        and rules.begin > 1
        and rules.latency > 0
        and not _STREAMING & set(model.processor)
    )


def _speech(model: Model, audio: NDArray[np.float32]) -> Iterator[bool]:
    """Yield whether somebody speaks, frame by frame."""
    options = _options(model)
    for scores in _scores(model, torch.from_numpy(audio)):
        silence = scores[:, list(options.sil_pdf_ids)].double().sum(1).cpu()
        yield from (1 - silence >= silence**options.speech_2_noise_ratio + options.speech_noise_thres).tolist()


def _scores(model: Model, audio: Tensor) -> Iterator[Tensor]:
    """Yield the probabilities of the states ``[frames, states]``, block by block."""
    module: Any = model.module
    frontend = model.processor["frontend"]
    cache: dict[str, Tensor] = {}
    count = (len(audio) - WINDOW) // SHIFT + 1
    for start in range(0, count, _BLOCK):
        stop = min(count, start + _BLOCK)
        stacks = _stacks(frontend, audio, start, stop, count)
        yield module.encoder(stacks[None].to(model.processor["device"]), cache=cache)[0]


def _stacks(frontend: Any, audio: Tensor, start: int, stop: int, count: int) -> Tensor:
    """Return features ``[frames, features]`` of the frames from ``start`` to ``stop``, of ``count`` in all."""
    left = (frontend.lfr_m - 1) // 2
    first, last = start - left, stop + frontend.lfr_m - 1 - left
    inside = slice(max(0, first) * SHIFT, (min(count, last) - 1) * SHIFT + WINDOW)
    banks = filter_banks(audio[inside], frontend.n_mels)
    # The ends are repeated, as FunASR does.
    before, after = banks[:1].expand(max(0, -first), -1), banks[-1:].expand(max(0, last - count), -1)
    stacks = torch.cat((before, banks, after)).unfold(0, frontend.lfr_m, 1).transpose(1, 2).flatten(1).clone()
    return stacks if frontend.cmvn is None else apply_cmvn(stacks, frontend.cmvn)
