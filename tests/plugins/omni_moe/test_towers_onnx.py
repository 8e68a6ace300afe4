"""Exported towers give in onnxruntime what transformers' give, for any size, and hold the model's own integers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import sottovoce
from sottovoce import Model, Samples
from sottovoce.checkpoint.report_file import read_report
from sottovoce.errors import OutputError, SourceError, UsageError
from sottovoce_omni_moe.engines import OnnxRuntimeTowers, OnnxRuntimeTowersQuantized
from sottovoce_omni_moe.onnx_format import ONNX
from sottovoce_omni_moe.tower_sessions import open_towers, run_in_model_
from sottovoce_omni_moe.towers_client import Towers, onnx_run

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own and transformers'

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-omni"
DATA = ROOT / "examples" / "data" / "omni-tasks"
HEARING = r"re:thinker\.model\.audio_tower\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|fc[12])"
SEEING = r"re:thinker\.model\.visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.linear_fc[12])"
QUANTIZE = {"step": "quantize", "targets": [HEARING, SEEING], "min_coverage": 0.01}
STEPS: dict[str, list[dict[str, Any]]] = {
    "float": [],
    "int8": [QUANTIZE],
    "int4": [{**QUANTIZE, "bits": 4, "method": "hqq"}],
    "audio in int8": [{**QUANTIZE, "targets": [HEARING]}],
    "pruned": [{"step": "prune_width", "parts": {"audio tower": 0.5, "vision tower": 0.5}}],
}
LENGTHS = [[57], [100], [101], [799, 30], [800], [30, 45], [2300, 99, 801]]
"""Frames of the audios of one question; a chunk has 100, a window 800."""
GRIDS = [[[1, 2, 2]], [[1, 6, 4]], [[1, 4, 8], [1, 6, 2]], [[3, 16, 10]], [[2, 4, 4], [1, 2, 12]]]
"""Frames, rows and columns of the pictures and videos of one question."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model in float32 by the name of its steps, with its graphs; each is made once."""
    known: dict[str, tuple[Model, Path]] = {}

    def make(name: str) -> tuple[Model, Path]:
        if name not in known:
            model, directory = sottovoce.load(TRAINED, dtype="float32"), tmp_path_factory.mktemp("towers")
            if STEPS[name]:
                calibration = sottovoce.read_samples(DATA / "calibration.jsonl")
                media = Samples(tuple(sample for sample in calibration if sample.modality != "text")).choose(12)
                sottovoce.compress(model, {"steps": STEPS[name]}, media if name == "pruned" else None)
            ONNX().write(model, directory)
            ONNX().check(directory)
            known[name] = model, directory
        return known[name]

    return make


@torch.no_grad()
def heard(model: Model, directory: Path, frames: list[int], quantized: bool) -> tuple[Any, Any]:
    """What the client and the library give for noise."""
    tower = model.native.thinker.model.audio_tower
    noise = torch.randn(tower.num_mel_bins, sum(frames), generator=torch.Generator().manual_seed(1))
    expected = tower(noise, feature_lens=torch.tensor(frames)).last_hidden_state.numpy()
    return open_towers(directory, quantized, 1).hear_frames(noise.numpy(), frames), expected


@torch.no_grad()
def seen(model: Model, directory: Path, grids: list[list[int]], quantized: bool) -> tuple[Any, Any]:
    """What the client and the library give for pictures of noise, with the depths behind one another."""
    tower = model.native.thinker.model.visual
    count = sum(int(np.prod(grid)) for grid in grids)
    noise = torch.randn(count, 3 * 2 * tower.patch_size**2, generator=torch.Generator().manual_seed(1))
    outputs = tower(noise, grid_thw=torch.tensor(grids))
    expected = np.concatenate([outputs.pooler_output, *outputs.deepstack_features])
    return np.concatenate(open_towers(directory, quantized, 1).see(noise.numpy(), grids)), expected


def difference(outputs: Any, expected: Any) -> float:
    assert outputs.shape == expected.shape
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("frames", LENGTHS, ids=str)
@pytest.mark.parametrize("name", ["float", "int4", "pruned"])
def test_float_audio_tower_of_any_length_is_transformers(name: str, frames: list[int], written: Any) -> None:
    assert difference(*heard(*written(name), frames, quantized=False)) < 1e-5


@pytest.mark.parametrize("grids", GRIDS, ids=str)
@pytest.mark.parametrize("name", ["float", "int4", "pruned"])
def test_float_vision_tower_of_any_size_is_transformers(name: str, grids: list[list[int]], written: Any) -> None:
    assert difference(*seen(*written(name), grids, quantized=False)) < 1e-5


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_quantized_towers_round_only_their_inputs_otherwise(name: str, written: Any) -> None:
    for frames in LENGTHS:
        assert difference(*heard(*written(name), frames, quantized=True)) < 0.03
    for grids in GRIDS:
        assert difference(*seen(*written(name), grids, quantized=True)) < 0.03


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_quantized_towers_have_the_models_integers(name: str, written: Any) -> None:
    model, directory = written(name)
    towers = {"audio_tower": model.native.thinker.model.audio_tower, "vision_tower": model.native.thinker.model.visual}
    for file, tower in towers.items():
        graph = onnx.load(directory / f"{file}_quant.onnx").graph
        arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        layers = {layer: module for layer, module in tower.named_modules() if hasattr(module, "scheme")}
        assert {key.removesuffix(".qweight") for key in arrays if key.endswith(".qweight")} == set(layers)
        for layer, module in layers.items():
            expected = module.qweight() if name == "int4" else module.weight
            stored = arrays[f"{layer}.qweight"].reshape(len(expected), -1)
            if name == "int4":
                stored = np.stack((stored & 15, stored >> 4), axis=-1).reshape(len(expected), -1)
            stored = stored[:, : expected.shape[1]].astype(int) - (8 if name == "int4" else 128)
            np.testing.assert_array_equal(stored, expected.numpy())
        sizes = [(directory / f"{file}{ending}.onnx").stat().st_size for ending in ("_quant", "")]
        assert sizes[0] < 0.9 * sizes[1]


def test_pruned_towers_stay_pruned(written: Any) -> None:
    widths = {}
    for name in ("float", "pruned"):
        model, directory = written(name)
        layers = model.native.thinker.model.audio_tower.layers[0], model.native.thinker.model.visual.blocks[0].mlp
        widths[name] = layers[0].fc1.out_features, layers[1].linear_fc1.out_features
        for file, width in zip(("audio_tower", "vision_tower"), widths[name], strict=True):
            shapes = [tuple(item.dims) for item in onnx.load(directory / f"{file}.onnx").graph.initializer]
            assert any(width in shape for shape in shapes)
    assert widths["pruned"] == tuple(width // 2 for width in widths["float"])


def test_tower_that_was_not_compressed_has_no_quantized_graph(written: Any) -> None:
    _, directory = written("audio in int8")
    assert {path.name for path in directory.glob("*.onnx")} == {
        "audio_tower.onnx",
        "audio_tower_quant.onnx",
        "vision_tower.onnx",
    }
    assert open_towers(directory, quantized=True).path("vision_tower").name == "vision_tower.onnx"


@pytest.mark.parametrize("name", ["float", "int8"])
def test_model_answers_alike_with_its_towers_in_onnxruntime(name: str, written: Any) -> None:
    model, directory = written(name)
    samples = [sample for sample in sottovoce.read_samples(DATA / "test.jsonl") if sample.modality != "text"][::24]
    assert {sample.modality for sample in samples} == {"audio", "image", "video"}
    expected = [model.architecture.runner.predict(model, sample).tokens for sample in samples]
    towers = [model.native.thinker.model.audio_tower, model.native.thinker.model.visual]
    calls: list[str] = []

    def load(path: Path) -> Any:
        calls.append(path.name)
        return onnx_run(path)

    run_in_model_(model.native, Towers(directory, load))
    try:
        answers = [model.architecture.runner.predict(model, sample).tokens for sample in samples]
    finally:
        for tower in towers:
            del tower.forward
    ending = "_quant" if name == "int8" else ""
    assert sorted(calls) == [f"audio_tower{ending}.onnx", f"vision_tower{ending}.onnx"]
    assert answers == expected


def test_export_says_how_many_answers_are_pytorchs(tmp_path: Path) -> None:
    samples = sottovoce.read_samples(DATA / "test.jsonl")
    chosen = Samples(tuple(sample for sample in samples if sample.modality in ("audio", "image"))[:2])
    report = read_report(sottovoce.export(TRAINED, "onnx", tmp_path / "towers", samples=chosen)).export
    assert report is not None
    assert [engine.engine for engine in report.engines] == ["onnxruntime-towers"]
    assert report.engines[0].same == (2, 2) and "texts equal to PyTorch's on 2 of 2" in str(report.engines[0])
    assert OnnxRuntimeTowers().fits(tmp_path / "towers")
    assert not OnnxRuntimeTowersQuantized().fits(tmp_path / "towers")
    with pytest.raises(UsageError, match=r"^towers has a part of a model alone: name the model too, by --reference"):
        sottovoce.check(tmp_path / "towers", chosen)


def test_export_of_a_model_that_was_changed_in_memory_asks_to_save_it(tmp_path: Path) -> None:
    model = sottovoce.load(TRAINED)
    sottovoce.compress(model, {"steps": STEPS["int8"]})
    samples = sottovoce.read_samples(DATA / "test.jsonl").choose(1)
    report = read_report(sottovoce.export(model, "onnx", tmp_path / "towers", samples=samples)).export
    assert report is not None and len(report.engines) == 2
    assert all("save the model, and export that" in str(engine) for engine in report.engines)


def test_client_runs_alone_and_names_what_does_not_fit(written: Any) -> None:
    _, directory = written("float")
    spec = importlib.util.spec_from_file_location("exported_towers", directory / "towers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    towers = module.Towers(directory)
    mels = towers.settings["audio_tower"]["mels"]
    features = np.random.default_rng(0).standard_normal((2, mels, 300), np.float32)
    mask = np.arange(300) < np.array([[300], [41]])
    np.testing.assert_array_equal(
        towers.hear(features, mask),
        towers.hear_frames(np.concatenate([features[0], features[1, :, :41]], axis=1), [300, 41]),
    )
    with pytest.raises(
        ValueError, match=r"the lengths of audios \[5\] do not add up to the length of the features, 300"
    ):
        towers.hear_frames(features[0], [5])
    with pytest.raises(ValueError, match=r"a picture of 3 x 2 patches does not divide into squares of 2"):
        towers.see(np.zeros((6, towers.settings["vision_tower"]["values"])), [[1, 3, 2]])
    with pytest.raises(ValueError, match="do not add up to as many patches: 5"):
        towers.see(np.zeros((5, 384)), [[1, 2, 2]])


@pytest.mark.parametrize("name", ["float", "int8"])
def test_towers_of_a_model_that_is_larger_than_memory_are_the_same(name: str, tmp_path: Path) -> None:
    source, directories = TRAINED, [tmp_path / "streamed", tmp_path / "whole"]
    if STEPS[name]:
        model = sottovoce.load(TRAINED)
        sottovoce.compress(model, {"steps": STEPS[name]})
        source = sottovoce.save(model, tmp_path / "compressed")
    for directory, is_streamed in zip(directories, (True, False), strict=True):
        model = sottovoce.load(source, stream=is_streamed)
        assert (model.stream is not None) == is_streamed
        sottovoce.export(model, "onnx", directory)
        if is_streamed:
            assert model.native.thinker.model.visual.blocks[0].norm1.weight.is_meta
    graphs = [{path.name: path.read_bytes() for path in folder.glob("*.onnx")} for folder in directories]
    assert len(graphs[0]) == (4 if name == "int8" else 2)
    assert graphs[0] == graphs[1]


def test_model_without_a_tower_is_exported_without_it(written: Any, tmp_path: Path) -> None:
    model, _ = written("float")
    inner = model.native.thinker.model
    hearing, seeing = inner.audio_tower, inner.visual
    try:
        inner.visual = None
        ONNX().write(model, tmp_path)
        ONNX().check(tmp_path)
        assert [path.name for path in tmp_path.glob("*.onnx")] == ["audio_tower.onnx"]
        with pytest.raises(ValueError, match="the model has no vision tower"):
            open_towers(tmp_path, quantized=False).see(np.zeros((4, 384)), [[1, 2, 2]])
        inner.audio_tower = None
        with pytest.raises(UsageError, match="neither an audio tower nor a vision tower"):
            ONNX().write(model, tmp_path)
    finally:
        inner.audio_tower, inner.visual = hearing, seeing


def test_vision_tower_that_the_graph_lacks_is_refused(written: Any, tmp_path: Path) -> None:
    model, _ = written("float")
    tower = model.native.thinker.model.visual
    tower.interpolation_mode = "bicubic"
    try:
        with pytest.raises(UsageError, match="bicubic positions cannot be exported as a graph"):
            sottovoce.export(model, "onnx", tmp_path / "towers")
    finally:
        tower.interpolation_mode = "bilinear"
    assert not any(tmp_path.iterdir())


def test_check_finds_a_damaged_graph_an_old_opset_and_missing_settings(written: Any, tmp_path: Path) -> None:
    _, directory = written("float")
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    graph = onnx.load(tmp_path / "vision_tower.onnx")
    weight = max(graph.graph.initializer, key=lambda item: len(item.raw_data))
    weight.raw_data = np.full(weight.dims, np.nan, np.float32).tobytes()
    onnx.save(graph, tmp_path / "vision_tower.onnx")
    with pytest.raises(OutputError, match=r"^vision_tower\.onnx: gives numbers that are not finite"):
        ONNX().check(tmp_path)
    graph.opset_import[0].version = 9
    onnx.save(graph, tmp_path / "vision_tower.onnx")
    with pytest.raises(OutputError, match=r"^vision_tower\.onnx: onnxruntime does not read"):
        ONNX().check(tmp_path)
    (tmp_path / "towers.json").write_text(json.dumps({})[:1], encoding="utf-8")
    with pytest.raises(SourceError, match="export the model again"):
        ONNX().check(tmp_path)
