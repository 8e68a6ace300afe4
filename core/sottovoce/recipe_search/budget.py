"""Budgets as people write them: ``2.4MB``, ``x0.3``, ``latency=x0.5``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.errors import UsageError
from sottovoce.text.plain_text import shortened

_FORMS = "give a size such as 2.4MB, a share of the model's size such as x0.3, or of its time such as latency=x0.5"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)
_SHARE = re.compile(r"x\s*(\d*\.?\d+)", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Budget:
    """Limits of a recipe's result; ``None`` where there is none."""

    size_bytes: int | None = None
    """Bytes of the weights on disk."""
    size_share: float | None = None
    """The same as a share of the model's."""
    latency_share: float | None = None
    """Time as a share of the model's."""

    def bytes_of(self, before: int) -> int | None:
        """Return the limit in bytes for a model that has ``before``; the smaller one if two are given."""
        limits = [] if self.size_bytes is None else [self.size_bytes]
        if self.size_share is not None:
            limits.append(int(self.size_share * before))
        return min(limits, default=None)


def parse_budget(texts: str | int | Sequence[str | int]) -> Budget:
    """Read budgets, of which every one must hold.

    Args:
        texts: ``2.4MB``, ``2.4MiB``, a number of bytes, ``x0.3`` or ``latency=x0.5``; or several of them.

    Raises:
        UsageError: A text is none of these, or nothing is limited.
    """
    budget: dict[str, int | float] = {}
    several = texts if isinstance(texts, list | tuple) else [texts]
    for text in several:
        # 2.4e6 is a whole number of bytes too.
        whole = int(text) if isinstance(text, float) and text.is_integer() else text
        name, limit = _parsed(str(whole).strip())
        budget[name] = min(limit, budget.get(name, limit))
    if not budget:
        raise UsageError(f"the budget is empty: {_FORMS}")
    return Budget(**budget)  # type: ignore[arg-type]


def _parsed(text: str) -> tuple[str, int | float]:
    kind, _, amount = text.rpartition("=")
    if kind.strip().lower() in ("", "size", "latency"):
        is_latency = kind.strip().lower() == "latency"
        if match := _SHARE.fullmatch(amount.strip()):
            share = float(match[1])
            if not share:
                raise UsageError(f"the budget {text!r} leaves nothing: {_FORMS}")
            return ("latency_share" if is_latency else "size_share"), share
        if not is_latency and (match := _SIZE.fullmatch(amount.strip())):
            base = 1024 if match[3] else 1000
            if not match[2] and "." in match[1]:
                raise UsageError(f"the budget {text!r} has no unit; write x{match[1]} or {match[1]}MB")
            return "size_bytes", int(float(match[1]) * base ** _POWERS[match[2].upper()])
    raise UsageError(f"{shortened(repr(text), 60)} is not a budget: {_FORMS}")
