"""The skipping step on a small mixture of two parts, block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from core import toy
from core.drawn import normal
from core.mixtures import Mixture, make_mixture
from sottovoce import Model, Sample, Source
from sottovoce.architecture import ExpertLayout
from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.calibration import Calibration
from sottovoce.errors import PluginError, RecipeError
from sottovoce.experts.output_change import compare_outputs
from sottovoce.experts.plugin import sottovoce_compress
from sottovoce.experts.skip import SkipExpertsRunner
from sottovoce.experts.step import SkipExperts
from sottovoce.quantization import plugin
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.recipe import Recipe
from sottovoce.runtime.layers import pack_
from sottovoce.runtime.skipping_rule import Skipping

LAYOUTS = (
    ExpertLayout(part="reader", experts=r"re:reader\.\d+\.experts", count="reader_config.num_experts"),
    ExpertLayout(part="speaker", experts=r"re:speaker\.\d+\.experts", count="speaker_config.num_experts", pruned=False),
)
READERS = ["reader.0.experts", "reader.1.experts"]


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.ModuleList(make_mixture(8, 3, seed=seed) for seed in range(2))
        self.speaker = nn.ModuleList(make_mixture(6, 2, seed=seed, norm_topk_prob=False) for seed in (7,))


def kinds(model: Model, sample: Sample, block: str) -> list[str]:
    return ["audio" if place < 5 else "text" for place in range(20)]


def make_model(**changes: Any) -> Model:
    facts: dict[str, Any] = {"experts": LAYOUTS, "modalities": kinds, "targets": (r"re:.*_proj",)}
    architecture = toy.architecture(**(facts | changes))
    config = SimpleNamespace(reader_config=SimpleNamespace(num_experts=8))
    config.speaker_config = SimpleNamespace(num_experts=6)
    source = Source(name="two", directory=Path())
    return Model(module=Two().eval(), native=SimpleNamespace(config=config), architecture=architecture, source=source)


class SampleThread:
    """A sample that waits at a block."""

    def __init__(self, number: int) -> None:
        self.sample = Sample(key=f"sample-{number}", text="a")
        self.x = normal(1, 20, 16, seed=number)

    @contextmanager
    def computed(self, module: nn.Module) -> Iterator[Tensor]:
        with torch.inference_mode():
            yield module(self.x)


def visit(work: BlockStep, model: Model, sample_threads: Sequence[SampleThread]) -> dict[str, Any]:
    """All blocks; facts are kept as JSON."""
    work.on_start()
    facts = {}
    for name in ("reader.0", "reader.1", "speaker.0"):
        block = Block(name, model.module, sample_threads)  # type: ignore[arg-type]
        facts[name] = json.loads(json.dumps(work.process_block(block), allow_nan=False))
    return facts


def skip(model: Model, sample_threads: int = 4, **fields: Any) -> tuple[SkipExpertsRunner, dict[str, Any]]:
    work = SkipExpertsRunner(model, model.architecture, SkipExperts.model_validate({"threshold": 0.5} | fields))
    return work, visit(work, model, [SampleThread(number) for number in range(sample_threads)])


def mixture(model: Model, name: str) -> Mixture:
    found = model.module.get_submodule(name)
    assert isinstance(found, Mixture)
    return found


@torch.no_grad()
def test_savings_and_error_are_measured() -> None:
    model = make_model()
    work, _ = skip(model)
    details = work.on_end().details
    x = torch.cat([SampleThread(number).x[0] for number in range(4)])
    total = []
    for name in ("reader.0", "reader.1"):
        layer, told = mixture(model, name), details["layers"][f"{name}.experts"]
        skipped = Skipping(0.5).skipped(layer.gate(x)[1])
        total.append(skipped.float().mean())
        audio = torch.arange(len(x)) % 20 < 5
        assert told["saved"]["all"] == pytest.approx(float(skipped.float().mean()), abs=1e-6)
        assert told["saved"]["audio"] == pytest.approx(float(skipped[audio].float().mean()), abs=1e-6)
        assert told["saved"]["text"] == pytest.approx(float(skipped[~audio].float().mean()), abs=1e-6)
        after = layer(x)
        layer.experts.skipping = None
        assert told["error"] == pytest.approx(compare_outputs(layer(x), after).error, rel=1e-4)
    assert details["saved"]["all"] == pytest.approx(float(sum(total) / 2), abs=1e-6)
    assert 0 < details["saved"]["all"] < 2 / 3
    assert set(details["layers"]) == set(READERS)


def test_settings_are_written_next_to_the_expert_count() -> None:
    model = make_model()
    work, _ = skip(model, renormalize=False)
    config = model.native.config
    assert not hasattr(config.reader_config, "expert_skip_threshold")
    report = work.on_end()
    assert vars(config.reader_config) == {
        "num_experts": 8,
        "expert_skip_threshold": 0.5,
        "expert_skip_renormalize": False,
    }
    assert vars(config.speaker_config) == {"num_experts": 6}
    assert mixture(model, "reader.1").experts.skipping == Skipping(0.5, renormalize=False)
    assert mixture(model, "speaker.0").experts.skipping is None
    assert [kept.name for kept in report.kept] == ["speaker.0.experts"]
    assert not report.targets
    json.dumps(report.to_dict(), allow_nan=False)


def test_named_parts_are_skipped() -> None:
    model = make_model()
    work, _ = skip(model, parts=["speaker"])
    work.on_end()
    assert model.native.config.speaker_config.expert_skip_threshold == 0.5
    assert mixture(model, "reader.0").experts.skipping is None
    assert mixture(model, "speaker.0").experts.skipping == Skipping(0.5)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_skipping_without_samples_measures_nothing(device: str) -> None:
    model = make_model()
    model.module.to(device)
    work, _ = skip(model, sample_threads=0)
    assert work.on_end().details == {"saved": {}, "layers": {name: {} for name in READERS}}
    assert model.native.config.reader_config.expert_skip_threshold == 0.5
    assert mixture(model, "reader.0").experts.skipping == Skipping(0.5)


def test_block_is_restored_from_its_facts() -> None:
    done, model = make_model(), make_model()
    work, facts = skip(done)
    model.module.to("meta")
    again = SkipExpertsRunner(model, model.architecture, work.step)
    for name, fact in facts.items():
        again.restore_block(name, fact)
    assert again.on_end().details == work.on_end().details
    assert model.native.config == done.native.config
    assert mixture(model, "reader.1").experts.skipping == work.skipping


@torch.no_grad()
def test_second_step_is_measured_against_all_experts() -> None:
    model, other = make_model(), make_model()
    skip(model, threshold=0.9)
    (_, facts), (_, fresh) = skip(model), skip(other)
    assert facts == fresh


def test_quantized_experts_are_skipped() -> None:
    model = make_model(min_coverage=0)
    step = Quantize.model_validate({"activations": "none", "targets": [r"re:.*experts\.\d+\..*_proj"]})
    calibration = Calibration()
    quantized = plugin.sottovoce_compress(
        step=step, model=model, architecture=model.architecture, calibration=calibration
    )
    visit(quantized, model, ())
    pack_(model.module)
    work, _ = skip(model)
    assert 0 < work.on_end().details["layers"][READERS[0]]["error"] < 1
    assert not isinstance(mixture(model, "reader.0").experts[0].up_proj, nn.Linear)


def test_savings_without_modalities_are_those_of_all_tokens() -> None:
    work, _ = skip(make_model(modalities=None))
    assert set(work.on_end().details["saved"]) == {"all"}


def test_plugin_returns_the_runner_of_the_step() -> None:
    model, step = make_model(), SkipExperts(threshold=0.5)
    work = sottovoce_compress(step=step, model=model, architecture=model.architecture, calibration=Calibration())
    assert isinstance(work, SkipExpertsRunner)
    assert isinstance(work, BlockStep)


def test_recipe_with_the_step_is_read() -> None:
    form = {"steps": [{"step": "skip_experts", "threshold": 0.25, "renormalize": True, "parts": ["reader"]}]}
    assert Recipe.from_dict(form).to_dict() == form
    assert not Recipe.from_dict(form).needs_samples


@pytest.mark.parametrize("fields", [{}, {"threshold": 0}, {"threshold": 1}, {"threshold": 0.5, "parts": []}])
def test_invalid_step_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SkipExperts.model_validate(fields)


def test_skipping_in_parts_without_experts_is_refused() -> None:
    model = make_model()
    with pytest.raises(RecipeError, match="no part 'speker' has experts; those that have are reader, speaker"):
        skip(model, parts=["speker"])
    del model.module.speaker
    with pytest.raises(RecipeError, match="the part 'speaker' of this model has no experts; leave it out"):
        skip(model, parts=["speaker"])
    del model.module.reader
    with pytest.raises(RecipeError, match="toy has no experts; leave the step out"):
        skip(model)


def test_layouts_without_their_setting_are_refused() -> None:
    model = make_model()
    del model.native.config.reader_config.num_experts
    with pytest.raises(PluginError, match="the configuration has no 'reader_config.num_experts'"):
        skip(model)
    model = make_model()
    model.native.config.reader_config = model.native.config.speaker_config = SimpleNamespace(num_experts=8)
    shared = [
        ExpertLayout(part=one.part, experts=one.experts, count="reader_config.num_experts", pruned=one.pruned)
        for one in LAYOUTS
    ]
    model.architecture = make_model(experts=tuple(shared)).architecture
    with pytest.raises(RecipeError, match="the parts reader and speaker share their settings; name both or neither"):
        skip(model)
    skip(model, parts=["reader", "speaker"])
