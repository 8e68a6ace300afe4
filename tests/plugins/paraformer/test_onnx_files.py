"""What lies beside the exported graphs and inside them, and what cannot be exported."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plugins.paraformer.exported import HOTWORD_KINDS, Exported, cached
from plugins.paraformer.tiny import FEATURES, KINDS, TOKENS
from sottovoce.errors import OutputError, SourceError, UsageError
from sottovoce.formats.format import formats_for
from sottovoce.formats.onnx import OnnxSession
from sottovoce.model import Model
from sottovoce.source import Source
from sottovoce_paraformer.architectures import PARAFORMER, PUNCTUATION
from sottovoce_paraformer.onnx_export import export_onnx
from sottovoce_paraformer.onnx_format import ONNX

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return cached(tmp_path_factory, request.param)


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
    known = exported.session(name).get_modelmeta().custom_metadata_map
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
    "input layer": ("Paraformer", {"encoder_conf": {"input_layer": None}}, "input layer Linear"),
    "timestamps": ("BiCifParaformer", {"predictor_conf": {"upsample_type": "cnn_attn"}}, "cnn_attn"),
    "hotwords": ("SeacoParaformer", {"model_conf": {"bias_encoder_bid": True}}, "one-directional"),
}


@pytest.mark.parametrize(("kind", "changes", "words"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_cannot_be_exported(tmp_path: Path, kind: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Exported(tmp_path, kind, **changes)
    assert "\n" not in str(caught.value)
    assert not any((tmp_path / "onnx").iterdir())


def test_another_decoder_is_refused(tmp_path: Path) -> None:
    exported = Exported(tmp_path, "Paraformer")
    exported.model.module.decoder = torch.nn.Identity()
    with pytest.raises(UsageError, match="the decoder Identity"):
        exported.export()


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


def test_check_runs_what_was_written(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    ONNX().check(exported.directory)
    ran: list[str] = []
    run = OnnxSession.run

    def record(session: OnnxSession, inputs: Any) -> Any:
        ran.append(session.path.name)
        return run(session, inputs)

    monkeypatch.setattr(OnnxSession, "run", record)
    ONNX().check(exported.directory)
    hotwords = {"model_eb.onnx", "model_eb_quant.onnx"} if exported.kind in HOTWORD_KINDS else set()
    assert set(ran) == {"model.onnx", "model_quant.onnx"} | hotwords


def test_check_of_a_damaged_graph_is_an_error_of_one_line(tmp_path: Path) -> None:
    exported = Exported(tmp_path, "Paraformer")
    path = exported.directory / "model_quant.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OutputError, match=r"^model_quant\.onnx: onnxruntime does not read") as caught:
        ONNX().check(exported.directory)
    assert "\n" not in str(caught.value)


def test_check_of_outputs_that_are_not_finite_is_an_error(tmp_path: Path) -> None:
    exported = Exported(tmp_path, "Paraformer")
    exported.model.module.decoder.output_layer.bias.data[0] = float("nan")
    exported.export()
    with pytest.raises(OutputError, match=r"^model\.onnx: gives numbers that are not finite"):
        ONNX().check(exported.directory)


def test_check_without_onnxruntime_names_what_to_install(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OutputError, match="pip install onnx onnxruntime"):
        ONNX().check(exported.directory)


def test_onnx_is_for_recognizers_alone() -> None:
    assert isinstance(formats_for(PARAFORMER)["onnx"], ONNX)
    assert "onnx" not in formats_for(PUNCTUATION)
