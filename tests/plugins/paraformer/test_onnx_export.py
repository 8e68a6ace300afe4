"""The exported graphs against FunASR's own inference, on tiny random models of every class."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from plugins.paraformer.exported import HOTWORD_KINDS, Exported, batch, cached, run_torch, some_hotwords
from plugins.paraformer.tiny import KINDS, TOKENS
from sottovoce.runtime.backends import instructions
from sottovoce.runtime.int8_linear import Int8Linear

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own

BATCHES = [[1], [2], [7], [50], [700], [30, 30], [5, 60, 33], [90, 600]]
PREDICTORS: dict[str, dict[str, Any]] = {
    "the oldest predictor": {"predictor": "CifPredictor"},
    "no tail": {"predictor_conf": {"tail_threshold": 0.0}},
    "a tail behind the padding": {"predictor_conf": {"tail_mask": False}},
    "smoothed": {"predictor_conf": {"smooth_factor": 0.7, "noise_threshold": 0.05}},
    "shifted memory": {"encoder_conf": {"sanm_shfit": 5}, "decoder_conf": {"sanm_shfit": 5}},
    "blocks without attention": {"decoder_conf": {"num_blocks": 3, "att_layer_num": 2}},
}
TIMESTAMPS: dict[str, dict[str, Any]] = {
    "without LSTM": {"predictor_conf": {"upsample_type": "cnn"}},
    "after the convolution": {"predictor_conf": {"use_cif1_cnn": True}},
    "smoothed": {"predictor_conf": {"smooth_factor2": 0.25, "noise_threshold2": 0.01}},
}


def compare(got: Any, want: list[torch.Tensor]) -> None:
    names = ("logits", "token_num", "us_alphas", "us_cif_peak")
    assert len(got) == len(want)
    for name, have, expected in zip(names, got, want, strict=False):
        # FunASR sums up minutes in float32 where the graph does not, hence the tolerance.
        np.testing.assert_allclose(have, expected.numpy(), atol=1e-3, rtol=1e-3, err_msg=name)


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return cached(tmp_path_factory, request.param)


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
def test_outputs_are_torchs(exported: Exported, lengths: list[int]) -> None:
    speech, sizes = batch(lengths)
    hotwords = some_hotwords(3) if exported.kind in HOTWORD_KINDS else None
    got = exported.run(speech, sizes, hotwords)
    compare(got, run_torch(exported.model.module, speech, sizes, hotwords))
    assert got[1].dtype == np.int32


@pytest.mark.parametrize("lengths", [[40], [25, 60]], ids=str)
def test_more_padding_changes_nothing(exported: Exported, lengths: list[int]) -> None:
    speech, sizes = batch(lengths)
    hotwords = some_hotwords(3) if exported.kind in HOTWORD_KINDS else None
    got = exported.run(torch.nn.functional.pad(speech, (0, 0, 0, 200)), sizes, hotwords)
    want = exported.run(speech, sizes, hotwords)
    np.testing.assert_array_equal(got[1], want[1])
    if exported.kind == "Paraformer":
        np.testing.assert_allclose(got[0], want[0], atol=2e-2)


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 80])
@pytest.mark.parametrize("kind", HOTWORD_KINDS)
def test_any_number_of_hotwords(tmp_path_factory: pytest.TempPathFactory, kind: str, count: int) -> None:
    exported = cached(tmp_path_factory, kind)
    speech, sizes = batch([40])
    hotwords = some_hotwords(count)
    compare(exported.run(speech, sizes, hotwords), run_torch(exported.model.module, speech, sizes, hotwords))


@pytest.mark.parametrize("changes", PREDICTORS.values(), ids=PREDICTORS)
def test_every_configuration(tmp_path: Path, changes: dict[str, Any]) -> None:
    check_changed(tmp_path, "Paraformer", changes)


@pytest.mark.parametrize("changes", TIMESTAMPS.values(), ids=TIMESTAMPS)
def test_every_timestamp_head(tmp_path: Path, changes: dict[str, Any]) -> None:
    check_changed(tmp_path, "BiCifParaformer", changes)


def check_changed(root: Path, kind: str, changes: dict[str, Any]) -> None:
    exported = Exported(root, kind, **changes)
    for lengths in ([40], [20, 70]):
        speech, sizes = batch(lengths)
        compare(exported.run(speech, sizes), run_torch(exported.model.module, speech, sizes))


@pytest.mark.parametrize("kind", KINDS)
def test_silence_gives_no_token(tmp_path: Path, kind: str) -> None:
    exported = Exported(tmp_path, kind)
    exported.model.module.predictor.cif_output.bias.data.fill_(-12.0)
    exported.export()
    speech, sizes = batch([40, 25])
    got = exported.run(speech, sizes, some_hotwords(2) if kind in HOTWORD_KINDS else None)
    assert got[0].shape == (2, 0, len(TOKENS))
    assert got[1].tolist() == [0, 0]
    assert all(np.isfinite(values).all() for values in got)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    exported = Exported(tmp_path, "SeacoParaformer")
    module = exported.model.module
    module.encoder.after_norm.train()
    before = {name: (type(part), part.training) for name, part in module.named_modules()}
    weights = copy.deepcopy(module.state_dict())
    random = torch.get_rng_state()
    exported.export()
    assert {name: (type(part), part.training) for name, part in module.named_modules()} == before
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_int8_layers_are_exported_as_their_floats(tmp_path: Path) -> None:
    exported = Exported(tmp_path, "Paraformer")
    module = exported.model.module
    want = copy.deepcopy(module)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, torch.nn.Linear):
            parent, _, child = name.rpartition(".")
            small = Int8Linear.from_float(layer)
            setattr(module.get_submodule(parent), child, small)
            setattr(want.get_submodule(parent), child, small.dequantize())
    exported.export()
    speech, sizes = batch([40, 70])
    compare(exported.run(speech, sizes), run_torch(want, speech, sizes))
    # Quantizing them again gives the same integers.
    graph = onnx.load(exported.directory / "model_quant.onnx").graph
    node = next(node for node in graph.node if node.name == "/encoder/encoders.0/feed_forward/w_1/MatMul_quant")
    stored = next(weight for weight in graph.initializer if weight.name == node.input[1])
    weight = module.encoder.encoders[0].feed_forward.w_1.weight
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), weight.T.numpy())


def test_other_dtypes_are_exported_in_float32(tmp_path: Path) -> None:
    exported = Exported(tmp_path, "Paraformer")
    module = exported.model.module.to(torch.bfloat16)
    exported.export()
    speech, sizes = batch([40])
    compare(exported.run(speech, sizes), run_torch(copy.deepcopy(module).float(), speech, sizes))
    assert module.encoder.after_norm.weight.dtype == torch.bfloat16


def test_what_is_int8(exported: Exported) -> None:
    float_nodes = onnx.load(exported.directory / "model.onnx").graph.node
    products = {node.name for node in float_nodes if node.op_type == "MatMul" and "attention" not in node.name}
    graph = onnx.load(exported.directory / "model_quant.onnx").graph
    weights = {weight.name: weight for weight in graph.initializer}
    integer = [node for node in graph.node if node.op_type == "MatMulInteger"]
    assert all(weights[node.input[1]].data_type == onnx.TensorProto.INT8 for node in integer)
    small = {node.name.removesuffix("_quant") for node in integer}
    kept = products - small
    assert all("output" in name or "bias_decoder" in name or name.count("/") == 2 for name in kept), kept
    assert sum(name.endswith(("linear_out/MatMul", "linear_out_1/MatMul")) for name in small) >= 3
    assert any("encoder" in name and "linear_q_k_v" in name for name in small)
    assert any("decoder" in name and "linear_k_v" in name for name in small)


def test_quantized_outputs_are_close(exported: Exported) -> None:
    speech, sizes = batch([60])
    hotwords = some_hotwords(3) if exported.kind in HOTWORD_KINDS else None
    want = exported.run(speech, sizes, hotwords)
    got = exported.run(speech, sizes, hotwords, name="model_quant")
    assert abs(int(got[1][0]) - int(want[1][0])) <= 1
    same = min(got[0].shape[1], want[0].shape[1])
    # Without VNNI, sums of two products of 8 bits saturate in onnxruntime.
    assert np.abs(got[0][:, :same] - want[0][:, :same]).mean() < (0.1 if instructions.vnni() else 1.0)
