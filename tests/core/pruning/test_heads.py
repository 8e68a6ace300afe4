"""The step that prunes attention heads, on a toy of both kinds of attention and on a class of transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core import qwen3_moe
from core.pruning.attention import COARSE, HEAD, HOST, SAMPLES, WIDTH, NetPlugin, make_model, make_samples
from core.toy import make_host
from sottovoce import Heads, Model, Samples, Shape
from sottovoce.calibration.reference import Reference
from sottovoce.errors import CoverageError, PluginError, RecipeError, SamplesError
from sottovoce.pruning.heads_choice import choose_groups
from sottovoce.pruning.moments import Moments
from sottovoce.report import StepReport

DECODER = Heads(
    part="decoder",
    modules=r"re:model\.layers\.\d+\.self_attn",
    rows=("q_proj", "k_proj", "v_proj"),
    output="o_proj",
    groups=lambda attention: attention.k_proj.out_features // attention.head_dim,
    keys=("num_attention_heads", "num_key_value_heads"),
)
DECODER_HOST = qwen3_moe.make_host(qwen3_moe.Qwen3MoePlugin(shape=Shape(heads=(DECODER,))))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("decoder")
    return qwen3_moe.make_model(directory, num_attention_heads=8, num_key_value_heads=4)


def step(**settings: Any) -> dict[str, Any]:
    return {"steps": [{"step": "prune_heads", **settings}]}


def pruned(source: Path, samples: Samples | None = SAMPLES, **settings: Any) -> tuple[Model, StepReport]:
    model = sottovoce.load(source, host=HOST)
    return model, sottovoce.compress(model, step(**settings), samples, host=HOST).steps[0]


def divergence(source: Path, model: Model) -> float:
    return Reference(sottovoce.load(source, host=HOST), tuple(make_samples(8, 20))).divergence(model)["all"]


def projection_inputs(model: Model, name: str) -> torch.Tensor:
    """What an output projection reads on all samples ``[rows, in]``."""
    rows: list[torch.Tensor] = []
    projection = model.module.get_submodule(name)
    with projection.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].detach())), torch.no_grad():
        for sample in SAMPLES:
            model.architecture.runner.forward(model, sample)
    return torch.cat(rows)


def test_heads_of_parts_pruned_by_default_are_halved_and_counted(source: Path) -> None:
    model, report = pruned(source)
    module: Any = model.module
    assert [block.q_proj.out_features for block in (*module.plain, *module.grouped)] == [16, 16, 64]
    assert [block.o_proj.in_features for block in module.plain] == [16, 16]
    assert vars(model.native.config.sizes) == {"heads": 2, "queries": 8, "shared": 4, "pairs": 2}
    removed = sum(target.parameters for target in report.targets)
    before = sum(parameter.numel() for parameter in sottovoce.load(source, host=HOST).module.parameters())
    assert removed == before - sum(parameter.numel() for parameter in module.parameters())
    assert report.coverage is not None
    assert report.coverage.compressed_parameters == removed
    assert report.summary is not None
    assert "plain keeps 2 of 4" in report.summary.en
    assert "plain: its own class counts otherwise" in report.notes


def test_query_heads_that_share_values_are_removed_with_them(source: Path) -> None:
    model, report = pruned(source, grouped=1)
    block: Any = model.module.get_submodule("grouped.0")
    assert [layer.out_features // HEAD for layer in (block.q_proj, block.k_proj, block.v_proj)] == [2, 1, 1]
    assert block.o_proj.weight.shape == (WIDTH, 2 * HEAD)
    assert vars(model.native.config.sizes) == {"heads": 4, "queries": 2, "shared": 1, "pairs": 2}
    assert report.notes == ()


@pytest.mark.parametrize(("part", "width"), [("plain", HEAD), ("grouped", 2 * HEAD)])
def test_without_refit_it_is_the_model_with_those_columns_set_to_zero(source: Path, part: str, width: int) -> None:
    model, report = pruned(source, refit=False, **{part: 2})
    masked = sottovoce.load(source, host=HOST)
    for name, layer in report.details["layers"].items():
        weight = masked.module.get_submodule(f"{name}.o_proj").weight
        assert isinstance(weight, torch.Tensor)
        for group in set(range(4)) - set(layer["kept"]):
            weight.data[:, group * width : (group + 1) * width] = 0
    for sample in make_samples(3, 10):
        torch.testing.assert_close(
            model.architecture.runner.forward(model, sample), model.architecture.runner.forward(masked, sample)
        )


@pytest.mark.parametrize(("part", "has_bias"), [("plain", True), ("grouped", False)])
def test_refit_is_the_ridge_regression_of_the_plain_formula(source: Path, part: str, has_bias: bool) -> None:
    before = sottovoce.load(source, host=HOST)
    model, report = pruned(source, held_out=0.0, damp=0.05, **{part: 2})
    name = f"{part}.0"
    inputs = projection_inputs(before, f"{name}.o_proj").double()
    projection: Any = before.module.get_submodule(f"{name}.o_proj")
    weight, size = projection.weight.detach().double(), projection.in_features // 4
    kept = [group * size + column for group in report.details["layers"][name]["kept"] for column in range(size)]
    x, y = inputs[:, kept], inputs @ weight.T
    mean_x, mean_y = (x.mean(0), y.mean(0)) if has_bias else (torch.zeros(len(kept)), torch.zeros(WIDTH))
    centred, rest = x - mean_x, (y - mean_y) - (x - mean_x) @ weight[:, kept].T
    moments = centred.T @ centred / len(x)
    ridge = moments + 0.05 * moments.diagonal().mean() * torch.eye(len(kept))
    expected = weight[:, kept] + torch.linalg.solve(ridge, centred.T @ rest / len(x)).T
    fitted: Any = model.module.get_submodule(f"{name}.o_proj")
    torch.testing.assert_close(fitted.weight.double(), expected, atol=2e-4, rtol=1e-3)
    if has_bias:
        shift = mean_y - expected @ mean_x
        torch.testing.assert_close(fitted.bias.double(), projection.bias.double() + shift, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("part", ["plain", "grouped"])
def test_refit_takes_most_of_the_error_on_held_out_samples_away(source: Path, part: str) -> None:
    _, report = pruned(source, **{part: 2})
    for layer in report.details["layers"].values():
        assert layer["error"] < 0.5 * layer["error_before_fit"]


def test_obs_with_refit_diverges_less_than_other_orders_without(source: Path) -> None:
    best = divergence(source, pruned(source, plain=2, grouped=2)[0])
    for score in ("activation", "magnitude"):
        model, _ = pruned(source, plain=2, grouped=2, score=score, refit=False)
        assert best < 0.5 * divergence(source, model)


def test_activation_score_is_the_power_that_a_group_adds() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(5, 12, generator=generator), torch.randn(50, 12, generator=generator)
    moments = Moments()
    moments.add("layer", x)
    powers = [
        float((x[:, start : start + 3] @ weight[:, start : start + 3].T).square().sum()) for start in (0, 3, 6, 9)
    ]
    expected = sorted(sorted(range(4), key=powers.__getitem__)[2:])
    assert choose_groups(weight, 4, 2, "activation", moments) == expected
    norms = [float(weight[:, start : start + 3].norm()) for start in (0, 3, 6, 9)]
    assert choose_groups(weight, 4, 2, "magnitude") == sorted(sorted(range(4), key=norms.__getitem__)[2:])


def test_saved_model_loads_with_its_heads_and_the_same_outputs(source: Path, tmp_path: Path) -> None:
    model, _ = pruned(source, plain=1, grouped=0.75)
    sottovoce.save(model, tmp_path / "small", host=HOST)  # checks the outputs itself
    reloaded: Any = sottovoce.load(tmp_path / "small", host=HOST).module
    assert [reloaded.plain[1].o_proj.in_features, reloaded.grouped[0].o_proj.in_features] == [HEAD, 6 * HEAD]


def test_magnitude_without_refit_needs_no_samples(source: Path) -> None:
    model, report = pruned(source, None, score="magnitude", refit=False)
    assert model.module.get_submodule("plain.0.o_proj").weight.shape == (WIDTH, 2 * HEAD)
    assert "error" not in report.details["layers"]["plain.0"]


def test_inspect_gives_the_sizes_that_compress_gives(source: Path) -> None:
    recipe = step(keep=0.5)
    recipe["steps"].append({"step": "quantize"})
    facts = sottovoce.inspect(source, sottovoce.Recipe.from_dict(recipe), host=HOST)
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, recipe, SAMPLES, host=HOST)
    assert facts["estimate"]["size_bytes"] == model.size_bytes


def test_quantization_in_the_same_pass_uses_groups_that_divide_what_stays(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    recipe = step(plain=2)
    recipe["steps"].append({"step": "quantize", "bits": 4, "method": "gptq"})
    report = sottovoce.compress(model, recipe, SAMPLES, host=HOST)
    layer: Any = model.module.get_submodule("plain.0.o_proj")
    assert (layer.in_features, layer.scheme.bits, layer.scheme.group_size) == (16, 4, 16)
    assert {target.name: target.parameters for target in report.steps[1].targets}["plain.0.q_proj"] == 2 * HEAD * WIDTH
    assert model.planned_inputs == {}
    sottovoce.save(model, tmp_path / "small", host=HOST)


def test_pruning_twice_in_one_pass_prunes_what_was_left(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    recipe = {"steps": [*step(keep=3)["steps"], *step(keep=1)["steps"]]}
    reports = sottovoce.compress(model, recipe, SAMPLES, host=HOST).steps
    assert [report.details["parts"]["plain"]["before"] for report in reports] == [4, 3]
    assert model.module.get_submodule("plain.0.o_proj").weight.shape == (WIDTH, HEAD)
    assert model.native.config.sizes.heads == 1


def test_interrupted_work_resumes_with_the_same_weights(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sottovoce.pruning import heads

    settings = {"plain": 2, "grouped": 2}
    expected, whole = pruned(source, **settings)
    calls, choose = 0, heads.choose_groups

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return choose(*arguments)

    monkeypatch.setattr(heads, "choose_groups", interrupted)
    model = sottovoce.load(source, host=HOST)
    with pytest.raises(KeyboardInterrupt):
        sottovoce.compress(model, step(**settings), SAMPLES, resume=tmp_path / "blocks", host=HOST)
    assert len(list((tmp_path / "blocks").rglob("*.safetensors"))) == 2
    model = sottovoce.load(source, host=HOST)
    report = sottovoce.compress(model, step(**settings), SAMPLES, resume=tmp_path / "blocks", host=HOST).steps[0]
    assert calls == 4
    assert report.details["layers"] == whole.details["layers"]
    for name, tensor in expected.module.state_dict().items():
        assert torch.equal(tensor, model.module.state_dict()[name]), name


def test_streamed_model_of_transformers_is_that_of_memory_and_loads_there(decoder: Path, tmp_path: Path) -> None:
    for name, is_streamed in (("memory", False), ("stream", True)):
        model = sottovoce.load(decoder, host=DECODER_HOST, stream=is_streamed)
        sottovoce.compress(model, step(keep=0.5), qwen3_moe.SAMPLES, host=DECODER_HOST)
        assert (model.native.config.num_attention_heads, model.native.config.num_key_value_heads) == (4, 2)
        sottovoce.save(model, tmp_path / name, host=DECODER_HOST)
    assert qwen3_moe.same_tensors(qwen3_moe.stored(tmp_path / "memory"), qwen3_moe.stored(tmp_path / "stream"))
    native, said = qwen3_moe.load_stock(tmp_path / "memory")
    assert native.model.layers[0].self_attn.o_proj.in_features == 4 * 16
    assert not any(said.values()), said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 5}, "prune_heads, plain: 5 are to stay, and there are 4"),
        ({"middle": 0.5}, "no part 'middle'; its parts are: plain, grouped"),
        ({"keep": 4}, "all heads would stay"),
        ({"plain": False, "grouped": False}, "no attention of net is left to prune"),
        ({"keep": 0}, "keep: must be a whole number"),
        ({"score": "best"}, "score"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(source: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        pruned(source, **settings)
    assert "\n" not in str(error.value)


def test_number_that_the_configuration_cannot_express_is_refused_before_the_work(source: Path) -> None:
    host = make_host(NetPlugin(COARSE))
    model = sottovoce.load(source, host=host)
    before = copy.deepcopy(model.module.state_dict())
    with pytest.raises(RecipeError, match=r"with 3 of 4 heads, sizes.pairs would be 1.5; keep a multiple of 2"):
        sottovoce.compress(model, step(keep=3), SAMPLES, host=host)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    sottovoce.compress(model, step(keep=2), SAMPLES, host=host)
    assert vars(model.native.config.sizes) == {"heads": 2, "queries": 8, "shared": 4, "pairs": 1}


def test_shape_that_does_not_fit_the_model_is_the_plugins_fault(source: Path) -> None:
    from core.pruning.attention import heads

    host = make_host(NetPlugin(Shape(heads=(heads("plain", ("sizes.heads",), groups=lambda _: 5),))))
    with pytest.raises(PluginError, match=r"q_proj has 32 outputs, not divisible into 5 groups"):
        sottovoce.compress(sottovoce.load(source, host=host), step(), SAMPLES, host=host)


def test_family_without_heads_is_refused(decoder: Path) -> None:
    model = sottovoce.load(decoder, host=qwen3_moe.HOST)
    with pytest.raises(RecipeError, match="states nothing that this step can prune"):
        sottovoce.compress(model, step(), SAMPLES, host=qwen3_moe.HOST)


def test_too_few_rows_are_refused_with_the_number_that_is_needed(source: Path) -> None:
    with pytest.raises(SamplesError, match=r"3 rows .* too few to fit 16 inputs .* at least 16 rows, .* 6 samples"):
        pruned(source, make_samples(1, 3))


def test_few_rows_are_said_once_with_the_number_that_would_do(source: Path) -> None:
    _, report = pruned(source, make_samples(2, 5))
    few = [note for note in report.notes if "10 rows of calibration data are few to fit 16 inputs" in note]
    assert len(few) == 1
    assert "about 4 samples" in few[0]


def test_missing_samples_are_refused_before_the_work(source: Path) -> None:
    with pytest.raises(SamplesError, match="calibrates on real samples"):
        pruned(source, None)


def test_quantized_model_is_refused(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, {"steps": [{"step": "quantize"}]}, host=HOST)
    with pytest.raises(CoverageError, match="before quantizing"):
        sottovoce.compress(model, step(), SAMPLES, host=HOST)
