"""Speakers and when they speak, by FunASR's speaker models and its clustering.

Speech is cut into windows, each window gets an embedding, and the embeddings are clustered, all as FunASR's
``AutoModel`` does it with ``spk_model``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from funasr.models.campplus.utils import postprocess, sv_chunk
from numpy.typing import NDArray
from torch import Tensor

from sottovoce import Model, Prediction, Sample, SpeakerTurn, read_audio
from sottovoce.errors import SamplesError, UsageError
from sottovoce.report.number_format import counted
from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.system.process_state import ignored_warnings

_BATCH = 16
"""Windows that are embedded at once, 12 s of speech."""
_FEWEST = 20
"""Windows below which FunASR's clustering takes all speech as one speaker's."""
_MOST_SPECTRAL = 2048
"""Windows from which FunASR's clustering uses UMAP, where the number of speakers is not given."""
_log = logging.getLogger("sottovoce.paraformer")


def diarize(
    model: Model, waveform: NDArray[np.float32], spans: Sequence[tuple[float, float]], count: int | None
) -> Generator[float, None, list[SpeakerTurn]]:
    """Return who speaks when in a waveform ``[time]`` of 16 kHz; yield the seconds that are done after each batch.

    Args:
        model: A speaker model.
        waveform: The whole audio.
        spans: Start and end in seconds of each stretch of speech, in order.
        count: Number of speakers, if it is known.

    Raises:
        UsageError: A package is missing, or there cannot be so many speakers.
    """
    windows = _windows(waveform, spans)
    _check(windows, count)
    batches = []
    for first in range(0, len(windows), _BATCH):
        batch = windows[first : first + _BATCH]
        batches.append(_embed(model, [samples for _, _, samples in batch]))
        yield batch[-1][1]
    if not windows:
        return []
    embeddings = torch.cat(batches)
    labels = _cluster(model, embeddings, count)
    turns = postprocess(windows, None, labels, embeddings.numpy())
    return [SpeakerTurn(float(start), float(end), int(speaker)) for start, end, speaker in turns]


def forward(model: Model, sample: Sample) -> Tensor:
    """Return the embeddings of a sample's windows ``[windows, dimensions]``."""
    audio = _waveform(sample)
    return _embed(model, [samples for _, _, samples in _windows(audio, [(0.0, len(audio) / SAMPLE_RATE)])])


def predict(model: Model, sample: Sample) -> Prediction:
    """Return the turns of speakers, the whole sample taken as speech; a token is ``start-end:speaker`` in ms."""
    audio = _waveform(sample)
    steps = diarize(model, audio, [(0.0, len(audio) / SAMPLE_RATE)], None)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            turns: list[SpeakerTurn] = end.value
            return Prediction(tokens=tuple(f"{1000 * t.start:.0f}-{1000 * t.end:.0f}:{t.speaker}" for t in turns))


def _waveform(sample: Sample) -> NDArray[np.float32]:
    if sample.audio is None:
        raise SamplesError(f"sample {sample.key!r}: has no audio")
    return read_audio(sample.audio, name=f"sample {sample.key!r}")


def _windows(waveform: NDArray[np.float32], spans: Sequence[tuple[float, float]]) -> list[list[Any]]:
    """Return start and end in seconds and samples of each window; windows overlap, and none crosses a silence."""
    speech = [
        [start, end, waveform[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)].astype(np.float32, copy=False)]
        for start, end in spans
    ]
    windows: list[list[Any]] = sv_chunk(speech, fs=SAMPLE_RATE)
    return windows


def _embed(model: Model, windows: list[NDArray[np.float32]]) -> Tensor:
    module: Any = model.module
    results, _ = module.inference(windows, device=model.processor["device"])
    embeddings: Tensor = results[0]["spk_embedding"]
    return embeddings.detach().float().cpu()


def _check(windows: Sequence[Any], count: int | None) -> None:
    """Refuse what clustering cannot do, before speech is embedded."""
    missing = ["scikit-learn"] if find_spec("sklearn") is None else []
    if len(windows) >= _MOST_SPECTRAL and count is None and find_spec("umap") is None:
        missing.append("umap-learn")
    if missing:
        raise UsageError(f"telling speakers apart needs more packages; pip install {' '.join(missing)}")
    if len(windows) < _FEWEST:
        _note_short()
    elif count is not None and count > len(windows):
        raise UsageError(
            f"speakers={count}: the speech has only {counted(len(windows), 'window')} of 1.5 s to tell them by"
        )


def _cluster(model: Model, embeddings: Tensor, count: int | None) -> NDArray[np.int64]:
    """Return the number of the speaker of each window."""
    with ignored_warnings(), _seeded():
        from funasr.models.campplus.cluster_backend import ClusterBackend

        backend = ClusterBackend(**(model.processor.get("cb_kwargs") or {}))
        labels: NDArray[np.int64] = np.asarray(backend(embeddings, oracle_num=count))
    return labels


@contextmanager
def _seeded() -> Iterator[None]:
    """Give the same clusters each time: k-means begins with numpy's random numbers, which stay as they are after."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


@functools.cache
def _note_short() -> None:
    """Log once that short audio has one speaker."""
    _log.warning("less than about 15 s of speech is taken as one speaker's: FunASR's clustering needs more")
