"""Measured numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from sottovoce.report.fields import Count, Facts, Measured, Number, Record, to_form
from sottovoce.text.translations import Text

Better = Literal["lower", "higher"]
Kind = Literal["quality", "against_baseline", "cost"]
BySample = tuple[tuple[float, float] | None, ...]
"""By sample, the numerator and the denominator of a metric that is the ratio of two sums."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread(Record):
    """Median and quartiles of several rounds."""

    median: Number
    quartiles: tuple[Number, Number]
    rounds: Count = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Turns(Record):
    """Times of rounds in which a model and its baseline took turns."""

    ratio: Spread
    """Model over baseline."""
    baseline: Spread | None = None
    model: Spread | None = None


@functools.cache
def _turns() -> TypeAdapter[Turns]:
    return TypeAdapter(Turns)


def _check_turns(details: Mapping[str, Any]) -> Mapping[str, Any]:
    if "by_turns" in details:
        try:
            _turns().validate_python(details["by_turns"])
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise PydanticCustomError("turns", "by_turns: {problem}", {"problem": problem}) from None
    return details


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric(Record):
    """One measured number; ``baseline`` is the same of the model compared with.

    A value that is not finite becomes ``None``: it would pass every limit, and JSON has none.
    """

    name: str
    value: Measured
    unit: str
    baseline: Measured = None
    details: Annotated[Facts, AfterValidator(_check_turns)] = field(default_factory=dict)
    kind: Kind | None = None
    """``quality``; ``cost``, which is compared by factors; or ``against_baseline`` for a comparison with the base
    model, which therefore has no value of its own. This and what follows is declared by a
    :class:`~sottovoce.metrics.kinds.MetricKind`, and travels with the number to whoever has no plugin for it."""
    better: Better | None = None
    """The better direction."""
    label: Text | None = None
    """Name for people."""
    headline: int | None = None
    """Rank among the metrics that may speak for a model, lowest first; without one, it does not."""
    headline_languages: tuple[str, ...] = ()
    """Codes of the languages in which it goes before all others."""
    by_sample: BySample = ()
    """Share of every sample, as numerator and denominator; ``None`` for a sample that does not count. The value is the
    ratio of both sums. Confidence intervals and tests need it; it is not among what is written."""

    def __post_init__(self) -> None:
        for name in ("value", "baseline"):
            number = getattr(self, name)
            if isinstance(number, float) and not math.isfinite(number):
                object.__setattr__(self, name, None)

    @property
    def turns(self) -> Turns | None:
        """Times of the rounds that were taken by turns; ``None`` for a metric that was not timed so."""
        form = self.details.get("by_turns")
        return None if form is None else _turns().validate_python(form)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the baseline when there is none."""
        form: dict[str, Any] = {"value": self.value, "unit": self.unit}
        if self.baseline is not None:
            form["baseline"] = self.baseline
        described = ("details", "kind", "better", "label", "headline", "headline_languages")
        return form | {key: to_form(self[key]) for key in described if self[key] not in (None, (), {})}
