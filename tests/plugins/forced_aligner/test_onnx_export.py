"""The exported aligner says in onnxruntime what the model says in PyTorch, and holds the model's own integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from plugins.forced_aligner.exported import boundaries, compressed, own_boundaries, utterances
from sottovoce import Model
from sottovoce.errors import OutputError, SourceError, UsageError
from sottovoce.formats.onnx import OnnxSession
from sottovoce.formats.quantized_weights import QuantizedWeights
from sottovoce_forced_aligner import graph_client
from sottovoce_forced_aligner.engines import OnnxRuntime, OnnxRuntimeQuantized
from sottovoce_forced_aligner.graph import AlignerGraph
from sottovoce_forced_aligner.onnx_format import ONNX
from sottovoce_forced_aligner.reading import prepare, run

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own and transformers'
COUNT = 12


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model by the name of its steps, with its graphs; each is made once."""
    known: dict[str, tuple[Model, Path]] = {}

    def make(name: str) -> tuple[Model, Path]:
        if name not in known:
            model, directory = compressed(name), tmp_path_factory.mktemp(name)
            ONNX().write(model, directory)
            known[name] = model, directory
        return known[name]

    return make


@pytest.mark.parametrize(("name", "seconds"), [("float", 0.3), ("float", 1.0), ("float", 8.0), ("int4", 20.0)])
def test_logits_of_any_length_are_those_of_transformers(name: str, seconds: float, written: Any) -> None:
    model, directory = written(name)
    audio = np.random.default_rng(1).standard_normal(round(16000 * seconds)).astype(np.float32) * 0.1
    words = list("打开客厅的灯")
    expected = run(model.native, prepare(model.processor, audio, words))[0].detach().numpy()
    session = OnnxSession(directory / "model.onnx")
    logits, markers = graph_client.client(directory, session).logits(audio, words)
    assert markers.sum() == 12
    np.testing.assert_allclose(logits, expected, atol=5e-3)


@pytest.mark.parametrize("name", ["float", "pruned"])
def test_float_graph_finds_the_boundaries_of_pytorch(name: str, written: Any) -> None:
    model, directory = written(name)
    samples = utterances(COUNT)
    heard = OnnxRuntime().load(directory)
    assert (boundaries([heard(sample) for sample in samples]) == own_boundaries(model, samples)).all()
    assert not (directory / "model_quant.onnx").exists()
    assert OnnxRuntime().fits(directory) and not OnnxRuntimeQuantized().fits(directory)


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_quantized_graph_has_the_models_integers_and_boundaries(name: str, written: Any) -> None:
    model, directory = written(name)
    graph = onnx.load(directory / "model_quant.onnx").graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    layers = dict(model.module.named_modules())
    quantized = {layer for layer, module in layers.items() if hasattr(module, "scheme")}
    carried = {key.rpartition(".")[0] for key in arrays if key.endswith((".qweight", ".table"))}
    assert carried == quantized and len(quantized) > 40
    table = layers["model.language_model.embed_tokens"]
    np.testing.assert_array_equal(arrays["model.language_model.embed_tokens.table"], table.weight.numpy())
    assert (directory / "model_quant.onnx").stat().st_size < 0.4 * (directory / "model.onnx").stat().st_size
    samples = utterances(COUNT)
    expected = own_boundaries(model, samples)
    for engine, least in ((OnnxRuntime(), 0.999), (OnnxRuntimeQuantized(), 0.97)):
        heard = engine.load(directory)
        assert np.mean(boundaries([heard(sample) for sample in samples]) == expected) >= least


def test_four_bits_are_those_of_the_model(written: Any) -> None:
    model, directory = written("int4")
    arrays = {
        item.name: onnx.numpy_helper.to_array(item)
        for item in onnx.load(directory / "model_quant.onnx").graph.initializer
    }
    name = "model.language_model.layers.2.mlp.gate_proj"
    packed = arrays[f"{name}.qweight"].reshape(384, -1)
    values = np.stack((packed & 15, packed >> 4), axis=-1).reshape(384, -1)[:, :192].astype(int) - 8
    layer = model.module.get_submodule(name)
    np.testing.assert_array_equal(values, layer.qweight().numpy())
    assert len(QuantizedWeights(model.module)) == sum("qweight" in key or key.endswith(".table") for key in arrays)


def test_check_runs_the_graphs_and_finds_a_damaged_one(written: Any, tmp_path: Path) -> None:
    _, directory = written("int8")
    ONNX().check(directory)
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = onnx.load(tmp_path / "model.onnx")
    weight = next(item for item in model.graph.initializer if "score.weight" in item.name or len(item.dims) == 2)
    weight.raw_data = np.full(weight.dims, np.nan, np.float32).tobytes()
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(OutputError, match=r"model\.onnx: gives numbers that are not finite"):
        ONNX().check(tmp_path)
    (tmp_path / "aligner.json").unlink()
    with pytest.raises(SourceError, match="export the model again"):
        ONNX().check(tmp_path)


def test_configuration_that_the_graph_lacks_is_refused(written: Any) -> None:
    model, _ = written("float")
    kinds = model.native.config.text_config.layer_types
    model.native.config.text_config.layer_types = ["sliding_attention", *kinds[1:]]
    try:
        with pytest.raises(UsageError, match="slides over the text cannot be exported"):
            AlignerGraph(model.native)
    finally:
        model.native.config.text_config.layer_types = kinds
