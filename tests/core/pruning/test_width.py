"""The step that prunes hidden units, on a toy of every kind of feed-forward layer and on a mixture."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core import qwen3_moe
from core.pruning.feed_forward import HOST, SAMPLES, UNITS, make_model, make_samples
from core.toy import LETTERS
from sottovoce import Model, Samples, Shape, Width
from sottovoce.calibration.reference import Reference
from sottovoce.errors import CoverageError, RecipeError, SamplesError
from sottovoce.report import StepReport

EXPERT_WIDTH = Width(
    part="decoder",
    modules=r"re:model\.layers\.\d+\.mlp\.experts\.\d+",
    inputs=("gate_proj", "up_proj"),
    output="down_proj",
    keys=("moe_intermediate_size",),
)
MIXTURE_HOST = qwen3_moe.make_host(qwen3_moe.Qwen3MoePlugin(shape=Shape(widths=(EXPERT_WIDTH,))))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_moe.make_model(tmp_path_factory.mktemp("mixture"))


def step(**settings: Any) -> dict[str, Any]:
    return {"steps": [{"step": "prune_width", **settings}]}


def pruned(source: Path, samples: Samples | None = SAMPLES, **settings: Any) -> tuple[Model, StepReport]:
    model = sottovoce.load(source, host=HOST)
    return model, sottovoce.compress(model, step(**settings), samples, host=HOST).steps[0]


def divergence(source: Path, model: Model) -> float:
    return Reference(sottovoce.load(source, host=HOST), tuple(make_samples(8, 20))).divergence(model)["all"]


def test_units_of_parts_pruned_by_default_are_halved_and_counted(source: Path) -> None:
    model, report = pruned(source)
    module: Any = model.module
    assert [block.w_1.out_features for block in (*module.plain, *module.normed)] == [40, 40, 40]
    assert module.gated[0].w_1.out_features == UNITS
    assert vars(model.native.config.sizes) == {"plain": 40, "normed": 40, "gated": UNITS}
    removed = sum(target.parameters for target in report.targets)
    before = sum(parameter.numel() for parameter in sottovoce.load(source, host=HOST).module.parameters())
    assert removed == before - sum(parameter.numel() for parameter in module.parameters())
    assert report.coverage is not None
    assert report.coverage.compressed_parameters == removed
    assert "40 of 80" in report.summary.en if report.summary else False


def test_saved_model_loads_with_its_new_widths_and_the_same_outputs(source: Path, tmp_path: Path) -> None:
    model, _ = pruned(source, plain=0.3, normed=24, gated=0.5)
    sottovoce.save(model, tmp_path / "small", host=HOST)  # checks the outputs itself
    reloaded: Any = sottovoce.load(tmp_path / "small", host=HOST).module
    assert [reloaded.plain[1].w_2.in_features, reloaded.normed[0].w_2.in_features] == [24, 24]
    assert reloaded.normed[0].norm.normalized_shape == (24,)
    assert reloaded.gated[0].gate.out_features == 40


@pytest.mark.parametrize("part", ["plain", "normed", "gated"])
def test_refit_takes_most_of_the_error_on_held_out_samples_away(source: Path, part: str) -> None:
    _, report = pruned(source, **{part: 0.5})
    for layer in report.details["layers"].values():
        assert layer["error"] < 0.3 * layer["error_before_fit"]
        assert layer["fit_error"] <= layer["error"] * 1.5 + 1e-6


def test_layer_within_a_block_makes_up_for_what_earlier_layers_changed(source: Path) -> None:
    model, _ = pruned(source, plain=0.1, normed=0.5)
    now: Any = model.module
    before: Any = sottovoce.load(source, host=HOST).module
    small, whole = now.normed[0], before.normed[0]
    kept = [int((whole.w_1.weight == row).all(1).nonzero()[0]) for row in small.w_1.weight]
    inputs, outputs, lacking = [], [], []
    with torch.no_grad():
        for sample in SAMPLES:
            ids = torch.tensor([LETTERS.index(letter) for letter in sample.text or ""])
            changed, unchanged = stream(now, ids), stream(before, ids)
            inputs.append(small.norm(torch.relu(small.w_1(changed))))
            outputs.append(whole.w_2(whole.norm(torch.relu(whole.w_1(changed)))))
            lacking.append(whole.w_2(whole.norm(torch.relu(whole.w_1(unchanged)))) - outputs[-1])
    x, y, drift = (torch.cat(rows).double() for rows in (inputs, outputs, lacking))
    start = whole.w_2.weight.detach()[:, kept].double()

    def ridge(target: torch.Tensor, damp: float) -> torch.Tensor:
        moments = x.t() @ x / len(x)
        moments += damp * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
        return torch.linalg.solve(moments, target.t() @ x / len(x), left=False)

    # The damping is one of three, whichever does best on the samples that are held out.
    expected = [start + ridge(y - x @ start.t(), factor * 0.01) + ridge(drift, 0.2) for factor in (1.0, 3.0, 10.0)]
    assert drift.square().mean() > 0.01 * y.square().mean()
    fitted = small.w_2.weight.detach()
    assert min(float((fitted - weight).abs().max()) for weight in expected) < 1e-4


def stream(net: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the hidden states in front of the normed block."""
    x = net.embed(ids) + net.position(torch.arange(len(ids)))
    for block in net.plain:
        x = block(x)
    return x


def test_obs_with_refit_diverges_less_than_other_orders_without(source: Path) -> None:
    best = divergence(source, pruned(source, plain=0.4, normed=0.4, gated=0.4)[0])
    for score in ("activation", "magnitude"):
        model, _ = pruned(source, plain=0.4, normed=0.4, gated=0.4, score=score, refit=False)
        assert best < 0.5 * divergence(source, model)


def test_magnitude_without_refit_needs_no_samples(source: Path) -> None:
    model, report = pruned(source, None, score="magnitude", refit=False)
    assert model.module.get_submodule("plain.0.w_2").weight.shape == (16, 40)
    assert "error" not in report.details["layers"]["plain.0"]


def test_inspect_gives_the_sizes_that_compress_gives(source: Path) -> None:
    facts = sottovoce.inspect(source, sottovoce.Recipe.from_dict(step(keep=0.5)), host=HOST)
    model, _ = pruned(source)
    assert facts["estimate"]["size_bytes"] == model.size_bytes


def test_quantization_in_the_same_pass_uses_groups_that_divide_what_stays(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    recipe = step(plain=24, normed=24, gated=False)
    recipe["steps"].append({"step": "quantize", "bits": 4, "method": "gptq"})
    report = sottovoce.compress(model, recipe, SAMPLES, host=HOST)
    layer: Any = model.module.get_submodule("plain.0.w_2")
    assert (layer.in_features, layer.scheme.bits, layer.scheme.group_size) == (24, 4, 8)
    parameters = {target.name: target.parameters for target in report.steps[1].targets}
    assert parameters["plain.0.w_2"] == 24 * 16
    assert model.planned_inputs == {}
    sottovoce.save(model, tmp_path / "small", host=HOST)


def test_interrupted_work_resumes_with_the_same_weights(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sottovoce.pruning import width

    expected, _ = pruned(source)
    model = sottovoce.load(source, host=HOST)
    calls = 0
    choose = width.choose_units

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return choose(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(width, "choose_units", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sottovoce.compress(model, step(), SAMPLES, resume=tmp_path / "blocks", host=HOST)
    assert len(list((tmp_path / "blocks").rglob("*.safetensors"))) == 2
    model, calls = sottovoce.load(source, host=HOST), 3
    monkeypatch.setattr(width, "choose_units", interrupted)
    report = sottovoce.compress(model, step(), SAMPLES, resume=tmp_path / "blocks", host=HOST).steps[0]
    assert calls == 4
    assert len(report.targets) == 3
    for name, tensor in expected.module.state_dict().items():
        assert torch.equal(tensor, model.module.state_dict()[name]), name


@pytest.mark.parametrize("is_streamed", [False, True])
def test_experts_are_refitted_on_the_tokens_routed_to_them(mixture: Path, tmp_path: Path, is_streamed: bool) -> None:
    model = sottovoce.load(mixture, host=MIXTURE_HOST, stream=is_streamed)
    report = sottovoce.compress(model, step(keep=0.5), qwen3_moe.make_samples(16, 60), host=MIXTURE_HOST).steps[0]
    assert model.native.config.moe_intermediate_size == 16
    layers = report.details["layers"]
    assert len(layers) == qwen3_moe.LAYERS * qwen3_moe.EXPERTS
    fitted = [layer for layer in layers.values() if "error" in layer]
    assert len(fitted) > len(layers) / 2
    assert sum(layer["error"] for layer in fitted) < sum(layer["error_before_fit"] for layer in fitted)
    sottovoce.save(model, tmp_path / "small", host=MIXTURE_HOST)
    native, said = qwen3_moe.load_stock(tmp_path / "small")
    assert native.config.moe_intermediate_size == 16
    assert not any(said.values()), said


def test_streamed_experts_are_those_of_the_model_in_memory(mixture: Path, tmp_path: Path) -> None:
    samples = qwen3_moe.make_samples(16, 60)
    for name, is_streamed in (("memory", False), ("stream", True)):
        model = sottovoce.load(mixture, host=MIXTURE_HOST, stream=is_streamed)
        sottovoce.compress(model, step(keep=0.5), samples, host=MIXTURE_HOST)
        sottovoce.save(model, tmp_path / name, host=MIXTURE_HOST)
    assert qwen3_moe.same_tensors(qwen3_moe.stored(tmp_path / "memory"), qwen3_moe.stored(tmp_path / "stream"))


def test_experts_with_few_tokens_are_pruned_by_magnitude_and_said(mixture: Path) -> None:
    model = sottovoce.load(mixture, host=MIXTURE_HOST)
    report = sottovoce.compress(model, step(keep=0.5), qwen3_moe.make_samples(4, 12), host=MIXTURE_HOST).steps[0]
    assert any("fewer tokens than units stay" in note for note in report.notes)


def test_fit_that_does_not_hold_on_held_out_samples_is_said(source: Path) -> None:
    samples = make_samples(5, 24)
    other = replace(samples[2], text="gh" * 12)
    known = [
        replace(sample, text=sample.text.translate(str.maketrans("gh", "ab"))) for sample in samples if sample.text
    ]
    mixed = Samples((*known[:2], other, *known[3:]))
    _, report = pruned(source, mixed, plain=8)
    assert report.details["held_out_disagreement"]
    assert any("on held-out samples" in note for note in report.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 81}, "81 are to stay, and there are 80"),
        ({"middle": 0.5}, "no part 'middle'; its parts are: plain, normed, gated"),
        ({"keep": 80}, "all units would stay"),
        ({"plain": False, "normed": False}, "no layer of net is left to prune"),
        ({"keep": 0}, "keep: must be a whole number"),
        ({"keep": 1.0}, "must be a whole number from 1, or a share between 0 and 1"),
        ({"kepe": "half"}, "unknown key 'kepe'"),
        ({"score": "best"}, "score"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(source: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        pruned(source, **settings)
    assert "\n" not in str(error.value)


def test_family_without_widths_is_refused(mixture: Path) -> None:
    model = sottovoce.load(mixture, host=qwen3_moe.HOST)
    with pytest.raises(RecipeError, match="states nothing that this step can prune"):
        sottovoce.compress(model, step(), SAMPLES, host=qwen3_moe.HOST)


def test_too_few_rows_are_refused_with_the_number_that_is_needed(source: Path) -> None:
    with pytest.raises(SamplesError, match=r"8 rows .* too few to fit 40 units .* at least 40 rows, .* 10 samples"):
        pruned(source, make_samples(2, 4), held_out=0.0)


def test_few_rows_are_said_with_the_number_that_would_do(source: Path) -> None:
    _, report = pruned(source, make_samples(2, 12), held_out=0.0)
    assert any("24 rows of calibration data are few to fit 40 units" in note for note in report.notes)


def test_missing_samples_are_refused_before_the_work(source: Path) -> None:
    with pytest.raises(SamplesError, match="calibrates on real samples"):
        pruned(source, None)


def test_quantized_model_is_refused(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, {"steps": [{"step": "quantize"}]}, host=HOST)
    with pytest.raises(CoverageError, match="before quantizing"):
        sottovoce.compress(model, step(), SAMPLES, host=HOST)


def test_recipe_is_written_as_it_was_read() -> None:
    form = step(keep=0.5, gated=0.25, normed=False)
    written = sottovoce.Recipe.from_dict(form).to_dict()
    assert {key: written["steps"][0][key] for key in ("keep", "gated", "normed")} == {
        "keep": 0.5,
        "gated": 0.25,
        "normed": False,
    }
    assert sottovoce.Recipe.from_dict(json.loads(json.dumps(written))).to_dict() == written


def test_pruning_says_nothing_on_the_log_when_all_is_well(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pruned(source)
    assert not caplog.records
