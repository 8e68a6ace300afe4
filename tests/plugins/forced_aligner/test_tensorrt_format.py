"""The aligner's graph for TensorRT: allowed by its rules, and the boundaries of the model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from plugins.forced_aligner.exported import boundaries, compressed, own_boundaries, utterances
from sottovoce.errors import OutputError
from sottovoce.formats.onnx import OnnxSession
from sottovoce.formats.tensorrt import violations
from sottovoce_forced_aligner import graph_client
from sottovoce_forced_aligner.engines import OnnxRuntime, OnnxRuntimeTensorRT
from sottovoce_forced_aligner.onnx_format import ONNX
from sottovoce_forced_aligner.tensorrt_format import TensorRT

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own and transformers'
GRAPH = "model.trt.onnx"


@pytest.mark.parametrize("name", ["float", "int8", "int4", "pruned"])
def test_graph_is_allowed_and_finds_the_boundaries(name: str, tmp_path: Path) -> None:
    model, samples = compressed(name), utterances(8)
    TensorRT().write(model, tmp_path)
    TensorRT().check(tmp_path)
    assert violations(tmp_path / GRAPH) == []
    assert OnnxRuntimeTensorRT().fits(tmp_path) and not OnnxRuntime().fits(tmp_path)
    heard = OnnxRuntimeTensorRT().load(tmp_path)
    agreement = np.mean(boundaries([heard(sample) for sample in samples]) == own_boundaries(model, samples))
    assert agreement >= (0.97 if name == "int8" else 0.999)


def shapes(command: str, option: str) -> dict[str, list[int]]:
    """Sizes of each input of an option of trtexec."""
    found = re.search(rf"--{option}=(\S+)", command)
    assert found is not None
    pairs = (item.split(":") for item in found[1].split(","))
    return {name: [int(size) for size in sizes.split("x")] for name, sizes in pairs}


def test_profiles_hold_the_shortest_and_the_longest_audio(tmp_path: Path) -> None:
    TensorRT().write(compressed("float"), tmp_path)
    command = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "trtexec --onnx=model.trt.onnx --saveEngine=model.plan --minShapes=input_features:1x128x800" in command
    aligner = graph_client.client(tmp_path, OnnxSession(tmp_path / GRAPH))
    least, most = shapes(command, "minShapes"), shapes(command, "maxShapes")
    for seconds, words in ((0.3, 1), (aligner.settings["longest_seconds"], 600)):
        features, frames = aligner.features(np.zeros(round(seconds * 16000), np.float32))
        ids = aligner.tokens(["灯"] * words, frames)
        for name, size in {"input_features": features.shape[2], "input_ids": len(ids)}.items():
            assert least[name][-1] <= size <= most[name][-1]


def test_usual_graph_with_integers_breaks_the_rules(tmp_path: Path) -> None:
    ONNX().write(compressed("int8"), tmp_path)
    (tmp_path / GRAPH).write_bytes((tmp_path / "model_quant.onnx").read_bytes())
    with pytest.raises(OutputError, match=r"^model\.trt\.onnx: TensorRT does not take it"):
        TensorRT().check(tmp_path)


def test_newer_opset_is_refused(tmp_path: Path) -> None:
    TensorRT().write(compressed("float"), tmp_path)
    model = onnx.load(tmp_path / GRAPH)
    model.opset_import[0].version = 21
    onnx.save(model, tmp_path / GRAPH)
    with pytest.raises(OutputError, match="opset 21 is newer than 20"):
        TensorRT().check(tmp_path)
