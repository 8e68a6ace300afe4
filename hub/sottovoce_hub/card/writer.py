"""Writing a card from what was recorded when a model was compressed and measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sottovoce.errors import PublishError
from sottovoce_hub.card import pictures
from sottovoce_hub.card.body import SALIENCY, Subject, render
from sottovoce_hub.card.facts import REPOSITORY
from sottovoce_hub.card.loading import Place
from sottovoce_hub.card.metadata import front_matter
from sottovoce_hub.card.report import Report
from sottovoce_hub.card.variant import Variant

_README = "README.md"
_NAMES = {"hf": {"en": _README, "zh": "README_zh.md"}, "modelscope": {"zh": _README, "en": "README_en.md"}}
"""The card that a hub shows is in the language of most of those who read it there."""
CARD_FILES = tuple(dict.fromkeys(name for names in _NAMES.values() for name in names.values()))
"""What a card's texts are called, on any hub; its pictures lie in ``card/``."""


def write_card(
    directory: Path, *, repository: str, hub: str, branch: str | None = None, variants: Sequence[Variant] = ()
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

    Returns:
        The card's files by their names in the repository.

    Raises:
        PublishError: The names are none that a hub takes, or ``compression.json`` is missing or damaged.
    """
    if not REPOSITORY.fullmatch(repository):
        raise PublishError(f"{repository!r}: is no name of a repository; write it as owner/name")
    if hub not in _NAMES:
        raise PublishError(f"{hub!r}: is no hub that is known; give one of {', '.join(_NAMES)}")
    report, place = Report.of(directory), Place(repository, hub, branch)
    others = [each for each in variants if not place.is_that_of(each)]
    this = next((each.name for each in variants if place.is_that_of(each)), place.branch or place.name)
    drawn = pictures.draw(report, this, others)
    lying = {SALIENCY} & set(report.files)
    subject = Subject(directory, report, place, others, frozenset({*drawn, *lying}), this)
    made: dict[str, bytes] = {}
    names = _NAMES[hub]
    for language, name in names.items():
        other = next(each for each in names.values() if each != name)
        head = front_matter(report, repository, hub) if name == _README else ""
        made[name] = (head + render(subject, language, other)).encode()
    return made | drawn
