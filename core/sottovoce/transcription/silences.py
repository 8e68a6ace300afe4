"""Silences, found by the energy of the audio alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.system.audio import SAMPLE_RATE

FRAME = 320
"""Samples in a frame."""
SECONDS = FRAME / SAMPLE_RATE
"""Length of a frame, 20 ms."""
SHORTEST = 0.2
"""Seconds that a silence lasts at least; a plosive's closure is shorter."""
LEAST_CONTRAST = 10.0
"""Decibels between loud and quiet without which there is nothing to tell them apart by."""

SPEECH_RANGE = 30.0
"""Decibels below the loudest frame within which speech lies, without its quiet sounds."""
QUIETEST = -60.0
"""Decibels of full scale that the loudest of any speech has at least."""
STEADY = 3.0
"""Decibels between loud and quiet that speech has at least, in whatever noise; steady noise has about one."""
FEWEST = 0.5
"""Seconds of audio that are enough to see that."""


@dataclass(frozen=True)
class Silence:
    """A stretch of audio in which nobody speaks, in seconds."""

    start: float
    end: float

    @property
    def middle(self) -> float:
        """Its middle, where a cut is farthest from speech."""
        return (self.start + self.end) / 2

    @property
    def length(self) -> float:
        """Duration in seconds."""
        return self.end - self.start


def loud_frames(audio: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for each frame whether somebody may be speaking ``[frames]``.

    Loud is what lies above a third of the way from the quietest to the loudest, in decibels: of all of the audio, so
    that a long stretch in which nobody speaks is quiet throughout.
    """
    level = levels(audio)
    if not level.size:
        return np.zeros(0, dtype=np.bool_)
    low, high = np.percentile(level, (5, 99))
    if high - low < LEAST_CONTRAST:
        return np.ones(len(level), dtype=np.bool_)
    loud: NDArray[np.bool_] = level > low + (high - low) / 3
    return loud


def speech_frames(audio: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for each frame whether somebody speaks beyond doubt ``[frames]``.

    Beside stretches without any sound, the noise of a room is loud; speech is nearly as loud as the loudest.
    """
    level = levels(audio)
    if not level.size:
        return np.zeros(0, dtype=np.bool_)
    clear: NDArray[np.bool_] = loud_frames(audio) & (level > np.percentile(level, 99) - SPEECH_RANGE)
    return clear


def holds_speech(audio: NDArray[np.float32]) -> bool:
    """Return whether somebody may speak in the audio: it is silent nearly throughout, or does not change, otherwise."""
    level = levels(audio)
    if not level.size:
        return False
    low, high = np.percentile(level, (5, 99))
    changes = high - low >= STEADY or len(level) * SECONDS < FEWEST
    return bool(high >= QUIETEST and changes)


def levels(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how loud each frame is, in decibels of full scale ``[frames]``."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    level: NDArray[np.float64] = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 1e-8)
    return level


def find_silences(loud: NDArray[np.bool_]) -> list[Silence]:
    """Return the silences in a stretch of frames, first to last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~loud, [False]]).astype(np.int8)))
    silences = [Silence(float(begin) * SECONDS, float(end) * SECONDS) for begin, end in edges.reshape(-1, 2)]
    return [silence for silence in silences if silence.length >= SHORTEST]
