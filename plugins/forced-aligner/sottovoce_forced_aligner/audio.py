"""Audio as the aligner takes it: one channel of 16 kHz samples."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import SamplesError

SAMPLE_RATE = 16000
SHORTEST = 400
"""Samples in one frame of the spectrogram, 25 ms."""

_log = logging.getLogger("sottovoce.forced_aligner")


def read_audio(audio: Any, sampling_rate: int = SAMPLE_RATE, *, name: str = "the audio") -> NDArray[np.float32]:
    """Mono samples ``[time]`` at 16 kHz, in -1 to 1.

    Args:
        audio: A file, or samples ``[time]`` or ``[time, channels]``: floats in -1 to 1, or integers of the full range.
        sampling_rate: The rate of ``audio`` in Hz, when it is not a file.
        name: Whose audio it is, for an error; a file goes by its own name.

    Raises:
        SamplesError: The audio cannot be read, is empty, shorter than a frame, or holds what is no number.
    """
    if isinstance(audio, str | os.PathLike):
        name = os.fspath(audio)
        samples, sampling_rate = _read_file(Path(audio))
    else:
        samples = _floats(np.asarray(audio), name)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not samples.size:
        raise SamplesError(f"{name}: is empty; there is nothing to align with")
    if not np.isfinite(samples).all():
        raise SamplesError(f"{name}: holds values that are no numbers (NaN or infinite); decode it again")
    if sampling_rate != SAMPLE_RATE:
        samples = _resampled(samples, sampling_rate, name)
    if len(samples) < SHORTEST:
        raise SamplesError(f"{name}: {1000 * len(samples) / SAMPLE_RATE:.0f} ms are shorter than one frame of 25 ms")
    return np.ascontiguousarray(samples, dtype=np.float32)


def _read_file(path: Path) -> tuple[NDArray[np.float32], int]:
    import soundfile

    if not path.is_file():
        raise SamplesError(f"{path}: no such audio file")
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise SamplesError(f"{path}: no audio that can be read ({' '.join(str(error).split())})") from None
    return samples, rate


def _floats(samples: NDArray[Any], name: str) -> NDArray[np.float32]:
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu":
        raise SamplesError(f"{name}: must be numbers [time] or [time, channels], not {samples.dtype} {samples.shape}")
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    info = np.iinfo(samples.dtype)
    middle = 0 if samples.dtype.kind == "i" else (int(info.max) + 1) // 2
    return ((samples.astype(np.float64) - middle) / (int(info.max) - middle + 1)).astype(np.float32)


def _resampled(samples: NDArray[np.float32], rate: int, name: str) -> NDArray[np.float32]:
    import soxr

    if rate <= 0:
        raise SamplesError(f"{name}: a sampling rate of {rate} Hz is none")
    _note_resampling(rate)
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, SAMPLE_RATE)
    return resampled


@functools.cache
def _note_resampling(rate: int) -> None:
    """Say it once a rate: a manifest can have thousands of files."""
    _log.warning("audio of %d Hz is resampled to %d Hz", rate, SAMPLE_RATE)
