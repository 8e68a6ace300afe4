"""Samples as an argument of the Python API: a manifest, samples that were read, or any collection of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from sottovoce.errors import SamplesError, UsageError
from sottovoce.samples.samples import Sample, Samples, read_samples

SamplesArgument = Samples | Iterable[Sample] | str | os.PathLike[str]
"""Types of samples as an argument: a manifest's path, samples that were read, or a collection of samples."""


def as_samples(samples: SamplesArgument, name: str = "samples") -> Samples:
    """Return what a caller gave as samples, read if it is a manifest.

    Args:
        samples: A manifest's path, samples that were read, or a collection of samples.
        name: Name of the argument, for errors.

    Raises:
        SamplesError: The manifest is broken; or a collection is empty, or has a key twice, or other items.
        UsageError: The argument is none of these.
    """
    if isinstance(samples, str | os.PathLike):
        return read_samples(samples)
    if not isinstance(samples, Samples):
        if isinstance(samples, bytes | Mapping | Sample) or not isinstance(samples, Iterable):
            advice = "; put it in a list" if isinstance(samples, Sample) else ""
            kind = type(samples).__name__
            raise UsageError(f"{name}: give a manifest's path, Samples, or a list of Sample, not {kind}{advice}")
        samples = Samples(tuple(samples))
    _check(samples, name)
    return samples


def as_samples_or_none(samples: SamplesArgument | None, name: str = "samples") -> Samples | None:
    """Do what :func:`as_samples` does, and return ``None`` for ``None``."""
    return None if samples is None else as_samples(samples, name)


def _check(samples: Samples, name: str) -> None:
    """Hold samples from memory to what is required of a manifest."""
    if not samples:
        raise SamplesError(f"{name}: there are no samples in it")
    keys: set[str] = set()
    for sample in samples:
        if sample.key in keys:
            raise SamplesError(f"{name}: the key {sample.key!r} occurs twice")
        keys.add(sample.key)
