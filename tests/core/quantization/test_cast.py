"""The step ``cast``: what stays float takes 16 bits on disk, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import sottovoce
from core import qwen3_moe
from core.toy import ToyPlugin, make_host, make_model
from sottovoce import Model
from sottovoce.checkpoint.narrow_floats import narrow_floats, stored_floats
from sottovoce.entrypoints.save import probe
from sottovoce.errors import RecipeError
from sottovoce.formats import compressed_tensors
from sottovoce.quantization.cast_step import Cast
from sottovoce.report import StepReport

CAST: dict[str, Any] = {"step": "cast"}
INT8: dict[str, Any] = {"step": "quantize"}


HOST = make_host()


def compressed(source: Path, *steps: dict[str, Any]) -> Model:
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, {"steps": list(steps)}, host=HOST)
    return model


def saved(model: Model, directory: Path, **options: Any) -> dict[str, torch.Tensor]:
    sottovoce.save(model, directory, host=HOST, **options)
    return load_file(directory / "model.safetensors")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_floats_are_rounded_in_memory_and_halved_on_disk(tmp_path: Path, dtype: str) -> None:
    before = sottovoce.load(make_model(tmp_path / "toy"), host=HOST).module.state_dict()
    model = compressed(tmp_path / "toy", {**CAST, "dtype": dtype})
    stored = saved(model, tmp_path / "small")
    narrow = getattr(torch, dtype)
    for name, tensor in model.module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert stored[name].dtype == narrow
        assert torch.equal(stored[name], before[name].to(narrow))
        assert torch.equal(tensor, stored[name].float())
    assert model.size_bytes == sum(tensor.nbytes for tensor in stored.values())
    assert model.report is not None
    assert model.report.size_bytes.after == model.size_bytes == model.report.size_bytes.before // 2
    assert model.report.parameter_bits is not None
    assert set(model.report.parameter_bits.after) == {"16"}
    assert model.report.steps[-1].details["parameters"] == sum(tensor.numel() for tensor in before.values())


def test_quantized_layers_keep_their_numbers_and_scales(tmp_path: Path) -> None:
    source = make_model(tmp_path / "toy")
    plain = saved(compressed(source, INT8), tmp_path / "int8")
    both = saved(compressed(source, INT8, CAST), tmp_path / "both")
    for name, tensor in plain.items():
        is_rounded = not name.endswith(("weight_scale", "blocks.0.weight", "blocks.1.weight"))
        assert both[name].dtype == (torch.float16 if is_rounded else tensor.dtype)
        assert torch.equal(both[name], tensor.to(both[name].dtype))
    assert {"blocks.0.bias", "head.weight", "embed.weight"} <= {
        name for name, tensor in both.items() if tensor.dtype == torch.float16
    }


@pytest.mark.parametrize("first", [INT8, {**INT8, "activations": "none"}, {**INT8, "bits": 4, "activations": "none"}])
def test_layers_that_ran_before_compute_with_the_rounded_bias(tmp_path: Path, first: dict[str, Any]) -> None:
    model = compressed(make_model(tmp_path / "toy"), first)
    before = probe(model)  # packs the weights, with copies of the biases
    sottovoce.compress(model, {"steps": [{**CAST, "dtype": "bfloat16"}]}, host=HOST)
    assert not probe(model).equal(before)
    saved(model, tmp_path / "small")  # compares the outputs


def test_layers_that_ran_before_compute_with_what_any_step_changed(tmp_path: Path) -> None:
    class Shift(sottovoce.Step):
        by: float = 0.5

    class Shifter:
        @sottovoce.hookimpl
        def sottovoce_compress(self, step: Any, model: Model) -> StepReport | None:
            if not isinstance(step, Shift):
                return None
            model.module.blocks[0].bias.data += step.by
            return StepReport(step=step.to_dict())

    host = make_host(ToyPlugin(), Shifter())
    model = sottovoce.load(make_model(tmp_path / "toy"), host=host)
    sottovoce.compress(model, {"steps": [INT8]}, host=host)
    before = probe(model)
    sottovoce.compress(model, {"steps": [{"step": "shift"}]}, host=host)
    assert not probe(model).equal(before)
    sottovoce.save(model, tmp_path / "small", host=host)  # compares the outputs


def test_what_is_loaded_is_saved_as_small_again(tmp_path: Path) -> None:
    first = saved(compressed(make_model(tmp_path / "toy"), INT8, CAST), tmp_path / "first")
    again = saved(sottovoce.load(tmp_path / "first", host=HOST), tmp_path / "again")
    assert {name: tensor.dtype for name, tensor in again.items()} == {name: t.dtype for name, t in first.items()}
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_weights_that_a_later_step_changed_are_stored_whole(tmp_path: Path) -> None:
    model = compressed(make_model(tmp_path / "toy"), CAST)
    with torch.no_grad():
        model.module.head.weight += 1e-5
    stored = saved(model, tmp_path / "small")
    assert stored["head.weight"].dtype == torch.float32
    assert stored["head.bias"].dtype == torch.float16
    assert torch.equal(stored["head.weight"], model.module.head.weight)


def test_inspect_promises_the_size_that_compress_gives(tmp_path: Path) -> None:
    source = make_model(tmp_path / "toy")
    recipe = {"steps": [INT8, CAST]}
    facts = sottovoce.inspect(source, sottovoce.Recipe.from_dict(recipe), host=HOST)
    report = compressed(source, INT8, CAST).report
    assert report is not None
    assert report.parameter_bits is not None
    assert facts["estimate"]["size_bytes"] == report.size_bytes.after
    assert facts["estimate"]["parameter_bits"] == report.parameter_bits.after


@pytest.mark.parametrize("value", [65520.0, -1e30])
def test_a_weight_beyond_the_range_is_refused_and_nothing_changes(tmp_path: Path, value: float) -> None:
    model = sottovoce.load(make_model(tmp_path / "toy"), host=HOST)
    with torch.no_grad():
        model.module.head.bias[3] = value
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    with pytest.raises(RecipeError, match=r"head\.bias holds .* give dtype: bfloat16"):
        sottovoce.compress(model, {"steps": [CAST]}, host=HOST)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    sottovoce.compress(model, {"steps": [{**CAST, "dtype": "bfloat16"}]}, host=HOST)
    assert stored_floats(model.module) == torch.bfloat16


def test_a_dtype_of_no_16_bits_is_refused() -> None:
    with pytest.raises(RecipeError, match="dtype"):
        sottovoce.Recipe.from_dict({"steps": [{**CAST, "dtype": "float32"}]})
    assert Cast(dtype="bfloat16").stored_bits == "bf16"


def test_transformers_model_is_stored_in_16_bits_and_computes_the_same(tmp_path: Path) -> None:
    source, host = qwen3_moe.make_model(tmp_path / "moe"), make_host(qwen3_moe.Qwen3MoePlugin())
    model = sottovoce.load(source, host=host)
    dtypes = {parameter.dtype for parameter in model.module.parameters()}
    assert dtypes == {torch.float32}
    report = sottovoce.compress(model, {"steps": [CAST]}, host=host)
    sottovoce.save(model, tmp_path / "small", host=host)  # compares the outputs
    stored = [tensor for path in (tmp_path / "small").glob("*.safetensors") for tensor in load_file(path).values()]
    assert {tensor.dtype for tensor in stored} == {torch.float16}
    assert report.size_bytes.after == sum(tensor.nbytes for tensor in stored)
    import transformers

    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(stock(ids).logits, model.native(ids).logits)


@given(st.lists(st.floats(-7e4, 7e4, width=32), min_size=1, max_size=8))
def test_only_what_loses_nothing_is_narrow(values: list[float]) -> None:
    module = nn.Module()
    module.register_buffer("values", torch.tensor(values))
    expected = all(torch.tensor(value).half().float().item() == value for value in values)
    assert narrow_floats(module, torch.float16) == ({"values": torch.float16} if expected else {})
    assert not narrow_floats(module)


def test_a_finite_number_beyond_the_range_beside_infinities_is_refused(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "toy"), host=HOST)
    model.module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    sottovoce.compress(model, {"steps": [CAST]}, host=HOST)
    model.module.mask = torch.tensor([1e6, float("-inf")])
    with pytest.raises(RecipeError, match=r"mask holds 1e\+06"):
        sottovoce.compress(model, {"steps": [CAST]}, host=HOST)


def test_a_streamed_model_is_saved_as_small_and_cast_no_further(tmp_path: Path) -> None:
    source, host = qwen3_moe.make_model(tmp_path / "moe"), make_host(qwen3_moe.Qwen3MoePlugin())
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, {"steps": [CAST]}, host=host)
    sottovoce.save(model, tmp_path / "small", host=host)
    streamed = sottovoce.load(tmp_path / "small", host=host, stream=True)
    assert streamed.stream is not None
    assert streamed.size_bytes == model.size_bytes
    sottovoce.save(streamed, tmp_path / "again", host=host)
    first, again = (
        {name: tensor for path in (tmp_path / folder).glob("*.safetensors") for name, tensor in load_file(path).items()}
        for folder in ("small", "again")
    )
    assert {tensor.dtype for tensor in again.values()} == {torch.float16}
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    with pytest.raises(RecipeError, match="read block by block"):
        sottovoce.compress(sottovoce.load(source, host=host, stream=True), {"steps": [CAST]}, host=host)


def test_shared_parameters_stay_shared(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "toy"), host=HOST)
    model.module.blocks[1].weight = model.module.blocks[0].weight
    sottovoce.compress(model, {"steps": [CAST]}, host=HOST)
    assert model.module.blocks[1].weight is model.module.blocks[0].weight
    assert compressed_tensors.describe(model.module) is None
