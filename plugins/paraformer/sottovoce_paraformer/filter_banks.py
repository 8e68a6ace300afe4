"""Filter banks of Paraformers in NumPy, for clients of exported graphs: they need neither PyTorch nor FunASR.

The numbers are Kaldi's, as FunASR's front end computes them for its usual settings: 16 kHz, windows of 25 ms every
10 ms (Hamming), without dither.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW, SHIFT, POINTS = 400, 160, 512
_RATE, _LOWEST = 16000, 20.0
PREEMPHASIS = 0.97
FLOOR = 1.1920929e-07
USUAL = {
    **{"fs": _RATE, "window": "hamming", "frame_length": 25, "frame_shift": 10, "filter_length_min": -1},
    **{"filter_length_max": -1, "snip_edges": True, "upsacle_samples": True},
}
"""FunASR's settings that these numbers are for."""


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """Features of a model: filter banks, stacked and normalized."""

    window: int
    """Frames that are stacked."""
    shift: int
    """Frames from a stack to the next."""
    negative_mean: NDArray[Any]
    """float32 ``[features]``."""
    inverse_deviation: NDArray[Any]
    """float32 ``[features]``."""

    def __call__(self, audio: NDArray[Any]) -> NDArray[Any]:
        """Return features ``[frames, features]`` of audio ``[time]`` of 16 kHz, at least one window long."""
        features = stacked(filter_banks(audio, len(self.negative_mean) // self.window), self.window, self.shift)
        normalized: NDArray[Any] = (features + self.negative_mean) * self.inverse_deviation
        return normalized

    @classmethod
    def of_metadata(cls, facts: Mapping[str, str]) -> FrontEnd:
        """Return the front end that an exported graph's metadata describes.

        Raises:
            KeyError: An entry is missing.
        """
        return cls(
            int(facts["lfr_window_size"]),
            int(facts["lfr_window_shift"]),
            *(numpy_vector(facts[name].split(",")) for name in ("neg_mean", "inv_stddev")),
        )

    @classmethod
    def of_files(cls, options: Mapping[str, Any], statistics: str) -> FrontEnd:
        """Return the front end of a configuration's ``frontend_conf`` and the content of its ``am.mvn``.

        Raises:
            ValueError: The settings are not the usual ones, or the statistics are damaged.
        """
        unusual = {name: options[name] for name, usual in USUAL.items() if options.get(name, usual) != usual}
        if unusual:
            raise ValueError(f"it has {', '.join(f'{name} {value}' for name, value in unusual.items())}")
        rows = re.findall(r"<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]", statistics)
        if len(rows) != 2:
            raise ValueError(f"rows of statistics: {len(rows)}, not 2")
        vectors = (numpy_vector(row.split()) for row in rows)
        return cls(int(options.get("lfr_m", 1)), int(options.get("lfr_n", 1)), *vectors)


def numpy_vector(numbers: Sequence[str]) -> NDArray[Any]:
    """Return numbers as float32."""
    import numpy

    return numpy.array([float(number) for number in numbers], numpy.float32)


def filter_banks(audio: NDArray[Any], mels: int) -> NDArray[Any]:
    """Return log energies ``[frames, mels]`` of audio ``[time]`` of 16 kHz, from -1 to 1; at least one window long."""
    import numpy

    frames = numpy.lib.stride_tricks.sliding_window_view(audio.astype(numpy.float32) * 32768, WINDOW)[::SHIFT]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = numpy.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
    spectrum = numpy.fft.rfft((frames - PREEMPHASIS * before) * hamming(), POINTS)
    energies = (numpy.abs(spectrum) ** 2)[:, : POINTS // 2] @ triangles(mels).T
    logarithms: NDArray[Any] = numpy.log(numpy.maximum(energies, FLOOR)).astype(numpy.float32)
    return logarithms


def stacked(features: NDArray[Any], window: int, shift: int) -> NDArray[Any]:
    """Stack ``window`` frames of ``[frames, mels]`` every ``shift`` frames; the ends are repeated.

    Returns:
        ``[ceil(frames / shift), window * mels]``.
    """
    import numpy

    count, before = -(-len(features) // shift), (window - 1) // 2
    places = numpy.arange(count)[:, None] * shift + numpy.arange(window) - before
    stacks: NDArray[Any] = features[places.clip(0, len(features) - 1)].reshape(count, -1)
    return stacks


def hamming() -> NDArray[Any]:
    """Return the window ``[400]`` that frames are multiplied by."""
    import numpy

    window: NDArray[Any] = 0.54 - 0.46 * numpy.cos(2 * numpy.pi * numpy.arange(WINDOW) / (WINDOW - 1))
    return window


@functools.cache
def triangles(mels: int) -> NDArray[Any]:
    """Return the weights of each band ``[mels, points / 2]``: triangles on Kaldi's mel scale."""
    import numpy

    low, high = (_mel(numpy.array(frequency)) for frequency in (_LOWEST, _RATE / 2))
    width = (high - low) / (mels + 1)
    left = low + numpy.arange(mels)[:, None] * width
    points = _mel(numpy.arange(POINTS // 2) * _RATE / POINTS)[None]
    rising, falling = (points - left) / width, (left + 2 * width - points) / width
    weights: NDArray[Any] = numpy.maximum(0, numpy.minimum(rising, falling))
    return weights


def _mel(frequency: NDArray[Any]) -> NDArray[Any]:
    import numpy

    mel: NDArray[Any] = 1127 * numpy.log(1 + frequency / 700)
    return mel
