"""Batches of pieces of audio that are recognized together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sottovoce.transcription.pieces import Piece

BATCH_SECONDS = 20.0
"""Seconds of audio in a batch, padding included.

Measured on one core with a recognizer of 220 million parameters in int8, as milliseconds of CPU for a second of audio:
clips of 1 s take 206 one by one, 108 by four and 89 by eight; clips of 5 s take 98, 79 by four and 79 by eight; clips
of 20 s take 86 alone or in pairs. What is gained is gained by 20 s. Memory and the wait for a batch grow with it."""
WASTE = 0.1
"""Largest share of a batch that may be padding: a pair of clips of 5 or 10 s gains an eighth, so more would cost it."""
AHEAD = 120.0
"""Seconds of speech from which batches are chosen: results are given in order, so this is how long one may wait."""


def groups(parts: Sequence[Piece], seconds: float = AHEAD) -> Iterator[tuple[Piece, ...]]:
    """Yield consecutive pieces, together at most ``seconds`` long unless one piece is longer."""
    group: list[Piece] = []
    total = 0.0
    for piece in parts:
        if group and total + piece.seconds > seconds:
            yield tuple(group)
            group, total = [], 0.0
        group.append(piece)
        total += piece.seconds
    if group:
        yield tuple(group)


def batches(lengths: Sequence[float], seconds: float = BATCH_SECONDS, waste: float = WASTE) -> list[tuple[int, ...]]:
    """Return which pieces are recognized together, longest first, as their numbers.

    Args:
        lengths: Length of each piece in seconds.
        seconds: Most seconds of a batch, with padding; a longer piece is a batch by itself.
        waste: Largest share of a batch that may be padding.
    """
    result: list[tuple[int, ...]] = []
    batch: list[int] = []
    speech = 0.0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        padded = lengths[batch[0]] * (len(batch) + 1) if batch else 0.0
        if batch and (padded > seconds or speech + lengths[number] < (1 - waste) * padded):
            result.append(tuple(batch))
            batch, speech = [], 0.0
        batch.append(number)
        speech += lengths[number]
    return [*result, tuple(batch)] if batch else result
