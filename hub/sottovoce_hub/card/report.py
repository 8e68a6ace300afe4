"""What a card is written from: ``compression.json``, as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from sottovoce.errors import PublishError
from sottovoce.report import COMPRESSION_FILE
from sottovoce_hub.card.facts import Evaluation, Facts, Family, Number, Samples, Source


def _known_details(value: Any) -> Any:
    """Other steps' layers have other facts, which a card does not tell."""
    if not isinstance(value, Mapping) or "parts" in value:
        return value
    return {key: item for key, item in value.items() if key == "saved"}


class Target(Facts):
    """A layer that a step changed."""

    name: str
    parameters: int
    bits: Number = None
    snr_db: Number = None
    output_error: Number = None
    rounded_output_error: Number = None


class Kept(Facts):
    """A layer that stays as it was."""

    name: str
    parameters: int
    reason: str


class Part(Facts):
    """Parameters of one part of the model."""

    parameters: int
    compressed_parameters: int


class Coverage(Part):
    """Parameters of the model."""

    parts: Mapping[str, Part] = {}


class PrunedPart(Facts):
    """How many experts of one part of a mixture stay in each of its layers."""

    experts: int
    kept: int
    layers: int
    saliency: str = ""


class Damage(Facts):
    """What the loss of experts does to a layer's output."""

    error: Number = None


class PrunedLayer(Facts):
    """Which experts of one layer stay."""

    experts: int
    kept: tuple[int, ...]
    routed_share: Mapping[str, Number] = {}
    damage: Damage | None = None


class Details(Facts):
    """What steps of one kind alone tell: pruning its parts and layers, skipping the share of expert runs it saves."""

    parts: Mapping[str, PrunedPart] = {}
    layers: Mapping[str, PrunedLayer] = {}
    saved: Mapping[str, Number] = {}


class Step(Facts):
    """One step, and what it did."""

    step: Mapping[str, Any]
    targets: tuple[Target, ...] = ()
    kept: tuple[Kept, ...] = ()
    coverage: Coverage | None = None
    notes: tuple[str, ...] = ()
    details: Annotated[Details, BeforeValidator(_known_details)] = Details()

    @property
    def name(self) -> str:
        """What a recipe calls it."""
        return str(self.step.get("step", ""))

    @property
    def by_width(self) -> dict[int, list[Target]]:
        """The layers by the bits that a weight has without its share of scales and zero points, the fewest first."""
        groups: dict[int, list[Target]] = {4: [], 8: [], 16: []}
        for target in self.targets:
            if target.bits is not None:
                groups[4 if target.bits < 8 else 8 if target.bits < 16 else 16].append(target)
        return {width: found for width, found in groups.items() if found}


class Raised(Facts):
    """A layer that a gate made more precise again."""

    name: str
    bits: int


class Gate(Facts):
    """What the compression was allowed to cost, and what it did."""

    limits: Mapping[str, float]
    found: Mapping[str, Number] = {}
    samples: Samples | None = None
    rounds: int = 0
    raised: tuple[Raised, ...] = ()


class Sizes(Facts):
    """Bytes of the weights."""

    before: int
    after: int


class ParameterBits(Facts):
    """How many parameters are stored in how many bits, by the bits of a weight."""

    before: Mapping[int, int] = {}
    after: Mapping[int, int] = {}


class Report(Facts):
    """All of it."""

    recipe: Mapping[str, Any] = {}
    architecture: str
    source: Source
    steps: tuple[Step, ...] = ()
    size_bytes: Sizes
    parameter_bits: ParameterBits | None = None
    seconds: Number = None
    peak_memory_bytes: int | None = None
    least_memory_bytes: int | None = None
    versions: Mapping[str, str] = {}
    samples: Samples | None = None
    gate: Gate | None = None
    card: Annotated[Family, BeforeValidator(lambda value: value or {})] = Family()
    evaluations: tuple[Evaluation, ...] = ()
    files: Mapping[str, str] = {}

    @classmethod
    def read(cls, form: Any) -> Report:
        """Check what ``compression.json`` holds.

        Raises:
            PublishError: It is not what Sottovoce writes.
        """
        try:
            return cls.model_validate(form)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "all of it"
            problem = " ".join(first["msg"].split())
            raise PublishError(
                f"{COMPRESSION_FILE}: {place} is not what Sottovoce writes ({problem}); make the model again"
            ) from None

    @classmethod
    def of(cls, directory: Path) -> Report:
        """Read it from a model's directory.

        Raises:
            PublishError: There is none, or it is damaged.
        """
        path = directory / COMPRESSION_FILE
        try:
            return cls.read(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise PublishError(
                f"{directory}: has no {COMPRESSION_FILE}; publish what `sottovoce compress` wrote"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise PublishError(f"{path}: cannot be read ({error}); make the model again") from None

    @property
    def is_by_one_recipe(self) -> bool:
        """Whether the recipe is all that was done to the base model."""
        return len(self.recipe.get("steps") or ()) == len(self.steps)

    @property
    def base_bytes(self) -> int | None:
        """Size of the base model's weights, where it is known: a later recipe was told only what it began with."""
        return self.size_bytes.before if self.is_by_one_recipe else None

    @property
    def whole_recipe(self) -> dict[str, Any]:
        """Every step that was taken from the base model on, with the gate."""
        if self.is_by_one_recipe:
            return dict(self.recipe)
        gate = {"gate": self.recipe["gate"]} if self.recipe.get("gate") else {}
        return {"steps": [dict(step.step) for step in self.steps], **gate}

    @property
    def step_names(self) -> frozenset[str]:
        """The kinds of steps that were taken."""
        return frozenset(step.name for step in self.steps)
