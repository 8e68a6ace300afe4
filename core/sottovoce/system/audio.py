"""Audio of any format, rate and number of channels as one channel of samples: read and checked here, once for all."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SamplesError
from sottovoce.system.audio_files import AudioInfo, decode, file_info, refuse_outside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16000
"""Rate in Hz of arrays of which nothing else is said, and what speech models are made for."""
FRAME = 0.025
"""Seconds of one frame of a spectrogram: of less audio no model can say anything."""
MOST_CHANNELS = 64
LOUDEST = 100.0
"""Largest float that is taken for a sample: decoders exceed 1 a little, 16-bit integers by thousands."""

_log = logging.getLogger("sottovoce.system.audio")


@dataclass(frozen=True)
class AudioSegment:
    """A piece of a file."""

    path: Path
    start: float = 0.0
    """In seconds."""
    end: float | None = None
    """In seconds; ``None`` for the end of the file."""

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
        audio: A file, or a piece of one; or samples ``[time]``, ``[time, channels]`` or ``[channels, time]``: floats in
            -1 to 1, or integers of their type's full range. Channels are averaged.
        sampling_rate: What to return, in Hz; other audio is resampled.
        original_rate: The rate of ``audio`` in Hz, when it is an array.
        shortest: Seconds that are needed at least, such as :data:`FRAME`; shorter audio is an error.
        name: Whose audio it is, such as ``sample 'a'``: errors begin with it. Files are named anyway.

    Returns:
        The samples; at least one of what was read. They may be fewer than a model needs for one frame.

    Raises:
        SamplesError: There is no such file, it cannot be read or is cut off; or the samples are empty, too few, no
            numbers, or of a shape or a size that no audio has.
    """
    if isinstance(audio, str | os.PathLike):
        audio = AudioSegment(Path(audio))
    with _naming(audio, name):
        if not isinstance(audio, AudioSegment):
            return _converted(_floats(audio), original_rate, sampling_rate, shortest)
        samples, rate = decode(audio.path, audio.start, audio.end)
        with _naming(audio, str(audio.path)):
            return _converted(samples, rate, sampling_rate, shortest)


def audio_info(audio: Any, *, name: str = "") -> AudioInfo:
    """Return rate, channels and length of a file, a piece of one, or an array, which is of 16 kHz.

    Raises:
        SamplesError: As :func:`read_audio`, as far as it can be seen without decoding.
    """
    if isinstance(audio, str | os.PathLike):
        audio = AudioSegment(Path(audio))
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
    """Say whose audio an error is about. Files name themselves."""
    whose = name or ("" if isinstance(audio, AudioSegment) else "the audio")
    try:
        yield
    except SamplesError as error:
        raise SamplesError(f"{whose}: {error}" if whose else str(error)) from None


def _converted(samples: NDArray[np.float32], rate: int, target: int, shortest: float) -> NDArray[np.float32]:
    import numpy as np

    if not np.isfinite(samples).all():
        raise SamplesError("holds values that are no numbers (NaN or infinite); decode it again")
    if (peak := float(np.abs(samples).max())) > LOUDEST:
        raise SamplesError(f"holds values up to {peak:.0f}, where floats are in -1 to 1; divide 16-bit values by 32768")
    mono = samples.mean(axis=1)
    if rate != target:
        mono = _resampled(mono, rate, target)
    if len(mono) < shortest * target:
        milliseconds = 1000 * len(mono) / target
        raise SamplesError(f"{milliseconds:.1f} ms are shorter than one frame of {1000 * shortest:.0f} ms")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _floats(audio: Any) -> NDArray[np.float32]:
    """Of an array: floats ``[time, channels]``."""
    import numpy as np

    try:
        samples = np.asarray(audio)
    except (ValueError, TypeError, RuntimeError) as error:
        raise SamplesError(f"is no array of samples ({' '.join(str(error).split())[:100]})") from None
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu":
        raise SamplesError(
            f"must be a file, or numbers [time], [time, channels] or [channels, time], "
            f"not {type(audio).__name__} of {samples.dtype} {list(samples.shape)}"
        )
    if not samples.size:
        raise SamplesError("is empty: it holds no samples")
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] < samples.shape[1]:
        samples = samples.T
    if samples.shape[1] > MOST_CHANNELS:
        raise SamplesError(f"is no audio: an array {list(samples.shape)} would have {samples.shape[1]} channels")
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    limits = np.iinfo(samples.dtype)
    middle = 0 if samples.dtype.kind == "i" else (int(limits.max) + 1) // 2
    return ((samples.astype(np.float64) - middle) / (int(limits.max) - middle + 1)).astype(np.float32)


def _resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    import soxr

    for each in (rate, wanted):
        if each <= 0:
            raise SamplesError(f"a sampling rate of {each} Hz is none")
    _note_resampling(rate, wanted)
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, wanted)
    return resampled


@functools.cache
def _note_resampling(rate: int, wanted: int) -> None:
    """Say it once a rate: a manifest can have thousands of files."""
    _log.warning("audio of %d Hz is resampled to %d Hz", rate, wanted)
