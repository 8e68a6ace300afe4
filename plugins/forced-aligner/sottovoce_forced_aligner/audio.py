"""Audio as the aligner takes it: one channel of 16 kHz samples, at least one frame of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import SamplesError
from sottovoce.system import audio as core_audio
from sottovoce.system.audio import FRAME, SAMPLE_RATE

__all__ = ["SAMPLE_RATE", "read_audio"]


def read_audio(audio: Any, sampling_rate: int = SAMPLE_RATE, *, name: str = "") -> NDArray[np.float32]:
    """Mono samples ``[time]`` at 16 kHz, in -1 to 1.

    Args:
        audio: A file, or samples (see :func:`sottovoce.read_audio`).
        sampling_rate: The rate of ``audio`` in Hz, when it is not a file.
        name: Whose audio it is, for an error; a file goes by its own name.

    Raises:
        SamplesError: The audio cannot be read, or is shorter than a frame.
    """
    samples = core_audio.read_audio(audio, SAMPLE_RATE, original_rate=sampling_rate, name=name)
    if len(samples) < FRAME * SAMPLE_RATE:
        milliseconds = 1000 * len(samples) / SAMPLE_RATE
        raise SamplesError(f"{name or 'the audio'}: {milliseconds:.0f} ms are shorter than one frame of 25 ms")
    return samples
