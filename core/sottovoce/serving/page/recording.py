"""Audio that a visitor gave: decoded for the model, kept as the waveform that is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.serving.page.waveform import peaks_of
from sottovoce.serving.uploads import read_limited

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.serving.settings import Limits


class Recording:
    """Audio file of a visitor.

    Attributes:
        peaks: Loudness over time, once the audio was read: an hour of it is small.
    """

    peaks: NDArray[np.float32]

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits

    def read(self) -> NDArray[np.float32]:
        """Decode the audio ``[time]`` at 16 kHz.

        Raises:
            ApiError: It cannot be decoded, or is too long.
        """
        audio = read_limited(self._path, self._limits)
        self.peaks = peaks_of(audio)
        return audio
