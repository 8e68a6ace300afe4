"""The graph for TensorRT: no float64, no shape from data, and the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sottovoce
from plugins.paraformer.exported import batch, cached, run_torch
from plugins.paraformer.tiny import make_model
from sottovoce.errors import OutputError, UsageError
from sottovoce.formats.onnx import OnnxSession
from sottovoce.formats.tensorrt import violations
from sottovoce.formats.tensorrt_files import GRAPH
from sottovoce_paraformer.onnx_bounded import exact_sums
from sottovoce_paraformer.tensorrt_format import TensorRT

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no tail": {"predictor_conf": {"tail_threshold": 0.0}},
    "a tail behind the padding": {"predictor_conf": {"tail_mask": False}},
}


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=400))
@settings(deadline=None, max_examples=100)
def test_sums_in_float32_are_those_of_whole_numbers(weights: list[float]) -> None:
    rounded = torch.round(torch.tensor([weights]) * 2**22)
    whole, fraction = exact_sums(torch.tensor([weights]))
    assert whole.dtype == fraction.dtype == torch.float32
    expected = torch.cumsum(rounded.to(torch.int64), dim=1)
    torch.testing.assert_close(whole.to(torch.int64), expected // 2**22, rtol=0, atol=0)
    torch.testing.assert_close((fraction * 2**22).to(torch.int64), expected % 2**22, rtol=0, atol=0)


def test_sums_of_the_longest_utterance_are_exact() -> None:
    weights = torch.rand(1, 8192, generator=torch.Generator().manual_seed(0))
    whole, fraction = exact_sums(weights)
    expected = torch.cumsum(torch.round(weights * 2**22).to(torch.int64), dim=1)
    assert torch.equal(whole.to(torch.int64) * 2**22 + (fraction * 2**22).to(torch.int64), expected)


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model, and what was written of it."""
    root = tmp_path_factory.mktemp("tensorrt")
    model = sottovoce.load(make_model(root / "model", **CONFIGURATIONS[request.param]))
    (root / "written").mkdir()
    TensorRT().write(model, root / "written")
    return model, root / "written"


@pytest.mark.parametrize("lengths", [[1], [50], [30, 30], [5, 60, 33]], ids=str)
def test_tokens_are_torchs_and_positions_are_bounded_by_frames(written: tuple[Any, Path], lengths: list[int]) -> None:
    model, directory = written
    speech, sizes = batch(lengths)
    session = OnnxSession(directory / GRAPH, 1)
    outputs = session.run({"speech": speech.numpy(), "speech_lengths": sizes.int().numpy()})
    logits, counts = run_torch(model.module, speech, sizes)
    np.testing.assert_array_equal(outputs["token_num"], counts.numpy())
    assert outputs["logits"].shape[1] in (max(lengths), max(lengths) + 1)
    for row, count in enumerate(counts.tolist()):
        np.testing.assert_allclose(outputs["logits"][row, :count], logits[row, :count].numpy(), atol=1e-3, rtol=1e-3)


def test_files_hold_against_the_rules(written: tuple[Any, Path]) -> None:
    _, directory = written
    assert violations(directory / GRAPH) == []
    assert "trtexec --onnx=model.trt.onnx --saveEngine=model.plan --minShapes=speech:1x4x" in (
        directory / "README.md"
    ).read_text(encoding="utf-8")
    TensorRT().check(directory)


def test_usual_graph_breaks_them(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    source = cached(tmp_path_factory, "Paraformer").directory / "model.onnx"
    (tmp_path / GRAPH).write_bytes(source.read_bytes())
    with pytest.raises(OutputError, match="float64"):
        TensorRT().check(tmp_path)


def test_hotwords_are_refused(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "model", "SeacoParaformer"))
    with pytest.raises(UsageError, match="takes hotwords"):
        TensorRT().write(model, tmp_path)


def test_class_with_timestamps_is_written_without_them(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "model", "BiCifParaformer"))
    (tmp_path / "written").mkdir()
    TensorRT().write(model, tmp_path / "written")
    session = OnnxSession(tmp_path / "written" / GRAPH, 1)
    speech, sizes = batch([40])
    outputs = session.run({"speech": speech.numpy(), "speech_lengths": sizes.int().numpy()})
    assert set(outputs) == {"logits", "token_num"}
