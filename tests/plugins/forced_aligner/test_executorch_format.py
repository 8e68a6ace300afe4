"""The aligner in ExecuTorch: the boundaries of the model, its integers, bounds, and what is missing."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from plugins.forced_aligner.exported import boundaries, compressed, own_boundaries, utterances
from sottovoce.errors import OutputError
from sottovoce_forced_aligner.engines import ExecuTorch as Engine
from sottovoce_forced_aligner.executorch_format import SECONDS, WORD_TOKENS, ExecuTorch, ExecuTorchAligner
from sottovoce_forced_aligner.graph_client import client

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's, torchao's and transformers' own
needs_executorch = pytest.mark.skipif(not find_spec("executorch"), reason="executorch is not installed")


@needs_executorch
@pytest.mark.parametrize(
    ("name", "least", "bytes_"), [("float", 0.999, 14e6), ("int8", 0.97, 6.5e6), ("int4", 0.95, 5e6)]
)
def test_boundaries_are_the_models(name: str, least: float, bytes_: float, tmp_path: Path) -> None:
    model, samples = compressed(name), utterances(8)
    ExecuTorch().write(model, tmp_path)
    ExecuTorch().check(tmp_path)
    assert Engine().fits(tmp_path)
    heard = Engine().load(tmp_path)
    assert np.mean(boundaries([heard(sample) for sample in samples]) == own_boundaries(model, samples)) >= least
    assert (tmp_path / "model.pte").stat().st_size < bytes_
    if name == "float":
        bounds_hold(tmp_path)


def bounds_hold(directory: Path) -> None:
    """Check that the longest audio runs with the most words, and that more is refused."""
    aligner = client(directory, ExecuTorchAligner(directory / "model.pte"))
    longest = aligner.settings["longest_seconds"]
    assert longest == min(SECONDS, 256 * aligner.settings["bin_milliseconds"] / 1000)
    audio = np.zeros(round(longest * 16000), np.float32)
    features, frames = aligner.features(audio)
    words = ["灯"] * ((WORD_TOKENS - 8) // 4)
    logits, markers = aligner.logits(audio, words)
    assert np.isfinite(logits).all() and markers.sum() == 2 * len(words)
    with pytest.raises(OutputError, match=r"^model\.pte: ExecuTorch does not run 'forward' on \(1, 128, "):
        aligner.logits(audio, ["灯"] * WORD_TOKENS)
    with pytest.raises(ValueError, match=r"this graph takes up to .*; cut it at a silence"):
        aligner(np.zeros(round((longest + 1) * 16000), np.float32), "灯")
    assert features.shape[2] >= frames


@pytest.mark.parametrize("name", ["float", "int8"])
def test_missing_executorch_is_named_with_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = compressed(name)
    for module in [known for known in sys.modules if known.partition(".")[0] in ("executorch", "torchao")]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("executorch", "executorch.exir", "torchao.quantization.quant_primitives"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OutputError, match=r"^this needs executorch .*: pip install 'sottovoce\[executorch\]'$"):
        ExecuTorch().write(model, tmp_path)
    assert not any(tmp_path.iterdir())


def test_directory_of_another_format_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "model.pte").touch()
    assert not Engine().fits(tmp_path)
    for file in ("aligner.json", "tokenizer.json"):
        (tmp_path / file).write_text(json.dumps({}))
    assert Engine().fits(tmp_path)
