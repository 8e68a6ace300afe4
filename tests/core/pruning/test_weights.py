"""The step that sets single weights to zero, on a toy and on a mixture of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sottovoce
from core import qwen3_moe
from core.toy import LETTERS, ToyPlugin, make_host, make_model
from sottovoce import Model, Sample, Samples
from sottovoce.errors import CoverageError, RecipeError, SamplesError
from sottovoce.pruning.weights import PruneWeightsRunner
from sottovoce.report import StepReport

HOST = make_host(ToyPlugin(inputs=("text",)))
SAMPLES = Samples(tuple(Sample(key=str(n), text=(LETTERS[n:] + LETTERS[: n + 3]) * 2) for n in range(8)))
METHODS = ("magnitude", "wanda", "sparsegpt")
WIDTH = 32


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("toy") / "model", width=WIDTH)


def recipe(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"steps": [{"step": "prune_weights", **step} for step in steps]}


def pruned(
    source: Path, *steps: dict[str, Any], samples: Samples | None = SAMPLES, **options: Any
) -> tuple[Model, StepReport]:
    model = sottovoce.load(source, host=HOST)
    return model, sottovoce.compress(model, recipe(*steps), samples, host=HOST, **options).steps[-1]


def weights(model: Model) -> list[Tensor]:
    return [block.weight.detach() for block in model.module.blocks]  # type: ignore[union-attr, operator]


def zeros(model: Model) -> list[int]:
    return [int((weight == 0).sum()) for weight in weights(model)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_share_of_zeros_is_exact_and_counted(source: Path, method: str, sparsity: float) -> None:
    model, report = pruned(source, {"method": method, "sparsity": sparsity})
    rows = WIDTH if method == "wanda" else 1
    want = rows * round(sparsity * WIDTH * WIDTH / rows)
    assert zeros(model) == [want, want]
    assert [target.parameters for target in report.targets] == [want, want]
    assert all(target.output_error is not None and target.output_error > 0 for target in report.targets)
    assert report.coverage is not None
    assert report.coverage.compressed_parameters == 2 * want


@pytest.mark.parametrize("method", METHODS)
def test_pattern_leaves_two_of_every_four_inputs(source: Path, method: str) -> None:
    model, report = pruned(source, {"method": method, "pattern": "2:4"})
    for weight in weights(model):
        assert ((weight.reshape(-1, 4) != 0).sum(1) == 2).all()
    assert report.summary is not None
    assert "2:4, which only GPUs" in report.summary.en


def test_report_says_that_zeros_save_nothing_and_gives_both_sizes(source: Path) -> None:
    _, report = pruned(source, {})
    count = 2 * WIDTH * WIDTH
    assert report.details == {
        "weights": count,
        "zeros": count // 2,
        "dense_bytes": 4 * count,
        "bitmask_bytes": count // 8 + 4 * count // 2,
    }
    assert report.summary is not None
    assert "50.0% of the weights of 2 layers" in report.summary.en
    assert "no bytes and no time on CPUs" in report.summary.en
    assert "SparseGPT" in report.summary.zh
    assert report.tables[0].rows[0] == (count, count // 2, 4 * count, count // 8 + 2 * count)


def test_compensation_lowers_the_output_error(source: Path) -> None:
    errors = {method: pruned(source, {"method": method})[1].targets[0].output_error for method in METHODS}
    assert errors["sparsegpt"] < errors["wanda"]  # type: ignore[operator]
    assert errors["sparsegpt"] < errors["magnitude"]  # type: ignore[operator]


def test_magnitude_needs_no_samples(source: Path) -> None:
    model, report = pruned(source, {"method": "magnitude"}, samples=None)
    assert zeros(model) == [WIDTH * WIDTH // 2] * 2
    assert report.targets[0].output_error is None
    before = sottovoce.load(source, host=HOST)
    for now, weight in zip(weights(model), weights(before), strict=True):
        assert now.equal(weight.where(weight.abs() > weight.abs().median(), 0))


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("then", METHODS)
def test_second_step_keeps_the_zeros_of_the_first(source: Path, first: str, then: str) -> None:
    once, _ = pruned(source, {"method": first, "sparsity": 0.25})
    before = [weight == 0 for weight in weights(once)]
    sottovoce.compress(once, recipe({"method": then, "sparsity": 0.5}), SAMPLES, host=HOST)
    assert zeros(once) == [WIDTH * WIDTH // 2] * 2
    for mask, weight in zip(before, weights(once), strict=True):
        assert not weight[mask].any()


def test_layers_left_out_stay_as_they_are(source: Path) -> None:
    model, report = pruned(source, {"ignore": ["blocks.0"]})
    assert zeros(model) == [0, WIDTH * WIDTH // 2]
    assert [target.name for target in report.targets] == ["blocks.1"]


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_to_nearest_keeps_zeros_and_reload_is_exact(source: Path, bits: int, tmp_path: Path) -> None:
    model, _ = pruned(source, {"sparsity": 0.6})
    before = weights(model)
    sottovoce.compress(model, {"steps": [{"step": "quantize", "bits": bits, "min_coverage": 0}]}, host=HOST)
    for number, weight in enumerate(before):
        layer: Any = model.module.get_submodule(f"blocks.{number}")
        values = layer(torch.eye(WIDTH)) - layer(torch.zeros(1, WIDTH))
        # A step of int4 is over 0.01 here; products of some kernels are exact to about 1e-7 only.
        assert values.t()[weight == 0].abs().max() < 1e-5
    sottovoce.save(model, tmp_path / "small", host=HOST)  # checks the outputs itself


def test_interrupted_work_resumes_with_the_same_result(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, report = pruned(source, {})
    process = PruneWeightsRunner.process_block
    processed: list[str] = []

    def interrupted(runner: PruneWeightsRunner, block: Any) -> dict[str, Any]:
        processed.append(block.name)
        if len(processed) == 2:
            raise KeyboardInterrupt
        return process(runner, block)

    monkeypatch.setattr(PruneWeightsRunner, "process_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pruned(source, {}, resume=tmp_path / "work")
    resumed, again = pruned(source, {}, resume=tmp_path / "work")
    assert processed == ["blocks.0", "blocks.1", "blocks.1"]
    assert all(map(torch.equal, weights(resumed), weights(whole)))
    assert again.targets == report.targets
    assert again.details == report.details


def test_experts_are_pruned_by_their_own_tokens(tmp_path: Path) -> None:
    host = qwen3_moe.make_host(qwen3_moe.Qwen3MoePlugin())
    model = sottovoce.load(qwen3_moe.make_model(tmp_path / "mixture"), host=host)
    samples = Samples(tuple(Sample(key=str(n), text="abcdefgh" * 4) for n in range(8)))
    report = sottovoce.compress(model, recipe({"targets": [r"re:.*\.experts\..*_proj"]}), samples, host=host).steps[0]
    for target in report.targets:
        layer = model.module.get_submodule(target.name)
        assert isinstance(layer, nn.Linear)
        assert target.parameters == int((layer.weight == 0).sum()) == layer.weight.numel() // 2
    assert any(target.output_error is not None for target in report.targets)


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"sparsity": 0}, "greater than 0"),
        ({"sparsity": 1}, "less than 1"),
        ({"pattern": "1:4"}, "2:4"),
        ({"pattern": "2:4", "sparsity": 0.5}, "not both"),
        ({"method": "random"}, "sparsegpt"),
    ],
)
def test_impossible_setting_is_refused(step: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        sottovoce.Recipe.from_dict(recipe(step))


def test_width_that_four_does_not_divide_is_refused(tmp_path: Path) -> None:
    odd = make_model(tmp_path / "odd", width=30)
    with pytest.raises(CoverageError, match=r"four do not divide the 30 inputs of 'blocks.0'.*ignore"):
        pruned(odd, {"pattern": "2:4"})


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_method_that_needs_samples_is_refused_without(source: Path, method: str) -> None:
    with pytest.raises(SamplesError):
        pruned(source, {"method": method}, samples=None)


def test_quantized_model_is_refused(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    quantize = {"step": "quantize", "bits": 8, "min_coverage": 0}
    sottovoce.compress(model, {"steps": [quantize]}, host=HOST)
    with pytest.raises(CoverageError, match="compressed already"):
        sottovoce.compress(model, recipe({}), SAMPLES, host=HOST)
    both = {"steps": [quantize, *recipe({})["steps"]]}
    with pytest.raises(CoverageError, match="before quantizing"):
        sottovoce.compress(sottovoce.load(source, host=HOST), both, SAMPLES, host=HOST)


def test_inspect_tells_the_zeros_without_data(source: Path) -> None:
    facts = sottovoce.inspect(source, sottovoce.Recipe.from_dict(recipe({"sparsity": 0.5})), host=HOST)
    assert facts["estimate"]["size_bytes"] == pruned(source, {})[0].size_bytes
