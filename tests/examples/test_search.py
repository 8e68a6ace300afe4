"""A searched recipe of the bundled Paraformer against uniform ones of at least its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sottovoce
from sottovoce.calibration.reference import Reference
from sottovoce.recipe_search.storage import file_bytes

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples" / "models" / "tiny-paraformer"
DATA = ROOT / "examples" / "data" / "mandarin-commands"
UNIFORM = {"step": "quantize", "bits": 4, "method": "gptq", "weight_range": "mse", "embeddings": "auto"}


def compressed(recipe: Any) -> sottovoce.Model:
    model = sottovoce.load(SOURCE)
    sottovoce.compress(model, recipe, DATA / "calibration.jsonl")
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "group_size", "share"), [(4, 16, 0.7), (3, 16, 0.7), (3, "auto", 0.95)])
def test_a_searched_recipe_loses_less_than_a_uniform_one_of_its_size(
    bits: int, group_size: int | str, share: float, tmp_path: Path
) -> None:
    model = sottovoce.load(SOURCE)
    uniform = compressed({"steps": [UNIFORM | {"bits": bits, "group_size": group_size}]})
    result = sottovoce.search(model, DATA / "calibration.jsonl", file_bytes(uniform))
    searched = compressed(result.recipe)
    path = sottovoce.save(searched, tmp_path / "searched") / "model.safetensors"
    assert path.stat().st_size <= file_bytes(uniform)
    assert path.stat().st_size == pytest.approx(result.size_bytes["after"], rel=0.01)
    for name in ("test", "dev"):
        reference = Reference(model, sottovoce.read_samples(DATA / f"{name}.jsonl"))
        assert reference.divergence(searched)["all"] < share * reference.divergence(uniform)["all"], name


@pytest.mark.slow
def test_divergences_of_other_sizes_are_within_a_quarter_of_what_a_trial_lets_expect(tmp_path: Path) -> None:
    def searched(budget: str) -> sottovoce.SearchResult:
        data, others = DATA / "calibration.jsonl", DATA / "dev.jsonl"
        return sottovoce.search(SOURCE, data, budget, held_out=others, cache=tmp_path)

    first = searched("2.31MB")
    ratio = first.divergence["all"] / first.predicted
    small = compressed(first.recipe)
    reference = Reference(sottovoce.load(SOURCE), list(sottovoce.read_samples(DATA / "dev.jsonl")))
    assert first.divergence["all"] == pytest.approx(reference.divergence(small)["all"], rel=1e-3)
    for budget in ("2.45MB", "2.8MB"):
        other = searched(budget)
        assert other.divergence["all"] == pytest.approx(ratio * other.predicted, rel=0.25), budget
