"""Numbers as arguments of the Python API."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from sottovoce.errors import UsageError


def as_count(count: Any, name: str, least: int = 1) -> int:
    """Return what a caller gave as a whole number.

    Args:
        count: The argument.
        name: Name of the argument, for errors.
        least: Smallest number that makes sense.

    Raises:
        UsageError: The argument is not a whole number, or too small.
    """
    is_whole = isinstance(count, Integral) or (isinstance(count, float) and count.is_integer())
    if isinstance(count, bool) or not is_whole or count < least:
        raise UsageError(f"{name}={str(count)[:40]!r}: give a whole number of at least {least}")
    return int(count)


def as_limits(limits: Any, name: str = "limits") -> Mapping[str, float]:
    """Return what a caller gave as bounds on metrics; ``None`` is none.

    Raises:
        UsageError: It is not a mapping of names to numbers.
    """
    if limits is None:
        return {}
    if not isinstance(limits, Mapping):
        raise UsageError(f'{name}: give a mapping such as {{"max_cer": 5}}, not {type(limits).__name__}')
    for limit, bound in limits.items():
        if isinstance(bound, bool) or not isinstance(bound, Real):
            raise UsageError(f"{name}: {limit} must be a number, not {str(bound)[:40]!r}")
    return limits
