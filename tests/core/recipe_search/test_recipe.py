"""Recipes of mixes: what `compress` stores by them, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.toy import ToyPlugin, make_host, make_model
from sottovoce import Sample, Samples
from sottovoce.recipe_search.choices import CHOICES, FLOAT, INT8, anchors, choice_of, choices_of, measured_like
from sottovoce.recipe_search.mix import Space
from sottovoce.recipe_search.recipe import to_recipe
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.recipe_search.units import Layer, Unit, layers_of, selected, units_of

SAMPLES = Samples(tuple(Sample(key=text, text=text) for text in ("abcdefgh" * 8, "hgfedcba" * 8)))
WEIGHT_ONLY = {"blocks.1": "it is small"}


@pytest.mark.parametrize(
    "names",
    [*([choice.name] * 3 for choice in CHOICES), ["int4-g32", "int8", "float"], ["int2-g64", "int3-g8", "int8"]],
)
def test_a_mix_is_stored_as_its_schemes_say(names: list[str], tmp_path: Path) -> None:
    host = make_host(ToyPlugin(inputs=("text",), weight_only=WEIGHT_ONLY))
    model = sottovoce.load(make_model(tmp_path / "toy", width=128, blocks=3), host=host)
    layers = layers_of(selected(model, None), model.architecture)
    units = units_of(model, layers)
    space = Space.of(model, units, layers, {})
    chosen = {
        unit.name: choice_of(name if choice_of(name) in unit.choices(layers) else "int8-weight")
        for unit, name in zip(units, names, strict=True)
    }
    problem = space.problem(None)
    numbers = {
        unit: [option.name for option in problem.groups[unit]].index(choice.name) for unit, choice in chosen.items()
    }
    if all(choice is FLOAT for choice in chosen.values()):
        assert abs(problem.size_bytes(numbers) - file_bytes(model)) < 200
        return
    recipe = to_recipe(units, layers, chosen, None)
    sottovoce.compress(model, recipe, SAMPLES, host=host)
    for name, choice in chosen.items():
        layer = layers[name]
        scheme = choice.scheme(layer.width, "token", layer.is_weight_only)
        stored = getattr(model.module.get_submodule(name), "scheme", None)
        assert stored == (scheme and replace(scheme, strategy=stored.strategy)), name
    saved = sottovoce.save(model, tmp_path / "small", host=host) / "model.safetensors"
    assert file_bytes(model) == saved.stat().st_size
    assert 0 <= problem.size_bytes(numbers) - saved.stat().st_size < 300


def test_rounded_inputs_are_spoken_of_only_where_a_layer_has_them() -> None:
    layers = {name: Layer(name, 64, 64, False, True, False) for name in ("first", "second")}
    units = [Unit(name, (name,)) for name in layers]

    def step(*names: str) -> dict[str, Any]:
        chosen = {unit.name: choice_of(name) for unit, name in zip(units, names, strict=True)}
        return dict(to_recipe(units, layers, chosen, None).to_dict()["steps"][0])

    assert step("int8-weight", "int8-weight")["activations"] == "none"
    assert "overrides" not in step("int8-weight", "int8-weight")
    mixed = step("int8-weight", "int8")
    assert mixed["activations"] == "dynamic"
    assert mixed["overrides"] == {"first": {"bits": 8, "activations": "none"}}
    assert step("float", "int4-g32")["ignore"] == ["first"]


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ((4, 8), {"int8", "int4-g64"}),
        ((2, 3, 4, 8), {"int8", "int4-g64", "int3-g64", "int2-g64"}),
        ((3, 8), {"int8", "int8-weight", "int3-g64"}),
        ((2,), {"int2-g64"}),
    ],
)
def test_all_choices_follow_from_one_measurement_of_each_width(widths: tuple[int, ...], expected: set[str]) -> None:
    available = tuple(choice for choice in choices_of(widths) if choice.fits(192))
    measured = anchors(available)
    assert {choice.name for choice in measured} == expected
    assert all(measured_like(choice, available) in (*measured, FLOAT) for choice in available)


@pytest.mark.parametrize(
    ("width", "fitting"), [(192, [8, 16, 32, 64]), (560, [8, 16]), (128, [8, 16, 32, 64, 128]), (7, [])]
)
def test_groups_must_divide_the_inputs(width: int, fitting: list[int]) -> None:
    for bits in (2, 3, 4):
        assert [choice.group_size for choice in CHOICES if choice.bits == bits and choice.fits(width)] == fitting


def test_tables_are_float_or_of_8_bits_and_inputs_of_some_layers_stay_float() -> None:
    assert [choice for choice in CHOICES if choice.fits(None)] == [FLOAT, INT8]
    assert not INT8.fits(64, is_weight_only=True)
    override = choice_of("int8-weight").override(192, is_weight_only=True)
    assert override is not None
    assert override.group_size == 64
