"""Pieces of long audio: as a voice-activity detector gives them, and no longer than a model should take at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.system.audio import FRAME as SHORTEST
from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.transcription.silences import FRAME, SECONDS, levels

LONGEST = 60.0
"""Seconds of audio that a recognizer is given at once. The cost of attention grows with the square of the length, and
voice-activity detectors of published pipelines end a segment there too."""
_PAUSE = 0.3
"""Seconds over which loudness is averaged where audio is cut: the gap between two words, not within one."""


@dataclass(frozen=True)
class Piece:
    """Stretch of audio, in samples."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end - self.start) / SAMPLE_RATE


def pieces(
    audio: NDArray[np.float32], spans: Iterable[tuple[float, float]], longest: float = LONGEST
) -> tuple[Piece, ...]:
    """Return the pieces to recognize, in order: the spans, those that are too long cut where it is quietest.

    Args:
        audio: Mono samples ``[time]`` at 16 kHz.
        spans: Start and end of each stretch in which somebody speaks, in seconds.
        longest: Seconds of the longest piece.
    """
    stretches = (
        (max(0, round(start * SAMPLE_RATE)), min(len(audio), round(end * SAMPLE_RATE))) for start, end in spans
    )
    parts = (piece for start, end in stretches for piece in _cut(audio, start, end, round(longest * SAMPLE_RATE)))
    return tuple(piece for piece in parts if piece.seconds >= SHORTEST)


def _cut(audio: NDArray[np.float32], start: int, end: int, longest: int) -> Iterator[Piece]:
    """Yield pieces of at most ``longest`` samples; each but the last has at least half of that."""
    while end - start > longest:
        place = start + longest // 2
        place += _quietest(audio[place : start + longest])
        yield Piece(start, place)
        start = place
    yield Piece(start, end)


def _quietest(audio: NDArray[np.float32]) -> int:
    """Return the place in samples around which the audio is quietest."""
    loudness = levels(audio)
    width = round(_PAUSE / SECONDS)
    if len(loudness) <= width:
        return len(audio)
    smooth = np.convolve(loudness, np.full(width, 1 / width), mode="valid")
    return (int(smooth.argmin()) + width // 2) * FRAME
