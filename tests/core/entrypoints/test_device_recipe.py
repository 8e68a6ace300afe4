"""The preset that is chosen by the kind of machine."""

from __future__ import annotations

import pytest

from core import toy
from core.pruning.feed_forward import architecture
from sottovoce import Architecture, Shape
from sottovoce.architecture import ExpertLayout
from sottovoce.entrypoints.device_recipe import devices, recipe_for
from sottovoce.errors import UsageError
from sottovoce.plugins.host import default_host

MIXTURE = toy.architecture(experts=(ExpertLayout(part="decoder", experts="re:x", count="count"),))


@pytest.mark.parametrize(
    ("family", "recipes"),
    [
        (
            architecture(),
            {"cpu": "int8", "gpu": "int8-weight", "mobile": "mobile", "edge": "edge", "cloud": "int8-weight"},
        ),
        (
            architecture(shape=Shape()),
            {"cpu": "int8", "gpu": "int8-weight", "mobile": "int8", "edge": "int8", "cloud": "int8-weight"},
        ),
        (
            default_host().architectures["paraformer"],
            {"cpu": "int8", "gpu": "int8-weight", "mobile": "mobile", "edge": "edge", "cloud": "cloud"},
        ),
        (MIXTURE, {"cpu": "int4", "gpu": "int4", "mobile": "int8", "edge": "int8", "cloud": "three-stage"}),
    ],
    ids=["with widths", "without", "trained", "mixture"],
)
def test_every_kind_of_device_has_a_recipe_and_a_reason(family: Architecture, recipes: dict[str, str]) -> None:
    chosen = {device: recipe_for(device, family) for device in devices()}
    assert {device: choice.recipe for device, choice in chosen.items()} == recipes
    assert all(len(choice.reason) > 20 for choice in chosen.values())


def test_chosen_recipes_are_presets_of_the_installed_plugins() -> None:
    host = default_host()
    for family in host.architectures.values():
        assert {recipe_for(device, family).recipe for device in devices()} <= set(host.presets)


def test_unknown_kind_of_device_is_refused_with_the_kinds_there_are() -> None:
    with pytest.raises(UsageError, match="'moon'; the kinds are: cpu, gpu, mobile, edge"):
        recipe_for("moon", architecture())
