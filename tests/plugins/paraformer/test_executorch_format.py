"""Paraformers in ExecuTorch: FunASR's outputs, silence, bounds, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from plugins.paraformer.exported import Exported, batch, cached, run_torch
from sottovoce.errors import OutputError, UsageError
from sottovoce_paraformer.executorch_format import FRAMES, ExecuTorch, ExecuTorchRecognizer
from sottovoce_paraformer.executorch_graphs import DecoderHalf, EncoderHalf, gather
from sottovoce_paraformer.graph_engines import ExecuTorch as Engine
from sottovoce_paraformer.onnx_graphs import Recognizer

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's, torch's and torchao's own
needs_executorch = pytest.mark.skipif(not find_spec("executorch"), reason="executorch is not installed")


@torch.no_grad()
@pytest.mark.parametrize("tail", [0.45, 0.0])
def test_the_halves_and_the_sums_between_them_are_the_whole_recognizer(
    tail: float, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changes = {} if tail else {"predictor_conf": {"tail_threshold": 0.0}}
    exported = Exported(tmp_path, "Paraformer", **changes) if changes else cached(tmp_path_factory, "Paraformer")
    recognizer = Recognizer(exported.model.module).eval()
    for length in (1, 7, 60):
        speech, sizes = batch([length])
        memory, alphas = EncoderHalf(recognizer)(speech)
        embeddings = gather(memory[0].numpy(), alphas[0].numpy(), tail)
        logits, count = run_torch(exported.model.module, speech, sizes)
        assert len(embeddings) == int(count)
        if len(embeddings):
            outputs = DecoderHalf(recognizer)(torch.from_numpy(embeddings)[None], memory)
            torch.testing.assert_close(outputs, logits, atol=1e-4, rtol=1e-4)


def test_silence_has_no_token() -> None:
    assert gather(np.ones((30, 4), np.float32), np.zeros(30, np.float32), 0.45).shape == (0, 4)


def test_models_with_hotwords_are_refused(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    exported = cached(tmp_path_factory, "ContextualParaformer")
    with pytest.raises(UsageError, match="ContextualParaformer cannot be exported as executorch, .* use onnx or openv"):
        ExecuTorch().write(exported.model, tmp_path)
    assert not any(tmp_path.iterdir())


@needs_executorch
def test_outputs_are_funasrs_within_the_bounds(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    exported = cached(tmp_path_factory, "Paraformer")
    ExecuTorch().write(exported.model, tmp_path)
    ExecuTorch().check(tmp_path)
    assert Engine().fits(tmp_path)
    recognizer = ExecuTorchRecognizer(tmp_path)
    for length in (2, 60, FRAMES):
        speech, sizes = batch([length])
        outputs = recognizer.run({"speech": speech.numpy()})
        logits, count = run_torch(exported.model.module, speech, sizes)
        assert outputs["token_num"].tolist() == count.tolist()
        np.testing.assert_allclose(outputs["logits"], logits.numpy(), atol=1e-3, rtol=1e-3)
    with pytest.raises(OutputError, match=rf"^model\.pte: ExecuTorch does not run 'encoder' on \(1, {FRAMES + 1}, "):
        recognizer.run({"speech": batch([FRAMES + 1])[0].numpy()})
