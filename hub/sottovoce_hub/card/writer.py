"""Writing a card from what was recorded when a model was compressed and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sottovoce.errors import PublishError
from sottovoce.report import REPOSITORY, CompressionReport
from sottovoce_hub.card import plots
from sottovoce_hub.card.body import Subject, render
from sottovoce_hub.card.metadata import front_matter
from sottovoce_hub.card.reading import read
from sottovoce_hub.card.usage import Place
from sottovoce_hub.card.variant import Variant

_README = "README.md"
_NAMES = {"hf": {"en": _README, "zh": "README_zh.md"}, "modelscope": {"zh": _README, "en": "README_en.md"}}
"""The card that a hub shows is in the language of most of those who read it there."""
CARD_FILES = tuple(dict.fromkeys(name for names in _NAMES.values() for name in names.values()))
"""Names of a card's texts on any hub; its pictures are in ``card/``."""


def write_card(
    directory: Path,
    *,
    repository: str,
    hub: str,
    branch: str | None = None,
    variants: Sequence[Variant] = (),
    base_model: str | None = None,
) -> dict[str, bytes]:
    """Write the card of a compressed model, in English and in Chinese.

    All that it says is in ``compression.json``; what was not measured is said to be so. The same directory gives the
    same bytes. Pictures are drawn where matplotlib is installed.

    Args:
        directory: What ``sottovoce compress`` wrote.
        repository: ``owner/name`` that it is published as.
        hub: ``hf`` or ``modelscope``.
        branch: The branch that it is on; ``None`` for the main one.
        variants: The same model's sizes as they are published; this one may be among them, and is called by its name.
        base_model: ``owner/name`` of the model that was compressed, on the same hub; by default what was recorded.

    Returns:
        The card's files by their names in the repository.

    Raises:
        PublishError: A name is one that no hub takes, or ``compression.json`` is missing or damaged.
    """
    if not REPOSITORY.fullmatch(repository):
        raise PublishError(f"{repository!r}: is not a valid repository id; write it as owner/name")
    if hub not in _NAMES:
        raise PublishError(f"{hub!r}: is not a known hub; give one of {', '.join(_NAMES)}")
    report, place = _based(read(directory), base_model, hub), Place(repository, hub, branch)
    others = [variant for variant in variants if not place.holds(variant)]
    this = next((variant.name for variant in variants if place.holds(variant)), place.branch or place.name)
    pictures = plots.draw(report, this, others)
    subject = Subject(directory, report, place, others, frozenset(pictures), this)
    texts: dict[str, bytes] = {}
    names = _NAMES[hub]
    for language, name in names.items():
        other = next(file for file in names.values() if file != name)
        head = front_matter(report, repository, hub) if name == _README else ""
        texts[name] = (head + render(subject, language, other)).encode()
    return texts | pictures


def _based(report: CompressionReport, base_model: str | None, hub: str) -> CompressionReport:
    """Return a report with the base model that its publisher names."""
    if base_model is None:
        return report
    name, _, revision = base_model.partition("@")
    if not REPOSITORY.fullmatch(name):
        raise PublishError(f"{base_model!r}: is not a base model's id; write it as owner/name or owner/name@revision")
    return replace(report, source=replace(report.source, name=name, hub=hub, revision=revision or None))
