"""Experts that are skipped at run time, from a recipe file to Sottovoce and to transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sottovoce
from plugins.omni_moe.conversations import ask
from plugins.omni_moe.tiny import make_model
from sottovoce import Model, Samples
from sottovoce.runtime.expert_skipping import counting_expert_runs
from sottovoce.runtime.experts import experts_in
from sottovoce.runtime.skipping_rule import Skipping
from sottovoce_omni_moe.conversation import forward, inputs

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

ASKED = ask("image", "audio")
SAMPLES = Samples((ASKED, ask("text"), ask("video")))
TOP_K = 2


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("skipping") / "omni"
    make_model(directory)
    return directory


def recipe_in(directory: Path, threshold: float, more: str = "", before: str = "") -> Path:
    path = directory / "skip.yaml"
    path.write_text(f"steps:\n{before}  - {{step: skip_experts, threshold: {threshold}{more}}}\n", encoding="utf-8")
    return path


def logits(model: Model) -> Tensor:
    with torch.inference_mode():
        return forward(model, ASKED)


def runs(model: Model) -> float | None:
    with counting_expert_runs(model.module.thinker) as counted:  # type: ignore[arg-type]
        logits(model)
    return counted.per_token


def skipping_in(model: Model) -> dict[str, Skipping]:
    return {name: experts.skipping for name, experts in experts_in(model.module) if experts.skipping is not None}


@pytest.mark.parametrize("stream", [False, True])
def test_a_saved_model_skips_when_it_is_loaded(source: Path, tmp_path: Path, stream: bool) -> None:
    model = sottovoce.load(source, stream=stream)
    report = sottovoce.compress(model, recipe_in(tmp_path, 0.8), SAMPLES).steps[0].to_dict()  # type: ignore[union-attr]
    saved = sottovoce.save(model, tmp_path / "out")
    again = sottovoce.load(saved)
    names = [f"thinker.model.language_model.layers.{number}.mlp.experts" for number in range(2)]
    assert skipping_in(again) == dict.fromkeys(names, Skipping(0.8))
    whole = sottovoce.load(source)
    assert not logits(again).equal(logits(whole))
    if not stream:
        assert logits(again).equal(logits(model))
    counted = runs(again)
    assert counted is not None
    assert 1 < counted < TOP_K
    assert runs(whole) == TOP_K
    assert set(report["details"]["saved"]) == {"all", "text", "image", "audio", "video"}
    assert 0 < report["details"]["saved"]["all"] < 0.5
    assert set(report["details"]["layers"]) == set(names)


def test_transformers_itself_runs_all_experts(source: Path, tmp_path: Path) -> None:
    from transformers import Qwen3OmniMoeForConditionalGeneration

    model = sottovoce.load(source)
    sottovoce.compress(model, recipe_in(tmp_path, 0.8))
    saved = sottovoce.save(model, tmp_path / "out")
    text = json.loads((saved / "config.json").read_text())["thinker_config"]["text_config"]
    assert (text["expert_skip_threshold"], text["expert_skip_renormalize"]) == (0.8, False)
    found: list[Tensor] = []
    for directory in (source, saved):
        stock: Any = Qwen3OmniMoeForConditionalGeneration.from_pretrained(directory).eval()
        with torch.inference_mode():
            found.append(stock.thinker(**inputs(model, ASKED)).logits)
    assert found[0].equal(found[1])


def test_a_tiny_threshold_changes_nothing(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source)
    whole = logits(model)
    sottovoce.compress(model, recipe_in(tmp_path, 1e-12, ", parts: [thinker, talker]"), SAMPLES)
    assert len(skipping_in(model)) == 4
    assert logits(model).equal(whole)
    assert runs(model) == TOP_K


def test_nearly_one_leaves_a_token_one_expert(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source)
    report = sottovoce.compress(model, recipe_in(tmp_path, 0.999999), SAMPLES).steps[0].to_dict()  # type: ignore[union-attr]
    assert runs(model) == pytest.approx(1, abs=0.01)
    assert report["details"]["saved"]["all"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_experts_are_pruned_and_quantized_too(source: Path, tmp_path: Path, stream: bool) -> None:
    before = "  - {step: prune_experts, keep: 3, super_experts: false}\n  - {step: quantize, bits: 8}\n"
    model = sottovoce.load(source, stream=stream)
    report = sottovoce.compress(model, recipe_in(tmp_path, 0.8, before=before), SAMPLES)
    again = sottovoce.load(sottovoce.save(model, tmp_path / "out"))
    assert {len(experts) for name, experts in experts_in(again.module) if name in skipping_in(again)} == {3}
    assert report.steps[-1].to_dict()["details"]["saved"]["all"] > 0  # type: ignore[union-attr]


def test_interrupted_work_is_taken_up(source: Path, tmp_path: Path) -> None:
    recipe, resume = recipe_in(tmp_path, 0.8), tmp_path / "blocks"
    first, second = sottovoce.load(source), sottovoce.load(source)
    reports = [
        sottovoce.compress(model, recipe, SAMPLES, resume=resume).steps[0].to_dict()  # type: ignore[union-attr]
        for model in (first, second)
    ]
    assert reports[0]["details"] == reports[1]["details"]
    assert logits(first).equal(logits(second))


def test_evaluation_counts_the_runs(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source)
    sottovoce.compress(model, recipe_in(tmp_path, 0.8))
    found = sottovoce.evaluate(model, Samples((ask("text"),)), baseline=sottovoce.load(source)).metrics["expert_runs"]
    assert found.baseline == TOP_K
    assert found.value is not None
    assert 1 < found.value < TOP_K
