"""Filter banks of Paraformers in NumPy, for clients of exported graphs: they need neither PyTorch nor FunASR.

The numbers are Kaldi's, as FunASR's front end computes them for its usual settings: 16 kHz, windows of 25 ms every
10 ms (Hamming), without dither.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW, _SHIFT, _POINTS = 400, 160, 512
_RATE, _LOWEST = 16000, 20.0
_PREEMPHASIS = 0.97
_FLOOR = 1.1920929e-07


def filter_banks(audio: NDArray[Any], mels: int) -> NDArray[Any]:
    """Return log energies ``[frames, mels]`` of audio ``[time]`` of 16 kHz, from -1 to 1; at least one window long."""
    import numpy

    frames = numpy.lib.stride_tricks.sliding_window_view(audio.astype(numpy.float32) * 32768, _WINDOW)[::_SHIFT]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = numpy.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
    window = 0.54 - 0.46 * numpy.cos(2 * numpy.pi * numpy.arange(_WINDOW) / (_WINDOW - 1))
    spectrum = numpy.fft.rfft((frames - _PREEMPHASIS * before) * window, _POINTS)
    energies = (numpy.abs(spectrum) ** 2)[:, : _POINTS // 2] @ _triangles(mels).T
    return numpy.log(numpy.maximum(energies, _FLOOR)).astype(numpy.float32)


def stacked(features: NDArray[Any], window: int, shift: int) -> NDArray[Any]:
    """Stack ``window`` frames of ``[frames, mels]`` every ``shift`` frames; the ends are repeated.

    Returns:
        ``[ceil(frames / shift), window * mels]``.
    """
    import numpy

    count, before = -(-len(features) // shift), (window - 1) // 2
    places = numpy.arange(count)[:, None] * shift + numpy.arange(window) - before
    return features[places.clip(0, len(features) - 1)].reshape(count, -1)


@functools.cache
def _triangles(mels: int) -> NDArray[Any]:
    """Return the weights of each band ``[mels, points / 2]``: triangles on Kaldi's mel scale."""
    import numpy

    low, high = (_mel(numpy.array(frequency)) for frequency in (_LOWEST, _RATE / 2))
    width = (high - low) / (mels + 1)
    left = low + numpy.arange(mels)[:, None] * width
    points = _mel(numpy.arange(_POINTS // 2) * _RATE / _POINTS)[None]
    rising, falling = (points - left) / width, (left + 2 * width - points) / width
    weights: NDArray[Any] = numpy.maximum(0, numpy.minimum(rising, falling))
    return weights


def _mel(frequency: NDArray[Any]) -> NDArray[Any]:
    import numpy

    mel: NDArray[Any] = 1127 * numpy.log(1 + frequency / 700)
    return mel
