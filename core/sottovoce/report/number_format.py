"""Numbers as people read them, the same in every language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def size(count: float) -> str:
    """Return bytes in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.95 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 segment`` or ``2,000 segments``.

    Args:
        number: The number.
        noun: What is counted, in the singular.
        plural: The same in the plural, where it does not just end in ``s``.
    """
    return f"{count(number)} {noun if number == 1 else plural or f'{noun}s'}"


def number(value: float) -> str:
    """Return two decimals, or three significant digits of what is small."""
    if isinstance(value, int) or value.is_integer() and abs(value) >= 1000:
        return count(int(value))
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:#.3g}"


def percent(share: float) -> str:
    """Return a share of 1 in percent."""
    return f"{100 * share:.1f} %"


def small_percent(share: float) -> str:
    """Return a share of 1 in percent, with three significant digits where it is small."""
    return f"{number(100 * share)} %"


def factor(value: float, base: float) -> str:
    """Return how many times ``base`` a value is; nothing where that says nothing."""
    return f"× {number(float(value / base))}" if base else ""


def probability(p: float) -> str:
    """Return a probability with two decimals, or three where it is small."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.01 else f"{p:.2f}"


def interval(low: float, high: float) -> str:
    """Return the bounds of an interval in brackets."""
    return f"[{number(low)}, {number(high)}]"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return number(value) if value < 0 else f"+{number(value)}"


def widths(counts: Mapping[str, int]) -> str:
    """Return the number of parameters by their bits, the fewest bits first: ``4: 1,200; 16: 300``."""
    return "; ".join(f"{bits}: {count(counts[bits])}" for bits in sorted(counts, key=int))


def runs(numbers: Iterable[int]) -> str:
    """Return whole numbers in order, neighbours drawn together: ``0-3, 7``."""
    spans: list[list[int]] = []
    for current in sorted(numbers):
        if spans and current == spans[-1][1] + 1:
            spans[-1][1] = current
        else:
            spans.append([current, current])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def value(number: float | None, unit: str) -> str:
    """Return a metric's value with its unit."""
    if number is None:
        return "-"
    if unit == "bytes":
        return size(number)
    if isinstance(number, int):
        return f"{number} {unit}".strip()
    if not unit:
        return f"{number:.4f}"
    # What is small keeps three digits: 0.00 would lie outside its own interval.
    return f"{number:.2f} {unit}" if number == 0 or abs(number) >= 0.005 else f"{number:#.3g} {unit}"


def bits(before: Mapping[str, int] | None, after: Mapping[str, int]) -> str:
    """Return the number of parameters by their bits: ``4.0 M of 16 -> 2.5 M of 4, 1.5 M of 16``."""

    def side(counts: Mapping[str, int]) -> str:
        ordered = sorted(counts.items(), key=lambda item: int(item[0]))
        return ", ".join(f"{_short(number)} of {width}" for width, number in ordered)

    return side(after) if before is None else f"{side(before)} -> {side(after)}"


def _short(number: float) -> str:
    for unit in ("", " k", " M"):
        if number < 1000:
            return f"{number:.0f}" if not unit else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.1f} G"
