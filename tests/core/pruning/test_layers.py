"""The step that removes whole layers, on a toy of residual layers; absorption against the published formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sottovoce
from core.pruning.layered import HOST, LETTERS, SAMPLES, make_model, make_samples
from core.toy import ToyPlugin, make_host
from core.toy import make_model as make_toy
from sottovoce import Model, Samples
from sottovoce.calibration.reference import Reference
from sottovoce.errors import CoverageError, MemoryLimitError, RecipeError, SamplesError
from sottovoce.pruning import layer_choice
from sottovoce.report import StepReport


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("layered"))


def recipe(**settings: Any) -> dict[str, Any]:
    return {"steps": [{"step": "prune_layers", **settings}]}


def encoder(*numbers: int) -> list[str]:
    return [f"encoder.layers.{number}" for number in numbers]


def pruned(source: Path, samples: Samples | None = SAMPLES, **settings: Any) -> tuple[Model, StepReport]:
    model = sottovoce.load(source, host=HOST)
    return model, sottovoce.compress(model, recipe(**settings), samples, host=HOST).steps[0]


def divergence(source: Path, model: Model) -> float:
    return Reference(sottovoce.load(source, host=HOST), tuple(make_samples(8, 20))).divergence(model)["all"]


def rows(module: Any, samples: Samples = SAMPLES) -> Tensor:
    """What enters the first layer ``[rows, width]``."""
    ids = [torch.tensor([LETTERS.index(letter) for letter in sample.text or ""]) for sample in samples]
    return torch.cat([module.embed(one) + module.position(torch.arange(len(one))) for one in ids])


def ran(x: Tensor, *layers: Any) -> Tensor:
    for layer in layers:
        x = layer(x)[0]
    return x


def ridge(layer: Any, x: Tensor, target: Tensor, damp: float) -> tuple[Tensor, Tensor]:
    """The weight and the bias that minimize the distance of what leaves a layer, drawn to its own weight."""
    read = torch.relu(layer.w_1(x)).double()
    aim = (target - x).double()
    centred, wanted = read - read.mean(0), aim - aim.mean(0)
    weight = layer.w_2.weight.double()
    size = len(read) * damp * float(centred.square().mean())
    moments = centred.T @ centred + size * torch.eye(read.shape[1], dtype=torch.float64)
    fitted = (wanted.T @ centred + size * weight) @ torch.linalg.inv(moments)
    return fitted, aim.mean(0) - fitted @ read.mean(0)


@torch.no_grad()
def test_absorption_is_ridge_regression_of_the_states_that_left_the_last_removed_layer(source: Path) -> None:
    dense: Any = sottovoce.load(source, host=HOST).module
    x = ran(rows(dense), dense.first, *dense.encoder.layers[:2])
    weight, bias = ridge(dense.encoder.layers[2], x, ran(x, *dense.encoder.layers[2:5]), 0.02)
    model, _ = pruned(source, layers=encoder(3, 4), damp=0.02)
    layer: Any = model.module.get_submodule("encoder.layers.2")
    torch.testing.assert_close(layer.w_2.weight.double(), weight, rtol=1e-3, atol=5e-4)
    torch.testing.assert_close(layer.w_2.bias.double(), bias, rtol=1e-3, atol=5e-4)
    assert (layer.w_2.weight - dense.encoder.layers[2].w_2.weight).abs().max() > 0.01


@torch.no_grad()
def test_runs_in_several_places_are_absorbed_one_after_another(source: Path) -> None:
    """The first of the runs stands after the layer that is never removed; the second sees what the first became."""
    dense: Any = sottovoce.load(source, host=HOST).module
    model, report = pruned(source, layers=encoder(0, 1, 3), damp=0.01, held_out=0.0)
    module: Any = model.module
    assert list(report.details["layers"]) == ["first", *encoder(2, 4, 5)]
    x = rows(dense)
    weight, _ = ridge(dense.first, x, ran(x, dense.first, *dense.encoder.layers[:2]), 0.01)
    torch.testing.assert_close(module.first.w_2.weight.double(), weight, rtol=1e-3, atol=5e-4)
    target = ran(x, dense.first, *dense.encoder.layers[:4])
    weight, _ = ridge(dense.encoder.layers[2], ran(x, module.first), target, 0.01)
    torch.testing.assert_close(module.encoder.layers[0].w_2.weight.double(), weight, rtol=1e-3, atol=5e-4)


@torch.no_grad()
def test_next_layers_are_fitted_to_the_states_that_left_them(source: Path) -> None:
    dense: Any = sottovoce.load(source, host=HOST).module
    model, report = pruned(source, layers=encoder(2), held_out=0.0)
    module: Any = model.module
    assert list(report.details["layers"]) == encoder(1, 3, 4, 5)
    x, target = rows(dense), ran(rows(dense), dense.first, *dense.encoder.layers[:4])
    weight, bias = ridge(dense.encoder.layers[3], ran(x, module.first, *module.encoder.layers[:2]), target, 0.01)
    torch.testing.assert_close(module.encoder.layers[2].w_2.weight.double(), weight, rtol=1e-3, atol=5e-4)
    torch.testing.assert_close(module.encoder.layers[2].w_2.bias.double(), bias, rtol=1e-3, atol=5e-4)


def test_absorption_without_a_bias_brings_the_states_nearer(source: Path) -> None:
    model, report = pruned(source, layers=["decoder.layers.1"])
    layer = report.details["layers"]["decoder.layers.0"]
    assert layer["error"] < layer["error_before_fit"]
    assert len(model.module.get_submodule("decoder.layers")) == 3  # type: ignore[arg-type]


def test_layers_that_add_the_least_are_chosen_and_the_removals_reported(source: Path) -> None:
    model, report = pruned(source, keep=5)
    assert {target.name for target in report.targets} == set(encoder(1, 4))
    first, second = report.details["removals"]
    assert [first["layer"], second["layer"]] == encoder(4, 1)
    assert 0 < first["divergence"] < second["divergence"] < 0.02
    assert second["held_out"] > 0
    assert report.details["parts"]["encoder"] == {"before": 7, "kept": 5, "layers": 1}
    assert report.disagreeing == ()
    assert "keeps 5 of 7" in str(report.summary and report.summary.en)
    assert [table.title.en for table in report.tables][0].startswith("Divergence from the model before")
    assert len(model.module.get_submodule("encoder.layers")) == 4  # type: ignore[arg-type]


def test_many_layers_are_ranked_before_few_are_measured(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_choice, "MEASURED_LAYERS", 1)
    _, report = pruned(source, keep=5)
    assert {target.name for target in report.targets} == set(encoder(1, 4))
    _, report = pruned(source, keep=5, absorb=False)
    assert {target.name for target in report.targets} == set(encoder(1, 4))


def test_absorbed_layers_diverge_less_than_removed_ones(source: Path) -> None:
    absorbed, _ = pruned(source, layers=encoder(2))
    plain, _ = pruned(source, None, layers=encoder(2), absorb=False)
    assert divergence(source, absorbed) < 0.5 * divergence(source, plain)


def test_named_layers_without_absorption_need_no_samples_and_change_no_weight(source: Path) -> None:
    dense = sottovoce.load(source, host=HOST).module.state_dict()
    model, report = pruned(source, None, layers=["decoder.layers.0"], absorb=False)
    left = model.module.state_dict()
    for before, after in ((1, 0), (2, 1), (3, 2)):
        torch.testing.assert_close(
            left[f"decoder.layers.{after}.w_2.weight"], dense[f"decoder.layers.{before}.w_2.weight"], rtol=0, atol=0
        )
    assert report.details["removals"] == []


def test_settings_counts_and_numbers_follow_the_layers(source: Path) -> None:
    model, _ = pruned(source, layers=encoder(1, 4))
    module: Any = model.module
    assert model.native.config["encoder"] == {"count": 4, "kinds": list("acdf"), "read_at": 3, "reads": [0, 1, 3]}
    assert model.settings["encoder.count"] == 4
    assert module.encoder.count == 4
    assert [layer.layer_idx for layer in module.encoder.layers] == [0, 1, 2, 3]


def test_saved_model_loads_with_fewer_layers_and_the_same_outputs(source: Path, tmp_path: Path) -> None:
    model, _ = pruned(source, encoder=5, decoder=3)
    sottovoce.save(model, tmp_path / "pruned", host=HOST)
    again = sottovoce.load(tmp_path / "pruned", host=HOST)
    assert len(again.module.get_submodule("decoder.layers")) == 3  # type: ignore[arg-type]
    run = again.architecture.runner.forward
    torch.testing.assert_close(run(again, SAMPLES[0]), run(model, SAMPLES[0]), rtol=0, atol=0)


def test_quantization_follows_in_the_same_recipe(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    steps = [{"step": "prune_layers", "keep": 5}, {"step": "quantize", "bits": 8, "activations": "none"}]
    sottovoce.compress(model, {"steps": steps}, SAMPLES, host=HOST)
    sottovoce.save(model, tmp_path / "both", host=HOST)
    assert divergence(source, sottovoce.load(tmp_path / "both", host=HOST)) < 0.05


def test_inspect_gives_the_sizes_that_compress_gives(source: Path) -> None:
    model, _ = pruned(source, keep=5)
    facts = sottovoce.inspect(source, HOST.recipe(recipe(keep=5)), host=HOST)
    assert facts["estimate"]["size_bytes"] == model.size_bytes
    assert [target["name"] for target in facts["targets"]] == encoder(1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": ["encoder.layers.9"]}, r"names no layer of this model; there are encoder\.layers\.0 to 5, decoder"),
        ({"layers": encoder(5)}, "is never removed: the decoder reads what leaves it; leave it out"),
        ({"layers": ["first"]}, "is never removed: it runs before the first of them"),
        ({"layers": ["decoder.layers.3"]}, "is never removed: it is the last of four"),
        ({"layers": ["decoder.layers.0"]}, "no layer before 'decoder.layers.0' could absorb it; keep it, or remove it"),
        ({"layers": [r"re:decoder\.layers\.\d"]}, r"decoder: all layers \(4\) would go; keep at least one"),
        ({"keep": 7}, "all layers would stay; keep fewer"),
        ({"keep": 8}, "8 are to stay, and there are 7"),
        ({"keep": 1}, r"6 of 7 layers would go, and only 5 may \(first: it runs.*\); keep at least 2"),
        ({"decoder": 1}, "3 of 4 layers would go, and only 2 may"),
        ({"tower": 2}, "layered has no part 'tower'; its parts are: encoder, decoder"),
        ({"keep": 3, "layers": encoder(1)}, "give one of them"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(source: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        pruned(source, **settings)


def test_missing_samples_are_refused_before_the_work(source: Path) -> None:
    with pytest.raises(SamplesError, match="calibrates on real samples"):
        pruned(source, None, keep=5)


def test_quantized_model_is_refused(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, {"steps": [{"step": "quantize", "bits": 8, "activations": "none"}]}, host=HOST)
    with pytest.raises(CoverageError, match="before quantizing"):
        sottovoce.compress(model, recipe(keep=5), SAMPLES, host=HOST)


def test_family_without_depths_is_refused(tmp_path: Path) -> None:
    host = make_host(ToyPlugin(inputs=("text",)))
    model = sottovoce.load(make_toy(tmp_path / "toy"), host=host)
    for settings in ({"keep": 1}, {"layers": ["blocks.0"]}):
        with pytest.raises(RecipeError, match="leave the step out"):
            sottovoce.compress(model, recipe(**settings), SAMPLES, host=host)


def test_model_with_blocks_on_disk_is_refused(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    model.stream = object()  # type: ignore[assignment]
    step = HOST.recipe(recipe(keep=5)).steps[0]
    with pytest.raises(MemoryLimitError, match="load it whole, with more memory, or leave the step out"):
        HOST.call("sottovoce_compress", model.architecture, step=step, model=model, samples=None, calibration=None)


def test_few_rows_are_said_with_the_number_that_would_do(source: Path) -> None:
    _, report = pruned(source, make_samples(2, 20), layers=encoder(1), held_out=0.0)
    assert any("fitted on 40 rows for 48 inputs; about 3 samples" in note for note in report.notes)


def test_fit_that_does_not_hold_on_held_out_samples_is_said_and_a_gate_refuses(source: Path) -> None:
    settings = {"layers": encoder(0, 2, 3), "damp": 1e-6}
    few = make_samples(4, 16)
    _, report = pruned(source, few, **settings)
    assert set(report.disagreeing) & {"first", "encoder.layers.1", *encoder(0, 2, 3)}
    assert any("held-out samples" in note for note in report.notes)
    model = sottovoce.load(source, host=HOST)
    gated = {**recipe(**settings), "gate": {"max_size_bytes": 1e6}}
    with pytest.raises(
        sottovoce.errors.GateError, match="cannot vouch for prune_layers.*give more calibration samples"
    ):
        sottovoce.compress(model, gated, few, host=HOST)


def test_gate_lets_fits_pass_that_hold_on_held_out_samples(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    gated = {**recipe(keep=5), "gate": {"max_size_bytes": 1e6}}
    report = sottovoce.compress(model, gated, SAMPLES, host=HOST)
    assert report.gate is not None
    assert report.steps[0].disagreeing == ()
