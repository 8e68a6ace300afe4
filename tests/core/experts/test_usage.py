"""Pruning by a threshold of use: what goes, how many stay, and that counting changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core.qwen3_moe import EXPERTS, HOST, MIXTURES, SAMPLES, TOP_K, make_model
from sottovoce.errors import CoverageError, RecipeError, SamplesError
from sottovoce.experts.usage import used_experts
from sottovoce.recipe.recipe import Recipe


def prune(source: Path, *, stream: bool = False, **fields: Any) -> tuple[sottovoce.Model, dict[str, Any]]:
    model = sottovoce.load(source, host=HOST, stream=stream)
    recipe = {"steps": [{"step": "prune_experts", "held_out": 0, "super_experts": False, **fields}]}
    (step,) = sottovoce.compress(model, recipe, SAMPLES, host=HOST).to_dict()["steps"]
    return model, step


def tokens(source: Path) -> list[list[float]]:
    """How many tokens each expert of each layer is given, of the model as it is."""
    _, step = prune(source, keep=EXPERTS - 1, saliency="frequency")
    layers = step["details"]["layers"]
    return [layers[name]["scores"]["all"] for name in MIXTURES]


@pytest.mark.parametrize("threshold", [0.8, 1.0])
@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_every_layer_keeps_as_many_as_the_most_demanding_one(threshold: float, stream: bool, tmp_path: Path) -> None:
    source = make_model(tmp_path / "model")
    first = torch.tensor(tokens(source)[0], dtype=torch.float64)
    model, step = prune(source, stream=stream, threshold=threshold)
    kept = [step["details"]["layers"][name]["kept"] for name in MIXTURES]
    (count,) = {len(numbers) for numbers in kept}
    assert TOP_K <= count < EXPERTS
    over = {number for number, given in enumerate(first.tolist()) if given >= threshold * float(first.mean())}
    assert count >= len(over)
    assert model.native.config.num_experts == count
    assert f"{count} of {EXPERTS} experts stay" in step["notes"][0]
    saved = sottovoce.save(model, tmp_path / "saved", host=HOST)
    assert sottovoce.load(saved, host=HOST).native.config.num_experts == count


def test_streaming_keeps_the_same_experts(tmp_path: Path) -> None:
    source = make_model(tmp_path / "model")
    layers = [prune(source, stream=stream, threshold=0.8)[1]["details"]["layers"] for stream in (False, True)]
    assert [layers[0][name]["kept"] for name in MIXTURES] == [layers[1][name]["kept"] for name in MIXTURES]


def test_used_experts_are_at_or_above_the_threshold() -> None:
    counts = torch.tensor([10, 0, 5, 5])
    assert [used_experts(counts, share) for share in (0.5, 1.0, 0.01)] == [3, 3, 3]
    assert used_experts(torch.tensor([40, 0, 0, 0]), 1.0) == 1


def test_threshold_below_every_expert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoverageError, match="give a larger threshold"):
        prune(make_model(tmp_path / "model"), threshold=1e-6)


def test_threshold_without_samples_is_refused(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "model"), host=HOST)
    with pytest.raises(SamplesError, match="--data"):
        sottovoce.compress(model, {"steps": [{"step": "prune_experts", "threshold": 0.5}]}, host=HOST)


def test_inspect_reports_that_a_threshold_needs_samples(tmp_path: Path) -> None:
    recipe = Recipe.from_dict({"steps": [{"step": "prune_experts", "threshold": 0.5}]})
    facts = sottovoce.inspect(make_model(tmp_path / "model"), recipe, host=HOST)
    assert facts["estimate"]["size_bytes"] == facts["size_bytes"]


@pytest.mark.parametrize(
    "fields",
    [{"keep": 0.5, "threshold": 0.1}, {"threshold": 0}, {"threshold": 1.5}, {"decoder": {"keep": 4, "threshold": 0.1}}],
)
def test_invalid_threshold_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="threshold"):
        Recipe.from_dict({"steps": [{"step": "prune_experts", **fields}]})


def test_part_with_its_own_threshold_uses_it() -> None:
    step = Recipe.from_dict({"steps": [{"step": "prune_experts", "decoder": {"threshold": 0.1}}]}).steps[0]
    assert step.to_dict()["decoder"] == {"threshold": 0.1}
    part = step.of_part("decoder")  # type: ignore[attr-defined]
    assert (part.keep, part.threshold) == (None, 0.1)
    assert Recipe.from_dict({"steps": [step.to_dict()]}).steps[0] == step
