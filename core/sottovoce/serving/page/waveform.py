"""Loudness of audio over time, and its drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.system.audio import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 50
"""Peaks in a second."""
_WIDTH, _HEIGHT = 400, 40
"""Units of a drawing."""


def peaks_of(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest sample of every fiftieth of a second ``[peaks]``, from 0 to 1."""
    import numpy as np

    size = SAMPLE_RATE // RATE
    padded = np.pad(np.abs(audio), (0, -len(audio) % size))
    peaks: NDArray[np.float32] = padded.reshape(-1, size).max(axis=1)
    return peaks


def drawing(peaks: NDArray[np.float32], start: float, end: float) -> str:
    """Return an SVG of the loudness from ``start`` to ``end`` in seconds; it is as wide as its place."""
    import numpy as np

    part = peaks[int(start * RATE) : max(int(start * RATE) + 1, round(end * RATE))]
    if not part.size:
        return ""
    columns = min(_WIDTH, len(part))
    edges = np.linspace(0, len(part), columns, endpoint=False).astype(int)
    heights = np.maximum.reduceat(part, edges) / max(float(peaks.max()), 1e-6) * _HEIGHT / 2
    places = (np.arange(columns) + 0.5) * _WIDTH / columns
    path = "".join(
        f"M{place:.1f} {_HEIGHT / 2 - height:.1f}V{_HEIGHT / 2 + height:.1f}"
        for place, height in zip(places, np.maximum(heights, 0.3), strict=True)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{path}" stroke="#6b7fd7" stroke-width="0.8"/></svg>'
    )
