"""Limits on the command line: ``max_cer_increase=0.1``."""

from __future__ import annotations

from sottovoce.errors import UsageError


def limit(text: str) -> tuple[str, float]:
    """Return a limit's name and bound.

    Raises:
        UsageError: The text is none.
    """
    name, equals, bound = text.partition("=")
    try:
        if not equals or not name.startswith(("max_", "min_")):
            raise ValueError
        return name.strip(), float(bound)
    except ValueError:
        raise UsageError(f"{text!r} is not a limit; write one such as max_cer_increase=0.1") from None
