"""The bundled models go through a GPU that is pretended: compressed there, saved, and loaded again to the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sottovoce
from pretend_gpu import pretend_gpu
from sottovoce import Samples, read_samples
from sottovoce.entrypoints.save import probe

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS, TASKS = EXAMPLES / "data/mandarin-commands/calibration.jsonl", EXAMPLES / "data/omni-tasks/calibration.jsonl"

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.mark.parametrize(
    ("name", "recipe", "manifest"),
    [
        ("tiny-paraformer", "int8", COMMANDS),
        pytest.param("tiny-aligner", "int8", COMMANDS, marks=pytest.mark.slow),
        pytest.param("tiny-omni", "reap50-int4", TASKS, marks=pytest.mark.slow),
    ],
)
def test_a_bundled_model_is_compressed_there(
    name: str, recipe: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = Samples(read_samples(manifest)[::6][:10])
    here = sottovoce.load(EXAMPLES / "models" / name)
    sottovoce.compress(here, recipe, samples)
    with pretend_gpu():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # FunASR asks
        model = sottovoce.load(EXAMPLES / "models" / name, device="cuda")
        sottovoce.compress(model, recipe, samples)
        again = sottovoce.load(sottovoce.save(model, tmp_path / "small"), device="cuda")
        tensors = model.module.state_dict()
        assert {tensor.device.type for tensor in tensors.values()} == {"cuda"}
        found = probe(again).cpu()
    want = probe(here)
    assert tensors.keys() == here.module.state_dict().keys()
    # GPU and CPU have products of their own; quantized to another step, a weight moves outputs by a few per cent.
    assert (found - want).float().norm() < 5e-2 * want.float().norm()
