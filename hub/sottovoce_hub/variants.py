"""Several compressions of one model: a repository for each in a collection, or a branch for each in one repository."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.errors import UsageError
from sottovoce.report import COMPRESSION_FILE
from sottovoce_hub.card import Variant
from sottovoce_hub.card.reading import read
from sottovoce_hub.hubs import open_destination
from sottovoce_hub.publication import PushReport, push


@dataclass(frozen=True, kw_only=True)
class VariantsReport:
    """Result of publishing several variants."""

    variants: dict[str, PushReport]
    collection: str | None = None
    """Page of the collection; ``None`` without one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        pushed = {name: report.to_dict() for name, report in self.variants.items()}
        return {"variants": pushed, "collection": self.collection}


def push_variants(
    directory: str | os.PathLike[str],
    repository: str,
    names: Sequence[str],
    *,
    branches: bool = False,
    hub: str = "hf",
    token: str | None = None,
    dry_run: bool = False,
    **options: Any,
) -> VariantsReport:
    """Publish several compressions of one model, each with all of them compared in its card.

    Args:
        directory: Parent of the variants' directories, such as ``out/int8`` and ``out/int4``.
        repository: ``owner/name``: the repository, or what ``-int8`` and the like are added to.
        names: The directories' names.
        branches: If true, one repository gets a branch for each, the first on its main branch too.
        hub: ``hf`` or ``modelscope``.
        token: By default the one that the hub's own client finds.
        dry_run: Check the directories and write the cards; use no network.
        **options: ``private`` and ``message``, as for :func:`~sottovoce_hub.publication.push`.

    Raises:
        UsageError: A variant is missing, or was made from another model than the others.
        PublishError: As for :func:`~sottovoce_hub.publication.push`; the variants before are published.
    """
    variants = _variants(Path(directory), repository, names, branches)
    settings: dict[str, Any] = {"hub": hub, "token": token, "variants": list(variants.values()), **options}

    def push_one(variant: Variant, branch: str | None, *, dry_run: bool) -> PushReport:
        place = Path(directory) / variant.name
        return push(place, variant.repository, branch=branch, dry_run=dry_run, **settings)

    # Everything is checked before anything is uploaded.
    reports = {name: push_one(variant, variant.branch, dry_run=True) for name, variant in variants.items()}
    if dry_run:
        return VariantsReport(variants=reports)
    reports = {name: push_one(variant, variant.branch, dry_run=False) for name, variant in variants.items()}
    if branches:
        # Last, since a hub whose client makes no branches refuses the first of them, and then nothing is made.
        push_one(variants[names[0]], None, dry_run=False)
        return VariantsReport(variants=reports)
    first = open_destination(hub, variants[names[0]].repository, token=token)
    title, places = repository.partition("/")[2], [variant.repository for variant in variants.values()]
    return VariantsReport(variants=reports, collection=first.collect(title, places))


def _variants(directory: Path, repository: str, names: Sequence[str], branches: bool) -> dict[str, Variant]:
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"variants: {', '.join(names) or 'none'}: name every one once")
    variants: dict[str, Variant] = {}
    for name in names:
        path = directory / name / COMPRESSION_FILE
        if not path.is_file() or Path(name).name != name:
            raise UsageError(
                f"{directory / name}: there is no {COMPRESSION_FILE}; a variant is what compress wrote there"
            )
        place = repository if branches else f"{repository}-{name}"
        report = read(path.parent).to_dict()
        variants[name] = Variant(name=name, repository=place, branch=name if branches else None, report=report)
    if len({variant.checked.source.fingerprint for variant in variants.values()}) > 1:
        raise UsageError(f"{directory}: {', '.join(names)} were not all made from the same model; push them one by one")
    return variants
