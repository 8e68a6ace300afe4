"""Models of every class with fewer layers: FunASR itself builds and reads them, and says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import sottovoce
from plugins.paraformer.tiny import KINDS, load, make_model
from sottovoce import read_samples
from sottovoce.calibration.reference import Reference
from sottovoce.errors import RecipeError

ROOT = Path(__file__).parents[3]
CALIBRATION = ROOT / "tests" / "calibration.jsonl"
DATA = ROOT / "examples" / "data" / "mandarin-commands"
MORE_LAYERS = {"encoder_conf": {"num_blocks": 4}, "decoder_conf": {"num_blocks": 4, "att_layer_num": 4}}

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


def step(**settings: Any) -> dict[str, Any]:
    return {"steps": [{"step": "prune_layers", **settings}]}


@pytest.mark.parametrize("kind", KINDS)
def test_model_with_fewer_layers_is_the_same_in_funasr(kind: str, tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "dense", kind, seed=1, **MORE_LAYERS))
    parts = {"encoder": 3, "decoder": 2}
    sottovoce.compress(model, step(**parts), CALIBRATION)
    sottovoce.save(model, tmp_path / "pruned")
    config = yaml.safe_load((tmp_path / "pruned" / "config.yaml").read_text())
    assert config["encoder_conf"]["num_blocks"] == 3
    # One of the four decoder layers of ContextualParaformer is its last, which stays.
    removed = 1 if kind == "ContextualParaformer" else 2
    assert config["decoder_conf"]["num_blocks"] == config["decoder_conf"]["att_layer_num"] == 4 - removed
    stock: Any = load(tmp_path / "pruned")
    assert len(stock.model.encoder.encoders) == 2
    ours = model.module.state_dict()
    theirs = stock.model.state_dict()
    assert set(theirs) == set(ours)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    audio = str(read_samples(CALIBRATION)[0].audio)
    # ContextualParaformer of FunASR wants hotwords.
    options = {"hotword": ""} if kind in ("SeacoParaformer", "ContextualParaformer") else {}
    assert stock.generate(input=audio, **options)[0]["text"] == model.native.generate(input=audio, **options)[0]["text"]


def test_absorbed_layers_of_the_bundled_model_hardly_change_it() -> None:
    samples = read_samples(DATA / "calibration.jsonl")
    before = sottovoce.load(ROOT / "examples" / "models" / "tiny-paraformer")
    reference = Reference(before, list(read_samples(DATA / "test.jsonl"))[:8])
    divergences = {}
    for absorb in (True, False):
        model = sottovoce.load(ROOT / "examples" / "models" / "tiny-paraformer")
        layers = ["encoder.encoders.2", "encoder.encoders.3"]
        sottovoce.compress(model, step(layers=layers, absorb=absorb), samples.choose(32) if absorb else None)
        divergences[absorb] = reference.divergence(model)["all"]
    assert divergences[True] < 0.8 * divergences[False]


def test_first_layer_of_the_encoder_is_never_removed(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "dense"))
    with pytest.raises(RecipeError, match="'encoder.encoders0.0' is never removed"):
        sottovoce.compress(model, step(layers=["encoder.encoders0.0"]), CALIBRATION)


def test_last_layer_of_the_encoder_is_never_removed() -> None:
    model = sottovoce.load(ROOT / "examples" / "models" / "tiny-paraformer")
    with pytest.raises(RecipeError, match="the predictor counts the tokens by what leaves it"):
        sottovoce.compress(model, step(layers=["encoder.encoders.4"]), CALIBRATION)
