"""What ``compression.json`` says of the base model, the family, and what was measured on what."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""``owner/name``."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[int | float | None, BeforeValidator(_finite)]
"""A measured number; what is infinite or not a number counts as not measured."""


class Facts(BaseModel):
    """A part of a report, checked when it is read, for nobody vouches for what the file holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class License(Facts):
    """The base model's licence, as its card states it."""

    id: str
    name: str | None = None
    link: str | None = None


class Source(Facts):
    """The base model."""

    name: str
    hub: str | None = None
    revision: str | None = None
    license: License | None = None
    languages: tuple[str, ...] = ()

    @property
    def repository(self) -> str | None:
        """Its id on the hub that it was fetched from."""
        return self.name if self.hub in ("hf", "modelscope") and REPOSITORY.fullmatch(self.name) else None


class Family(Facts):
    """What the family's plugin states for a card."""

    pipeline_tag: str = ""
    library_name: str = ""
    languages: tuple[str, ...] = ()
    usage: str = ""
    hub_usage: Mapping[str, str] = {}
    serving: Mapping[str, str] = {}
    packages: tuple[str, ...] = ()
    translations: Mapping[str, Mapping[str, str]] = {}
    """By language: what the family says in English (why a layer is kept, say), and the same in that language."""


class Samples(Facts):
    """Which samples something was measured or calibrated on."""

    name: str | None = None
    count: int
    audio_seconds: Number = None
    sha256: str | None = None


class Dataset(Facts):
    """What a hub calls the data of an evaluation."""

    id: str
    task: str | None = None
    split: str | None = None
    revision: str | None = None


class Spread(Facts):
    """Median and quartiles of rounds in which two models took turns."""

    median: Number = None
    quartiles: tuple[float, ...] = ()


class ByTurns(Facts):
    """What was timed by turns."""

    ratio: Spread = Spread()


class Details(Facts):
    """What is known of a number beside itself."""

    by_turns: ByTurns | None = None


class Measure(Facts):
    """One measured number, and the base model's."""

    value: Number = None
    unit: str = ""
    baseline: Number = None
    details: Details = Details()


class Machine(Facts):
    """What something was measured on."""

    processor: str | None = None
    cores: int | None = None
    threads: int | None = None
    system: str | None = None
    versions: Mapping[str, str] = {}


def _without_twin(metrics: Any) -> Any:
    """Without a ``wer`` that counted what ``cer`` did, as older reports have it for Chinese."""
    if not isinstance(metrics, Mapping):
        return metrics
    details = [each.get("details") if isinstance(each, Mapping) else None for each in map(metrics.get, ("cer", "wer"))]
    if details[0] is None or details[0] != details[1]:
        return metrics
    return {name: metric for name, metric in metrics.items() if name != "wer"}


class Evaluation(Facts):
    """What was measured on one set of samples."""

    samples: Samples
    metrics: Annotated[Mapping[str, Measure], BeforeValidator(_without_twin)] = {}
    machine: Machine = Machine()
    dataset: Dataset | None = None
    baseline: str | None = None
    date: str | None = None
