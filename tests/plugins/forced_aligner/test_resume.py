"""Scaled layers, a gate and an interruption together: the result is the one without the interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from plugins.forced_aligner.tiny import make_model
from sottovoce import Model
from sottovoce.entrypoints.save import probe
from sottovoce.errors import GateError
from sottovoce.runtime.layers import QUANTIZED

SPEECH = Path(__file__).parents[2] / "calibration.jsonl"
SCALED = {"step": "quantize", "bits": 4, "method": "awq"}
ROUNDED = {"step": "quantize", "bits": 4}
GATE = {"min_boundary_agreement": 100, "max_boundary_shift_max_ms": 0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("aligner") / "tiny"
    make_model(directory)
    return directory


def compressed(source: Path, recipe: Any, **options: Any) -> Model:
    model = sottovoce.load(source)
    sottovoce.compress(model, recipe, SPEECH, **options)
    return model


def interrupt(what: str, done: int, total: int) -> None:
    if what.endswith("quantize blocks") and done == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "recipe",
    [
        {"steps": [SCALED]},
        {"steps": [SCALED], "gate": GATE},
        {"steps": [{"step": "smooth"}, ROUNDED], "gate": GATE},
    ],
    ids=["scaled", "scaled with a gate", "smoothed with a gate"],
)
def test_an_interruption_changes_nothing(recipe: dict[str, Any], source: Path, tmp_path: Path) -> None:
    whole = compressed(source, recipe)
    with pytest.raises(KeyboardInterrupt):
        compressed(source, recipe, resume=tmp_path, progress=interrupt)
    again = compressed(source, recipe, resume=tmp_path)
    states = whole.module.state_dict(), again.module.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
    assert whole.report is not None
    assert again.report is not None
    assert again.report.gate == whole.report.gate
    if "gate" in recipe:
        assert whole.report.gate is not None
        assert whole.report.gate["raised"]


def test_layers_that_are_float_again_fit_what_was_scaled(source: Path) -> None:
    """With all of them float, only where the factors lie is another than before."""
    model = sottovoce.load(source)
    before = probe(model)
    with pytest.raises(GateError, match="with every layer float but tables"):
        sottovoce.compress(model, {"steps": [SCALED], "gate": {"max_size_bytes": 1}}, SPEECH)
    assert not any(isinstance(layer, QUANTIZED) for layer in model.module.modules())
    torch.testing.assert_close(probe(model), before, rtol=1e-3, atol=1e-4)
