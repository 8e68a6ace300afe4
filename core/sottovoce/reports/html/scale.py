"""Axes of pictures: from numbers to places, with marks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A straight or logarithmic axis."""

    low: float
    high: float
    start: float
    """Place of ``low``."""
    end: float
    """Place of ``high``."""
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a number, to a tenth."""
        low, high, number = self.low, self.high, value
        if self.is_log:
            low, high, number = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        share = (number - low) / (high - low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Round numbers along the axis."""
        if self.is_log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            every = max(1, len(powers) // 6)
            return [10.0**power for power in powers if power % every == 0]
        step = _step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        return [round(number * step, 12) for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def linear(values: Iterable[float], start: float, end: float, *, from_zero: bool = False) -> Scale:
    """Return a straight axis that holds all numbers, with some room."""
    numbers = [0.0, *values] if from_zero else list(values)
    low, high = min(numbers), max(numbers)
    room = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    return Scale(0.0 if from_zero and low >= 0 else low - room, high + room, start, end)


def logarithmic(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a logarithmic axis that holds all positive numbers, at least one decade."""
    numbers = [value for value in values if value > 0]
    low, high = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    return Scale(10.0**low, 10.0 ** max(high, low + 1), start, end, is_log=True)


def _step(span: float) -> float:
    """Return the distance of marks for about five of them."""
    raw = span / 5
    power = 10 ** math.floor(math.log10(raw))
    return float(power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9)))
