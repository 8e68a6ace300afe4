"""Numbers as people read them, the same in every language."""

from __future__ import annotations

from collections.abc import Mapping


def size(count: float) -> str:
    """Bytes, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.95 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def count(number: int) -> str:
    """A whole number, its thousands apart."""
    return f"{number:,}"


def number(value: float) -> str:
    """Two decimals, or three significant digits of what is small."""
    if isinstance(value, int) or value.is_integer() and abs(value) >= 1000:
        return count(int(value))
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:#.3g}"


def percent(share: float) -> str:
    """A share of 1, in percent."""
    return f"{100 * share:.1f} %"


def widths(counts: Mapping[int, int]) -> str:
    """How many parameters have how many bits, the fewest bits first: ``4: 1,200; 16: 300``."""
    return "; ".join(f"{bits}: {count(counts[bits])}" for bits in sorted(counts))


def factor(value: float, base: float) -> str:
    """How many times ``base`` something is; nothing when that says nothing."""
    return f"× {number(float(value / base))}" if base else ""


def runs(numbers: list[int]) -> str:
    """Whole numbers in order, neighbours drawn together: ``0-3, 7``."""
    spans: list[list[int]] = []
    for each in sorted(numbers):
        if spans and each == spans[-1][1] + 1:
            spans[-1][1] = each
        else:
            spans.append([each, each])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
