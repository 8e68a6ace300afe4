"""Sketch of a set of samples: digests of its content, by which samples that another set shares are recognized."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.samples.samples import Sample, Samples, content_digest

TRAINED_SAMPLES_FILE = "trained_samples.json"
"""File beside the weights with the sketch of all samples that a model was trained on."""
_LIMIT = 4096
"""Digests that are kept, the least ones: of a larger set an evenly random part (bottom-k sketch, Broder 1997)."""
_DIGITS = 16


@dataclass(frozen=True)
class SampleSketch:
    """The least digests of the samples of a set."""

    count: int
    """Number of samples in the set."""
    digests: frozenset[str]

    @classmethod
    def of(cls, samples: Samples) -> SampleSketch:
        """Compute the digests of all samples; keys do not count, only what is heard, seen and said."""
        known: dict[Any, str] = {}
        digests = sorted({_digest(sample, known) for sample in samples})
        return cls(len(samples), frozenset(digests[:_LIMIT]))

    def shared(self, samples: Samples) -> list[str]:
        """Return the keys of the samples that are in the set too; of a large set only some are known."""
        known: dict[Any, str] = {}
        return [sample.key for sample in samples if _digest(sample, known) in self.digests]

    def __or__(self, other: SampleSketch) -> SampleSketch:
        """Return the sketch of both sets together."""
        return SampleSketch(self.count + other.count, frozenset(sorted(self.digests | other.digests)[:_LIMIT]))

    def write(self, path: Path) -> None:
        """Write the JSON form."""
        path.write_text(json.dumps(self.to_dict()) + "\n", encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"count": self.count, "digests": sorted(self.digests)}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> SampleSketch:
        """Read the JSON form.

        Raises:
            ValueError: It is not that of a sketch.
        """
        count, digests = form.get("count"), form.get("digests")
        if not isinstance(count, int) or not isinstance(digests, list) or not all(isinstance(d, str) for d in digests):
            raise ValueError("not the digests of samples")
        return cls(count, frozenset(digests))


def trained_samples(directory: Path) -> SampleSketch | None:
    """Return the sketch of the samples that the model in a directory was trained on; ``None`` if there is none."""
    try:
        form = json.loads((directory / TRAINED_SAMPLES_FILE).read_text(encoding="utf-8"))
        return SampleSketch.from_dict(form) if isinstance(form, dict) else None
    except (OSError, ValueError, RecursionError):
        return None


def _digest(sample: Sample, known: dict[Any, str]) -> str:
    return hashlib.sha256(content_digest(sample, known).encode()).hexdigest()[:_DIGITS]
