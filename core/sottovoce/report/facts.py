"""Records of the base model, the family, the data and the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from sottovoce.report.fields import Count, Measured, Record
from sottovoce.text.translations import Text

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""``owner/name``."""
Bits = Annotated[str, Field(pattern=r"^\d{1,2}$")]


@dataclass(frozen=True, kw_only=True, eq=False)
class License(Record):
    """The base model's licence, as its card states it."""

    id: str
    name: str | None = None
    link: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseModel(Record):
    """The model that was compressed."""

    name: str
    """Id on its hub, or the name of its directory."""
    hub: str | None = None
    revision: str | None = None
    weights: str | None = None
    """Checkpoint that was chosen among several."""
    license: License | None = None
    languages: tuple[str, ...] = ()
    """Languages that its card states."""
    fingerprint: str | None = None
    """Digest by which its weights are recognized."""

    @property
    def repository(self) -> str | None:
        """Id on the hub that it was fetched from; ``None`` for a local directory."""
        return self.name if self.hub in ("hf", "modelscope") and REPOSITORY.fullmatch(self.name) else None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without ``weights`` where none were chosen."""
        form = super().to_dict()
        if self.weights is None:
            del form["weights"]
        return form


@dataclass(frozen=True, kw_only=True, eq=False)
class Family(Record):
    """Statements of a family's plugin for model cards; see :class:`sottovoce.CardFacts`."""

    pipeline_tag: str = ""
    library_name: str = ""
    languages: tuple[str, ...] = ()
    usage: str = ""
    example: str = ""
    hub_usage: Mapping[str, str] = field(default_factory=dict)
    serving: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, Text] = field(default_factory=dict)
    """Labels of the formats that ``serving`` names."""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without labels and example where there are none, as in files of the first version."""
        empty = {name for name in ("formats", "example") if not self[name]}
        return {key: value for key, value in super().to_dict().items() if key not in empty}


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleSet(Record):
    """Samples that something was measured or calibrated on."""

    name: str | None = None
    count: Count
    audio_seconds: Measured = None
    sha256: str | None = None
    too_short: Count = 0
    """Samples with audio of less than one frame, on which no model is run."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without ``too_short`` where no sample is."""
        form = super().to_dict()
        return form if self.too_short else {key: value for key, value in form.items() if key != "too_short"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset(Record):
    """Name of an evaluation's data on a hub."""

    id: str
    task: str | None = None
    split: str | None = None
    revision: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without ``split`` where none was named."""
        form = super().to_dict()
        if self.split is None:
            del form["split"]
        return form


@dataclass(frozen=True, kw_only=True, eq=False)
class Machine(Record):
    """Hardware and versions of a measurement."""

    processor: str | None = None
    cores: Count | None = None
    threads: Count | None = None
    system: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    other_work_cores: Measured = None
    """Cores that other processes used meanwhile."""
    busy: str | None = None
    """Reason why times say nothing."""
    processes: Count = 1
    """Processes that shared the work."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without what was not looked at or is as usual."""
        usual = {"other_work_cores": None, "busy": None, "processes": 1}
        return {key: value for key, value in super().to_dict().items() if key not in usual or value != usual[key]}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sizes(Record):
    """Bytes of the weights."""

    before: Count
    after: Count


@dataclass(frozen=True, kw_only=True, eq=False)
class ParameterBits(Record):
    """Parameters by the bits of a stored weight, without its share of scales."""

    before: Mapping[Bits, Count] = field(default_factory=dict)
    after: Mapping[Bits, Count] = field(default_factory=dict)
