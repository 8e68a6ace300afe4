"""Reading and checking of audio of any format, rate and number of channels as mono samples."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SamplesError
from sottovoce.system.audio_files import AudioInfo, decode, file_info, refuse_outside
from sottovoce.system.path_argument import as_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16000
"""Rate in Hz of arrays by default, and of most speech models."""
FRAME = 0.025
"""Seconds of one frame of a spectrogram; shorter audio cannot be recognized."""
MOST_CHANNELS = 64
LOUDEST = 100.0
"""Largest float that counts as a sample: decoders exceed 1 a little, 16-bit integers by thousands."""

_log = logging.getLogger("sottovoce.system.audio")


@dataclass(frozen=True)
class AudioSegment:
    """Segment of an audio file."""

    path: Path
    start: float = 0.0
    """Start in seconds."""
    end: float | None = None
    """End in seconds; ``None`` for the end of the file."""

    def __str__(self) -> str:
        return f"{self.path}, {self.start:g} to {'its end' if self.end is None else f'{self.end:g} s'}"


def read_audio(
    audio: Any,
    sampling_rate: int = SAMPLE_RATE,
    *,
    original_rate: int = SAMPLE_RATE,
    shortest: float = 0.0,
    name: str = "",
) -> NDArray[np.float32]:
    """Read mono samples ``[time]`` in -1 to 1 at ``sampling_rate``, from a file or an array.

    Args:
        audio: A file or a segment of one; or samples ``[time]``, ``[time, channels]`` or ``[channels, time]``: floats
            in -1 to 1, or integers of their type's full range. Channels are averaged.
        sampling_rate: Rate of the result in Hz; other audio is resampled.
        original_rate: The rate of ``audio`` in Hz, when it is an array.
        shortest: Least seconds of the result, such as :data:`FRAME`; shorter audio is an error.
        name: Owner of the audio, such as ``sample 'a'``, with which errors begin. Files are named anyway.

    Returns:
        At least one sample, possibly fewer than a model needs for one frame.

    Raises:
        SamplesError: The file does not exist, cannot be read or is cut off; or the samples are empty, too few, not
            numbers, or of a shape or a size that audio does not have.
    """
    if isinstance(audio, str | os.PathLike):
        audio = AudioSegment(as_path(audio, "audio"))
    with _naming(audio, name):
        for rate in (sampling_rate, original_rate):
            if isinstance(rate, bool) or not isinstance(rate, Real):
                raise SamplesError(f"a sampling rate is a number of Hz, not {rate!r}")
        if not isinstance(audio, AudioSegment):
            return _converted(_floats(audio), original_rate, sampling_rate, shortest)
        samples, rate = decode(audio.path, audio.start, audio.end)
        with _naming(audio, str(audio.path)):
            return _converted(samples, rate, sampling_rate, shortest)


def audio_info(audio: Any, *, name: str = "") -> AudioInfo:
    """Return rate, channels and length of a file, a segment of one, or an array of 16 kHz.

    Raises:
        SamplesError: As :func:`read_audio`, as far as this is possible without decoding.
    """
    if isinstance(audio, str | os.PathLike):
        audio = AudioSegment(as_path(audio, "audio"))
    with _naming(audio, name):
        if not isinstance(audio, AudioSegment):
            samples = _floats(audio)
            return AudioInfo(SAMPLE_RATE, samples.shape[1], len(samples) / SAMPLE_RATE)
        whole = file_info(audio.path)
        refuse_outside(audio.path, whole.duration, audio.start, audio.end)
        end = whole.duration if audio.end is None else min(audio.end, whole.duration)
        return AudioInfo(whole.sampling_rate, whole.channels, end - audio.start)


@contextlib.contextmanager
def _naming(audio: Any, name: str) -> Iterator[None]:
    """Name the owner of the audio in errors; errors about files name the file."""
    owner = name or ("" if isinstance(audio, AudioSegment) else "the audio")
    try:
        yield
    except SamplesError as error:
        raise SamplesError(f"{owner}: {error}" if owner else str(error)) from None


def _converted(samples: NDArray[np.float32], rate: int, new_rate: int, shortest: float) -> NDArray[np.float32]:
    import numpy as np

    if not np.isfinite(samples).all():
        raise SamplesError("holds values that are NaN or infinite; decode it again")
    if (peak := float(np.abs(samples).max())) > LOUDEST:
        raise SamplesError(f"holds values up to {peak:.0f}, where floats are in -1 to 1; divide 16-bit values by 32768")
    mono = samples.mean(axis=1)
    if rate != new_rate:
        mono = _resampled(mono, rate, new_rate)
    if len(mono) < shortest * new_rate:
        milliseconds = 1000 * len(mono) / new_rate
        raise SamplesError(f"{milliseconds:.1f} ms are shorter than one frame of {1000 * shortest:.0f} ms")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _floats(audio: Any) -> NDArray[np.float32]:
    """Convert an array to floats ``[time, channels]``."""
    import numpy as np

    try:
        samples = np.asarray(audio)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise SamplesError(_pair(audio) or f"is not an array of samples ({reason})") from None
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu":
        raise SamplesError(
            _pair(audio)
            or f"must be a file, or numbers [time], [time, channels] or [channels, time], "
            f"not {type(audio).__name__} of {samples.dtype} {list(samples.shape)}"
        )
    if not samples.size:
        raise SamplesError("is empty: it holds no samples")
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] < samples.shape[1]:
        samples = samples.T
    if samples.shape[1] > MOST_CHANNELS:
        raise SamplesError(f"is not audio: an array {list(samples.shape)} would have {samples.shape[1]} channels")
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    limits = np.iinfo(samples.dtype)
    middle = 0 if samples.dtype.kind == "i" else (int(limits.max) + 1) // 2
    return ((samples.astype(np.float64) - middle) / (int(limits.max) - middle + 1)).astype(np.float32)


def _pair(audio: Any) -> str:
    """Return what to do with an array that other libraries give together with its rate; empty if it is none."""
    if isinstance(audio, tuple) and len(audio) == 2 and any(isinstance(part, Real) for part in audio):
        return "is an array with its rate: give the array, and the rate as an argument of its own"
    if isinstance(audio, Mapping) and "array" in audio:
        return "is a mapping: give its 'array', and the rate as an argument of its own"
    return "is a sample: give its audio" if hasattr(audio, "audio") and hasattr(audio, "key") else ""


def _resampled(samples: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    import soxr

    if (lowest := min(rate, new_rate)) <= 0:
        raise SamplesError(f"{lowest} Hz is not a valid sampling rate; give one above 0")
    _note_resampling(rate, new_rate)
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, new_rate)
    return resampled


@functools.cache
def _note_resampling(rate: int, new_rate: int) -> None:
    """Log a warning once for each rate: a manifest can have thousands of files."""
    _log.warning("audio of %d Hz is resampled to %d Hz", rate, new_rate)
