"""Recipes that prune a Paraformer's heads: what is written, loads in FunASR after one import, and is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

import sottovoce
from forked import run_code
from plugins.paraformer.tiny import KINDS, make_model
from sottovoce import Model
from sottovoce.errors import CheckpointError, RecipeError, SourceError
from sottovoce_paraformer.heads import describe

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "tests" / "calibration.jsonl"
MAGNITUDE = {"score": "magnitude", "refit": False}

SCRIPT = """
import json, sys
import sottovoce_paraformer.register
from funasr import AutoModel

audio, *directories = sys.argv[1:]
texts = {}
for directory in directories:
    asr = AutoModel(model=directory, disable_update=True, disable_pbar=True, log_level="ERROR")
    kind = type(asr.model)
    texts[directory] = [f"{kind.__module__}.{kind.__name__}", asr.generate(input=audio)[0]["text"]]
print("RESULT" + json.dumps(texts))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(32000)
    soundfile.write(path, noise.astype(np.float32), 16000)
    return path


def step(**settings: Any) -> dict[str, Any]:
    return {"step": "prune_heads", **settings}


def pruned(source: Path, *steps: dict[str, Any], **settings: Any) -> Model:
    """The model with fewer heads, by the weights alone where no steps are given."""
    model = sottovoce.load(source)
    samples = sottovoce.read_samples(SAMPLES) if steps else None
    sottovoce.compress(model, {"steps": list(steps or (step(**MAGNITUDE, **settings),))}, samples)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_saved_heads_are_in_the_configuration_and_load_exactly(kind: str, tmp_path: Path) -> None:
    settings = (
        {"encoder": 2, "decoder": 2, "hotword decoder": 2}
        if kind == "SeacoParaformer"
        else {"encoder": 2, "decoder": 2}
    )
    model = pruned(make_model(tmp_path / "model", kind), **settings)
    sottovoce.save(model, tmp_path / "small")  # checks the outputs itself
    config = yaml.safe_load((tmp_path / "small" / "config.yaml").read_text())
    assert config["model"] == f"sottovoce_paraformer.register.{kind}"
    assert config["kept_heads"] == describe(model.module)
    assert "quantization_config" not in config
    reloaded = sottovoce.load(tmp_path / "small")
    assert describe(reloaded.module) == describe(model.module)
    assert all(
        torch.equal(tensor, model.module.state_dict()[key]) for key, tensor in reloaded.module.state_dict().items()
    )


def test_saved_heads_load_in_funasr_after_the_import(source: Path, audio: Path, tmp_path: Path) -> None:
    recipes = {"dense": [], "int8": [{"step": "quantize"}]}
    expected = {}
    for name, more in recipes.items():
        model = pruned(source, step(encoder=2, decoder=3), *more)
        sottovoce.save(model, tmp_path / name)
        text = sottovoce.from_pretrained(tmp_path / name).generate(input=str(audio))[0]["text"]
        expected[str(tmp_path / name)] = ["sottovoce_paraformer.register.Paraformer", text]
    done = run_code(SCRIPT, dict(os.environ), audio, *expected, imports=("torch", "funasr"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.partition("RESULT")[2]) == expected


def test_report_says_that_funasr_needs_the_import(source: Path) -> None:
    model = pruned(source, encoder=2)
    assert model.report is not None
    notes = model.report.steps[0].notes
    assert [note for note in notes if note.startswith("encoder: ") and "import sottovoce_paraformer.register" in note]


def test_only_the_encoder_is_pruned_by_default(source: Path) -> None:
    assert {name.partition(".")[0] for name in describe(pruned(source).module)} == {"encoder"}


def test_part_that_this_class_lacks_is_refused(source: Path) -> None:
    with pytest.raises(RecipeError, match="this model has no 'hotword decoder'; leave it out"):
        pruned(source, **{"hotword decoder": 2})


@pytest.mark.parametrize("more", [{"bits": 8}, {"bits": 4, "method": "gptq"}], ids=["int8", "gptq"])
def test_quantization_after_it_in_one_recipe_keeps_its_promises(
    source: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    steps = (step(encoder=2, decoder=2), {"step": "quantize", **more})
    facts = sottovoce.inspect(source, sottovoce.Recipe.from_dict({"steps": list(steps)}))
    model = pruned(source, *steps)
    assert facts["estimate"]["size_bytes"] == model.size_bytes
    assert model.module.get_submodule("encoder.encoders.0.self_attn.linear_out").in_features == 16
    sottovoce.save(model, tmp_path / "small")
    assert describe(sottovoce.load(tmp_path / "small").module) == describe(model.module)


def test_pruned_model_is_pruned_again_from_disk(source: Path, tmp_path: Path) -> None:
    first = pruned(source, encoder=2)
    sottovoce.save(first, tmp_path / "half")
    second = pruned(tmp_path / "half", encoder=1)
    for name, kept in describe(second.module).items():
        assert set(kept) < set(describe(first.module)[name])
    sottovoce.save(second, tmp_path / "quarter")


def test_finished_blocks_are_read_back(source: Path, tmp_path: Path) -> None:
    recipe = {"steps": [step(encoder=2, decoder=2)]}
    models = [sottovoce.load(source) for _ in range(2)]
    reports = [
        sottovoce.compress(model, recipe, sottovoce.read_samples(SAMPLES), resume=tmp_path / "blocks")
        for model in models
    ]
    assert reports[0].steps[0].details == reports[1].steps[0].details
    assert describe(models[0].module) == describe(models[1].module)
    for name, tensor in models[0].module.state_dict().items():
        assert torch.equal(tensor, models[1].module.state_dict()[name]), name


@pytest.mark.parametrize(
    ("kept_heads", "message"),
    [
        (["encoder"], "kept_heads must be a mapping, not list"),
        ({"encoder.after_norm": [0]}, "names 'encoder.after_norm', which is not an attention"),
        ({"encoder.encoders.9.self_attn": [0]}, "which is not an attention"),
        ({"decoder.decoders.0.self_attn": [0]}, "which is not an attention"),
        ({"encoder.encoders.0.self_attn": []}, r"is \[\], not rising numbers below 4"),
        ({"encoder.encoders.0.self_attn": [1, 1]}, "not rising numbers below 4"),
        ({"encoder.encoders.0.self_attn": [2, 1]}, "not rising numbers below 4"),
        ({"encoder.encoders.0.self_attn": [0, 4]}, "not rising numbers below 4"),
        ({"encoder.encoders.0.self_attn": [-1, 0]}, "not rising numbers below 4"),
        ({"encoder.encoders.0.self_attn": ["a"]}, "not rising numbers below 4"),
        ({"encoder.encoders.0.self_attn": 2}, "not rising numbers below 4"),
    ],
)
def test_damaged_description_is_refused_in_one_line(tmp_path: Path, kept_heads: Any, message: str) -> None:
    directory = make_model(tmp_path / "model")
    config = yaml.safe_load((directory / "config.yaml").read_text())
    (directory / "config.yaml").write_text(yaml.safe_dump(config | {"kept_heads": kept_heads}))
    with pytest.raises(SourceError, match=message) as caught:
        sottovoce.load(directory)
    assert "\n" not in str(caught.value)


def test_weights_of_other_heads_than_described_are_refused(source: Path, tmp_path: Path) -> None:
    sottovoce.save(pruned(source, encoder=2), tmp_path / "small")
    config = yaml.safe_load((tmp_path / "small" / "config.yaml").read_text())
    config["kept_heads"]["encoder.encoders.0.self_attn"] = [0, 1, 2]
    (tmp_path / "small" / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "small" / "compression.json").unlink()  # it has the digests of the files
    with pytest.raises(CheckpointError, match="linear_q_k_v"):
        sottovoce.load(tmp_path / "small")
