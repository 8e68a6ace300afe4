"""The exported graphs against FunASR's own inference, on tiny random models of every class."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from plugins.paraformer.tiny import FEATURES, KINDS, NO_BIAS, TOKENS, load, make_model
from sottovoce.errors import SourceError, UsageError
from sottovoce.formats.int8_linear import Int8Linear
from sottovoce.model import Model, Repository, Source
from sottovoce_paraformer.onnx_export import export_onnx

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own

HOTWORD_KINDS = ("SeacoParaformer", "ContextualParaformer")
TIMED_KINDS = ("BiCifParaformer", "SeacoParaformer")
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


class Exported:
    """A tiny model with its graphs."""

    def __init__(self, root: Path, kind: str, **changes: Any) -> None:
        source = make_model(root / "model", kind, **changes)
        native = load(source)
        self.kind = kind
        self.model = Model(
            module=native.model,
            native=native,
            architecture=None,
            source=Source(name=kind, directory=source, repository=Repository(id="someone/tiny")),
        )
        self.directory = root / "onnx"
        self.export()

    def export(self) -> None:
        self.directory.mkdir(exist_ok=True)
        assert export_onnx(self.model, self.directory) == self.directory

    def run(self, speech: torch.Tensor, lengths: torch.Tensor, hotwords: Any = None, name: str = "model") -> Any:
        feed = {"speech": speech.numpy(), "speech_lengths": lengths.int().numpy()}
        if self.kind in HOTWORD_KINDS:
            feed["bias_embed"] = np.repeat(self.embed(hotwords)[None], len(lengths), axis=0)
        return self._session(name).run(None, feed)

    def embed(self, hotwords: list[list[int]]) -> Any:
        """What funasr-onnx does: pad to 10, take the embedding after the last token."""
        padded = np.zeros((len(hotwords), 10), np.int32)
        for row, hotword in zip(padded, hotwords, strict=True):
            row[: len(hotword)] = hotword
        embedded = self._session("model_eb").run(None, {"hotword": padded})[0]
        return embedded[[len(hotword) - 1 for hotword in hotwords], range(len(hotwords))]

    def _session(self, name: str) -> Any:
        return onnxruntime.InferenceSession(self.directory / f"{name}.onnx", providers=["CPUExecutionProvider"])


@torch.no_grad()
def run_torch(module: Any, speech: torch.Tensor, lengths: torch.Tensor, hotwords: Any = None) -> list[torch.Tensor]:
    """The steps of FunASR's ``inference``, in its order."""
    kind = type(module).__name__
    memory, sizes = module.encode(speech, lengths)
    embeddings, count = module.calc_predictor(memory, sizes)[:2]
    count = count.round().long()
    if kind == "SeacoParaformer":
        logits = module._seaco_decode_with_ASF(memory, sizes, embeddings, count, hw_list=hotwords)
    elif kind == "ContextualParaformer":
        logits = module.cal_decoder_with_predictor(memory, sizes, embeddings, count, hw_list=hotwords)[0]
    else:
        logits = module.cal_decoder_with_predictor(memory, sizes, embeddings, count)[0]
    timed = kind in TIMED_KINDS
    return [logits, count, *(module.calc_predictor_timestamp(memory, sizes, count)[2:] if timed else ())]


def batch(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    speech = torch.randn(len(lengths), max(lengths), FEATURES, generator=random)
    for row, length in zip(speech, lengths, strict=True):
        row[length:] = 0
    return speech, torch.tensor(lengths)


def some_hotwords(count: int) -> list[list[int]]:
    random = np.random.default_rng(count)
    return [random.integers(3, NO_BIAS, random.integers(1, 9)).tolist() for _ in range(count)] + [[1]]


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
    assert np.abs(got[0][:, :same] - want[0][:, :same]).mean() < 0.1


def test_files(exported: Exported) -> None:
    names = {path.name for path in exported.directory.iterdir()}
    files = {"model.onnx", "model_quant.onnx", "config.yaml", "am.mvn", "tokens.json", "tokens.txt"}
    if exported.kind in HOTWORD_KINDS:
        files |= {"model_eb.onnx", "model_eb_quant.onnx", "seg_dict"}
    assert names == files
    lines = (exported.directory / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{token} {index}" for index, token in enumerate(TOKENS)]
    assert json.loads((exported.directory / "tokens.json").read_text(encoding="utf-8")) == list(TOKENS)


@pytest.mark.parametrize("name", ["model", "model_quant"])
def test_metadata(exported: Exported, name: str) -> None:
    known = exported._session(name).get_modelmeta().custom_metadata_map
    assert known["model_type"] == "paraformer"
    assert known["vocab_size"] == str(len(TOKENS))
    assert (known["lfr_window_size"], known["lfr_window_shift"]) == ("7", "6")
    assert [float(value) for value in known["neg_mean"].split(",")] == [-8.0] * FEATURES
    assert np.allclose([float(value) for value in known["inv_stddev"].split(",")], 0.2)
    assert known["model_author"] == "someone"
    assert known["url"] == "https://huggingface.co/someone/tiny"
    assert known["comment"] and known["version"]


@pytest.mark.parametrize("name", ["model", "model_quant"])
@pytest.mark.parametrize("kind", ["Paraformer", "BiCifParaformer"])
def test_sherpa_onnx_runs_it(tmp_path_factory: pytest.TempPathFactory, kind: str, name: str) -> None:
    import sherpa_onnx

    directory = cached(tmp_path_factory, kind).directory
    recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
        paraformer=str(directory / f"{name}.onnx"), tokens=str(directory / "tokens.txt"), num_threads=1
    )
    stream = recognizer.create_stream()
    stream.accept_waveform(16000, np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32))
    recognizer.decode_stream(stream)
    assert set(stream.result.tokens) <= set(TOKENS)
    assert stream.result.tokens


UNSUPPORTED: dict[str, tuple[str, dict[str, Any], str]] = {
    "predictor": ("Paraformer", {"predictor_conf": {"threshold": 0.9}}, "threshold"),
    "weights": ("Paraformer", {"predictor_conf": {"smooth_factor": 1.5}}, "exceed 1"),
    "norm": ("Paraformer", {"encoder_conf": {"normalize_before": False}}, "normalize_before"),
    "input layer": ("Paraformer", {"encoder_conf": {"input_layer": "linear"}}, "input layer"),
    "decoder": ("Paraformer", {"decoder": "ParaformerSANDecoder"}, "ParaformerSANDecoder"),
    "timestamps": ("BiCifParaformer", {"predictor_conf": {"upsample_type": "cnn_attn"}}, "cnn_attn"),
    "hotwords": ("SeacoParaformer", {"model_conf": {"bias_encoder_bid": True}}, "one-directional"),
}


@pytest.mark.parametrize(("kind", "changes", "words"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_cannot_be_exported(tmp_path: Path, kind: str, changes: dict[str, Any], words: str) -> None:
    if "decoder" in changes:
        block = {"attention_heads": 4, "linear_units": 64, "num_blocks": 2}
        changes = {**changes, "decoder_conf": block}
    with pytest.raises(UsageError, match=words) as caught:
        Exported(tmp_path, kind, **changes)
    assert "\n" not in str(caught.value)
    assert not any((tmp_path / "onnx").iterdir())


def test_another_class_is_refused(tmp_path: Path) -> None:
    model = Model(
        module=torch.nn.Linear(2, 2), native=None, architecture=None, source=Source(name="x", directory=tmp_path)
    )
    with pytest.raises(UsageError, match="Linear cannot be exported"):
        export_onnx(model, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    exported = Exported(tmp_path, "Paraformer")
    (exported.model.source.directory / "am.mvn").unlink()
    with pytest.raises(SourceError, match=r"no am\.mvn"):
        exported.export()


_CACHE: dict[str, Exported] = {}


def cached(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Exported:
    if kind not in _CACHE:
        _CACHE[kind] = Exported(tmp_path_factory.mktemp(kind), kind)
    return _CACHE[kind]
