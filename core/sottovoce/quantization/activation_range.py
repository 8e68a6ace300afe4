"""Range of a layer's inputs, chosen once from calibration samples."""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.quantization.step import StaticRange
from sottovoce.runtime.backends.int8_engine import InputRange

_LEVELS = 255
_CLIPS = 64


def choose_range(values: Tensor, options: StaticRange) -> InputRange:
    """Choose the scale and zero point of the 255 levels that an input is quantized to.

    Args:
        values: A sample of the values that the input takes, extremes among them.
        options: ``minmax`` covers all; ``percentile`` leaves that share out at either end; ``mse`` takes, of 64 shares
            of the full range, the one with the least squared error of the values.
    """
    values = values.float()
    low, high = float(values.min()), float(values.max())
    if options.choose == "percentile":
        share = 1 - options.percentile / 100
        ordered = values.sort().values
        last = len(ordered) - 1
        low, high = float(ordered[round(share * last)]), float(ordered[round((1 - share) * last)])
    elif options.choose == "mse":
        candidates = [_range(low * clip / _CLIPS, high * clip / _CLIPS) for clip in range(1, _CLIPS + 1)]
        return min(candidates, key=lambda candidate: _error(values, candidate))
    return _range(low, high)


def _range(low: float, high: float) -> InputRange:
    low, high = min(low, 0.0), max(high, 0.0)
    # float32, as it is stored.
    scale = torch.tensor(max((high - low) / _LEVELS, 1e-30)).item()
    return InputRange(scale, max(-128, min(127, round(-128 - low / scale))))


def _error(values: Tensor, candidate: InputRange) -> float:
    steps = (values / candidate.scale).round_().add_(candidate.zero_point).clamp_(-128, 127)
    return float((steps.sub_(candidate.zero_point).mul_(candidate.scale) - values).square().sum())
