"""A recipe's gate: layers become precise again, the most sensitive first, until it holds; what it says is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sottovoce
from core.toy import LETTERS, Toy, ToyPlugin, make_host, write
from sottovoce import CompressionReport, Model, Recipe, Sample, Samples
from sottovoce.entrypoints.accuracy_gate import FLOAT_REASON
from sottovoce.entrypoints.save import probe
from sottovoce.errors import GateError, RecipeError, SamplesError
from sottovoce.quantization.data_free import stored_bits
from sottovoce.runtime.layers import QUANTIZED
from sottovoce.runtime.packed_linear import PackedLinear

HOST = make_host(ToyPlugin(inputs=("text",)))
SAMPLES = Samples((Sample(key="letters", text=LETTERS),))
UNEVEN = "blocks.2"
FOUR_BITS = {"step": "quantize", "bits": 4}
WEIGHTS_OF_EIGHT_BITS = {"step": "quantize", "activations": "none"}


def make_model(directory: Path, seed: int, outlier: float) -> Path:
    """Four blocks, one of them with a weight in every group that takes the steps from the others."""
    torch.manual_seed(seed)
    module = Toy(64, 4)
    with torch.no_grad():
        for block in module.blocks:
            block.weight.mul_(3)  # type: ignore[operator, union-attr]
        module.get_submodule(UNEVEN).weight[:, ::32] = outlier  # type: ignore[index, operator, union-attr]
    return write(module, directory)


@pytest.fixture
def eight_are_enough(tmp_path: Path) -> Path:
    """With 4 bits other letters come out; the uneven block with 8 bits is enough."""
    return make_model(tmp_path / "toy", seed=0, outlier=3)


@pytest.fixture
def float_is_needed(tmp_path: Path) -> Path:
    """With all blocks in 8 bits other letters still come out. By its own power the uneven block errs the least."""
    return make_model(tmp_path / "toy", seed=6, outlier=100)


def compressed(
    source: Path, gate: dict[str, float], step: dict[str, Any] = FOUR_BITS, **options: Any
) -> tuple[Model, CompressionReport]:
    model = sottovoce.load(source, host=HOST)
    recipe = {"steps": [step], **({"gate": gate} if gate else {})}
    return model, sottovoce.compress(model, recipe, host=HOST, **({"gate_samples": SAMPLES} | options))


def agreement(model: Model, source: Path) -> float | None:
    return sottovoce.evaluate(model, SAMPLES, source, host=HOST).metrics["token_agreement"].value


def raised(report: CompressionReport) -> dict[str, int]:
    assert report.gate is not None
    return {each["name"]: each["bits"] for each in report.gate["raised"]}


def check_true(report: CompressionReport, model: Model) -> None:
    """Targets, kept layers, coverage and size are those of the model."""
    (step,) = report.to_dict()["steps"]
    found = {name: layer for name, layer in model.module.named_modules() if isinstance(layer, QUANTIZED)}
    floats = {name for name, layer in model.module.named_modules() if isinstance(layer, nn.Linear | nn.Embedding)}
    weights = sum(layer.in_features * layer.out_features for layer in found.values())  # type: ignore[union-attr]
    assert {target["name"]: target["bits"] for target in step["targets"]} == {
        name: stored_bits(layer) for name, layer in found.items()
    }
    assert {kept["name"] for kept in step["kept"]} - {"*.bias"} == floats
    assert step["coverage"]["compressed_parameters"] == weights
    assert step["coverage"]["parts"]["blocks"]["compressed_parameters"] == weights
    assert report.coverage == step["coverage"]
    assert report.size_bytes["after"] == model.size_bytes


def comes_back(model: Model, directory: Path) -> bool:
    again = sottovoce.load(sottovoce.save(model, directory, host=HOST), host=HOST)
    assert again.report is not None
    assert model.report is not None
    assert again.report.gate == model.report.gate
    states = [each.module.state_dict() for each in (model, again)]
    same = states[0].keys() == states[1].keys() and all(states[0][name].equal(states[1][name]) for name in states[0])
    return same and probe(again).equal(probe(model))


def test_gate_within_bounds_restores_no_layer(eight_are_enough: Path) -> None:
    free, _ = compressed(eight_are_enough, {})
    held, report = compressed(eight_are_enough, {"min_token_agreement": 50, "max_cer_increase": 50})
    assert report.gate is not None
    assert (report.gate["raised"], report.gate["rounds"]) == ([], 0)
    assert report.gate["found"] == {"min_token_agreement": 62.5, "max_cer_increase": 0.0}
    assert report.gate["samples"]["count"] == 1
    assert probe(held).equal(probe(free))
    check_true(report, held)


def test_most_sensitive_layer_is_restored_to_eight_bits_first(eight_are_enough: Path, tmp_path: Path) -> None:
    free, _ = compressed(eight_are_enough, {})
    held, report = compressed(eight_are_enough, {"min_token_agreement": 100})
    assert agreement(free, eight_are_enough) == 62.5
    assert agreement(held, eight_are_enough) == 100
    assert raised(report) == {UNEVEN: 8}
    layer = held.module.get_submodule(UNEVEN)
    assert isinstance(layer, PackedLinear)
    assert (layer.scheme.bits, layer.scheme.group_size) == (8, None)
    for name in ("blocks.0", "blocks.1", "blocks.3"):
        assert held.module.get_submodule(name).weight_packed.equal(free.module.get_submodule(name).weight_packed)  # type: ignore[operator, union-attr]
    check_true(report, held)
    assert comes_back(held, tmp_path / "small")


def test_layers_become_float_if_eight_bits_do_not_suffice(float_is_needed: Path, tmp_path: Path) -> None:
    held, report = compressed(float_is_needed, {"min_token_agreement": 100})
    assert raised(report) == {"blocks.0": 32, "blocks.1": 32, "blocks.3": 32, UNEVEN: 8}
    original = sottovoce.load(float_is_needed, host=HOST).module
    for name in ("blocks.0", "blocks.1", "blocks.3"):
        layer, other = held.module.get_submodule(name), original.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        assert layer.weight.equal(other.weight)  # type: ignore[arg-type]
        assert layer.bias.equal(other.bias)  # type: ignore[arg-type]
    assert agreement(held, float_is_needed) == 100
    kept = report.steps[0].kept  # type: ignore[union-attr]
    assert [one.name for one in kept if one.reason == FLOAT_REASON] == ["blocks.0", "blocks.1", "blocks.3"]
    check_true(report, held)
    assert comes_back(held, tmp_path / "small")


def test_eight_bit_layers_are_restored_to_float(float_is_needed: Path, tmp_path: Path) -> None:
    held, report = compressed(float_is_needed, {"min_token_agreement": 100}, WEIGHTS_OF_EIGHT_BITS)
    assert raised(report)
    assert set(raised(report).values()) == {32}
    assert agreement(held, float_is_needed) == 100
    check_true(report, held)
    assert comes_back(held, tmp_path / "small")


def test_calibrated_layers_are_restored_by_output_error(eight_are_enough: Path, tmp_path: Path) -> None:
    # Without gate samples the calibration samples are measured.
    free, before = compressed(eight_are_enough, {}, samples=SAMPLES, gate_samples=None)
    held, report = compressed(eight_are_enough, {"min_token_agreement": 100}, samples=SAMPLES, gate_samples=None)
    errors = {target.name: target.output_error or 0 for target in before.steps[0].targets}  # type: ignore[union-attr]
    assert next(iter(raised(report))) == max(errors, key=lambda name: errors[name])
    assert agreement(free, eight_are_enough) == 62.5
    assert agreement(held, eight_are_enough) == 100
    check_true(report, held)
    assert comes_back(held, tmp_path / "small")


def test_only_layers_that_the_limit_needs_are_restored(float_is_needed: Path) -> None:
    sizes = []
    for least in (0, 70, 100):
        held, report = compressed(float_is_needed, {"min_token_agreement": least})
        assert report.gate is not None
        assert report.gate["found"]["min_token_agreement"] >= least
        assert agreement(held, float_is_needed) == report.gate["found"]["min_token_agreement"]
        sizes.append(report.size_bytes["after"])
    assert sizes[0] < sizes[2]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ({"max_size_bytes": 1}, r"the gate cannot be held: max_size_bytes is \d.*, not 1, with every layer"),
        ({"min_token_agreement": 101}, "min_token_agreement is 100, not 101"),
        ({"max_cer_increase": -1, "max_cer": 1000}, r"held: max_cer_increase is 0, not -1, with"),
    ],
)
def test_gate_that_cannot_be_met_is_an_error(gate: dict[str, float], problem: str, eight_are_enough: Path) -> None:
    with pytest.raises(GateError, match=problem):
        compressed(eight_are_enough, gate)


def test_gate_on_an_unknown_metric_lists_the_known_ones(eight_are_enough: Path) -> None:
    model = sottovoce.load(eight_are_enough, host=HOST)
    before = probe(model)
    recipe = {"steps": [FOUR_BITS], "gate": {"max_cer": 5, "max_boundary_shift_ms": 5}}
    with pytest.raises(RecipeError, match=r"'max_boundary_shift_ms' names no metric of toy \(there are: .*cer.*\)"):
        sottovoce.compress(model, recipe, gate_samples=SAMPLES, host=HOST)
    assert probe(model).equal(before)


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ([], "gate: a mapping of limits"),
        (0.5, "gate: a mapping of limits"),
        ({"max_cer": "low"}, "gate: max_cer must be a number, not 'low'"),
        ({"max_cer": True}, "gate: max_cer must be a number, not True"),
        ({"max_cer": None}, "gate: max_cer must be a number, not None"),
        ({"max_cer": float("nan")}, "gate: max_cer must be a number, not nan"),
        ({"cer": 5}, "gate: 'cer' is not a valid limit; write max_ or min_ and a metric"),
        ({"most_cer": 5}, "gate: 'most_cer' is not a valid limit"),
        ({5: 5}, "gate: 5 is not a valid limit"),
        ({"cer": 5, "max_wer": "x"}, "'cer' is not a valid limit.*; gate: max_wer must be a number"),
    ],
)
def test_invalid_gate_is_a_recipe_error(gate: Any, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        Recipe.from_dict({"steps": [FOUR_BITS], "gate": gate})


def test_gate_without_samples_is_an_error(eight_are_enough: Path) -> None:
    with pytest.raises(SamplesError, match=r"gate is measured on samples; give them \(--data or --gate-data\)"):
        compressed(eight_are_enough, {"max_cer": 5}, gate_samples=None)


def test_gate_is_written_and_read_with_the_recipe(tmp_path: Path) -> None:
    recipe = Recipe.from_dict({"steps": [FOUR_BITS], "gate": {"max_cer_increase": 0.5, "min_token_agreement": 99}})
    path = tmp_path / "mine.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.read(path).to_dict() == recipe.to_dict()
    assert Recipe.read(path).gate == {"max_cer_increase": 0.5, "min_token_agreement": 99}
    assert "gate" not in Recipe.from_dict({"steps": [FOUR_BITS], "gate": {}}).to_dict()
