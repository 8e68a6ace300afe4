"""Exported graphs hold the compressed model's own values: int8, int4, calibrated inputs, pruned widths and heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sottovoce
from sottovoce import Model, Sample
from sottovoce.errors import SottovoceError, SourceError
from sottovoce.formats.quantized_weights import QuantizedWeights
from sottovoce_paraformer.onnx_client import OnnxClient
from sottovoce_paraformer.onnx_format import ONNX
from sottovoce_paraformer.sherpa_format import SherpaOnnx

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-paraformer"
DATA = ROOT / "examples" / "data" / "mandarin-commands"
RECIPES: Mapping[str, list[dict[str, Any]]] = {
    "int8": [{"step": "quantize", "method": "squant"}],
    "int8-static": [{"step": "quantize", "method": "squant", "activations": "static"}],
    "int8-weight": [{"step": "quantize", "method": "squant", "activations": "none"}],
    "int4": [{"step": "quantize", "method": "hqq", "bits": 4, "embeddings": "int8"}],
    "pruned": [{"step": "prune_width", "keep": 0.75}, {"step": "prune_heads", "keep": 0.5}, {"step": "quantize"}],
}
COUNT = 12

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Utterances with their audio in memory."""
    return [
        Sample(key=sample.key, audio=sottovoce.read_audio(sample.audio), text=sample.text)
        for sample in list(sottovoce.read_samples(DATA / "test.jsonl"))[:COUNT]
        if sample.audio is not None
    ]


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A compressed model by its recipe's name, with its graphs; each is made once."""
    known: dict[str, tuple[Model, Path]] = {}

    def make(name: str) -> tuple[Model, Path]:
        if name not in known:
            model = sottovoce.load(TRAINED)
            needs = name in ("int8-static", "pruned")
            calibration = sottovoce.read_samples(DATA / "calibration.jsonl").choose(16) if needs else None
            sottovoce.compress(model, {"steps": RECIPES[name]}, calibration)
            directory = tmp_path_factory.mktemp(name)
            ONNX().write(model, directory)
            known[name] = model, directory
        return known[name]

    return make


def layers_of(graph: onnx.GraphProto) -> set[str]:
    return {item.name.removesuffix(".qweight") for item in graph.initializer if item.name.endswith(".qweight")}


@pytest.mark.parametrize("name", RECIPES)
def test_all_quantized_layers_of_the_graph_are_carried(name: str, compressed: Any) -> None:
    model, directory = compressed(name)
    graph = onnx.load(directory / "model_quant.onnx").graph
    quantized = {
        layer
        for layer, module in model.module.named_modules()
        if "Linear" in type(module).__name__ and hasattr(module, "scheme")
    }
    assert len(quantized) > 30
    assert layers_of(graph) == quantized
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    for layer in sorted(quantized):
        scale = model.module.get_submodule(layer).weight_scale.float().numpy()
        stored = arrays[f"{layer}.scale"]
        assert set(np.unique(stored)) == set(np.unique(scale))


@pytest.mark.parametrize("name", RECIPES)
def test_both_graphs_hear_what_pytorch_hears(name: str, compressed: Any, samples: list[Sample]) -> None:
    model, directory = compressed(name)
    texts = [model.architecture.runner.predict(model, sample).text for sample in samples]
    for graph in ("model", "model_quant"):
        client = OnnxClient(directory / f"{graph}.onnx", 1)
        heard = [client(sample.audio) for sample in samples]
        assert sum(text == other for text, other in zip(texts, heard, strict=True)) >= COUNT - 1, graph


def test_int8_and_int4_are_as_small_as_they_are_said_to_be(compressed: Any) -> None:
    sizes = {
        name: (compressed(name)[1] / "model_quant.onnx").stat().st_size for name in ("int8", "int8-weight", "int4")
    }
    whole = (compressed("int8")[1] / "model.onnx").stat().st_size
    assert sizes["int8"] < 0.32 * whole
    assert sizes["int8-weight"] < 0.35 * whole
    assert sizes["int4"] < 0.22 * whole


def test_pruned_widths_and_heads_stay_pruned(compressed: Any) -> None:
    model, directory = compressed("pruned")
    full = QuantizedWeights(compressed("int8")[0].module)
    assert len(full)
    arrays = {
        item.name: onnx.numpy_helper.to_array(item)
        for item in onnx.load(directory / "model_quant.onnx").graph.initializer
    }
    layer = model.module.encoder.encoders[0]
    hidden = arrays["encoder.encoders.0.feed_forward.w_1.qweight"].shape[1]
    assert hidden == layer.feed_forward.w_1.out_features < 640
    projected = arrays["encoder.encoders.0.self_attn.linear_q_k_v.qweight"].shape[1]
    assert projected == layer.self_attn.linear_q_k_v.out_features < 480


@pytest.mark.parametrize(("name", "files"), [("int4", {"model.int4.onnx"}), ("int8", {"model.int8.onnx"})])
def test_sherpa_onnx_gets_one_graph_and_runs_it(
    name: str, files: set[str], compressed: Any, samples: list[Sample], tmp_path: Path
) -> None:
    model, _ = compressed(name)
    SherpaOnnx().write(model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == files | {"tokens.txt"}
    SherpaOnnx().check(tmp_path)
    from sottovoce_paraformer.engines import OnnxRuntimeQuantized, SherpaQuantized

    for engine in (SherpaQuantized(), OnnxRuntimeQuantized()):
        assert engine.fits(tmp_path)
        run = engine.load(tmp_path)
        texts = [model.architecture.runner.predict(model, sample).tokens for sample in samples[:4]]
        assert [run(sample).tokens for sample in samples[:4]] == texts


def test_float_model_for_sherpa_onnx_is_written_in_float_and_int8(tmp_path: Path) -> None:
    SherpaOnnx().write(sottovoce.load(TRAINED), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.int8.onnx", "tokens.txt"}


def test_damaged_graph_is_an_error_of_one_line(compressed: Any, tmp_path: Path) -> None:
    SherpaOnnx().write(compressed("int8")[0], tmp_path)
    path = tmp_path / "model.int8.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SottovoceError, match=r"^model\.int8\.onnx: onnxruntime does not read") as caught:
        SherpaOnnx().check(tmp_path)
    assert "\n" not in str(caught.value)


def test_graph_of_another_exporter_or_model_is_named(compressed: Any, tmp_path: Path) -> None:
    _, directory = compressed("int8")
    graph = onnx.load(directory / "model_quant.onnx")
    (tmp_path / "tokens.txt").write_text("a 0\nb 1\n", encoding="utf-8")
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(
        SourceError, match=r"tokens\.txt has 2 tokens, and model\.onnx 60: they are of different models"
    ):
        OnnxClient(tmp_path / "model.onnx", 1)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(SourceError, match=r"model\.onnx: has no metadata 'inv_stddev'"):
        OnnxClient(tmp_path / "model.onnx", 1)


def test_model_that_was_changed_after_it_was_compressed_is_not_exported(compressed: Any, tmp_path: Path) -> None:
    directory = sottovoce.save(compressed("int8")[0], tmp_path / "int8")
    weights = directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SottovoceError, match=r"model\.safetensors") as caught:
        sottovoce.export(directory, "onnx", tmp_path / "onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "onnx").exists()
