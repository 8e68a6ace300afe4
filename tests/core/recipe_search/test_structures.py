"""A search that may prune: parts that lose little become narrower, and the recipe does what was promised."""

from __future__ import annotations

from pathlib import Path

import pytest

import sottovoce
from core.pruning.feed_forward import HOST, SAMPLES, architecture, make_model
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.recipe_search.structures import STRUCTURES, parse_steps, split_steps


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("net"))


def test_search_below_all_quantized_sizes_prunes_parts_and_keeps_its_promise(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    quantized = sottovoce.search(model, SAMPLES, "x0.9", steps=("quantize",), host=HOST)
    least = min(point.size_bytes for point in quantized.front)
    result = sottovoce.search(model, SAMPLES, least - 1500, steps=("quantize", "prune_width"), host=HOST)
    steps = result.recipe.to_dict()["steps"]
    assert steps[0]["step"] == "prune_width"
    assert 0.5 in (steps[0].get("plain"), steps[0].get("normed"))
    small = sottovoce.load(source, host=HOST)
    sottovoce.compress(small, result.recipe, SAMPLES, host=HOST)
    assert file_bytes(small) <= least - 1500
    assert file_bytes(small) == pytest.approx(result.size_bytes["after"], rel=0.01)
    assert model.module.get_submodule("plain.0.w_1").weight.shape[0] == 80


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("quantize", {"quantize": ()}),
        ("quantize=2, 3,8 , prune_width", {"quantize": ("2", "3", "8"), "prune_width": ()}),
        ("prune_heads,quantize=4,quantize=2", {"prune_heads": (), "quantize": ("4", "2")}),
        ("prune_layers=decoder,prune_layers=encoder", {"prune_layers": ("decoder", "encoder")}),
    ],
)
def test_steps_are_read_with_their_parts_and_bits(text: str, steps: dict[str, tuple[str, ...]]) -> None:
    assert parse_steps(split_steps(text)) == steps


def test_parts_that_are_not_pruned_by_default_are_no_choice_of_a_search() -> None:
    assert list(STRUCTURES["prune_width"].parts(architecture())) == ["plain", "normed"]
