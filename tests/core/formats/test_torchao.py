"""Checkpoints of torchao's tensors hold the model's own values, and stock transformers runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sottovoce
from sottovoce.entrypoints.own_engine import Sottovoce
from sottovoce.errors import UsageError
from sottovoce.runtime.packed_linear import PackedLinear
from sottovoce.runtime.quantized_linear import QuantizedLinear

pytest.importorskip("torchao", reason="torchao is not installed")
transformers: Any = pytest.importorskip("transformers")

ROOT = Path(__file__).parents[3]
ALIGNER = ROOT / "examples" / "models" / "tiny-aligner"
SAMPLES = ROOT / "tests" / "calibration.jsonl"


FEW = {
    "steps": [
        {
            "step": "quantize",
            "bits": 3,
            "weight_range": "mse",
            "overrides": {r"re:.*q_proj": {"bits": 2, "group_size": 32}},
        }
    ]
}


def compressed(recipe: Any) -> sottovoce.Model:
    model = sottovoce.load(ALIGNER)
    sottovoce.compress(model, recipe, samples=SAMPLES if recipe == "int4" else None)
    return model


@pytest.fixture(scope="module", params=["int8", "int8-weight", "int4", "fp8", FEW], ids=str)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[sottovoce.Model, Path]:
    model = compressed(request.param)
    return model, sottovoce.export(model, "torchao", tmp_path_factory.mktemp("torchao") / "export")


def test_stock_transformers_loads_the_very_values(exported: tuple[sottovoce.Model, Path]) -> None:
    model, directory = exported
    stock = transformers.Qwen3ASRForTokenClassification.from_pretrained(directory)
    layers = {name: layer for name, layer in model.module.named_modules() if isinstance(layer, QuantizedLinear)}
    assert len(layers) > 50
    for name, layer in layers.items():
        weight = stock.get_submodule(name).weight
        values = layer.qweight() if isinstance(layer, PackedLinear) else layer.weight
        assert weight.qdata.float().equal(values.float()), name
        assert weight.scale.float().equal(layer.weight_scale.float()), name
        if layer.scheme.activations == "none":
            assert torch.allclose(weight.dequantize(), layer.dequantize().weight, rtol=1e-6, atol=1e-7), name


def test_all_else_is_as_it_was(exported: tuple[sottovoce.Model, Path]) -> None:
    model, directory = exported
    stock = transformers.Qwen3ASRForTokenClassification.from_pretrained(directory)
    quantized = {name for name, layer in model.module.named_modules() if isinstance(layer, QuantizedLinear)}
    original = sottovoce.load(ALIGNER).module.state_dict()
    for name, tensor in stock.state_dict().items():
        if name.rpartition(".")[0] not in quantized and "embed_tokens" not in name:
            assert tensor.equal(original[name]), name
    assert {type(layer) for name, layer in stock.named_modules() if name in quantized} == {nn.Linear}


def test_sottovoce_leaves_it_to_transformers(exported: tuple[sottovoce.Model, Path]) -> None:
    assert not Sottovoce().fits(exported[1])
    assert Sottovoce().fits(ALIGNER)


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compress the model first"):
        sottovoce.export(sottovoce.load(ALIGNER), "torchao", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_inputs_of_a_calibrated_range_are_refused(tmp_path: Path) -> None:
    model = sottovoce.load(ALIGNER)
    sottovoce.compress(model, "int8-static", samples=SAMPLES)
    with pytest.raises(UsageError, match="use int8, int8-weight, int4 without zero points, or fp8"):
        sottovoce.export(model, "torchao", tmp_path / "export")


def test_experts_are_refused(tmp_path: Path) -> None:
    model = sottovoce.load(ROOT / "examples" / "models" / "tiny-omni")
    sottovoce.compress(model, "int8-towers")
    with pytest.raises(UsageError, match="no tensors for experts"):
        sottovoce.export(model, "torchao", tmp_path / "export")
