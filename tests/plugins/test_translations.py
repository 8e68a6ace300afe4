"""What a plugin's facts say can be said in Chinese, so that its cards are Chinese to the end."""

from __future__ import annotations

import pytest

from sottovoce import Architecture
from sottovoce.plugins.host import default_host
from sottovoce_hub.card.translations import Translations

ARCHITECTURES = tuple(default_host().architectures.values())


def reasons(architecture: Architecture) -> set[str]:
    layers = architecture.layers
    return {*layers.ignore.values(), *layers.ignore_by_default.values(), *layers.weight_only.values()}


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_every_reason_has_its_chinese(architecture: Architecture) -> None:
    chinese = Translations("zh", architecture.card.translations.get("zh"))
    english = {reason for reason in reasons(architecture) if str(chinese.sentence(reason)) == reason}
    assert reasons(architecture)
    assert english == set()
